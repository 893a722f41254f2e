"""Where cores sit on the mesh: cores that talk much sit close, on one chip where they can."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from snnergy.hardware_profiles import ChipLimits, Profile

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

ENTRY = (0, 0)
"""Router of chip 0 where inputs enter. Assumed: the position of the embedded processors is not published."""
CROSSING_HOPS = 10.0
"""Price of a link between chips, in hops east-west, where a profile has none. Assumed, and used to seat cores only."""


def routers(chip: ChipLimits) -> I64:
    """int64[cores, 2], the x and y of every core of a chip; cores fill routers in snake order, so neighbours touch."""
    width, height = chip.mesh_width.whole, chip.mesh_height.whole
    seats = [
        (x if y % 2 == 0 else width - 1 - x, y)
        for y in range(height)
        for x in range(width)
        for _ in range(chip.cores_per_router.whole)
    ]
    return np.array(seats[: chip.cores.whole], np.int64).reshape(-1, 2)


def seat(traffic: F64 | csr_array, entering: F64, chips: int, profile: Profile, seed: int = 0) -> tuple[I64, I64]:
    """The chip and the slot (core number on its chip) of every core: int64[cores] each.

    traffic: float64[cores, cores], messages between cores; entering: float64[cores], messages from the input

    Minimises the energy of hops and of links between chips; hops count alike where the profile has no price, and a
    link CROSSING_HOPS of them. Chips sit in a row from west to east (assumed). The same seed gives the same seats.
    """
    from snnergy.deploy.anneal import anneal  # numba, which the child of the multiprocess runtime can do without

    chip, energy = profile.chip, profile.energy_pj
    width = chip.mesh_width.whole
    seats = np.concatenate([routers(chip) + np.array([c * width, 0]) for c in range(chips)])
    hop = (energy.hop_ew.value, energy.hop_ns.value) if energy.hop_ew and energy.hop_ns else (1.0, 1.0)
    numbers = anneal(
        csr_array(traffic),
        seats,
        entering=entering,
        entry=ENTRY,
        hop=hop,
        chip_width=width,
        crossing=energy.interchip.value if energy.interchip else CROSSING_HOPS * hop[0],
        seed=seed,
    )
    return np.divmod(numbers, chip.cores.whole)
