"""The validation of the energy model: every case meets its bar, and what is published of it is what it says now."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
CASE = ROOT.parent / "shared" / "cases" / "pilotnet-lif-loihi2"
KEPT = json.loads((ROOT / "benchmarks" / "results" / "energy.json").read_text(encoding="utf-8"))
needs_case = pytest.mark.skipif(not CASE.is_dir(), reason="the PilotNet measurement (shared/cases) is not here")


def told(name: str, *options: str) -> dict[str, Any]:
    command = [sys.executable, str(ROOT / "benchmarks" / "energy" / f"{name}.py"), "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    return json.loads(done.stdout)


def alike(rows: list[dict[str, Any]], kept: list[dict[str, Any]]) -> None:
    assert len(rows) == len(kept) > 0
    for row, old in zip(rows, kept, strict=True):
        assert row["met"] is True, row
        assert {k: v for k, v in row.items() if isinstance(v, str)} == {
            k: v for k, v in old.items() if isinstance(v, str)
        }
        for end in ("low", "nominal", "high", "measured"):
            assert row[end] == pytest.approx(old[end], rel=1e-9), (row["quantity"], end)
        assert row["low"] <= row["nominal"] <= row["high"]


@pytest.mark.parametrize("name", ["knn_loihi1", "vpx", "truenorth", "odin"])
def test_a_case_meets_its_bars_and_is_as_published(name: str) -> None:
    alike(told(name)["rows"], KEPT[name]["rows"])


@needs_case
def test_pilotnet_meets_its_bars_and_says_what_its_readers_ask_for() -> None:
    found = told("pilotnet", "--case", str(CASE))
    alike(found["rows"], KEPT["pilotnet"]["rows"])
    for name in ("dynamic_uj_per_step", "total_uj_per_step", "latency_us_per_step"):
        assert found[name]["low"] <= found[name]["nominal"] <= found[name]["high"]
    case = json.loads((CASE / "case.json").read_text(encoding="utf-8"))
    assert abs(found["dynamic_uj_per_step"]["nominal"] / 68.35 - 1) < 0.10
    assert "synops_per_core" in found and case


def test_every_case_of_the_page_is_run_here_or_says_why_not() -> None:
    """SANA-FE runs in an environment that its script makes, in minutes: make bench-energy."""
    assert set(KEPT) == {"pilotnet", "knn_loihi1", "vpx", "truenorth", "odin", "sanafe"}
    assert all(row["met"] for case in KEPT.values() for row in case["rows"])
