"""Counters of a published run as ``Counts``, and what every case prints."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from snnergy.deploy.counts import COUNTERS, Cell, Counts
from snnergy.deploy.energy import Interval


def counts(totals: Mapping[str, float], *, neurons: int, steps: int = 1, chips: int = 1, cores: int = 1) -> Counts:
    """A run of which only sums are published: spread evenly over cores and steps, whole to a millionth of each."""
    samples = 1_000_000
    by = {
        name: np.full((cores, steps), round(totals.get(name, 0.0) * samples / (cores * steps)), np.int64)
        for name in COUNTERS
    }
    cells = tuple(Cell(core, "all", -(-neurons // cores)) for core in range(cores))
    links = np.zeros(steps, np.int64)
    return Counts(("all",), cells, by, links, ("none",) * steps, samples, steps, chips, cores, 0, 0, 0)


def ends(interval: Interval, by: float = 1.0) -> dict[str, float]:
    return {"low": interval.low * by, "nominal": interval.nominal * by, "high": interval.high * by}


def row(
    case: str, quantity: str, unit: str, measured: float, ours: dict[str, float], bar: str, met: bool, note: str
) -> dict[str, Any]:
    """One line of the validation table. note: which constants are prior, and what was known beforehand."""
    return {
        "case": case,
        "quantity": quantity,
        "unit": unit,
        "measured": measured,
        **ours,
        "error": ours["nominal"] / measured - 1,
        "inside": ours["low"] <= measured <= ours["high"],
        "bar": bar,
        "met": bool(met),
        "note": note,
    }


def within(ours: dict[str, float], measured: float, share: float) -> bool:
    return abs(ours["nominal"] / measured - 1) <= share


def main(description: str | None, report: Callable[[argparse.Namespace], dict[str, Any]], *options: Any) -> None:
    """Print the case, as JSON or a line a row; exit 1 where a bar is missed. options: of ``add_argument``"""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one document on standard output")
    for names, settings in options:
        parser.add_argument(*names, **settings)
    chosen = parser.parse_args()
    found = report(chosen)
    if chosen.json:
        print(json.dumps(found, indent=1, allow_nan=False))
    else:
        for r in found["rows"]:
            verdict = "met" if r["met"] else "MISSED"
            print(
                f"{r['case']}: {r['quantity']} {r['nominal']:.4g} ({r['low']:.4g}..{r['high']:.4g}) {r['unit']}, "
                f"measured {r['measured']:.4g}: {r['error']:+.1%}; {r['bar']}: {verdict}"
            )
    sys.exit(0 if all(r["met"] for r in found["rows"]) else 1)
