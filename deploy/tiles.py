"""Boxes of neurons: how a population is cut into tiles of equal work, without looking at its neurons one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from snnergy.export.maps import Shape

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
_T = TypeVar("_T")


@dataclass(frozen=True)
class Box:
    """Neurons ``low <= (channel, row, column) < high`` of ``shape``; a population without rows is all channels."""

    shape: tuple[int, int, int]
    low: tuple[int, int, int]
    high: tuple[int, int, int]

    @property
    def sides(self) -> tuple[int, int, int]:
        """Number of channels, rows and columns."""
        (a, b, c), (d, e, f) = self.low, self.high
        return d - a, e - b, f - c

    @property
    def size(self) -> int:
        """Number of neurons; 0 where a side is empty."""
        return prod(max(side, 0) for side in self.sides)

    @property
    def neurons(self) -> I64:
        """int64[size], flat indices, ascending."""
        c, y, x = (np.arange(low, high) for low, high in zip(self.low, self.high, strict=True))
        _, h, w = self.shape
        return ((c[:, None, None] * h + y[:, None]) * w + x).ravel()

    def intersect(self, other: Box) -> Box:
        """What is in both."""
        low = tuple(map(max, self.low, other.low))
        return Box(self.shape, low, tuple(map(min, self.high, other.high)))  # type: ignore[arg-type]

    def split(self, axis: int, at: int) -> tuple[Box, Box]:
        """Before and from position ``at`` of one axis."""
        middle = tuple(at if k == axis else v for k, v in enumerate(self.high))
        start = tuple(at if k == axis else v for k, v in enumerate(self.low))
        return Box(self.shape, self.low, middle), Box(self.shape, start, self.high)  # type: ignore[arg-type]


def grid(shape: Shape) -> tuple[int, int, int]:
    """Channels, rows and columns of a population; all channels where it has no rows."""
    return shape if len(shape) == 3 else (prod(shape), 1, 1)  # type: ignore[return-value]


def whole(shape: Shape) -> Box:
    """All of a population."""
    return Box(grid(shape), (0, 0, 0), grid(shape))


def union(places: Sequence[Box | I64]) -> int:
    """How many neurons of one population are in any of these boxes and ascending indices."""
    outer: list[Box | I64] = []
    for new in places:
        if not any(_holds(old, new) for old in outer):
            outer = [old for old in outer if not _holds(new, old)] + [new]
    if len(outer) < 2:
        return sum(where.size for where in outer)
    boxes = [where for where in outer if isinstance(where, Box)]
    if len(boxes) < len(outer):
        listed = [where.neurons if isinstance(where, Box) else where for where in outer]
        return np.unique(np.concatenate(listed)).size
    return int(mask(boxes)[0].sum())


def mask(boxes: Sequence[Box]) -> tuple[NDArray[np.bool_], tuple[slice, slice, slice]]:
    """bool over the smallest block that holds all of them, true where one is; and where the block lies."""
    low = [min(b.low[k] for b in boxes) for k in range(3)]
    high = [max(b.high[k] for b in boxes) for k in range(3)]
    found = np.zeros([max(b - a, 0) for a, b in zip(low, high, strict=True)], np.bool_)
    for b in boxes:
        c, y, x = (slice(b.low[k] - low[k], b.high[k] - low[k]) for k in range(3))
        found[c, y, x] = True
    return found, (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))


def _holds(a: Box | I64, b: Box | I64) -> bool:
    """Whether all of b is in a, where that is seen at a glance."""
    if isinstance(a, Box) and isinstance(b, Box):
        return a.intersect(b).size == b.size
    return a.size == prod(a.shape) if isinstance(a, Box) else a is b


class Sums:
    """Sums of a value over boxes, in constant time each. values: [c, h, w], or [1, h, w] where channels are alike."""

    def __init__(self, values: NDArray[Any]) -> None:
        self._alike = values.shape[0] == 1
        self._total = np.zeros(tuple(n + 1 for n in values.shape))
        self._total[1:, 1:, 1:] = values.cumsum(0, dtype=np.float64).cumsum(1).cumsum(2)

    def of(self, box: Box) -> float:
        """The sum over the box."""
        (c0, y0, x0), (c1, y1, x1) = box.low, box.high
        times = 1
        if self._alike:
            times, c0, c1 = c1 - c0, 0, 1
        t = self._total
        top = t[c1, y1, x1] - t[c1, y0, x1] - t[c1, y1, x0] + t[c1, y0, x0]
        return times * float(top - t[c0, y1, x1] + t[c0, y0, x1] + t[c0, y1, x0] - t[c0, y0, x0])

    def along(self, box: Box, axis: int) -> F64:
        """float64[side], the sums of the slabs of the box along an axis, added up from its low end."""
        (c0, y0, x0), (c1, y1, x1) = box.low, box.high
        t, times = self._total, 1
        if self._alike:
            times, c0, c1 = c1 - c0, 0, 1
        if axis == 0:
            if self._alike:
                return self.of(box) / times * np.arange(1, times + 1, dtype=np.float64)
            t = t[c0 : c1 + 1]
            line = t[:, y1, x1] - t[:, y0, x1] - t[:, y1, x0] + t[:, y0, x0]
        elif axis == 1:
            t = t[:, y0 : y1 + 1]
            line = t[c1, :, x1] - t[c0, :, x1] - (t[c1, :, x0] - t[c0, :, x0])
        else:
            line = t[c1, y1, x0 : x1 + 1] - t[c1, y0, x0 : x1 + 1] - t[c0, y1, x0 : x1 + 1] + t[c0, y0, x0 : x1 + 1]
        return times * (line[1:] - line[0])


def cut(box: Box, parts: int, weight: Sums) -> list[Box]:
    """The box in so many tiles of about equal weight: halved again and again across the longer of rows and columns.

    Channels are halved only where one pixel is left. ``parts`` is at most the size of the box.
    """
    if parts == 1:
        return [box]
    _, rows, columns = box.sides
    axis = 0 if rows == columns == 1 else 1 if rows >= columns else 2
    running = weight.along(box, axis)
    share = running[-1] * (parts // 2) / parts
    at = min(int(np.searchsorted(running, share)) + 1, box.sides[axis] - 1)
    if at > 1 and share - running[at - 2] <= running[at - 1] - share:
        at -= 1  # the nearer of the two places
    a, b = box.split(axis, box.low[axis] + at)
    fair = round(parts * running[at - 1] / running[-1]) if running[-1] > 0 else parts // 2
    first = min(max(fair, parts - b.size, 1), a.size, parts - 1)
    return cut(a, first, weight) + cut(b, parts - first, weight)


def least(low: int, high: int, attempt: Callable[[int], _T | None]) -> _T | None:
    """``attempt(n)`` for the least n in low .. high that succeeds, by doubling and halving; None where high fails."""
    low, step = min(max(low, 1), high), 1
    top = low
    while not (best := attempt(top)):
        if top == high:
            return None
        low, top, step = top + 1, min(top + step, high), 2 * step
    while low < top:
        middle = (low + top) // 2
        if found := attempt(middle):
            best, top = found, middle
        else:
            low = middle + 1
    return best
