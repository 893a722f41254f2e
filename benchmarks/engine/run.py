#!/usr/bin/env python3
"""The native engine beside its peers: the same networks, weights and spikes, one after the other in one run.

    python benchmarks/engine/run.py                       everything; a machine with nothing else to do
    python benchmarks/engine/run.py --quick               does it all run? the times mean nothing
    python benchmarks/engine/run.py --only ours lava      these simulators; other parts: sweep scaling bounds presets
    ... --keep                                            what is not run stays as an earlier run left it, and says so

Writes engine.json, engine.md and engine.svg to benchmarks/results and the table in README.md (--check: is it so?).
Exits with 1 if the engine or Lava differ in a spike from plain int64 arithmetic. Peers are installed into
benchmarks/engine/.envs the first time, each by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import picture
import reference
import report
import workloads
from environments import PEERS, NotInstalled, python_of

sys.path.insert(0, str(Path(__file__).parents[1]))
import readme

from snnergy.deploy import engine

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RESULTS = ROOT / "benchmarks" / "results"
CASES = ("fc:1", "fc:64", "conv:1", "conv:16")
ONE_CORE = ("brian2", "nengo", "lava_in_process")
"""They use one core whatever there is."""
SWEEPERS = ("jax", "sinabs", "brian2")
"""Peers that are swept over activity: two that pay for every synapse, one that pays for events."""
PATHS = ("events", "product")
PARTS = (*PEERS, "sweep", "scaling", "bounds", "presets")


def child(command: list[str], cores: int, limit_s: float, **variables: str) -> dict[str, Any]:
    """The line of JSON that a process of its own prints, or ``{"error": ...}``; on so many cores."""
    usable = sorted(os.sched_getaffinity(0))[:cores]
    hidden = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")  # kernels forced from outside would be measured instead
    env = {k: v for k, v in os.environ.items() if k not in hidden}
    env |= {"PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}", "OMP_NUM_THREADS": str(len(usable)), **variables}
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "SNNERGY_THREADS"):
        env[name] = env["OMP_NUM_THREADS"]
    words = [*(f"{k}={v}" for k, v in variables.items() if v), *(Path(c).name for c in command)]
    print(f"{time.strftime('%X')} {len(usable)} cores: {' '.join(words)}", file=sys.stderr)
    try:
        done = subprocess.run(
            command, cwd=HERE, env=env, capture_output=True, text=True, timeout=limit_s,
            preexec_fn=lambda: os.sched_setaffinity(0, usable),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {limit_s:g} s"}
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        said = (done.stderr.strip() or "no output").splitlines()[-1]
        return {"error": f"exit {done.returncode}: {said}"}
    return json.loads(lines[-1])


class Benchmark:
    def __init__(self, quick: bool, data: Path) -> None:
        self.quick, self.data = quick, data
        self.missing: dict[str, str] = {}

    def peer(self, name: str, cases: tuple[str, ...], cores: int, seconds: float | None = None, **env: str) -> Any:
        """One process of one peer; None where it is not installed."""
        if name in self.missing:
            return None
        try:
            python = python_of(name)
        except NotInstalled as reason:
            self.missing[name] = str(reason)
            return None
        seconds = seconds if seconds is not None else 0.2 if self.quick else 3.0
        times = ["--seconds", str(seconds), "--least", "1" if self.quick else "5"]
        command = [str(python), "-m", f"peers.{name}", "--data", str(self.data), "--cases", *cases, *times]
        found = child(command, cores, 1800, **env)
        if "error" in found:
            self.missing[name] = found["error"]
            return None
        return {"cores": cores, **found}

    def side_by_side(self, wanted: list[str], cores: int) -> list[dict[str, Any]]:
        """Every simulator on one core and on all, ours by every path."""
        rows: list[Any] = []
        for name in wanted:
            counts = [1] if name in ONE_CORE else sorted({1, cores})
            for count in counts:
                rows.append(self.peer(name, CASES, count))
        if "ours" in wanted:
            for path in PATHS:
                for count in sorted({1, cores}):
                    row = self.peer("ours", CASES, count, SNNERGY_PATH=path)
                    rows.append(row and {**row, "path": path})
        return [row for row in rows if row]

    def starts(self) -> dict[str, Any]:
        """From the start of Python to the first result: with nothing compiled yet, and with the cache on disk."""
        found: dict[str, Any] = {}
        with tempfile.TemporaryDirectory() as folder:
            for name in ("cold", "warm"):
                row = self.peer("ours", ("fc:1", "conv:1"), 1, seconds=0.0, NUMBA_CACHE_DIR=folder)
                if row:
                    found[name] = {
                        "import_s": row["start_s"],
                        **{case: r["build_s"] + r["first_s"] for case, r in row["cases"].items()},
                    }
        return found

    def sweep(self, wanted: list[str]) -> list[dict[str, Any]]:
        """Samples x steps per second against the activity of inputs and neurons, on one core."""
        names = [n for n in workloads.names(self.quick) if "@" in n]
        rows: list[Any] = []
        for key in ("fc", "conv"):
            cases = tuple(f"{n}:1" for n in names if workloads.base(n) == key)
            for path in ("", *PATHS):
                row = self.peer("ours", cases, 1, SNNERGY_PATH=path)
                rows.append(row and {**row, "path": path or "automatic"})
            for name in SWEEPERS:
                if name in wanted and not (name == "brian2" and (self.quick or key == "conv")):
                    rows.append(self.peer(name, cases, 1))
        return [row for row in rows if row]


def exactness(data: Any, quick: bool) -> dict[str, Any]:
    """Every layer's spikes against plain int64 arithmetic; and every path and number of threads, on all samples."""
    found: dict[str, Any] = {}
    keep = tuple(round(4096 * k) for k in data["keep"].tolist())
    for name in workloads.names(quick):
        net, x = workloads.read(data, name)
        count = min(len(x), 1 if quick or "@" in name else 8 if name == "fc" else 2)
        weights = [data[f"{workloads.base(name)}/weight{k}"] for k in range(3)]
        wanted = reference.run(weights, data[f"{name}/threshold"].tolist(), (keep[0], keep[1]), x[:count])
        whole = engine.run(net, {"input": x}, record=workloads.LAYERS).recorded
        right = all(
            np.array_equal(whole[n][:count], w) for n, w in zip(workloads.LAYERS, wanted, strict=True)
        ) and np.array_equal(whole["output"], data[f"{name}/expected"])
        same = True
        for path in PATHS:
            for threads in (1, 2):
                got = engine.run(net, {"input": x}, record=workloads.LAYERS, path=path, threads=threads).recorded
                same &= all(np.array_equal(got[n], whole[n]) for n in workloads.LAYERS)
        spikes = sum(int(w.sum()) for w in wanted)
        found[name] = {"samples": count, "spikes": spikes, "reference": right, "paths_and_threads": bool(same)}
        found[name]["rates"] = data[f"{name}/rates"].tolist()
    return found


def about() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), platform.processor())
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "numba": version("numba"),
        "system": platform.platform(terse=True),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="shortest times, few points")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--keep", action="store_true", help="keep what is not run from the file of an earlier run")
    parser.add_argument("--json", type=Path, help="engine.json; engine.md and engine.svg go beside it")
    parser.add_argument("--model", type=Path, help="a trained model.pt of the preset tiny; else a little training")
    parser.add_argument("--paper", action="store_true", help="also the preset paper, 4 samples: gigabytes, minutes")
    parser.add_argument("--check", action="store_true", help="exit 1 where README.md is not what engine.json says")
    options = parser.parse_args()
    if options.check:
        kept = json.loads((RESULTS / "engine.json").read_text(encoding="utf-8"))
        sys.exit(not readme.put("engine", report.summary(kept), check=True))
    file = options.json or (
        Path(tempfile.mkdtemp()) if options.quick else RESULTS
    ) / "engine.json"  # fmt: skip
    begin, cores = time.perf_counter(), len(os.sched_getaffinity(0))
    data = HERE / ".work" / ("quick.npz" if options.quick else "workloads.npz")
    workloads.write(data, options.quick)
    found: dict[str, Any] = {"about": about(), "quick": options.quick}
    with np.load(data) as loaded:
        found["exact"] = exactness(dict(loaded), options.quick)
    benchmark = Benchmark(options.quick, data)
    peers = [name for name in PEERS if name in options.only]
    each = {"SECONDS_EACH": "0.1" if options.quick else "1"}
    if peers:
        found["rows"] = benchmark.side_by_side(peers, cores)
    if "ours" in peers:
        found["starts"] = benchmark.starts()
    if "sweep" in options.only:
        found["sweep"] = benchmark.sweep(peers)
    for part in ("scaling", "bounds"):
        if part in options.only:
            found[part] = child([sys.executable, f"{part}.py"], 1, 1800, **each)
    if "presets" in options.only:
        runs = [("tiny", 20 if options.quick else 1000), ("chip", 4 if options.quick else 1000)]
        runs += [("paper", 4)] * options.paper
        found["presets"] = []
        for name, samples in runs:
            model = ["--model", str(options.model.resolve())] if name == "tiny" and options.model else []
            command = [sys.executable, "presets.py", name, "--samples", str(samples), *model]
            found["presets"].append({"preset": name, **child(command, cores, 3600)})
    found |= {"missing": benchmark.missing, "seconds": time.perf_counter() - begin}
    if options.keep:
        before = json.loads(file.read_text(encoding="utf-8"))
        kept = [part for part in ("sweep", "scaling", "bounds", "presets") if part not in found and part in before]
        found |= {part: before[part] for part in kept} | {"kept": kept}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(found, indent=1) + "\n")
    file.with_suffix(".md").write_text(report.markdown(found))
    file.with_suffix(".svg").write_text(picture.svg(found))
    print(report.markdown(found))
    if file == RESULTS / "engine.json" and found.get("rows"):
        readme.put("engine", report.summary(found))
    print(f"{file} written, {found['seconds']:.0f} s", file=sys.stderr)
    exact = [row["reference"] and row["paths_and_threads"] for row in found["exact"].values()]
    exact += [
        case.get("exact", True)
        for row in found.get("rows", [])
        if row["peer"] in ("ours", "lava", "lava_in_process")
        for case in row["cases"].values()
    ]
    sys.exit(0 if all(exact) else 1)


if __name__ == "__main__":
    main()
