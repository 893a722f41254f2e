#!/usr/bin/env python3
"""How much of the modules that numbers depend on is run by their own tests, in lines and in branches.

    python benchmarks/covered.py [--least 95]

Kernels run as plain Python, so that their lines are seen. Writes results/coverage.md; exits 1 where a module has less
than ``--least`` percent of either.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from mutation import RESULTS, ROOT, TESTS

from snnergy.files import write_text


def measure() -> dict[str, dict[str, int]]:
    """Module -> coverage.py's summary, from one run of all their tests."""
    tests = sorted({f"tests/{name}" for names in TESTS.values() for name in names})
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "COVERAGE_FILE": f"{folder}/data"}
        for command in (["run", "-m", "pytest", *tests], ["json", "--quiet", "-o", f"{folder}/report.json"]):
            subprocess.run([sys.executable, "-m", "coverage", *command], cwd=ROOT, env=environment, check=True)
        files = json.loads(Path(folder, "report.json").read_text())["files"]
    return {name: files[name]["summary"] for name in TESTS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--least", type=float, default=95.0)
    least = parser.parse_args().least
    lines = [
        "`python benchmarks/covered.py`: lines and branches run by each module's own tests.",
        "",
        "| module | lines | covered % | branches | covered % |",
        "|---|---|---|---|---|",
    ]
    low = []
    for name, found in measure().items():
        shares = [
            100 * found[f"covered_{kind}"] / found[f"num_{total}"] if found[f"num_{total}"] else 100.0
            for kind, total in (("lines", "statements"), ("branches", "branches"))
        ]
        low += [name] * (min(shares) < least)
        lines.append(
            f"| {name} | {found['num_statements']} | {shares[0]:.1f} | {found['num_branches']} | {shares[1]:.1f} |"
        )
    write_text(RESULTS / "coverage.md", "\n".join(lines) + "\n")
    print("\n".join(lines))
    if low:
        sys.exit(f"error: below {least:g} %: {', '.join(low)}")


if __name__ == "__main__":
    main()
