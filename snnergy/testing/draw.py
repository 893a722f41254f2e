"""Where random choices come from: a generator asks a ``Draw``. ``Seeded`` answers fastest, Hypothesis's shrinks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]
T = TypeVar("T")


class Draw(Protocol):
    """One source of choices; earlier options and smaller numbers are the simpler ones."""

    def integer(self, low: int, high: int) -> int:
        """low .. high, both included."""
        ...

    def choice(self, options: Sequence[T]) -> T: ...

    def array(self, shape: tuple[int, ...], low: int, high: int) -> I64:
        """int64[shape] in low .. high, both included."""
        ...

    def pick(self, shape: tuple[int, ...], options: Sequence[int]) -> I64:
        """int64[shape], every element one of the options."""
        ...


class Seeded:
    """Choices of a numpy generator: the same seed makes the same network."""

    def __init__(self, seed: int) -> None:
        self._random: Any = np.random.default_rng(seed)

    def integer(self, low: int, high: int) -> int:
        return int(self._random.integers(low, high + 1))

    def choice(self, options: Sequence[T]) -> T:
        return options[int(self._random.integers(len(options)))]

    def array(self, shape: tuple[int, ...], low: int, high: int) -> I64:
        return self._random.integers(low, high + 1, shape)

    def pick(self, shape: tuple[int, ...], options: Sequence[int]) -> I64:
        return np.asarray(options, np.int64)[self._random.integers(len(options), size=shape)]


def often(draw: Draw, percent: int) -> bool:
    """Whether something happens that does in so many of 100 cases; the simpler answer is no."""
    return draw.integer(0, 99) >= 100 - percent


def subset(draw: Draw, options: Sequence[T], most: int) -> list[T]:
    """Up to ``most`` different options, in the order drawn."""
    left = list(options)
    return [left.pop(draw.integer(0, len(left) - 1)) for _ in range(draw.integer(0, min(most, len(left))))]


def shuffled(draw: Draw, options: Sequence[T]) -> list[T]:
    """All options in a drawn order; the order given is the simplest."""
    left = list(options)
    return [left.pop(draw.integer(0, len(left) - 1)) for _ in options]
