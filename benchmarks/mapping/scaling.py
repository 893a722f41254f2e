"""How long mapping takes and how good it is, from 10^4 to 10^8 neurons, beside the simplest mapping there is.

    python benchmarks/mapping/scaling.py [--largest N] [--json]

Each network is nine 3x3 convolutions, three each of 16, 32 and 64 channels, the first of every three but the first
with stride 2; the image is as large as the neurons ask for. Weights are random int8. The chip is Loihi 2, up to the
1152 chips of Hala Point. Every network is mapped in a process of its own, whose largest resident size is the peak.

The naive mapping takes neurons in the order in which they are stored (channel, row, column), layer after layer, and
fills cores in turn: chunks of one size a layer, the largest within every limit. Its cores sit in order, row by row.
Messages are those between neurons and cores at the assumed rate, in a step, the input's left out. Of a large layer
NAIVE_CHUNKS chunks are counted, evenly spread, and stand for the rest.

Writes benchmarks/results/mapping_scaling.json, .md and .svg.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from dataclasses import replace
from math import ceil, floor, log10, prod, sqrt
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from snnergy.deploy.demand import ASSUMED_RATE, assumed, window
from snnergy.deploy.fit import check, limit
from snnergy.deploy.mesh import routers, seat
from snnergy.deploy.partition import Cutter, slices_of
from snnergy.deploy.placement import Core, Placement, verify
from snnergy.deploy.schedule import balance
from snnergy.deploy.settle import settle
from snnergy.deploy.tiles import Box, mask
from snnergy.export.maps import Conv, Map
from snnergy.export.quantnet import QuantNet, QuantPopulation, QuantProjection, QuantSource
from snnergy.hardware_profiles import Profile, load

I64 = NDArray[np.int64]
RESULTS = Path(__file__).resolve().parents[1] / "results"
SIZES = tuple(10**k for k in range(4, 9))
LAYERS = tuple((channels, 2 if k == 0 and channels > 16 else 1) for channels in (16, 32, 64) for k in range(3))
"""Channels and stride of each convolution."""
PER_PIXEL = 3 * (16 + 32 / 4 + 64 / 16)
"""Neurons for every pixel of the image."""
CHIPS = 1152
NAIVE_CHUNKS = 400
MIB = 1 << 20


def network(neurons: int) -> QuantNet:
    """About so many neurons; their fields are one number broadcast, so that they take no memory."""
    side = max(8, round(sqrt(neurons / PER_PIXEL)))
    rng = np.random.default_rng(0)
    shape: tuple[int, ...] = (2, side, side)
    nodes: list[QuantPopulation] = []
    edges: list[QuantProjection] = []
    source, before = QuantSource("in", shape, 1, 1.0), "in"
    for k, (channels, stride) in enumerate(LAYERS):
        weight = rng.integers(-127, 128, (channels, shape[0], 3, 3)).astype(np.int8)
        conv = Conv(weight, shape, (stride, stride), (1, 1))
        shape, name = conv.output_shape, f"conv{k + 1}"
        field = {key: np.broadcast_to(np.int64(v), prod(shape)) for key, v in FIELDS.items()}
        nodes.append(QuantPopulation(name, shape, **field, bias_exponent=0, spiking=True, scale=1.0))
        edges.append(QuantProjection(before, name, conv, 0))
        before = name
    return QuantNet((source,), tuple(nodes), tuple(edges), (before,), 1e-3, 4, 8, ())


FIELDS = {"decay": 2048, "current_decay": 4096, "threshold": 1000, "bias_mantissa": 0}


def chip() -> Profile:
    """Loihi 2 on the largest board."""
    profile = load("loihi2")
    return replace(profile, chip=replace(profile.chip, chips_max=replace(profile.chip.chips_max, value=CHIPS)))


def measure(neurons: int) -> dict[str, Any]:
    """One row: ours, then the naive mapping."""
    seat(np.ones((3, 3)), np.zeros(3), 1, chip())  # compiles
    net, profile, start = network(neurons), chip(), time.perf_counter()
    begin = peak_mib()
    schedule = balance(net)
    assert check(net, profile, schedule).ok
    rates = assumed(net)
    cutter = Cutter(net, net.populations[::-1], schedule, profile, rates)
    partition = cutter.cut()
    cut_s = time.perf_counter() - start
    cut_mib = peak_mib()
    cores = slices_of(partition)
    per_chip = profile.chip.cores.whole
    chips = ceil(len(cores) / per_chip)
    row: dict[str, Any] = {
        "neurons": sum(prod(p.shape) for p in net.populations),
        "side": net.sources[0].shape[1],
        "cores": len(cores),
        "least_cores": ceil(sum(prod(p.shape) for p in net.populations) / profile.core.neurons.whole),
        "chips": chips,
        "messages": partition.messages,
        "partition_s": cut_s,
        "base_mib": begin,
        "partition_mib": cut_mib,
    }
    start = time.perf_counter()
    settled = settle(net, schedule, profile, cores, rates)
    row["settle_s"] = time.perf_counter() - start
    start = time.perf_counter()
    chip_of, numbers = seat(settled.traffic, settled.entering, chips, profile)
    row["seat_s"] = time.perf_counter() - start
    start = time.perf_counter()
    spots = routers(profile.chip)[numbers]
    placed = [
        Core(int(c), int(n), int(x), int(y), slices, usage)
        for slices, usage, c, n, (x, y) in zip(cores, settled.usage, chip_of, numbers, spots, strict=True)
    ]
    verify(net, Placement(profile.name, chips, tuple(placed)), profile)
    row["verify_s"] = time.perf_counter() - start
    row["peak_mib"] = peak_mib()
    at = spots + np.stack([chip_of * profile.chip.mesh_width.whole, 0 * chip_of], axis=1)
    talk = settled.traffic.tocoo()
    row["messages_counted"] = float(talk.data.sum())
    row["hops"] = float(talk.data @ np.abs(at[talk.row] - at[talk.col]).sum(axis=1)) / max(row["messages_counted"], 1)
    start = time.perf_counter()
    row["naive"] = naive(net, profile)._asdict()
    row["naive"]["seconds"] = time.perf_counter() - start
    return row


def peak_mib() -> float:
    """Largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB


class Naive(NamedTuple):
    """messages: in a step; hops: of a message, in the mean; chunk: neurons of a core, by layer; fits: on the board."""

    cores: int
    messages: float
    hops: float
    chunk: list[int]
    fits: bool


def naive(net: QuantNet, profile: Profile) -> Naive:
    """Sequential chunks in layer order, as the module says."""
    have = {name: limit(profile.core, name) or 1 << 60 for name in ("neurons", "in_axons", "out_axons")}
    sizes: dict[str, int] = {}
    axons: dict[str, float] = {}
    fan_out = 0.0
    for p, e in zip(net.populations[::-1], net.projections[::-1], strict=True):
        high = min(have["neurons"], int(have["out_axons"] / max(fan_out, 1)), prod(p.shape))
        low = 1
        while low < high:  # the most neurons whose inputs fit
            middle = (low + high + 1) // 2
            if max(_inputs(e.map, a, b) for a, b in _spread(prod(p.shape), middle, 40)) <= have["in_axons"]:
                low = middle
            else:
                high = middle - 1
        sizes[p.name] = low
        counted = [_inputs(e.map, a, b) for a, b in _spread(prod(p.shape), low, NAIVE_CHUNKS)]
        axons[p.name] = float(np.mean(counted)) * ceil(prod(p.shape) / low)
        fan_out = axons[p.name] / prod(e.map.input_shape)
    first: dict[str, int] = {}
    total = 0
    for p in net.populations:
        first[p.name] = total
        total += ceil(prod(p.shape) / sizes[p.name])
    xy = _row_major(profile, total)
    hops = messages = 0.0
    for e in net.projections[1:]:
        size, before = prod(e.map.output_shape), sizes[e.source]
        found = walked = 0
        every = _spread(size, sizes[e.target], NAIVE_CHUNKS)
        for a, b in every:
            pixels, channels = _read(e.map, a, b), e.map.input_shape[0]
            index = (np.arange(channels)[:, None] * prod(e.map.input_shape[1:]) + pixels).ravel()
            at = xy[first[e.source] + index // before]
            found += index.size
            walked += int(np.abs(at - xy[first[e.target] + a // sizes[e.target]]).sum())
        times = ceil(size / sizes[e.target]) / len(every) * ASSUMED_RATE
        messages, hops = messages + times * found, hops + times * walked
    return Naive(
        total, messages, hops / max(messages, 1), list(sizes.values())[::-1], total <= CHIPS * profile.chip.cores.whole
    )


def _spread(size: int, chunk: int, most: int) -> list[tuple[int, int]]:
    """First and last + 1 of up to so many of the chunks, evenly spread."""
    count = ceil(size / chunk)
    some = range(count) if count <= most else (np.arange(most) * (count - 1) // (most - 1)).tolist()
    return [(k * chunk, min((k + 1) * chunk, size)) for k in some]


def _inputs(linear: Map, a: int, b: int) -> int:
    """Input axons of the neurons a .. b - 1."""
    return linear.input_shape[0] * _read(linear, a, b).size


def _read(conv: Map, a: int, b: int) -> I64:
    """int64[k], the pixels that neurons a .. b - 1 read, in every input channel alike."""
    assert isinstance(conv, Conv)
    (_, rows, columns), (_, h, w) = conv.output_shape, conv.input_shape
    area = rows * columns
    if b - a >= area:
        spans = [(0, area)]
    else:
        low, high = a % area, (b - 1) % area + 1
        spans = [(low, high)] if low < high else [(low, area), (0, high)]
    one = replace(conv, weight=conv.weight[:1, :1], input_shape=(1, h, w))
    boxes: list[Box] = []
    for low, high in spans:
        (y0, x0), (y1, x1) = divmod(low, columns), divmod(high - 1, columns)
        parts = [(y0, y0 + 1, x0, columns), (y0 + 1, y1, 0, columns), (y1, y1 + 1, 0, x1 + 1)]
        if y0 == y1:
            parts = [(y0, y0 + 1, x0, x1 + 1)]
        for top, bottom, left, right in parts:
            if top < bottom:
                reached = window(one, Box((1, rows, columns), (0, top, left), (1, bottom, right)), (1, h, w))
                assert isinstance(reached, Box)
                boxes.append(reached)
    found, (_, y, x) = mask(boxes)
    below, across = np.nonzero(found[0])
    return (below + y.start) * w + across + x.start


def _row_major(profile: Profile, cores: int) -> I64:
    """int64[cores, 2], seats filled row by row, chip by chip; chips in a row from west to east."""
    chip, width = profile.chip, profile.chip.mesh_width.whole
    which, here = np.divmod(np.arange(cores), chip.cores.whole)
    y, x = np.divmod(here // chip.cores_per_router.whole, width)
    return np.stack([x + which * width, y], axis=1)


COLUMNS = (
    ("neurons", lambda r: f"{r['neurons']:,}"),
    ("cores", lambda r: f"{r['cores']:,}"),
    ("over the least", lambda r: f"{r['cores'] / r['least_cores'] - 1:.0%}"),
    ("naive cores", lambda r: f"{r['naive']['cores']:,}{'' if r['naive']['fits'] else ' *'}"),
    ("messages", lambda r: f"{r['messages']:,.0f}"),
    ("naive messages", lambda r: f"{r['naive']['messages']:,.0f}"),
    ("mean hops", lambda r: f"{r['hops']:.2f}"),
    ("naive hops", lambda r: f"{r['naive']['hops']:,.1f}"),
    ("partition s", lambda r: f"{r['partition_s']:.2f}"),
    ("count s", lambda r: f"{r['settle_s']:.2f}"),
    ("seats s", lambda r: f"{r['seat_s']:.2f}"),
    ("peak MiB", lambda r: f"{r['peak_mib']:,.0f}"),
)
"""Heading and cell of the table."""


def table(rows: list[dict[str, Any]]) -> str:
    """The page: a table and what its columns mean."""
    good = [r for r in rows if "cores" in r]
    lines = ["# Mapping from ten thousand to a hundred million neurons", "", "![scaling](mapping_scaling.svg)", ""]
    lines += ["| " + " | ".join(name for name, _ in COLUMNS) + " |", "|" + "--:|" * len(COLUMNS)]
    lines += ["| " + " | ".join(value(r) for _, value in COLUMNS) + " |" for r in good]
    lines += [f"\n{r['neurons']:,} neurons: not mapped, the process ended with {r['rc']}" for r in rows if "rc" in r]
    base = f"{good[0]['base_mib']:,.0f}" if good else "?"
    lines.append(f"""
Nine 3x3 convolutions of 16, 32 and 64 channels with random int8 weights, on Loihi 2 with up to {CHIPS:,} chips
(`benchmarks/mapping/scaling.py`). All neurons fire in one step of ten; the objective is the fewest cores.

- over the least: more cores than neurons / neurons of a core, which no mapping undercuts.
- messages: a step, from a neuron to a core that it reaches, its own too; the input's are left out.
- mean hops: of a message, on a mesh whose chips stand in a row.
- partition: walls, tiles and packing; count: every synapse bound made exact; seats: annealing on the mesh.
- peak MiB: of the whole process, {base} of them before there is a network.
- naive: neurons in stored order (channel, row, column), layer after layer, cores filled in turn with as many as keep
  the limits of neurons and axons that the profile states, seats row by row. {NAIVE_CHUNKS} cores of a large
  layer are counted and stand for all. * needs more cores than the board has.
""")
    return "\n".join(lines)


WIDTH, LEFT, TOP, HEIGHT = 880, 84, 30, 220
STYLE = """<style>
text { font: 12px system-ui, sans-serif; fill: #222 } .title { font-weight: 600 } .grid { stroke: #8886 }
.line { fill: none; stroke-width: 2 }
@media (prefers-color-scheme: dark) { text { fill: #ddd } }
</style>"""
COLOURS = ("#d9480f", "#1c7ed6", "#2f9e44", "#868e96")


def svg(rows: list[dict[str, Any]]) -> str:
    """Seconds and messages against neurons, both axes logarithmic; readable on light and dark pages."""
    good = [r for r in rows if "cores" in r]
    x = [float(r["neurons"]) for r in good]
    seconds = {name: [max(r[key], 1e-3) for r in good] for name, key in STAGES.items()}
    messages = {
        "ours": [r["messages"] for r in good],
        "naive": [r["naive"]["messages"] for r in good],
    }
    parts = [*plot(x, seconds, "seconds, by neurons", TOP), *plot(x, messages, "messages a step", TOP + HEIGHT + 80)]
    height = 2 * (HEIGHT + 80)
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{STYLE}{"".join(parts)}</svg>\n'


STAGES = {"partition": "partition_s", "count": "settle_s", "seats": "seat_s"}


def plot(x: list[float], lines: dict[str, list[float]], label: str, y: int) -> list[str]:
    """One log-log plot whose title stands at y."""
    every = [v for values in lines.values() for v in values]
    low, high = floor(log10(min(every))), ceil(log10(max(every)))
    first, last, right = log10(x[0]), log10(x[-1]), WIDTH - 120

    def at(a: float, v: float) -> tuple[float, float]:
        across = (log10(a) - first) / max(last - first, 1e-9)
        return LEFT + across * (right - LEFT), y + 15 + HEIGHT * (high - log10(v)) / max(high - low, 1)

    parts = [f'<text class="title" x="8" y="{y}">{label}</text>']
    for power in range(low, high + 1):
        _, h = at(x[0], 10.0**power)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{h:.1f}" y2="{h:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{h + 4:.1f}" text-anchor="end">{10.0**power:,g}</text>')
    for a in x:
        parts.append(f'<text x="{at(a, 10.0**low)[0]:.1f}" y="{y + HEIGHT + 32}" text-anchor="middle">{a:.0e}</text>')
    ends: list[float] = []
    for colour, (name, values) in zip(COLOURS, sorted(lines.items(), key=lambda line: -line[1][-1]), strict=False):
        path = " ".join(f"{across:.1f},{h:.1f}" for across, h in (at(*p) for p in zip(x, values, strict=True)))
        parts.append(f'<polyline class="line" stroke="{colour}" points="{path}"/>')
        across, h = at(x[-1], values[-1])
        ends.append(max(h, ends[-1] + 14) if ends else h)
        parts.append(f'<text x="{across + 8:.1f}" y="{ends[-1] + 4:.1f}" style="fill:{colour}">{name}</text>')
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--largest", type=int, default=SIZES[-1], help="neurons of the largest network")
    parser.add_argument("--json", action="store_true", help="one document on standard output, nothing written")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(measure(chosen.one)))
        return
    rows: list[dict[str, Any]] = []
    for neurons in SIZES:
        if neurons <= chosen.largest:
            print(f"{neurons:,} neurons", file=sys.stderr, flush=True)
            command = [sys.executable, __file__, "--one", str(neurons)]
            ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
            rows.append(json.loads(ran.stdout) if ran.returncode == 0 else {"neurons": neurons, "rc": ran.returncode})
    machine = {"machine": platform.machine(), "cpus": os.cpu_count(), "python": platform.python_version()}
    document = json.dumps({"rows": rows, "run": machine}, indent=None if chosen.json else 1)
    if chosen.json:
        print(document)
        return
    for ending, contents in ((".json", document + "\n"), (".md", table(rows)), (".svg", svg(rows))):
        (RESULTS / f"mapping_scaling{ending}").write_text(contents, encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    main()
