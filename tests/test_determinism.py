"""The same command writes the same bytes under any number of threads and any hash seed; times stand under ``run``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
from snnergy import checkpoint
from snnergy.deploy import lava_compat

LAVA = 1 if lava_compat.installed() else 0
POOLS = ("OMP", "MKL", "OPENBLAS", "NUMBA")
# os.cpu_count is how many threads the engine takes
SCRIPT = "import os; os.cpu_count = lambda: int(os.environ['CPUS']); from snnergy.cli import main; main()"
SETTINGS = {"one": (1, "0"), "other": (3, "4242")}
COMMANDS: dict[str, tuple[object, ...]] = {
    "check": ("check", "model.nir", "--json"),
    "check on a chip that is too small": ("check", "model.nir", "--target", "loihi1-sim", "--json"),
    "verify": ("verify", "model.pt", "--samples", 2, "--lava-samples", LAVA, "--json"),
    "deploy": ("deploy", "--samples", 6, "--cross-check", LAVA, "-o", "r.json", "--html", "r.html", "--json"),
    "report": ("report", "r.json", "--html", "page.html", "--svg", "cores.svg"),
    "report in the terminal": ("report", "r.json"),
    "export": ("export", "model.pt", "-o", "again.nir", "--samples", 2, "--json"),
}


def run(folder: Path, threads: int, seed: str, *args: object) -> str:
    """Standard output of the real command in its own process."""
    environment = {**os.environ, **{f"{pool}_NUM_THREADS": str(threads) for pool in POOLS}, "CPUS": str(threads),
                   "PYTHONHASHSEED": seed, "OMP_WAIT_POLICY": "PASSIVE"}  # fmt: skip
    done = subprocess.run([sys.executable, "-c", SCRIPT, *map(str, args)], cwd=folder, env=environment,
                          capture_output=True, text=True, timeout=240)  # fmt: skip
    assert done.returncode in (0, 1) and "error:" not in done.stderr, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, tiny_model: Any) -> dict[str, dict[str, Any]]:
    """Setting -> command, or file that one wrote -> text or bytes."""
    start = tmp_path_factory.mktemp("start")
    checkpoint.save(start / "model.pt", tiny_model, {"dataset": "avdigits:test"})
    run(start, 1, "0", "export", "model.pt", "--samples", 1)
    found: dict[str, dict[str, Any]] = {}
    report = b""
    for setting, (threads, seed) in SETTINGS.items():
        folder = tmp_path_factory.mktemp(setting)
        for name in ("model.pt", "model.nir"):
            (folder / name).write_bytes((start / name).read_bytes())
        found[setting] = {}
        for name, args in COMMANDS.items():
            if name == "report":  # the same one for all: that of another run holds other times
                written = (folder / "r.json").read_bytes()
                report = report or written
                (folder / "r.json").write_bytes(report)
                found[setting]["r.json"] = written.decode()
            found[setting][name] = run(folder, threads, seed, *args)
        found[setting] |= {name: (folder / name).read_bytes() for name in ("again.nir", "page.html", "cores.svg")}
    return found


def without_run(text: str) -> str:
    """The document as it was written, less its block of times."""
    document = json.loads(text)
    document.pop("run", None)
    return json.dumps(document, indent=2)


@pytest.mark.parametrize("name", ["check", "check on a chip that is too small", "verify", "deploy", "export", "r.json"])
def test_the_same_command_gives_the_same_json(name, results):
    assert without_run(results["other"][name]) == without_run(results["one"][name])


@pytest.mark.parametrize("name", ["again.nir", "page.html", "cores.svg", "report in the terminal"])
def test_the_same_command_writes_the_same_bytes(name, results):
    assert results["other"][name] == results["one"][name]


def test_only_times_stand_under_run(results):
    for name in ("check", "verify", "export"):
        assert "run" not in json.loads(results["one"][name])
    for name in ("deploy", "r.json"):
        document = json.loads(results["one"][name])
        assert document["run"].keys() == {"seconds"} and all(s >= 0 for s in document["run"]["seconds"].values())
    assert results["one"]["deploy"] == results["one"]["r.json"]
