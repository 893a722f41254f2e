#!/usr/bin/env python3
"""ODIN's power at two clocks (Frenkel et al. 2019): leakage, clock and synaptic operations, as published.

    python benchmarks/energy/odin.py [--json]

27.3 uW of leakage, 1.78 uW/MHz of the idle clock, 8.43 pJ a synaptic operation, one operation every two cycles. The
constants are of the same paper as the two powers: this tests that fixed and marginal parts add up, nothing else.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import books

from snnergy.deploy.energy import cost
from snnergy.hardware_profiles import Profile, load

LEAK_UW, CLOCK_UW_PER_MHZ, SYNOP_PJ, CYCLES = 27.3, 1.78, 8.43, 2
POINTS = ((75.0, 477.0), (1.3, 35.0))
"""MHz, measured uW at full rate."""
SECOND_NS = 1e9
PROFILE = """
name  = "odin"
title = "ODIN, 28 nm FDSOI, 0.55 V"
[chip]
cores            = {{ value = 1, from = "frenkel2019", evidence = "vendor" }}
mesh_width       = {{ value = 1, from = "frenkel2019", evidence = "vendor" }}
mesh_height      = {{ value = 1, from = "frenkel2019", evidence = "vendor" }}
cores_per_router = {{ value = 1, from = "frenkel2019", evidence = "vendor" }}
chips_max        = {{ value = 1, from = "frenkel2019", evidence = "vendor" }}
[core]
neurons = {{ value = 256, from = "frenkel2019", evidence = "vendor" }}
[energy_pj]
scope = "marginal"
synop = {{ value = {synop}, from = "frenkel2019", evidence = "measured" }}
[time_ns]
barrier = {{ value = {second}, from = "frenkel2019", evidence = "assumed", note = "a second, to make power of energy" }}
[power_mw]
chip = {{ value = {chip}, from = "frenkel2019", evidence = "measured" }}
[source]
frenkel2019 = "Frenkel et al., IEEE Transactions on Biomedical Circuits and Systems 13(1), 2019, figure 8"
"""


def profile(mhz: float) -> Profile:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "odin.toml"
        idle_mw = (LEAK_UW + CLOCK_UW_PER_MHZ * mhz) * 1e-3
        path.write_text(PROFILE.format(synop=SYNOP_PJ, chip=idle_mw, second=SECOND_NS))
        return load(path)


def uw(mhz: float) -> dict[str, float]:
    """Mean power of a second at full rate."""
    counts = books.counts({"synops": mhz * 1e6 / CYCLES, "updates_idle": 256}, neurons=256)
    return books.ends(cost(counts, profile(mhz)).total_pj, 1e-6)


def report(_: Any) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for mhz, measured in POINTS:
        ours = uw(mhz)
        met, note = books.within(ours, measured, 0.01), "the constants are of the same paper: structure only"
        rows.append(books.row("ODIN", f"power at {mhz:g} MHz", "uW", measured, ours, "within 1 %", met, note))
    return {"power_uw": {f"{mhz:g} MHz": uw(mhz) for mhz, _ in POINTS}, "rows": rows}


if __name__ == "__main__":
    books.main(__doc__, report)
