#!/usr/bin/env python3
"""All validation cases of the energy model: benchmarks/results/energy.json and .md, and the table of docs/energy.md.

    python benchmarks/energy/run.py [--check]

Every row is what a script of this folder prints with ``--json``. ``--check`` runs nothing, and ends with 1 where the
page does not say what the results do.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
RESULTS, PAGE = HERE.parent / "results", HERE.parents[1] / "docs" / "energy.md"
SCRIPTS = ("pilotnet", "knn_loihi1", "vpx", "truenorth", "odin", "sanafe")


def run(name: str) -> dict[str, Any]:
    """What a script prints; a bar that is missed stays in its rows."""
    done = subprocess.run([sys.executable, str(HERE / f"{name}.py"), "--json"], capture_output=True, text=True)
    if not done.stdout.strip():
        sys.exit(f"{name}.py ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout)


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def table(found: dict[str, Any]) -> str:
    lines = [
        "| case | quantity | measured | predicted (low .. high) | error | bar | met | constants, and what was known |",
        "|---|---|---:|---:|---:|---|---|---|",
    ]
    for name in SCRIPTS:
        for r in found[name]["rows"]:
            span = "" if r["low"] == r["high"] else f" ({number(r['low'])} .. {number(r['high'])})"
            lines.append(
                f"| {r['case']} | {r['quantity']} | {number(r['measured'])} {r['unit']} | "
                f"{number(r['nominal'])}{span} {r['unit']} | {r['error']:+.1%} | {r['bar']} | "
                f"{'yes' if r['met'] else '**no**'} | {r['note']} |"
            )
    return "\n".join(line.replace("  ", " ") for line in lines) + "\n"


def main() -> None:
    import readme

    from snnergy.files import write_text

    if sys.argv[1:] == ["--check"]:
        kept = json.loads((RESULTS / "energy.json").read_text(encoding="utf-8"))
        sys.exit(not readme.put("validation", table(kept), check=True, page=PAGE))
    found = {name: run(name) for name in SCRIPTS}
    write_text(RESULTS / "energy.json", json.dumps(found, indent=1) + "\n")
    write_text(RESULTS / "energy.md", table(found))
    readme.put("validation", table(found), page=PAGE)
    print(table(found))


if __name__ == "__main__":
    main()
