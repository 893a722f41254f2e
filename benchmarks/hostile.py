#!/usr/bin/env python3
"""Spoilt files of every kind through the real command line, until so many of each kind were rejected.

    python benchmarks/hostile.py [--count 1000] [--kinds nir pt npz toml json] [--seed 0] [--resume] [--workers 2]

Each file goes through a command in a process of its own, with 1 GiB of address space besides what the interpreter and
the libraries have mapped, and 10 s of processor time. It must be rejected (exit 2, one error line, at most one help
line) or, where the change left a valid file, be answered (exit 0 or 1). Writes results/hostile.json and hostile.md;
exits 1 at any other outcome. A file is made again by its kind and seed: ``mutations.spoil(kind, originals, seed)``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")
ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
sys.path.insert(0, str(ROOT / "tests"))

import hostile  # noqa: E402
from mutations import KINDS, spoil  # noqa: E402

BATCH = 20
MAX_FAULTS = 50


def batch(kind: str, seeds: range, originals: hostile.Originals, folder: Path) -> list[dict[str, Any]]:
    """What became of the files of these seeds; a change that changed nothing is left out."""
    rows: list[dict[str, Any]] = []
    for seed in seeds:
        spoilt = spoil(kind, originals[kind], seed)
        if spoilt.data == originals[kind][spoilt.original]:
            continue
        done = hostile.run(spoilt, folder)
        rows.append({"seed": seed, "original": spoilt.original, "mutation": spoilt.mutation, "verdict": done.verdict,
                     "seconds": done.seconds, "peak_bytes": done.peak_bytes, "said": done.said})  # fmt: skip
    return rows


def again(kind: str, sums: dict[str, Any], originals: hostile.Originals, folder: Path) -> None:
    """Run the faults of an earlier run once more, as what caused them may be mended."""
    faults, sums["faults"] = sums["faults"], []
    for fault in faults:
        sums["fault"] -= 1
        sums["mutations"][fault["mutation"]]["fault"] -= 1
        add(sums, batch(kind, range(fault["seed"], fault["seed"] + 1), originals, folder))


def add(sums: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Put the rows of one kind into its sums."""
    for row in rows:
        by = sums["mutations"].setdefault(row["mutation"], {})
        verdict = row["verdict"] if row["verdict"] in ("rejected", "valid") else "fault"
        by[verdict] = by.get(verdict, 0) + 1
        sums[verdict] = sums.get(verdict, 0) + 1
        sums["slowest_s"] = max(sums["slowest_s"], round(row["seconds"], 2))
        sums["peak_mib"] = max(sums["peak_mib"], row["peak_bytes"] >> 20)
        if verdict == "fault" and len(sums["faults"]) < MAX_FAULTS:
            sums["faults"].append({k: row[k] for k in ("seed", "original", "mutation", "verdict", "said")})
            print(f"{row['mutation']} of {row['original']}, seed {row['seed']}: {row['verdict']}", file=sys.stderr)


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "Spoilt files through the command line, each in a process of its own with 1 GiB of address space and 10 s",
        "of processor time besides what the interpreter and the libraries take to start.",
        "Rejected: exit code 2, one `error` line, at most one `help` line, no traceback. Valid: the change left a file",
        "that can be read, and it was answered. Fault: anything else.",
        "",
        "| kind | files | rejected | valid | faults | slowest, processor s | peak MiB, libraries included | seeds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for kind, s in results.items():
        files = s["rejected"] + s["valid"] + s["fault"]
        lines.append(
            f"| `{kind}` | {files:,} | {s['rejected']:,} | {s['valid']:,} | {s['fault']} | {s['slowest_s']} | "
            f"{s['peak_mib']:,} | {s['first_seed']} .. {s['next_seed'] - 1} |"
        )
    lines += [
        "",
        "| mutation | " + " | ".join(f"`{k}` rejected / valid" for k in results) + " |",
        "|---" * (len(results) + 1) + "|",
    ]
    rows: dict[str, dict[str, str]] = defaultdict(dict)
    for kind, s in results.items():
        for name, by in s["mutations"].items():
            rows[name.rstrip("_")][kind] = f"{by.get('rejected', 0)} / {by.get('valid', 0)}"
    lines += [f"| {name} | " + " | ".join(row.get(k, "") for k in results) + " |" for name, row in sorted(rows.items())]
    return "\n".join(lines) + "\n"


def save(results: dict[str, Any]) -> None:
    """Write both forms, each whole or not at all."""
    from snnergy.files import write_text

    write_text(RESULTS / "hostile.json", json.dumps(results, indent=1, sort_keys=True) + "\n")
    write_text(RESULTS / "hostile.md", table(results))


def main() -> int:
    """Run until every kind has its count; 1 where anything ended otherwise than it should."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="rejected files of each kind")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--seed", type=int, default=0, help="the first of each kind")
    parser.add_argument("--resume", action="store_true", help="go on from results/hostile.json, its faults first")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    stored = RESULTS / "hostile.json"
    results: dict[str, Any] = json.loads(stored.read_text()) if given.resume and stored.exists() else {}
    with tempfile.TemporaryDirectory(prefix="snnergy-hostile-") as name:
        folder = Path(name)
        originals = hostile.originals(folder)
        fork = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(given.workers, mp_context=fork) as pool:
            for kind in given.kinds:
                fresh = {"first_seed": given.seed, "next_seed": given.seed, "rejected": 0, "valid": 0, "fault": 0,
                         "slowest_s": 0.0, "peak_mib": 0, "mutations": {}, "faults": []}  # fmt: skip
                sums = results.setdefault(kind, fresh)
                again(kind, sums, originals, folder)
                while sums["rejected"] < given.count:
                    first = sums["next_seed"]
                    seeds = [range(first + BATCH * k, first + BATCH * (k + 1)) for k in range(2 * given.workers)]
                    for rows in pool.map(partial(batch, kind, originals=originals, folder=folder), seeds):
                        add(sums, rows)
                    sums["next_seed"] = seeds[-1].stop
                    save(results)
                    print(
                        f"{kind}: {sums['rejected']} rejected, {sums['valid']} valid, {sums['fault']} faults",
                        file=sys.stderr,
                    )
    print(table(results))
    return int(any(s["fault"] for s in results.values()))


if __name__ == "__main__":
    sys.exit(main())
