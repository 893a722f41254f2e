"""Delta debugging: the part of a list that a failure needs (Zeller and Hildebrandt 2002; complements only)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

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
