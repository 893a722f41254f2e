"""PilotNet of LIF neurons as Intel's compiler laid it out on one Loihi 2: are our synaptic events per core the same?

    python benchmarks/mapping/pilotnet.py [--case ../shared/cases/pilotnet-lif-loihi2] [--json]

The network is read from lava-dl's file, run for one inference on the native engine with a silent input (in the measured
run the input layer sent nothing either: all activity comes from biases, so no data set is needed), put on the cores of
the compiler's tiling and counted. Then our own mapper places it under the same limits of a core: on the fewest cores,
and the fastest on as many as the compiler took.

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
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from snnergy.deploy import engine, legality, place
from snnergy.deploy.activity import Activity
from snnergy.deploy.count import Counter
from snnergy.deploy.counts import Counts
from snnergy.deploy.mesh import routers
from snnergy.deploy.placement import Core, Placement, Slice, verify
from snnergy.deploy.schedule import Schedule, balance
from snnergy.deploy.tiles import Box, whole
from snnergy.export import lava_dl
from snnergy.export.maps import Conv, Dense, Map
from snnergy.export.quantnet import QuantNet
from snnergy.hardware_profiles import Profile, load

CASE = Path(__file__).resolve().parents[3] / "shared/cases/pilotnet-lif-loihi2"
PROFILE = "loihi2"


class Tiling(NamedTuple):
    """The compiler's cores for one layer. tile: (x, y, channel) of an image, or neurons of a dense layer"""

    layer: str
    cores: int
    tile: tuple[int, ...]


TILING = (
    Tiling("input", 13, (16, 66, 3)),
    Tiling("conv1", 25, (4, 32, 24)),
    Tiling("conv2", 13, (4, 15, 36)),
    Tiling("conv3", 3, (8, 7, 48)),
    Tiling("conv4", 3, (8, 4, 64)),
    Tiling("conv5", 2, (16, 2, 64)),
    Tiling("fc1", 12, (9,)),
    Tiling("fc2", 1, (50,)),
    Tiling("fc3", 1, (10,)),
    Tiling("fc4", 1, (1,)),
)
"""In the order of the populations; from the compiler's printed table. fc1's share of a core is ours: 100 in 12."""


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


def phantom_synops(linear: Map, tile: Box, spikes: NDArray[np.int64]) -> int:
    """Synaptic events of the slots of a tile that lie past the layer's border and hold no neuron.

    spikes: int64[n_in], of every input, over any time. Loihi 2's convolution tiles have one size per layer; the kernel
    is applied at every slot, also those beyond the last column or row, and reads what input it still meets there.
    """
    if not isinstance(linear, Conv):
        return 0
    image = spikes.reshape(linear.input_shape)
    low, high = tile.low, tile.high
    inside = tile.intersect(whole(linear.output_shape))
    channels = slice(low[0], min(high[0], linear.output_shape[0]))
    per_group, outputs = linear.weight.shape[1], linear.weight.shape[0] // linear.groups
    events = 0
    for out in range(*channels.indices(linear.output_shape[0])):
        first = out // outputs * per_group
        for c, ky, kx in np.argwhere(linear.weight[out]):
            plane = image[first + c]
            events += _read(linear, plane, (ky, kx), low[1:], high[1:])
            events -= _read(linear, plane, (ky, kx), inside.low[1:], inside.high[1:])
    return events


def _read(
    conv: Conv, plane: NDArray[np.int64], tap: tuple[int, int], low: tuple[int, ...], high: tuple[int, ...]
) -> int:
    """The sum of what one kernel entry reads for the outputs low <= (y, x) < high."""
    where: list[NDArray[np.intp]] = []
    for axis in range(2):
        o = np.arange(low[axis], high[axis])
        i = o * conv.stride[axis] + tap[axis] * conv.dilation[axis] - conv.padding[axis]
        where.append(i[(i >= 0) & (i < plane.shape[axis])])
    return int(plane[np.ix_(*where)].sum())


def tiles(net: QuantNet) -> list[list[Box]]:
    """The compiler's tiles of every population, whole, also where they pass its border."""
    found: list[list[Box]] = []
    for p, plan in zip(net.populations, TILING, strict=True):
        of = whole(p.shape)
        if len(plan.tile) == 1:
            size = plan.tile[0]
            found.append([Box(of.shape, (c, 0, 0), (c + size, 1, 1)) for c in range(0, of.shape[0], size)])
        else:
            x, y, c = plan.tile
            found.append([Box(of.shape, (0, 0, left), (c, y, left + x)) for left in range(0, of.shape[2], x)])
        assert len(found[-1]) == plan.cores, f"{plan.layer} takes {len(found[-1])} tiles, the compiler {plan.cores}"
    return found


def as_compiled(net: QuantNet, profile: Profile) -> Placement:
    """The compiler's placement, layer after layer; where its cores sit on the mesh is not known and not used."""
    held = [
        Slice(p.name, tile.intersect(whole(p.shape)))
        for p, of in zip(net.populations, tiles(net), strict=True)
        for tile in of
    ]
    spots = routers(profile.chip)
    cores = [Core(0, k, int(spots[k][0]), int(spots[k][1]), (s,), {"neurons": s.size}) for k, s in enumerate(held)]
    placement = Placement(profile.name, 1, tuple(cores))
    verify(net, placement, profile)
    return placement


def as_mapped(net: QuantNet, schedule: Schedule, profile: Profile, activity: Activity | None = None) -> Placement:
    """Our own: on the fewest cores or, where a run is given, the fastest on all the cores of one chip."""
    if activity is None:
        return place.place(net, schedule, profile)
    return place.place(net, schedule, profile, 1, objective="latency", activity=activity)


def with_cores(profile: Profile, cores: int) -> Profile:
    """The chip, with so many cores."""
    return replace(profile, chip=replace(profile.chip, cores=replace(profile.chip.cores, value=cores)))


def beyond(net: QuantNet, schedule: Schedule, profile: Profile, placement: Placement) -> list[str]:
    """The limits of our profile that a placement passes, core by core."""
    lines: list[str] = []
    for k, used in enumerate(legality.usage(net, schedule, profile, placement)):
        for name, amount in used.items():
            most = getattr(profile.core, name)
            if most is not None and amount > most.whole:
                on = ", ".join(s.population for s in placement.cores[k].slices)
                lines.append(f"core {k} ({on}) holds {amount:,} {name}, the profile allows {most.whole:,}")
    return lines


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


def compare(net: QuantNet, case: dict[str, Any], profile: Profile) -> tuple[list[Row], NDArray[np.int64]]:
    """The rows, and int64[cores, steps] of the compiler's placement in lava-dl's order."""
    placement, schedule = as_compiled(net, profile), balance(net)
    theirs = flattened_as_the_case(net)
    activity = run(theirs)
    counts = Counter(placement, theirs, schedule, profile).count(activity)
    own = Counter(placement, net, schedule, profile).count(run(net))
    expected = {layer["name"]: layer for layer in case["layers"]}
    feeds = {e.target: e for e in theirs.projections}
    last = case["hw_tile"]["last_core_synops_per_step"]
    rows: list[Row] = []
    for p, plan, of in zip(net.populations, TILING, tiles(net), strict=True):
        here = [k for k, core in enumerate(placement.cores) if core.slices[0].population == p.name]
        ours, lava = (per_core(c, p.name)[here].sum(axis=1).tolist() for c in (counts, own))
        wanted = expected[plan.layer]["per_core_nonzero"] if plan.layer in expected else [0.0]
        hardware = None
        if plan.layer in last:
            e = feeds[p.name]
            spikes = activity.spikes[e.source].sum(axis=0)
            hardware = (ours[-1] + phantom_synops(e.map, of[-1], spikes), last[plan.layer])
        if len(wanted) == 1 < len(ours):
            ours, lava = [sum(ours)], [sum(lava)]
        equal = [Fraction(n, net.steps) for n in ours] == [Fraction(w) for w in wanted]
        equal = equal and (hardware is None or Fraction(hardware[0], net.steps) == Fraction(hardware[1]))
        rows.append(
            Row(
                plan.layer,
                plan.cores,
                tuple(n / net.steps for n in ours),
                tuple(map(float, wanted)),
                equal,
                hardware and (hardware[0] / net.steps, hardware[1]),
                sum(lava) / net.steps if lava != ours else None,
            )
        )
    return rows, per_core(own)


def totals(net: QuantNet, rows: list[Row], case: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """name -> ours and the case's: slots of all tiles, and synops per step with those of unused slots."""
    slots = sum(prod(tile.sides) if len(p.shape) == 3 else tile.intersect(whole(p.shape)).size
                for p, of in zip(net.populations, tiles(net), strict=True) for tile in of)  # fmt: skip
    synops = sum(sum(r.ours) + (r.hardware[0] - r.ours[-1] if r.hardware else 0.0) for r in rows)
    wanted = case["hw_tile"]
    return {
        "slots": (slots, wanted["tile_neurons"]),
        "synops with unused slots": (synops, wanted["total_synops_per_step"]),
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
    rows, compiled = compare(net, case, profile)
    schedule, activity, cores = balance(net), run(net), case["measured"]["cores"]
    fewest = as_mapped(net, schedule, profile)
    fastest = as_mapped(net, schedule, with_cores(profile, cores), activity)
    sums = totals(net, rows, case)

    def counted(placement: Placement) -> dict[str, float]:
        return figures(per_core(Counter(placement, net, schedule, profile).count(activity)))

    return {
        "rows": [asdict(r) for r in rows],
        "totals": {
            name: {"ours": ours, "case": wanted, "equal": ours == wanted} for name, (ours, wanted) in sums.items()
        },
        "plot": case["hw_tile"]["hw_plot_last_core_per_step"],
        "compiler": figures(compiled),
        "fewest": counted(fewest),
        "fastest": counted(fastest),
        "compiler_beyond_profile": beyond(net, schedule, profile, as_compiled(net, profile)),
        "cores_measured": cores,
    }


def passed(found: dict[str, Any]) -> bool:
    """Whether every count is equal and our mapper needs no more cores."""
    same = all(r["equal"] for r in (*found["rows"], *found["totals"].values()))
    ours = max(found["fewest"]["cores"], found["fastest"]["cores"])
    return same and ours <= found["cores_measured"] == found["compiler"]["cores"]


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
    lines.append(f"{'synops of a core, ours without unused slots':46}{'compiler':>10}{'fewest':>10}{'fastest':>10}")
    for name in found["compiler"]:
        values = (found[which][name] for which in ("compiler", "fewest", "fastest"))
        lines.append(f"{name:46}" + "".join(f"{value:10,.0f}" for value in values))
    lines += [f"the compiler's placement: {line}" for line in found["compiler_beyond_profile"]]
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
