"""One network on several chips: it runs once, and every chip places and prices what it did."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from snnergy.deploy import engine, evidence
from snnergy.deploy.count import Counter
from snnergy.deploy.deploy_model import PROFILED, mapped
from snnergy.deploy.energy import STATEMENT
from snnergy.deploy.estimate import ACTIVITY
from snnergy.deploy.job import load_inputs, prepare
from snnergy.deploy.price import price
from snnergy.deploy.targets import find
from snnergy.deploy.units import si, span
from snnergy.errors import DoesNotFit

_INTERVALS = (("energy", "total_pj", "pJ"), ("dynamic", "dynamic_pj", "pJ"), ("latency", "latency_ns", "ns"))


def compare(
    path: Path,
    targets: tuple[str, ...],
    *,
    spec: str | None = None,
    samples: int | None = None,
    objective: str = "edp",
    steps: int | None = None,
    convention: str | None = None,
    dt_s: float | None = None,
    weight_bits: int = 8,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Raises BadInput before anything runs where a target is not known; of one that is too small the row says why."""
    profiles = [(name, find(name).load()) for name in targets]
    job = prepare(path, dt_s=dt_s, steps=steps, convention=convention, weight_bits=weight_bits)
    inputs = load_inputs(job, spec or job.about.input or ACTIVITY, samples, seed)
    encoded = job.quant.encode(inputs.real)
    tell = progress or (lambda _: None)
    tell("run")
    activity = engine.run(job.quant, encoded).activity
    rows: list[dict[str, Any]] = []
    for name, profile in profiles:
        tell(name)
        try:
            net, schedule, placement, _ = mapped(
                job, encoded, profile, None, objective=objective, samples=PROFILED, iterations=0, seed=seed
            )
        except DoesNotFit as reason:
            rows.append({"target": name, "title": profile.title, "fits": False, "reason": str(reason)})
            continue
        counted = activity if net is job.quant else engine.run(net, encoded).activity
        report = price(counted, placement, net, schedule, profile, Counter(placement, net, schedule, profile))
        kinds = evidence.shares(report)
        rows.append(
            {
                "target": name,
                "title": profile.title,
                "fits": True,
                "reason": None,
                "chips": report.counts.chips,
                "cores": report.counts.cores,
                **{
                    key: {"low": v.low, "nominal": v.nominal, "high": v.high, "unit": unit}
                    for key, attribute, unit in _INTERVALS
                    if (v := getattr(report, attribute))
                },
                "bound_by": report.bound_by,
                "scope": profile.scope,
                "grade": evidence.grade(kinds),
                "unpriced": list(report.unpriced),
            }
        )
    return {
        "schema": "snnergy.compare/1",
        "statement": STATEMENT,
        "model": path.name,
        "inputs": inputs.spec,
        "samples": len(inputs),
        "targets": rows,
    }


def text(document: dict[str, Any]) -> RenderableType:
    """A row a target. Scopes stand beside energies, because a marginal one and one for everything do not compare."""
    table = Table(f"{document['model']}, {document['samples']} samples", box=None, header_style="bold", padding=(0, 1))
    for column in ("chips", "cores", "energy per inference", "latency", "what a synop holds", "evidence"):
        table.add_column(column, overflow="fold")
    for row in document["targets"]:
        if not row["fits"]:
            table.add_row(row["target"], "-", "-", Text(f"does not fit: {row['reason']}"), "", "", "")
            continue
        priced = span(row["energy"]) if row["energy"]["high"] else "not priced"
        known = si(row["latency"]["nominal"], "ns") if row["latency"]["high"] else "not known"
        table.add_row(row["target"], str(row["chips"]), str(row["cores"]), priced, known, row["scope"], row["grade"])
    return table
