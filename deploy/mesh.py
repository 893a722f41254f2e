"""Where cores sit on the mesh: cores that talk much sit close, by steepest descent over swaps from a snake order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from snnergy.hardware_profiles import ChipLimits

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

ENTRY = (0, 0)
"""Router of chip 0 where inputs enter. Assumed: the position of the embedded processors is not published."""


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


def seat(traffic: F64, entering: F64, chip_of: I64, chip: ChipLimits, rounds: int = 2) -> I64:
    """The slot (core number on its chip) of every core: int64[cores].

    traffic:  float64[cores, cores], messages between cores; entering: float64[cores], messages from the input
    chip_of:  int64[cores], ascending

    Minimises ``sum messages * Manhattan distance`` one chip at a time, the others held, ``rounds`` times over; chips
    sit in a row from west to east (assumed). No randomness: the same network gets the same seats.
    """
    spots = routers(chip)
    assert len(spots) >= np.bincount(chip_of).max(initial=0), "more cores than seats"
    slot = np.concatenate([np.arange(n) for n in np.bincount(chip_of)]) if chip_of.size else np.zeros(0, np.int64)
    both = traffic + traffic.T
    np.fill_diagonal(both, 0)
    for _ in range(rounds if chip_of.size and chip_of[-1] > 0 else 1):
        for c in range(int(chip_of.max(initial=-1)) + 1):
            mine, others = np.flatnonzero(chip_of == c), np.flatnonzero(chip_of != c)
            here = spots + np.array([c * chip.mesh_width.whole, 0])
            there = spots[slot[others]] + np.stack([chip_of[others] * chip.mesh_width.whole, 0 * others], axis=1)
            pull = both[np.ix_(mine, others)] @ _distance(there, here)
            pull += entering[mine, None] * _distance(np.array([ENTRY]), here)
            slot[mine] = _descend(both[np.ix_(mine, mine)], pull, _distance(here, here), slot[mine])
    return slot


def _distance(a: I64, b: I64) -> F64:
    """Manhattan distances, float64[len(a), len(b)]."""
    return np.abs(a[:, None, :] - b[None, :, :]).sum(axis=2).astype(np.float64)


def _descend(both: F64, pull: F64, distance: F64, start: I64) -> I64:
    """Swap the pair of seats that lowers the cost most, until no swap does; empty seats are cores without traffic.

    both: [k, k] symmetric; pull: [k, seats], the cost of a seat by itself; distance: [seats, seats]
    """
    k, seats = pull.shape
    empty = np.setdiff1d(np.arange(seats), start)
    at = np.concatenate([start, empty])
    weight = np.zeros((seats, seats))
    weight[:k, :k] = both
    alone = np.zeros((seats, seats))
    alone[:k] = pull
    for _ in range(20 * seats):
        cost = alone + weight @ distance[at]  # of every core on every seat, the others staying
        moved = cost[:, at]  # [i, j]: core i on the seat of core j
        stay = moved.diagonal()
        gain = stay[:, None] + stay[None, :] - moved - moved.T - 2 * weight * distance[np.ix_(at, at)]
        i, j = divmod(int(gain.argmax()), seats)
        if gain[i, j] <= 1e-6:
            break
        at[i], at[j] = at[j], at[i]
    return at[:k]
