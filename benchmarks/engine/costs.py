#!/usr/bin/env python3
"""Measures the constants of the engine's cost model on one core, beside those in deploy/synapses.py.

    python benchmarks/engine/costs.py [--seconds S]

Then, for each layer of the two workloads, the activity above which the product beats the events: as the model says it
and as it was timed. Needs a machine with nothing else to do.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from itertools import pairwise
from math import prod
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
import workloads
from scipy.sparse import random_array

from snnergy.deploy import synapses
from snnergy.export.maps import Conv, Dense, Map, Sparse

ROWS = 400
SECONDS = 0.2
"""Of each measurement; --seconds changes it."""


def paths(linear: Map) -> dict[str, synapses.Path]:
    return {p.name: p for p in synapses.paths(linear, 1, linear.input_shape, linear.output_shape)}


def dense(inputs: int, outputs: int) -> Dense:
    weight = np.random.default_rng(0).integers(-127, 128, (outputs, inputs)).astype(np.int8)
    return Dense(weight, (inputs,), (outputs,))


def conv(c_in: int, c_out: int, size: int, kernel: int, groups: int = 1) -> Conv:
    weight = np.random.default_rng(0).integers(-127, 128, (c_out, c_in // groups, kernel, kernel)).astype(np.int8)
    return Conv(weight, (c_in, size, size), groups=groups)


def ns_of_row(path: synapses.Path, linear: Map, rate: float) -> tuple[float, float]:
    """The shortest time of a row of inputs of which this share fires, and the number that does."""
    rows = max(4, min(ROWS, (1 << 20) // prod(linear.output_shape)))
    x = workloads.spikes((rows, prod(linear.input_shape)), rate)
    current = np.zeros((rows, prod(linear.output_shape)), np.int32)
    path.add(x, current, True)
    best, begin = float("inf"), time.perf_counter()
    while time.perf_counter() - begin < SECONDS:
        start = time.perf_counter()
        path.add(x, current, True)
        best = min(best, time.perf_counter() - start)
    return best * 1e9 / rows, x.sum() / rows


def line(points: list[tuple[float, float]]) -> tuple[float, float]:
    """Offset and slope of the least relative squares."""
    x, y = np.array(points).T
    offset, slope = np.linalg.lstsq(np.stack([1 / y, x / y], 1), np.ones(len(y)), rcond=None)[0]
    return float(offset), float(slope)


def ns_of_event(linear: Map, name: str) -> float:
    """What one more event costs: 30 % of the inputs against none."""
    path = paths(linear)[name]
    (none, _), (some, events) = ns_of_row(path, linear, 0.0), ns_of_row(path, linear, 0.3)
    return (some - none) / events


def tiled(linear: Conv) -> tuple[float, float]:
    """ns of a row by the model, and as timed."""
    path = paths(linear)["tiles"]
    return path.cost(1, 0), ns_of_row(path, linear, 0.1)[0]


def listed(fan_out: int) -> Sparse:
    rng = np.random.default_rng(0)
    matrix = random_array((4096, 1024), density=fan_out / 4096, rng=rng, dtype=np.float64)
    matrix.data[:] = rng.integers(1, 128, matrix.nnz)
    return Sparse(matrix.astype(np.int32).tocsr(), (1024,), (4096,))


def constants() -> list[tuple[str, float, float]]:
    """Name, value in the code, value here."""
    inputs = [(n, ns_of_row(paths(dense(n, 16))["events"], dense(n, 16), 0.0)[0]) for n in (256, 1024, 4096)]
    event, add = line([(n, ns_of_event(dense(512, n), "events")) for n in (16, 128, 512, 1024)])
    found = [
        ("INPUT_NS", synapses.INPUT_NS, line(inputs)[1]),
        ("EVENT_NS", synapses.EVENT_NS, event),
        ("EVENT_ADDS_PER_NS", synapses.EVENT_ADDS_PER_NS, 1 / add),
    ]
    product = paths(dense(512, 512))["product"]
    macs = 512 * 512 / ns_of_row(product, dense(512, 512), 0.3)[0]
    if synapses.vnni.AVAILABLE:
        found.append(("PRODUCT_MACS_PER_NS", synapses.PRODUCT_MACS_PER_NS, macs))
        packed = paths(conv(16, 32, 30, 3))["product"]
        row = ns_of_row(packed, conv(16, 32, 30, 3), 0.1)[0]
        model = packed.cost(1, 0)
        found.append(("conv product, ns of a row (16 -> 32, 3x3, 30x30)", model, row))
    else:
        found.append(("product by BLAS, macs per ns", 40.0, macs))
    if synapses.amx.AVAILABLE:
        found.append(("conv by tiles, ns of a row (16 -> 32, 3x3, 30x30)", *tiled(conv(16, 32, 30, 3))))
        found.append(("conv by tiles, ns of a row (2 -> 16, 5x5, 34x34)", *tiled(conv(2, 16, 34, 5))))
        found.append(("conv by tiles, ns of a row (64 -> 128, 3x3, 16x16)", *tiled(conv(64, 128, 16, 3))))
    event, add = line([(n, ns_of_event(conv(16, n, 30, 3), "events") / 9) for n in (16, 32, 64, 128)])
    found += [("TAP_NS", synapses.TAP_NS, event)]
    found += [("TAP_ADDS_PER_NS", synapses.TAP_ADDS_PER_NS, 1 / add)]
    empty = [
        (conv(16, n, 30, 3), paths(conv(16, n, 30, 3))["events"]) for n in (16, 32, 64)
    ]  # fmt: skip
    points = [(float(prod(c.output_shape)), ns_of_row(p, c, 0.0)[0]) for c, p in empty]
    found.append(("OUTPUTS_PER_NS, conv", synapses.OUTPUTS_PER_NS, 1 / line(points)[1]))
    event, add = line([(n, ns_of_event(listed(n), "listed events")) for n in (8, 32, 128)])
    found += [("LISTED_NS", synapses.LISTED_NS, event), ("SYNAPSE_NS", synapses.SYNAPSE_NS, add)]
    spent = ns_of_row(paths(listed(8))["listed events"], listed(8), 0.0)[0] - 1024 * line(inputs)[1]
    found.append(("OUTPUTS_PER_NS, listed", synapses.OUTPUTS_PER_NS, 4096 / spent))
    groups = [
        (n, ns_of_row(paths(conv(n, n, 16, 3, n))["windows"], conv(n, n, 16, 3, n), 0.1)[0] / (14 * 14 * 9))
        for n in (16, 64, 256)
    ]
    offset, slope = line(groups)
    return [
        *found,
        ("WINDOW_NS", synapses.WINDOW_NS, offset),
        ("WINDOW_CHANNELS_PER_NS", synapses.WINDOW_CHANNELS_PER_NS, 1 / slope),
    ]


def crossing(gap: Callable[[float], float]) -> str:
    """The activity in percent at which ``gap`` (product less events, ns) changes its sign."""
    rates = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8]
    gaps = [gap(rate) for rate in rates]
    if gaps[0] < 0:
        return f"< {100 * rates[0]:g}"
    for (r0, g0), (r1, g1) in pairwise(zip(rates, gaps, strict=True)):
        if g0 > 0 >= g1:
            return f"{100 * (r0 + (r1 - r0) * g0 / (g0 - g1)):.1f}"
    return f"> {100 * rates[-1]:g}"


def crossings() -> list[tuple[str, str, str]]:
    """Layer, by the model, as timed."""
    found: list[tuple[str, str, str]] = []
    for key in ("fc", "conv"):
        net = workloads.network(workloads.SHAPES[key], workloads.weights(key), [1, 1, 1], 1)
        for e in net.projections:
            here: Any = paths(e.map)
            if not {"events", "product"} <= here.keys():
                continue
            n = prod(e.map.input_shape)

            def model(rate: float, here: Any = here, n: int = n) -> float:
                return here["product"].cost(1000, 0) - here["events"].cost(1000, int(1000 * n * rate))

            def timed(rate: float, here: Any = here, linear: Map = e.map) -> float:
                return ns_of_row(here["product"], linear, rate)[0] - ns_of_row(here["events"], linear, rate)[0]

            found.append((f"{key}: {e.map}", crossing(model), crossing(timed)))
    return found


def main() -> None:
    global SECONDS
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each measurement")
    SECONDS = parser.parse_args().seconds
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    print(f"{'constant':<50}{'in the code':>12}{'here':>10}")
    for name, code, here in constants():
        print(f"{name:<50}{code:>12.4g}{here:>10.4g}")
    print(f"\n{'layer: percent firing above which products win':<50}{'by the model':>12}{'timed':>10}")
    for name, model, timed in crossings():
        print(f"{name:<50}{model:>12}{timed:>10}")


if __name__ == "__main__":
    main()
