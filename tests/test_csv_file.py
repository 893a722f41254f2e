"""The long table holds the numbers of the report, and no cell is a formula."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from test_report import FACTS, report

from snnergy.deploy import csv_file
from snnergy.deploy.report import document


@pytest.fixture(scope="module")
def doc() -> dict[str, Any]:
    return document(report("=cmd|'x'"), FACTS)


def test_every_number_has_a_row(doc: dict[str, Any]) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_file.text(doc))))
    assert tuple(rows[0]) == csv_file.HEAD
    total = next(r for r in rows if (r["table"], r["name"]) == ("total", "total"))
    assert [float(total[end]) for end in ("low", "nominal", "high")] == [
        doc["energy"]["total"][end] for end in ("low", "nominal", "high")
    ]
    dynamic = doc["energy"]["dynamic"]["nominal"]
    for table, quantity in (("layer", "energy of "), ("core", "energy"), ("core and step", "energy")):
        found = sum(float(r["nominal"]) for r in rows if r["table"] == table and r["quantity"].startswith(quantity))
        assert found == pytest.approx(dynamic), table
    assert sum(r["table"] == "constant" for r in rows) == len(doc["constants"])
    assert sum(r["table"] == "step" and r["quantity"] == "time" for r in rows) == doc["timesteps"]


def test_a_name_that_a_spreadsheet_would_run_is_quoted(doc: dict[str, Any]) -> None:
    names = {r["name"] for r in csv.DictReader(io.StringIO(csv_file.text(doc)))}
    assert "'=cmd|'x'" in names and not any(name.startswith("=") for name in names)
