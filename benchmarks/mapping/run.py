"""All mapping benchmarks, one after the other: benchmarks/results/mapping.json and .md, and the table of the README.

    python benchmarks/mapping/run.py [--check]

Every row is what a script of this folder prints with ``--json``; scaling.py writes its own page and plot. ``--check``
runs nothing, and ends with 1 where the README does not say what the results do.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
RESULTS = HERE.parent / "results"
SHARED = HERE.parents[2] / "shared" / "cases"
SCRIPTS = {
    "placement": ("--case", "placement"),
    "pilotnet": ("--case", "pilotnet-lif-loihi2"),
    "sanafe": (),
    "presets": (),
}
"""Name -> the option of its case, and the case."""
PLACEMENT_HOPS = {118: (31_522, 7_170, 1), 466: (75_443, 10_366, 2), 931: (116_430, 15_165, 4)}
"""Clusters -> hops in layer order, hops of the best known method, CPU-seconds that are allowed."""


def run(name: str, cases: Path) -> dict[str, Any]:
    """What a script prints; its exit code is left to its own faults."""
    option = [SCRIPTS[name][0], str(cases / SCRIPTS[name][1])] if SCRIPTS[name] else []
    done = subprocess.run([sys.executable, str(HERE / f"{name}.py"), *option, "--json"], capture_output=True, text=True)
    if not done.stdout.strip():
        sys.exit(f"{name}.py ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return {**json.loads(done.stdout), "exit_code": done.returncode}


def rows(found: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """What was mapped, ours, beside what, and how that compares."""
    pilot, sanafe = found["pilotnet"], found["sanafe"]
    table: list[tuple[str, str, str, str]] = []
    for row in found["placement"]["rows"]:
        layer, best, allowed = PLACEMENT_HOPS[row["clusters"]]
        ours = f"{row['hops']:,.0f} hops in {row['cpu_s']:.2f} CPU s"
        beside = f"{best:,} (annealing), {layer:,} (layer order); {allowed} CPU s"
        table.append(
            (f"{row['clusters']} clusters on a mesh", ours, beside, f"{1 - row['hops'] / best:.0%} fewer hops")
        )
    same = all(r["equal"] for r in (*pilot["rows"], *pilot["totals"].values()))
    counts = f"{sum(r['cores'] for r in pilot['rows'])} cores, {len(pilot['rows'])} layers"
    table.append(
        (
            "PilotNet, the compiler's tiles: synops a core",
            counts,
            "published case, in its flattening",
            "equal" if same else "DIFFER",
        )
    )
    busiest, theirs = "busiest core, mean step", pilot["compiler"]
    for name, title in (("fewest", "fewest cores"), ("fastest", "fastest"), ("one size", "fastest, tiles of one size")):
        ours = f"{pilot[name]['cores']} cores, busiest {pilot[name][busiest]:,.0f} synops a step"
        beside = f"Intel's compiler: {theirs['cores']} cores, {theirs[busiest]:,.0f}"
        table.append(
            (f"PilotNet, {title}", ours, beside, f"busiest core {pilot[name][busiest] / theirs[busiest]:.2f}x")
        )
    edp = f"{sanafe['ours']['edp_js']:.3g} J s, {sanafe['ours']['cores']} cores"
    beside = f"its tutorial: {sanafe['tutorial']['edp_js']:.3g} J s, {sanafe['tutorial']['cores']} cores"
    table.append(("SANA-FE's DVS gesture, judged by SANA-FE", edp, beside, f"EDP {1 - sanafe['edp_ratio']:.0%} lower"))
    for row in found["presets"]["rows"]:
        took = f"check {row['check_s']:.1f} s, map {row['map_s']:.1f} s, {row['peak_gib']:.1f} GiB"
        cores = (
            f"{row['chips']} chip{'s' * (row['chips'] != 1)}, {row['cores']:,} cores" if row["fits"] else "does not fit"
        )
        table.append((f"preset `{row['preset']}`, {row['neurons']:,} neurons", cores, row["board"], took))
    return table


def summary(found: dict[str, Any]) -> str:
    lines = ["| what is mapped | ours | beside | result |", "|---|---|---|---|"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows(found)]) + "\n"


def main() -> int:
    import readme

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=Path, default=SHARED, help="folder of the cases")
    parser.add_argument("--only", choices=tuple(SCRIPTS), action="append", help="run these; the others' results stay")
    parser.add_argument("--check", action="store_true", help="run nothing: does the README say what the results do?")
    chosen = parser.parse_args()
    path = RESULTS / "mapping.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if chosen.check:
        return 0 if readme.put("mapping", summary(found), check=True) else 1
    for name in chosen.only or SCRIPTS:
        print(f"{name}.py", file=sys.stderr)
        found[name] = run(name, chosen.cases)
    from snnergy.files import write_text

    write_text(path, json.dumps(found, indent=1) + "\n")
    write_text(RESULTS / "mapping.md", "# Mapping\n\n" + summary(found))
    readme.put("mapping", summary(found))
    return max(found[name]["exit_code"] for name in SCRIPTS)


if __name__ == "__main__":
    sys.exit(main())
