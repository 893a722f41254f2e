#!/usr/bin/env python3
"""TrueNorth's power against its rate of spikes: a line through two published points, scored on two others.

    python benchmarks/energy/truenorth.py [--json]

The profile's idle power and energy of a synaptic event are the line through the outer two points of figure 17 of
Akopyan et al. 2015 (0.8 V). Its middle point, 20.07 Hz, was held out; 72 mW at 20 Hz is of another paper
(Merolla et al. 2014, 0.775 V). This tests the structure, idle power and marginal energy, not a constant.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import books

from snnergy.deploy.energy import cost
from snnergy.hardware_profiles import load

NEURONS, SYNAPSES, TICK_NS = 1_048_576, 128, 1e6
HELD_OUT = (
    ("20.07 Hz, Akopyan 2015 (held out)", 20.07, 71.0),
    ("20 Hz, Merolla 2014", 20.0, 72.0),
)


def mw(rate_hz: float) -> dict[str, float]:
    """Mean power of a whole chip at this rate."""
    profile = load("truenorth")
    assert profile.time_ns.barrier
    tick = replace(profile.time_ns.barrier, low=TICK_NS, value=TICK_NS, high=TICK_NS)
    profile = replace(profile, time_ns=replace(profile.time_ns, barrier=tick))
    totals = {"synops": NEURONS * SYNAPSES * rate_hz * TICK_NS * 1e-9, "updates_idle": NEURONS}
    return books.ends(cost(books.counts(totals, neurons=NEURONS), profile).total_pj, 1 / TICK_NS)


def report(_: Any) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for name, rate_hz, measured in HELD_OUT:
        ours = mw(rate_hz)
        met = books.within(ours, measured, 0.02)
        note = "fitted to the 11.58 and 95.93 Hz points of the same figure; this point was not used"
        rows.append(books.row("TrueNorth", f"power at {name}", "mW", measured, ours, "within 2 %", met, note))
    return {"power_mw": {name: mw(rate) for name, rate, _ in HELD_OUT}, "rows": rows}


if __name__ == "__main__":
    books.main(__doc__, report)
