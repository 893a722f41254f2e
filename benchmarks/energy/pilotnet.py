#!/usr/bin/env python3
"""PilotNet of LIF neurons on one Loihi 2: the published run, counted by our engine and priced by the profile loihi2.

    python benchmarks/energy/pilotnet.py [--case ../shared/cases/pilotnet-lif-loihi2] [--json]

The network is read from lava-dl's file, run with a silent input as it was measured, put on the tiles of Intel's
compiler and counted, unused slots included. Nothing of the profile comes from this run. That it predicts the dynamic
energy to within a tenth was known before the profile was written: a guard against regressions, no blind test.
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib import util
from pathlib import Path
from typing import Any

import books

from snnergy.deploy.count import Counter
from snnergy.deploy.energy import cost
from snnergy.deploy.schedule import balance
from snnergy.export import lava_dl
from snnergy.hardware_profiles import load

HERE = Path(__file__).resolve()
CASE = HERE.parents[3] / "shared/cases/pilotnet-lif-loihi2"
NOTE = (
    "prior: Loihi 1's energies, its times over Intel's published speed-ups, a board's idle power; its error was known "
    "when the constants were chosen"
)


def tiles() -> Any:
    """benchmarks/mapping/pilotnet.py, which knows the compiler's tiles."""
    if "mapping_pilotnet" not in sys.modules:
        spec = util.spec_from_file_location("mapping_pilotnet", HERE.parents[1] / "mapping" / "pilotnet.py")
        assert spec and spec.loader
        sys.modules["mapping_pilotnet"] = module = util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules["mapping_pilotnet"]


def report(chosen: argparse.Namespace) -> dict[str, Any]:
    mapping, profile = tiles(), load("loihi2")
    case = json.loads((chosen.case / "case.json").read_text(encoding="utf-8"))
    measured = case["measured"]
    net = lava_dl.read(chosen.case / "network.net", measured["steps_per_inference"])
    rows, totals = mapping.compare(net, case, profile)
    turned, schedule = mapping.flattened_as_the_case(net), balance(net)
    placement = mapping.as_compiled(net, schedule, profile)
    counts = Counter(placement, turned, schedule, profile).count(mapping.run(turned))
    priced = cost(counts, profile, placement)
    each = 1e-6 / net.steps
    dynamic, total = books.ends(priced.dynamic_pj, each), books.ends(priced.total_pj, each)
    latency = books.ends(priced.step_ns, 1e-3)
    us = measured["us_per_step"]
    dynamic_uj, total_uj = measured["dynamic_W"] * us, measured["total_W"] * us
    in_dynamic = books.within(dynamic, dynamic_uj, 0.10) and dynamic["low"] <= dynamic_uj <= dynamic["high"]
    in_latency = books.within(latency, us, 0.30) and latency["low"] <= us <= latency["high"]
    title = "PilotNet-LIF, Loihi 2"
    same = all(r.equal for r in rows) and all(ours == theirs for ours, theirs in totals.values())
    count = float(totals["synops with unused slots"][0])
    only = {"low": count, "nominal": count, "high": count}
    return {
        "synops_per_core": {r.layer: list(r.ours) for r in rows},
        "synops_of_unused_slots": {r.layer: r.hardware[0] for r in rows if r.hardware},
        "dynamic_uj_per_step": dynamic,
        "total_uj_per_step": total,
        "latency_us_per_step": latency,
        "host_uj_per_step": books.ends(priced.host_pj, each),
        "rows": [
            books.row(title, "synops a step, all cores", "", totals["synops with unused slots"][1], only,
                      "every core equal", same, "counted, not modelled; fc1 to fc4 in the case's flattening"),
            books.row(title, "dynamic energy a step", "uJ", dynamic_uj, dynamic, "within 10 %, inside", in_dynamic,
                      NOTE),
            books.row(title, "total energy a step", "uJ", total_uj, total, "within 15 %",
                      books.within(total, total_uj, 0.15), NOTE),
            books.row(title, "time of a step", "us", us, latency, "within 30 %, inside", in_latency, NOTE),
        ],
    }  # fmt: skip


if __name__ == "__main__":
    books.main(__doc__, report, (["--case"], {"type": Path, "default": CASE, "help": "case.json and network.net"}))
