#!/usr/bin/env python3
"""An autoencoder on 16 chips of Loihi 2 (arXiv:2608.18341): where the power beside the events decides.

    python benchmarks/energy/vpx.py [--json]

The paper publishes the events of an inference (3.0e5 synops, 1.0e4 updates, 2.0e4 spikes on 74 cores), 48.3 us and
40.6 uJ above idle. Events alone are a quarter of it. The profile's assumed 40 mW of embedded processors a chip lies
close to what is left over in this very case, so that the interval contains the measurement is weak evidence.
"""

from __future__ import annotations

from typing import Any

import books

from snnergy.deploy.energy import Interval, cost
from snnergy.hardware_profiles import load

EVENTS = {"synops": 3.0e5, "updates_active": 1.0e4, "spikes": 2.0e4, "messages": 2.0e4}
CHIPS, CORES, MEASURED_UJ, MEASURED_US = 16, 74, 40.6, 48.3


def report(_: Any) -> dict[str, Any]:
    profile = load("loihi2")
    priced = cost(books.counts(EVENTS, neurons=10_000, chips=CHIPS, cores=CORES), profile)
    host = profile.power_mw.host
    assert host
    beside = Interval(host.low, host.value, host.high) * (CHIPS * MEASURED_US * 1e3)
    ours, events = books.ends(priced.dynamic_pj + beside, 1e-6), books.ends(priced.dynamic_pj, 1e-6)
    inside = ours["low"] <= MEASURED_UJ <= ours["high"]
    note = "host power assumed, near this case's own remainder: weak; at the measured time"
    case = "autoencoder, 16 Loihi 2"
    rows = [books.row(case, "energy above idle", "uJ", MEASURED_UJ, ours, "inside", inside, note)]
    return {"energy_uj": ours, "events_uj": events, "rows": rows}


if __name__ == "__main__":
    books.main(__doc__, report)
