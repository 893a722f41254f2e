#!/usr/bin/env python3
"""SANA-FE's tutorial network on SANA-FE's chip: the same counts, and with its constants the same energy.

    python benchmarks/energy/sanafe.py [--steps 200] [--json]

Parity with a simulator, not with silicon. The network, its firings and the constants come from SANA-FE 2.2.9, which
runs in a process and an environment of its own (it is GPL-3 and never imported); where every neuron sits is ours.
Spikes, synaptic events, messages and hops are counted by us. How many neurons are "updated" is SANA-FE's number,
because it counts those whose state moves, not those that receive input.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from importlib import util
from math import prod
from pathlib import Path
from typing import Any

import books
import numpy as np

from snnergy.deploy.count import Counter
from snnergy.deploy.energy import prices
from snnergy.deploy.place import place
from snnergy.deploy.schedule import balance
from snnergy.hardware_profiles import load

TITLE = "SANA-FE parity, DVS gesture"
NOTE = "its constants, its network, its firings: parity with a simulator"


def peer() -> Any:
    """benchmarks/mapping/sanafe.py, which runs SANA-FE."""
    path = Path(__file__).resolve().parents[1] / "mapping" / "sanafe.py"
    spec = util.spec_from_file_location("mapping_sanafe", path)
    assert spec and spec.loader
    sys.modules["mapping_sanafe"] = module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def report(chosen: argparse.Namespace) -> dict[str, Any]:
    mapping = peer()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = {name: folder / f"{name}.npz" for name in ("network", "firings")} | {"costs": folder / "costs.json"}
        mapping.simulate(chosen.steps, *(word for name, path in files.items() for word in (f"--{name}", str(path))))
        net = mapping.read_network(files["network"], chosen.steps)
        activity, schedule = mapping.read_activity(files["firings"], net), balance(net)
        mapping.write_profile(files["costs"], folder / "chip.toml")
        profile = load(folder / "chip.toml")
        placement = place(net, schedule, profile, objective="edp", activity=activity)
        mapping.write_mapping(folder / "mapping.npz", net, placement, profile)
        theirs = mapping.simulate(chosen.steps, "--mapping", str(folder / "mapping.npz"))
        soma = json.loads(files["costs"].read_text())["soma"]
    counts = Counter(placement, net, schedule, profile).count(activity)
    counted = {
        "spikes": int(counts.by["spikes"].sum()),
        "synops": int(counts.by["synops"].sum()),
        "messages": int(counts.by["messages"].sum()),
        "hops": int(counts.by["hops_ew"].sum() + counts.by["hops_ns"].sum()),
    }
    wanted = {
        "spikes": theirs["firings"], "synops": theirs["synapse_events"], "messages": theirs["packets"],
        "hops": theirs["hops"],
    }  # fmt: skip
    neurons = sum(prod(p.shape) for p in net.populations)
    by = {name: values.copy() for name, values in counts.by.items()}
    for name in ("updates_active", "updates_idle"):
        by[name][:] = 0
    by["updates_active"][0, 0] = theirs["updates"]
    by["updates_idle"][0, 0] = neurons * chosen.steps - theirs["updates"]
    idle = replace(
        profile.energy_pj.update_active, **dict.fromkeys(("value", "low", "high"), 1e12 * soma["energy_access_neuron"])
    )
    priced_profile = replace(profile, energy_pj=replace(profile.energy_pj, update_idle=idle))
    bare = replace(counts, by=by)
    energy = _dynamic(bare, priced_profile)
    measured = theirs["energy_j"]["total"] * 1e6
    ours = dict.fromkeys(("low", "nominal", "high"), energy * 1e-6)
    rows = [
        books.row(TITLE, name, "", wanted[name], dict.fromkeys(("low", "nominal", "high"), float(counted[name])),
                  "equal", counted[name] == wanted[name], NOTE)
        for name in counted
    ]  # fmt: skip
    met = books.within(ours, measured, 0.001)
    rows.append(books.row(TITLE, f"energy of {chosen.steps} steps", "uJ", measured, ours, "within 0.1 %", met, NOTE))
    return {"counted": counted, "sanafe": wanted, "energy_uj": ours, "rows": rows}


def _dynamic(counts: Any, profile: Any) -> float:
    """Nominal, in pJ. Not by ``cost``: the updates, SANA-FE's number, stand on no core."""
    return float(sum(np.sum(counts.by[name]) * ends[1] for _, name, ends in prices(profile)))


if __name__ == "__main__":
    books.main(__doc__, report, (["--steps"], {"type": int, "default": 200}))
