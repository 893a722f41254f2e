"""Depth and delay of every edge, so that a network of one-step synapses gives the zero-delay result.

A spike sent at step t is used at t + 1 + delay. If population p runs ``depth(p)`` steps after the input, an edge p -> c
that the network itself delays by D steps must carry the delay ``depth(c) + D - depth(p) - 1``: then c sees the trains
that torch sees, all shifted by ``depth(c)``. In a loop the depths cancel: its D must add up to its number of synapses.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_array

from snnergy.errors import UnsupportedLayer
from snnergy.export.quantnet import QuantNet


@dataclass(frozen=True)
class Schedule:
    """When each population sees a sample, and what each projection adds to reach that.

    depth:  name -> steps after the input (sources 0); population p sees the zero-delay trains shifted by depth[p]
    delays: one per projection of the QuantNet, in its order, at least 0: the steps beyond the one of every synapse
    """

    depth: dict[str, int]
    delays: tuple[int, ...]


def balance(net: QuantNet) -> Schedule:
    """The depths that cost the fewest delay slots among those of least latency.

    A neuron buffers what arrives early: one slot for every step of its longest incoming delay, as Loihi's dendritic
    accumulators do (Davies et al. 2018). So the cost is ``sum over c of neurons(c) * max over p -> c of delay``. With
    m(c) for the maximum this is a linear program of difference constraints, which has an integer optimum.
    Raises UnsupportedLayer for a loop that asks for less time than its synapses take.
    """
    last = max(_longest(net).values())
    index = {p.name: k for k, p in enumerate(net.populations)}
    count = len(index)
    rows: list[tuple[int, int, float]] = []
    bounds_above: list[float] = []

    def at_most(terms: list[tuple[int, float]], limit: float) -> None:
        rows.extend((len(bounds_above), column, value) for column, value in terms)
        bounds_above.append(limit)

    for e in net.projections:
        c = index[e.target]
        source = [(index[e.source], 1.0)] if e.source in index else []
        at_most([*source, (c, -1.0)], e.delay - 1.0)  # depth(p) + 1 - D <= depth(c)
        at_most([(c, 1.0), (count + c, -1.0), *((k, -v) for k, v in source)], 1.0 - e.delay)  # delay <= m(c)
    cost = [0.0] * count + [float(prod(p.shape)) for p in net.populations]
    r, c, v = zip(*rows, strict=True) if rows else ((), (), ())
    matrix = coo_array((v, (r, c)), shape=(len(bounds_above), 2 * count)).tocsr()
    bounds = [(1, last)] * count + [(0, None)] * count
    solution = linprog(cost, matrix, bounds_above, bounds=bounds, method="highs-ds")
    assert solution.success, solution.message
    depth = {s.name: 0 for s in net.sources} | {name: int(np.rint(solution.x[k])) for name, k in index.items()}
    schedule = Schedule(depth, tuple(depth[e.target] + e.delay - depth[e.source] - 1 for e in net.projections))
    verify(net, schedule)
    return schedule


def _longest(net: QuantNet) -> dict[str, int]:
    """The earliest depth of every population: the longest path to it, one step a synapse less its own delay.

    Bellman and Ford's relaxation; where it does not settle, a loop is too fast for the chip and is named.
    """
    depth = {s.name: 0 for s in net.sources} | {p.name: 1 for p in net.populations}
    before: dict[str, str] = {}
    name = ""
    for _ in range(len(depth) + 1):
        moved = False
        for e in net.projections:
            if depth[e.source] + 1 - e.delay > depth[e.target]:
                depth[e.target], before[e.target] = depth[e.source] + 1 - e.delay, e.source
                moved, name = True, e.target
        if not moved:
            return depth
    loop: list[str] = []
    while name not in loop:
        loop.append(name)
        name = before[name]
    loop = [name, *reversed(loop[loop.index(name) :])]
    raise UnsupportedLayer(
        f"the loop {' -> '.join(loop)} takes a chip {len(loop) - 1} steps, one a synapse; the network has less delay",
        "give the loop a Delay node, or run it on the native engine alone",
    )


def verify(net: QuantNet, schedule: Schedule) -> None:
    """Raise AssertionError unless every path takes as long as its ends are apart, and no delay is negative."""
    for e, delay in zip(net.projections, schedule.delays, strict=True):
        assert delay >= 0, f"{e.source} -> {e.target} would arrive late"
        assert schedule.depth[e.source] + 1 + delay == schedule.depth[e.target] + e.delay, f"{e.source} -> {e.target}"


def slots(net: QuantNet, schedule: Schedule) -> int:
    """Delay slots in all: neurons times their longest incoming delay."""
    longest = {p.name: 0 for p in net.populations}
    for e, delay in zip(net.projections, schedule.delays, strict=True):
        longest[e.target] = max(longest[e.target], delay)
    return sum(prod(p.shape) * longest[p.name] for p in net.populations)
