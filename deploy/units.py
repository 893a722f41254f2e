"""Numbers as people read them: three digits, an engineering prefix, the unit."""

from __future__ import annotations

from collections.abc import Mapping
from math import floor, isfinite, log10
from typing import Any

PREFIXES = ("f", "p", "n", "µ", "m", "", "k", "M", "G")
"""Of 1000 to the power of -5 to 3."""
_BASE = {"pJ": (1e-12, "J"), "ns": (1e-9, "s"), "J s": (1.0, "J·s")}


def scale(value: float, unit: str) -> tuple[float, str]:
    """What a number in ``unit`` is multiplied by, and in which unit it is then, so that ``value`` has 1 to 3 digits."""
    factor, base = _BASE.get(unit, (1.0, unit))
    value = abs(value * factor)
    if value == 0 or not isfinite(value):
        return factor, base
    power = min(max(floor(log10(float(f"{value:.3g}")) / 3), -5), 3)
    return factor / 1000**power, f"{PREFIXES[power + 5]}{base}"


def si(value: float, unit: str) -> str:
    """Three digits with an engineering prefix: ``si(1.826e-4, "J")`` is ``183 µJ``. pJ and ns are taken as such."""
    factor, unit = scale(value, unit)
    return f"{value * factor:.3g} {unit}".rstrip()


def span(interval: Mapping[str, Any]) -> str:
    """``183 µJ (157 µJ .. 367 µJ)``."""
    low, nominal, high = (si(interval[end], interval["unit"]) for end in ("low", "nominal", "high"))
    return nominal if low == high else f"{nominal} ({low} .. {high})"
