"""Two reports side by side: what became dearer, and whether it stays within a budget."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from snnergy.errors import BadInput

METRICS: dict[str, tuple[str, ...]] = {
    "energy": ("energy", "total", "nominal"),
    "dynamic": ("energy", "dynamic", "nominal"),
    "static": ("energy", "static", "nominal"),
    "host": ("energy", "host", "nominal"),
    "io": ("energy", "io", "nominal"),
    "latency": ("latency", "nominal"),
    "edp": ("edp", "nominal"),
    "synops": ("counters", "synops"),
    "spikes": ("counters", "spikes"),
    "cores": ("placement", "cores"),
    "chips": ("placement", "chips"),
    "neurons": ("network", "neurons"),
    "synapses": ("network", "synapses"),
}
"""Name -> where it stands in a report; of all of them less is better."""
UNITS = dict.fromkeys(("energy", "dynamic", "static", "host", "io"), "pJ") | {"latency": "ns", "edp": "J s"}
_BUDGET = re.compile(r"(?:(?P<metric>\w+):)?\+?(?P<percent>\d+(?:\.\d+)?)\s*%")


@dataclass(frozen=True)
class Row:
    """One number of both. change: after / before - 1, None from 0; limit: the largest that is allowed, or None"""

    name: str
    unit: str
    before: float
    after: float
    limit: float | None = None

    @property
    def change(self) -> float | None:
        return self.after / self.before - 1 if self.before else (0.0 if not self.after else None)

    @property
    def over(self) -> bool:
        """Whether it grew by more than is allowed; from nothing to something always is."""
        return self.limit is not None and (self.change is None or self.change > self.limit * (1 + 1e-12))


@dataclass(frozen=True)
class Diff:
    """rows: METRICS; accuracy: before and after, None without labels; layers: dynamic energy, largest change first

    notes: why the two may not be comparable
    """

    rows: tuple[Row, ...]
    accuracy: tuple[float | None, float | None]
    layers: tuple[Row, ...]
    notes: tuple[str, ...]

    @property
    def over(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.over)

    def to_dict(self) -> dict[str, Any]:
        """As JSON types; ``within`` says whether every budget holds."""

        def row(r: Row) -> dict[str, Any]:
            return {"name": r.name, "unit": r.unit, "before": r.before, "after": r.after, "change": r.change}

        return {
            "schema": "snnergy.diff/1",
            "within": not self.over,
            "metrics": [{**row(r), "limit": r.limit, "over": r.over} for r in self.rows],
            "accuracy": {"before": self.accuracy[0], "after": self.accuracy[1]},
            "layers": [row(r) for r in self.layers],
            "notes": list(self.notes),
        }


def budgets(texts: Sequence[str]) -> dict[str, float]:
    """``+5%`` (of the energy) or ``latency:+10%`` -> metric -> 0.1."""
    found: dict[str, float] = {}
    for text in texts:
        match = _BUDGET.fullmatch(text.strip())
        if match is None:
            raise BadInput(f"budget '{text}' is not of the form +5% or latency:+5%")
        metric = match["metric"] or "energy"
        if metric not in METRICS:
            raise BadInput(f"budget '{text}': no metric '{metric}'; known: {', '.join(METRICS)}")
        found[metric] = float(match["percent"]) / 100
    return found


def diff(before: Mapping[str, Any], after: Mapping[str, Any], limits: Mapping[str, float]) -> Diff:
    """Compare two documents of ``report_file.read``."""

    def at(document: Mapping[str, Any], path: tuple[str, ...]) -> float:
        value: Any = document
        for key in path:
            value = value[key]
        return value

    rows = tuple(
        Row(name, UNITS.get(name, ""), at(before, path), at(after, path), limits.get(name))
        for name, path in METRICS.items()
    )
    energies = [{row["name"]: row["energy_pj"]["total"] for row in d["layers"]} for d in (before, after)]
    names = dict.fromkeys([*energies[0], *energies[1]])
    layers = [Row(name, "pJ", energies[0].get(name, 0.0), energies[1].get(name, 0.0)) for name in names]
    notes = [
        f"{what} differ: {a} and {b}"
        for what, a, b in (
            ("targets", before["target"], after["target"]),
            ("samples", before["samples"], after["samples"]),
            ("inputs", before["provenance"]["inputs"], after["provenance"]["inputs"]),
            ("versions", before["tool"], after["tool"]),
        )
        if a != b
    ]
    return Diff(
        rows,
        (before["accuracy"], after["accuracy"]),
        tuple(sorted(layers, key=lambda r: -abs(r.after - r.before))),
        tuple(notes),
    )
