"""Delta debugging: the part of a list that a failure needs (Zeller and Hildebrandt 2002; complements only)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from snnergy.testing.cases import Case

T = TypeVar("T")


def minimal(items: Sequence[T], fails: Callable[[list[T]], bool]) -> list[T]:
    """A part of ``items``, in their order, that still fails and of which no single one can be left out.

    It is taken as given that all of them fail.
    """
    kept, parts = list(items), 2
    if kept and fails([]):
        return []
    while len(kept) > 1:
        size = -(-len(kept) // parts)
        for start in range(0, len(kept), size):
            rest = kept[:start] + kept[start + size :]
            if fails(rest):
                kept, parts = rest, max(parts - 1, 2)
                break
        else:
            if size == 1:
                break
            parts = min(2 * parts, len(kept))
    return kept


def reduced(case: Case, items: Sequence[T], make: Callable[[list[T]], Case], fails: Callable[[Case], bool]) -> Case:
    """``make`` of the part of ``items`` that the failure needs; the case itself where it needs all of them."""
    kept = minimal(items, lambda some: fails(make(some)))
    return case if len(kept) == len(items) else make(kept)


def upstream(wanted: Iterable[str], edges: Iterable[tuple[str, str]]) -> set[str]:
    """These nodes and all from which an edge, source to target, leads to them."""
    found, edges = set(wanted), list(edges)
    while more := {source for source, target in edges if target in found} - found:
        found |= more
    return found


def masked(value: NDArray[Any], kept: list[int]) -> NDArray[Any]:
    """The values at these flat places, 0 at all others."""
    result = np.zeros_like(value)
    result.ravel()[kept] = value.ravel()[kept]
    return result
