"""The report in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from snnergy.deploy.units import si, span


def spread(doc: Mapping[str, Any], name: str) -> str:
    """``p5 180 µJ, p50 183 µJ, p95 190 µJ``, over the samples."""
    found = doc["distribution"]
    if found is None:
        return "not measured: the native engine does"
    return ", ".join(f"p{q} {si(found[name][f'p{q}'], found[name]['unit'])}" for q in (5, 50, 95))


def _drawn(draws: Mapping[str, Any], name: str) -> str:
    """``p5 180 µJ, p50 183 µJ, p95 190 µJ of 1,000 draws``"""
    found = draws[name]
    at = ", ".join(f"p{q} {si(found[f'p{q}'], found['unit'])}" for q in (5, 50, 95))
    return f"{at} of {draws['draws']:,} draws"


def _parts(doc: Mapping[str, Any]) -> dict[str, str]:
    """Of each part of the network: its median dynamic energy over the samples."""
    if doc["distribution"] is None or len(doc["distribution"]["parts"]) < 2:
        return {}
    each = (f"{part['name']} {si(part['energy']['p50'], 'pJ')}" for part in doc["distribution"]["parts"])
    return {"  dynamic by part": ", ".join(each)}


def accuracy_line(doc: Mapping[str, Any]) -> str:
    """``97.10% of 2,000 samples, 97.25% before the weights had 8 bits``."""
    if doc["accuracy"] is None:
        return "no labels"
    line = f"{doc['accuracy']:.2%} of {doc['samples']:,} samples"
    before = doc["accuracy_before_quantisation"]
    return line if before is None else f"{line}, {before:.2%} before the weights had {doc['weight_bits']} bits"


def text(doc: Mapping[str, Any], rows: int = 12) -> RenderableType:
    """The document for a terminal; of the cores, the ``rows`` that take most energy."""
    head = Table.grid(padding=(0, 2))
    energy = doc["energy"]
    network, placement = doc["network"], doc["placement"]
    lines = {
        "target": f"{doc['target_title']}; in use: chips {placement['chips']}, cores {placement['cores']}",
        "network": ", ".join(f"{name} {value:,}" for name, value in network.items()),
        "accuracy": accuracy_line(doc),
        **{"note" + " " * k: line for k, line in enumerate(doc["warnings"])},
        "energy per inference": span(energy["total"]),
        "  dynamic": span(energy["dynamic"]),
        "  static": span(energy["static"]),
        "  host": span(energy["host"]),
        **({"  input and output": span(energy["io"])} if energy["io"]["high"] else {}),
        "  constants drawn": _drawn(doc["monte_carlo"], "total"),
        "  evidence": doc["evidence"]["grade"],
        "  over samples": spread(doc, "energy"),
        **_parts(doc),
        "latency": span(doc["latency"]),
        "  bound by": doc["latency"]["bound_by"],
        "throughput": f"{si(doc['inferences_per_s'], '')} inferences/s at {si(doc['power_w'], 'W')}",
        "energy-delay product": span(doc["edp"]),
        "cross-check": doc["cross_check"] or "not run",
    }
    for name, value in lines.items():
        head.add_row(name, Text(value))
    cores = sorted(doc["cores"], key=lambda row: -row["energy_pj"]["total"])
    rest = len(cores) - rows
    parts: list[RenderableType] = [
        Text(doc["statement"], style="bold"),
        head,
        Text(),
        _table("layer", doc["layers"], lambda row: row["name"]),
        Text(),
        _table("core", cores[:rows], lambda row: f"{row['chip']}.{row['core']} {' '.join(row['populations'])}"),
    ]
    if rest > 0:
        parts.append(Text(f"... {rest:,} more"))
    if doc["baselines"]:
        parts += [Text(), _baselines(doc["baselines"]["rows"])]
    parts.append(Text("\nnot exact: " + "; ".join(doc["lossy"]) if doc["lossy"] else ""))
    parts.append(Text("\nnot priced: " + "; ".join(doc["unpriced"])))
    return Group(*parts)


def _baselines(rows: list[dict[str, Any]]) -> Table:
    table = Table("counted otherwise", box=None, header_style="bold", padding=(0, 1))
    table.add_column("energy", justify="right")
    table.add_column("leaves out", overflow="fold")
    for row in rows:
        table.add_row(Text(row["name"]), si(row["energy_pj"], "pJ"), row["leaves_out"])
    return table


def _table(kind: str, rows: list[dict[str, Any]], name: Any) -> Table:
    table = Table(kind, box=None, header_style="bold", padding=(0, 1))
    for column in ("neurons", "synops", "updates", "spikes", "messages", "hops", "energy"):
        table.add_column(column, justify="right")
    for row in rows:
        counts = (si(row[c], "") for c in ("neurons", "synops", "updates", "spikes", "messages", "hops"))
        table.add_row(Text(name(row)), *counts, si(row["energy_pj"]["total"], "pJ"))
    return table
