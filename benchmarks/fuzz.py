#!/usr/bin/env python3
"""The long run of the differential suites: random networks by the ten thousand, one side against the other.

    python benchmarks/fuzz.py                               everything; goes on where it was interrupted
    python benchmarks/fuzz.py --suite lava --count 2000     one suite, its first 2000 seeds
    python benchmarks/fuzz.py --quick                       a minute: does it run?

Writes results/fuzz.json and results/fuzz.md beside this file. A network on which two sides differ is saved under
runs/fuzz, ready to be moved to tests/regressions. Exit code 1 where there is one. Seeds that are done are kept in
runs/fuzz/state.json until the code they tested changes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import date
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import suites

from snnergy import files
from snnergy.deploy import lava_compat
from snnergy.errors import MissingPart
from snnergy.testing.cases import Case

RESULTS = Path(__file__).with_name("results")
RUNS = Path(__file__).parent.parent / "runs" / "fuzz"
BLOCK = 100
"""Seeds of one task; a multiple of what any suite checks together."""
COUNTS = {"native": 50_000, "lava": 5_000, "nir": 20_000, "quantised": 10_000}
OTHERS = 5_000
QUICK = 100


def counts(chosen: Iterable[str], count: int | None, quick: bool) -> dict[str, int]:
    """Seeds of every suite, whole blocks."""
    wanted = {name: count or (QUICK if quick else COUNTS.get(name, OTHERS)) for name in chosen}
    return {name: -(-n // BLOCK) * BLOCK for name, n in wanted.items()}


def work(name: str, first: int) -> dict[str, Any]:
    """One block of one suite: networks checked, differences, and how many networks reached which edge."""
    suite = suites.SUITES[name]
    started = time.perf_counter()
    reached: Counter[str] = Counter()
    differences: list[dict[str, Any]] = []
    for start in range(first, first + BLOCK, suite.together):
        many = [suite.make(seed) for seed in range(start, start + suite.together)]
        for case, found in zip(many, _checked(suite, many), strict=True):
            if isinstance(found, suites.Result):
                reached.update(found.edges.keys())
                found = found.difference
            if found:
                saved = suite.save(case, RUNS, found)
                differences.append({"seed": case.about["seed"], "difference": found, "case": saved.name})
    return {"differences": differences, "reached": dict(reached), "seconds": time.perf_counter() - started}


def _checked(suite: suites.Suite, many: list[Case]) -> list[suites.Result | str]:
    """The results; where a check raises, each case on its own, and what it raised."""
    try:
        return list(suite.check(many))
    except Exception as error:
        if len(many) == 1:
            return [f"{type(error).__name__}: {error}"]
        return [_checked(suite, [case])[0] for case in many]


def fingerprint() -> str:
    """A hash of the code under test: seeds that an older version has passed do not count."""
    modules = [m for name, m in sys.modules.items() if name.startswith(("snnergy.", "suites"))]
    paths = {Path(m.__file__) for m in modules if getattr(m, "__file__", None)}
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(paths))).hexdigest()[:16]


def read_state(path: Path, code: str) -> dict[str, Any]:
    """What is done, suite by suite; nothing where the code is another."""
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        if state["code"] == code:
            return state
        print("the code has changed since the last run: starting anew", file=sys.stderr)
    except FileNotFoundError:
        pass
    return {"code": code, "suites": {}}


def record(state: dict[str, Any], name: str, first: int, found: dict[str, Any]) -> None:
    """Add one block to the state."""
    entry = state["suites"].setdefault(name, {"blocks": [], "differences": [], "reached": {}, "seconds": 0.0})
    entry["blocks"] = sorted([*entry["blocks"], first])
    entry["differences"] = sorted(entry["differences"] + found["differences"], key=lambda d: d["seed"])
    entry["reached"] = dict(sorted((Counter(entry["reached"]) + Counter(found["reached"])).items()))
    entry["seconds"] += found["seconds"]


def summary(state: dict[str, Any]) -> dict[str, Any]:
    """The document that results/fuzz.json holds; what differs from run to run is under "run"."""
    rows = [
        {
            "suite": name,
            "title": suite.title,
            "networks": BLOCK * len(entry["blocks"]),
            "seeds": ranges(entry["blocks"]),
            "differences": entry["differences"],
            "networks_that_reached": entry["reached"],
        }
        for name, suite in suites.SUITES.items()
        if (entry := state["suites"].get(name))
    ]
    return {
        "suites": rows,
        "run": {
            "date": date.today().isoformat(),
            "cpu_seconds": {name: round(entry["seconds"], 1) for name, entry in state["suites"].items()},
            "code": state["code"],
            "python": platform.python_version(),
            "packages": {name: version(name) for name in ("numpy", "numba", "nir", "lava-nc")},
        },
    }


def ranges(blocks: list[int]) -> list[list[int]]:
    """Block starts as the seed ranges they cover, first and one past the last."""
    result: list[list[int]] = []
    for first in sorted(blocks):
        if result and result[-1][1] == first:
            result[-1][1] = first + BLOCK
        else:
            result.append([first, first + BLOCK])
    return result


def as_markdown(document: dict[str, Any]) -> str:
    """The summary as a page."""
    lines = [
        "# Differential fuzzing",
        "",
        f"`make fuzz` on {document['run']['date']}; every network is drawn from its seed. Networks that differ: "
        f"{sum(len(row['differences']) for row in document['suites'])}.",
        "",
        "| suite | compared | networks | seeds | differ |",
        "|---|---|---:|---|---:|",
    ]
    for row in document["suites"]:
        seeds = ", ".join(f"{first}-{last - 1}" for first, last in row["seeds"])
        lines.append(f"| {row['suite']} | {row['title']} | {row['networks']} | {seeds} | {len(row['differences'])} |")
    for row in document["suites"]:
        if row["networks_that_reached"]:
            reached = ", ".join(f"{edge} {n}" for edge, n in row["networks_that_reached"].items())
            lines += ["", f"Networks of `{row['suite']}` with: {reached}."]
    for row in document["suites"]:
        lines += [f"- `{row['suite']}` seed {d['seed']}: {d['difference']}" for d in row["differences"]]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", action="append", choices=list(suites.SUITES), help="only this one; may be repeated")
    parser.add_argument("--count", type=int, help=f"networks of every suite, rounded up to blocks of {BLOCK}")
    parser.add_argument("--seed", type=int, default=0, help="first seed, a multiple of the block")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} networks of every suite, nothing kept")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    if options.seed % BLOCK or options.seed < 0 or (options.count is not None and options.count < 1):
        parser.error(f"--seed is a multiple of {BLOCK}, --count at least 1")

    wanted = counts(options.suite or suites.SUITES, options.count, options.quick)
    if "lava" in wanted:
        try:
            lava_compat.activate()
        except MissingPart as error:
            print(f"error: {error}", *([f"help: {error.help}"] if error.help else []), sep="\n", file=sys.stderr)
            return error.exit_code
    path = RUNS / "state.json"
    state = {"code": fingerprint(), "suites": {}} if options.quick else read_state(path, fingerprint())
    done = {(name, first) for name, entry in state["suites"].items() for first in entry["blocks"]}
    blocks = [(name, options.seed + k) for name, n in wanted.items() for k in range(0, n, BLOCK)]
    left = sorted((b for b in blocks if b not in done), key=lambda b: b[1])  # every suite advances
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        tasks = {pool.submit(work, name, first): (name, first) for name, first in left}
        try:
            for k, task in enumerate(as_completed(tasks), 1):
                name, first = tasks[task]
                found = task.result()
                record(state, name, first, found)
                for difference in found["differences"]:
                    print(f"{name} seed {difference['seed']}: {difference['difference']}", file=sys.stderr)
                print(f"{k}/{len(left)} blocks of {BLOCK}: {name} {first}", file=sys.stderr)
                if not options.quick:
                    files.write_text(path, json.dumps(state))
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            print("interrupted; the same command goes on from here", file=sys.stderr)
            return 130
    document = summary(state)
    if not options.quick:
        files.write_text(RESULTS / "fuzz.json", json.dumps(document, indent=1) + "\n")
        files.write_text(RESULTS / "fuzz.md", as_markdown(document))
    print(as_markdown(document), end="")
    return 1 if any(row["differences"] for row in document["suites"]) else 0


if __name__ == "__main__":
    sys.exit(main())
