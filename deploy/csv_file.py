"""A report as one long table for spreadsheets and data frames: a row a number."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

HEAD = ("table", "name", "step", "quantity", "unit", "nominal", "low", "high")
_COUNTERS = ("neurons", "synops", "updates", "spikes", "messages", "hops")
Row = tuple[Any, ...]


def text(doc: Mapping[str, Any]) -> str:
    """The whole file. Cells that could be taken for a formula begin with an apostrophe."""
    whole = io.StringIO()
    writer = csv.writer(whole, lineterminator="\n")
    writer.writerow(HEAD)
    writer.writerows((row[0], _safe(row[1]), *row[2:]) for row in rows(doc))
    return whole.getvalue()


def rows(doc: Mapping[str, Any]) -> Iterator[Row]:
    """Totals, then layers by operation, cores, steps, cores by step, constants; energies in pJ, times in ns."""
    for name in ("total", "dynamic", "static", "host", "io"):
        yield _interval("total", name, "energy", "pJ", doc["energy"][name])
    for name in ("latency", "step", "edp"):
        yield _interval("total", name, name, doc[name]["unit"], doc[name])
    for layer in doc["layers"]:
        for op, value in layer["operations_pj"].items():
            yield _interval("layer", layer["name"], f"energy of {op}", "pJ", value)
        for counter in _COUNTERS:
            yield ("layer", layer["name"], "", counter, "", layer[counter], "", "")
    for core in doc["cores"]:
        name, energy = f"{core['chip']}.{core['core']}", core["energy_pj"]
        yield ("core", name, "", "energy", "pJ", energy["total"], energy["low"], energy["high"])
        for counter in _COUNTERS:
            yield ("core", name, "", counter, "", core[counter], "", "")
    timeline = doc["timeline"]
    for t, nominal in enumerate(timeline["step_ns"]["nominal"]):
        ends = (timeline["step_ns"][end][t] for end in ("low", "high"))
        yield ("step", timeline["bound_by"][t], t, "time", "ns", nominal, *ends)
        for term, values in timeline["terms_ns"].items():
            yield ("step", term, t, "time of the term", "ns", values[t], "", "")
    for quantity, unit in (("synops", ""), ("energy_pj", "pJ")) if timeline["cores"] else ():
        for core, values in zip(doc["cores"], timeline["cores"][quantity], strict=True):
            for t, value in enumerate(values):
                name = f"{core['chip']}.{core['core']}"
                yield ("core and step", name, t, quantity.removesuffix("_pj"), unit, value, "", "")
    for constant in doc["constants"]:
        yield ("constant", constant["key"], "", constant["evidence"], constant["unit"], constant["value"],
               constant["low"], constant["high"])  # fmt: skip


def _interval(table: str, name: str, quantity: str, unit: str, value: Mapping[str, Any]) -> Row:
    return (table, name, "", quantity, unit, value["nominal"], value["low"], value["high"])


def _safe(name: str) -> str:
    """A name of the network's, which a spreadsheet must not take for a formula."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@", "\t")) else name
