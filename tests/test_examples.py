"""The examples run, each in an environment that has its framework, and what they write deploys as they say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*_network.py"))
NEEDS = {"snntorch": ("snntorch", "nirtorch")}


def python_of(tool: str) -> str:
    """An interpreter that has the framework: this one, or the one that the interop benchmark made."""
    if all(find_spec(name) for name in NEEDS.get(tool, (tool,))):
        return sys.executable
    other = ROOT / "benchmarks" / "interop" / ".envs" / tool / "bin" / "python"
    if not other.exists():
        pytest.skip(f"needs {tool}: python benchmarks/interop/run.py --only {tool} installs it")
    return str(other)


@pytest.mark.parametrize("example", EXAMPLES, ids=[e.stem for e in EXAMPLES])
def test_an_example_runs_and_what_it_writes_is_verified_and_deployed(example: Path, tmp_path: Path) -> None:
    tool = example.stem.removesuffix("_network")
    done = subprocess.run([python_of(tool), example], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-800:]
    commands = re.findall(r"^#     (snnergy .*)$", example.read_text(encoding="utf-8"), re.M)
    assert [c.split()[1] for c in commands] == ["verify", "deploy"]
    options = done.stdout.split(": ", 1)[1].split()
    for command in commands:
        assert " ".join(options) in command
        few = ["--lava-samples", "2"] if " verify " in command else ["--samples", "4", "--cross-check", "2"]
        words = [sys.executable, "-c", "from snnergy.cli import main; main()", *command.split()[1:], *few, "--json"]
        found = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stderr[-800:]
        document = json.loads(found.stdout)
        if " deploy " in command:
            assert document["counters"]["spikes"] > 0 and (tmp_path / "report.html").exists()
        else:
            assert all(pair["ok"] for pair in document["pairs"])


def test_there_is_an_example_for_every_framework_of_the_matrix() -> None:
    exporters = {p.stem.removesuffix("_net") for p in (ROOT / "benchmarks" / "interop" / "exporters").glob("*_net.py")}
    assert {e.stem.removesuffix("_network") for e in EXAMPLES} == exporters
