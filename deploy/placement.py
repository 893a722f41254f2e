"""``Placement``: which neurons sit on which core of which chip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from snnergy.deploy.tiles import Box, grid
from snnergy.export.quantnet import QuantNet
from snnergy.hardware_profiles import Profile


@dataclass(frozen=True, eq=False)
class Slice:
    """Some neurons of one population.

    held: a box of them, or int64[k], ascending flat indices
    tile: of fixed-size tiles the whole one, also past the border of the population, where its slots hold no neuron;
          ``held`` is what of it is inside
    """

    population: str
    held: Box | NDArray[np.int64]
    tile: Box | None = None

    @property
    def neurons(self) -> NDArray[np.int64]:
        """int64[size], ascending flat indices."""
        return self.held.neurons if isinstance(self.held, Box) else self.held

    @property
    def size(self) -> int:
        """Number of neurons."""
        return self.held.size

    @property
    def slots(self) -> int:
        """Number of neurons that the core sets room aside for: with the unused slots of a fixed-size tile."""
        return self.size if self.tile is None else self.tile.size


@dataclass(frozen=True, eq=False)
class Core:
    """One core in use. x, y: position in the chip's mesh; usage: limit name -> amount used, same unit as the limit."""

    chip: int
    core: int
    x: int
    y: int
    slices: tuple[Slice, ...]
    usage: dict[str, int]


@dataclass(frozen=True, eq=False)
class Placement:
    """Every neuron on exactly one core, no limit of the profile exceeded."""

    profile: str
    chips: int
    cores: tuple[Core, ...]


def verify(net: QuantNet, placement: Placement, profile: Profile) -> None:
    """Raise AssertionError unless every neuron sits once, every core exists once and no usage passes its limit.

    The usage is taken at its word here; ``legality`` recounts it from the synapses.
    """
    held = {p.name: np.zeros(grid(p.shape), np.bool_) for p in net.populations}
    for core in placement.cores:
        assert core.slices, f"chip {core.chip} core {core.core} is empty"
        for s in core.slices:
            _hold(s, held[s.population])
        for name, used in core.usage.items():
            most = getattr(profile.core, name)
            assert most is None or used <= most.whole, f"chip {core.chip} core {core.core} holds {used} {name}"
    for name, some in held.items():
        assert some.all(), f"{name} has a neuron on 0 cores"
    numbers = {(c.chip, c.core) for c in placement.cores}
    assert len(numbers) == len(placement.cores), "two cores share a number"
    for c in placement.cores:
        assert 0 <= c.chip < placement.chips and 0 <= c.core < profile.chip.cores.whole, (
            f"no chip {c.chip} core {c.core}"
        )
        assert 0 <= c.x < profile.chip.mesh_width.whole and 0 <= c.y < profile.chip.mesh_height.whole, f"({c.x}, {c.y})"


def _hold(s: Slice, held: NDArray[np.bool_]) -> None:
    """Note its neurons, each for the first time. held: bool[c, h, w], a byte a neuron; boxes are not listed."""
    name = s.population
    if isinstance(s.held, Box):
        box = s.held
        assert box.shape == held.shape, f"a slice of {name} is a box of {box.shape}"
        assert min(box.low) >= 0 and all(a <= b for a, b in zip(box.high, box.shape, strict=True)), (
            f"{name} has no such neuron"
        )
        part = held[box.low[0] : box.high[0], box.low[1] : box.high[1], box.low[2] : box.high[2]]
        assert part.size, f"a slice of {name} is empty"
        assert not part.any(), f"{name} has a neuron on 2 cores"
        part[...] = True
        return
    neurons = s.neurons
    assert neurons.size and (np.diff(neurons) > 0).all(), f"a slice of {name} is not ascending"
    assert neurons[0] >= 0 and neurons[-1] < held.size, f"{name} has no such neuron"
    flat = held.reshape(-1)
    assert not flat[neurons].any(), f"{name} has a neuron on 2 cores"
    flat[neurons] = True
