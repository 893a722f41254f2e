"""The figures in the README are those that the benchmarks wrote."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", ["accuracy", "noise"])
def test_every_row_of_the_results_stands_in_the_readme(name):
    readme = (ROOT / "README.md").read_text()
    rows = [r for r in (ROOT / "benchmarks" / "results" / f"{name}.md").read_text().splitlines() if r.startswith("|")]
    assert len(rows) > 2
    assert [row for row in rows if row not in readme] == []


@pytest.mark.parametrize("command", ["reliability.py", "engine/run.py", "mapping/run.py", "energy/run.py"])
def test_the_tables_of_the_pages_are_what_the_results_say(command):
    done = subprocess.run([sys.executable, ROOT / "benchmarks" / command, "--check"], check=False)
    assert done.returncode == 0, f"run: python benchmarks/{command}"
