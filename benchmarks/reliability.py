#!/usr/bin/env python3
"""Gather what the long suites found into the README's table of reliability.

    python benchmarks/reliability.py            write the table in README.md
    python benchmarks/reliability.py --check    exit 1 where they are not what the results say

Reads results/{fuzz,hostile,kills,mutation}.json and coverage.md, which the commands in the table write.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import readme

RESULTS = Path(__file__).with_name("results")


def _load(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def table() -> str:
    """One row a claim: what was tried, how often, how often it went wrong, and the command."""
    rows = ["| tried | times | went wrong | command |", "|---|---:|---:|---|"]

    def add(tried: str, times: int, wrong: int, command: str) -> None:
        rows.append(f"| {tried} | {times:,} | {wrong:,} | `{command}` |")

    relations: list[dict[str, Any]] = []
    for suite in _load("fuzz")["suites"]:
        if "==" in suite["title"]:
            add(f"random networks: {suite['title']}", suite["networks"], len(suite["differences"]), "make fuzz")
        else:
            relations.append(suite)
    networks, wrong = (
        sum(values) for values in zip(*((r["networks"], len(r["differences"])) for r in relations), strict=True)
    )
    add(f"random networks: {len(relations)} changes that must keep every spike", networks, wrong, "make fuzz")
    for kind, found in sorted(_load("hostile").items()):
        outcomes = found["mutations"].values()
        rejected = sum(row.get("rejected", 0) for row in outcomes)
        add(
            f"spoilt `.{kind}` file refused in one line, in 10 processor seconds and 1 GiB",
            rejected,
            found["fault"],
            "make hostile",
        )
    kills = _load("kills")
    add(
        "train, export, deploy, report killed: files whole, next run the same",
        kills["trials"],
        kills["failed"],
        "make kills",
    )
    mutants = _load("mutation")["mutants"]
    survived = sum(m["outcome"] == "survived" for m in mutants)
    add(
        "fault put into engine, quantiser, scheduler or energy; wrong: no test noticed",
        len(mutants),
        survived,
        "make mutants",
    )
    lines, branches = _coverage()
    rows.append(
        f"| lines, branches of those modules that their own tests run | {lines} %, {branches} % | | `make coverage` |"
    )
    return "\n".join(rows) + "\n"


def _coverage() -> tuple[str, str]:
    """The lowest share of lines and of branches of any module."""
    rows = re.findall(
        r"^\| \S+\.py \| \d+ \| ([\d.]+) \| \d+ \| ([\d.]+) \|", (RESULTS / "coverage.md").read_text(), re.M
    )
    lines, branches = (min(column, key=float) for column in zip(*rows, strict=True))
    return f"at least {lines}", branches


def main() -> int:
    found, check = table(), "--check" in sys.argv
    same = readme.put("reliability", found, check)
    if check:
        return int(not same)
    print(found, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
