"""``Placement``: which neurons sit on which core of which chip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Slice:
    """Some neurons of one population: int64[k], ascending flat indices."""

    population: str
    neurons: NDArray[np.int64]


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
