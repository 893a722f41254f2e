"""``Placement``: which neurons sit on which core of which chip."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from snnergy.deploy.tiles import Box
from snnergy.export.quantnet import QuantNet
from snnergy.hardware_profiles import Profile


@dataclass(frozen=True, eq=False)
class Slice:
    """Some neurons of one population. held: a box of them, or int64[k], ascending flat indices."""

    population: str
    held: Box | NDArray[np.int64]

    @property
    def neurons(self) -> NDArray[np.int64]:
        """int64[size], ascending flat indices."""
        return self.held.neurons if isinstance(self.held, Box) else self.held

    @property
    def size(self) -> int:
        """Number of neurons."""
        return self.held.size


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
    held = {p.name: np.zeros(prod(p.shape), np.int64) for p in net.populations}
    for core in placement.cores:
        assert core.slices, f"chip {core.chip} core {core.core} is empty"
        for s in core.slices:
            neurons = s.neurons
            assert neurons.size and (np.diff(neurons) > 0).all(), f"a slice of {s.population} is not ascending"
            assert neurons[0] >= 0 and neurons[-1] < held[s.population].size, f"{s.population} has no such neuron"
            held[s.population][neurons] += 1
        for name, used in core.usage.items():
            most = getattr(profile.core, name)
            assert most is None or used <= most.whole, f"chip {core.chip} core {core.core} holds {used} {name}"
    for name, times in held.items():
        assert (times == 1).all(), f"{name} has a neuron on {times[times != 1][0]} cores"
    numbers = {(c.chip, c.core) for c in placement.cores}
    assert len(numbers) == len(placement.cores), "two cores share a number"
    for c in placement.cores:
        assert 0 <= c.chip < placement.chips and 0 <= c.core < profile.chip.cores.whole, (
            f"no chip {c.chip} core {c.core}"
        )
        assert 0 <= c.x < profile.chip.mesh_width.whole and 0 <= c.y < profile.chip.mesh_height.whole, f"({c.x}, {c.y})"
