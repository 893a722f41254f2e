"""PilotNet of LIF neurons as Intel's compiler laid it out on one Loihi 2: are our synaptic events per core the same?

    python benchmarks/mapping/pilotnet.py [--case ../shared/cases/pilotnet-lif-loihi2] [--json]

The network is read from lava-dl's file, run for one inference on the native engine with a silent input (in the measured
run the input layer sent nothing either: all activity comes from biases, so no data set is needed), placed by the
compiler's tiles, which are given as a file (pilotnet.toml, ``snnergy map --tiling``), and counted, with and without
the slots of tiles that hold no neuron. Then our own mapper places it under the same limits of a core: on the fewest
cores, and the fastest on as many as the compiler took, with tiles of equal work and with tiles of one size as the
compiler's are.

The case was counted with conv5 flattened as (x, y, channel) before the dense layers. lava-dl flattens (channel, y, x),
and so does its network on Lava, neuron for neuron ours. So the dense layers are compared in the case's order, and what
they do in lava-dl's stands beside it; the convolutions do not depend on it. Exit 1 where a count differs or ours needs
more cores than the compiler.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnergy.deploy import engine, legality, place, tiling
from snnergy.deploy.activity import Activity
from snnergy.deploy.count import Counter
from snnergy.deploy.counts import Counts
from snnergy.deploy.placement import Placement
from snnergy.deploy.schedule import Schedule, balance
from snnergy.export import lava_dl
from snnergy.export.maps import Dense, Map
from snnergy.export.quantnet import QuantNet
from snnergy.hardware_profiles import Profile, load

CASE = Path(__file__).resolve().parents[3] / "shared/cases/pilotnet-lif-loihi2"
PROFILE = "loihi2"
MAPPED = ("fewest", "fastest", "one size")
TILING = Path(__file__).with_suffix(".toml")
LAYERS = ("input", "conv1", "conv2", "conv3", "conv4", "conv5", "fc1", "fc2", "fc3", "fc4")
"""The case's names, in the order of the populations."""
CORES = (13, 25, 13, 3, 3, 2, 12, 1, 1, 1)
"""Of each, as the compiler prints them."""


@dataclass(frozen=True)
class Row:
    """One layer. ours, case: synops per step of every core of the tiling, or of all together where the case sums them

    hardware: with the unused slots of the tiles, on the last core: ours and the case's
    as_lava_dl: of all cores together with lava-dl's flattening, where that is another
    """

    layer: str
    cores: int
    ours: tuple[float, ...]
    case: tuple[float, ...]
    equal: bool
    hardware: tuple[float, float] | None
    as_lava_dl: float | None


def as_compiled(net: QuantNet, schedule: Schedule, profile: Profile) -> Placement:
    """The compiler's tiles, one a core, layer after layer; where its cores sit on the mesh is not known."""
    placement = place.place(net, schedule, profile, 1, tiling=tiling.read(TILING))
    found = tuple(sum(c.slices[0].population == p.name for c in placement.cores) for p in net.populations)
    assert found == CORES, f"the tiles are {found}, the compiler's {CORES}"
    return placement


def without_unused_slots(placement: Placement) -> Placement:
    """The same cores, of whose tiles only the neurons count."""
    cores = (replace(c, slices=tuple(replace(s, tile=None) for s in c.slices)) for c in placement.cores)
    return replace(placement, cores=tuple(cores))


def as_mapped(
    net: QuantNet, schedule: Schedule, profile: Profile, activity: Activity | None = None, partition: str = "free"
) -> Placement:
    """Our own: on the fewest cores or, where a run is given, the fastest on all the cores of one chip."""
    if activity is None:
        return place.place(net, schedule, profile)
    return place.place(net, schedule, profile, 1, objective="latency", activity=activity, partition=partition)


def with_cores(profile: Profile, cores: int) -> Profile:
    """The chip, with so many cores."""
    return replace(profile, chip=replace(profile.chip, cores=replace(profile.chip.cores, value=cores)))


def flattened_as_the_case(net: QuantNet) -> QuantNet:
    """The network with the first dense layer's inputs taken as (x, y, channel), as the case was counted."""
    images = {p.name: p.shape for p in net.populations if len(p.shape) == 3}

    def turned(linear: Map, shape: tuple[int, ...]) -> Map:
        c, y, x = shape
        weight = linear.weight.reshape(-1, x, y, c).transpose(0, 3, 2, 1).reshape(-1, c * y * x)
        return replace(linear, weight=np.ascontiguousarray(weight))

    changed = tuple(
        replace(e, map=turned(e.map, images[e.source])) if isinstance(e.map, Dense) and e.source in images else e
        for e in net.projections
    )
    return replace(net, projections=changed)


def run(net: QuantNet) -> Activity:
    """One inference with a silent input."""
    silent = {s.name: np.zeros((1, *s.shape), np.int64) for s in net.sources}
    return engine.run(net, silent).activity


def per_core(counts: Counts, node: str | None = None) -> NDArray[np.int64]:
    """int64[cores, steps], synops of every core, of one population or of all."""
    synops = np.zeros((counts.cores, counts.steps), np.int64)
    for cell, values in zip(counts.cells, counts.by["synops"], strict=True):
        if node in (None, cell.node):
            synops[cell.core] += values
    return synops


def compare(net: QuantNet, case: dict[str, Any], profile: Profile) -> tuple[list[Row], dict[str, tuple[float, float]]]:
    """The rows, and name -> ours and the case's: slots of all tiles, and synops per step with those of unused slots."""
    schedule = balance(net)
    tiles = as_compiled(net, schedule, profile)
    placement = without_unused_slots(tiles)
    theirs = flattened_as_the_case(net)
    activity = run(theirs)
    counts = Counter(placement, theirs, schedule, profile).count(activity)
    padded = Counter(tiles, theirs, schedule, profile).count(activity)
    own = Counter(placement, net, schedule, profile).count(run(net))
    expected = {layer["name"]: layer for layer in case["layers"]}
    last = case["hw_tile"]["last_core_synops_per_step"]
    rows: list[Row] = []
    for p, layer in zip(net.populations, LAYERS, strict=True):
        here = [k for k, core in enumerate(placement.cores) if core.slices[0].population == p.name]
        ours, all_slots, lava = (per_core(c, p.name)[here].sum(axis=1).tolist() for c in (counts, padded, own))
        wanted = expected[layer]["per_core_nonzero"] if layer in expected else [0.0]
        hardware = (all_slots[-1], last[layer]) if layer in last else None
        if len(wanted) == 1 < len(ours):
            ours, lava = [sum(ours)], [sum(lava)]
        equal = [Fraction(n, net.steps) for n in ours] == [Fraction(w) for w in wanted]
        equal = equal and (hardware is None or Fraction(hardware[0], net.steps) == Fraction(hardware[1]))
        rows.append(
            Row(
                layer,
                len(here),
                tuple(n / net.steps for n in ours),
                tuple(map(float, wanted)),
                equal,
                hardware and (hardware[0] / net.steps, hardware[1]),
                sum(lava) / net.steps if lava != ours else None,
            )
        )
    synops = float(per_core(padded).sum()) / net.steps
    return rows, {
        "slots": (sum(core.usage["neurons"] for core in tiles.cores), case["hw_tile"]["tile_neurons"]),
        "synops with unused slots": (synops, case["hw_tile"]["total_synops_per_step"]),
    }


def figures(synops: NDArray[np.int64]) -> dict[str, float]:
    """Cores, and the busiest one's synops: in a mean step, and in the worst."""
    return {
        "cores": len(synops),
        "busiest core, mean step": float(synops.mean(axis=1).max()),
        "slowest core of each step, mean": float(synops.max(axis=0).mean()),
        "busiest core, worst step": float(synops.max()),
    }


def report(folder: Path) -> dict[str, Any]:
    """Everything, as JSON."""
    case = json.loads((folder / "case.json").read_text(encoding="utf-8"))
    profile = load(PROFILE)
    net = lava_dl.read(folder / "network.net", case["measured"]["steps_per_inference"])
    rows, sums = compare(net, case, profile)
    schedule, activity, cores = balance(net), run(net), case["measured"]["cores"]
    alike = with_cores(profile, cores)
    placements = {
        "compiler": as_compiled(net, schedule, profile),
        "fewest": as_mapped(net, schedule, profile),
        "fastest": as_mapped(net, schedule, alike, activity),
        "one size": as_mapped(net, schedule, alike, activity, "fixed"),
    }
    for name, placement in placements.items():
        assert not (broken := legality.violations(net, schedule, profile, placement)), f"{name}: {broken[0]}"
    return {
        "rows": [asdict(r) for r in rows],
        "totals": {
            name: {"ours": ours, "case": wanted, "equal": ours == wanted} for name, (ours, wanted) in sums.items()
        },
        "plot": case["hw_tile"]["hw_plot_last_core_per_step"],
        **{
            name: figures(per_core(Counter(placement, net, schedule, profile).count(activity)))
            for name, placement in placements.items()
        },
        "cores_measured": cores,
    }


def passed(found: dict[str, Any]) -> bool:
    """Whether every count is equal and our mapper needs no more cores, with a busiest core no slower."""
    same = all(r["equal"] for r in (*found["rows"], *found["totals"].values()))
    ours = max(found[name]["cores"] for name in MAPPED)
    slowest = max(found[name]["busiest core, mean step"] for name in ("fastest", "one size"))
    quick = slowest <= found["compiler"]["busiest core, mean step"]
    return same and quick and ours <= found["cores_measured"] == found["compiler"]["cores"]


def brief(values: tuple[float, ...]) -> str:
    """Equal figures that follow each other, once: ``12 x 131,010; 32,752.5``."""
    runs: list[list[Any]] = []
    for v in values:
        if runs and runs[-1][1] == v:
            runs[-1][0] += 1
        else:
            runs.append([1, v])
    return "; ".join(f"{v:,.10g}" if n == 1 else f"{n} x {v:,.10g}" for n, v in runs)


def show(found: dict[str, Any]) -> str:
    """For people."""
    lines = ["synops per step and core on the compiler's tiles", f"{'layer':6}{'cores':>6}  equal  ours | case"]
    for r in found["rows"]:
        yes = "yes" if r["equal"] else "NO"
        lines.append(f"{r['layer']:6}{r['cores']:6}  {yes:5}  {brief(r['ours'])} | {brief(r['case'])}")
        if r["hardware"]:
            lines.append(f"{'':21}last core with unused slots: {r['hardware'][0]:,.10g} | {r['hardware'][1]:,.10g}")
        if r["as_lava_dl"] is not None:
            lines.append(f"{'':21}flattened as lava-dl does: {r['as_lava_dl']:,.10g}")
    for name, both in found["totals"].items():
        yes = "yes" if both["equal"] else "NO"
        lines.append(f"{name}: {both['ours']:,.10g} | {both['case']:,.10g} {yes}")
    lines.append("the plot of the chip's own counters, last core: " + json.dumps(found["plot"]))
    shown = ("compiler", *MAPPED)
    lines.append(f"{'synops of a core, with unused slots':36}" + "".join(f"{name:>10}" for name in shown))
    for name in found["compiler"]:
        lines.append(f"{name:36}" + "".join(f"{found[which][name]:10,.0f}" for which in shown))
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--case", type=Path, default=CASE, help="folder of case.json and network.net")
    parser.add_argument("--json", action="store_true", help="print one document and nothing else")
    chosen = parser.parse_args()
    if not (chosen.case / "case.json").is_file():
        print(f"no case.json in {chosen.case}; pass --case", file=sys.stderr)
        return 2
    found = report(chosen.case)
    print(json.dumps(found, indent=1) if chosen.json else show(found))
    return 0 if passed(found) else 1


if __name__ == "__main__":
    sys.exit(main())
