"""Exact integer counters of every core and hardware step, from what the neurons did and where they sit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from snnergy.deploy.activity import Activity
from snnergy.deploy.activity import verify as verify_activity
from snnergy.deploy.fanout import destinations, table
from snnergy.deploy.mesh import ENTRY
from snnergy.deploy.placement import Placement
from snnergy.deploy.schedule import Schedule
from snnergy.export.quantnet import QuantNet, QuantSource
from snnergy.hardware_profiles import Profile

I64 = NDArray[np.int64]

COUNTERS = (
    "synops",
    "lists",
    "updates_active",
    "updates_idle",
    "spikes",
    "messages",
    "hops_ew",
    "hops_ns",
    "interchip",
    "resets",
)


@dataclass(frozen=True)
class Cell:
    """One population on one core; ``core`` is an index into the placement's cores.

    A source has a cell on every core that it reaches, without neurons: it holds the messages of the input to that core.
    """

    core: int
    node: str
    neurons: int


@dataclass(frozen=True, eq=False)
class Counts:
    """Events summed over samples, by cell and by step of the hardware's period.

    nodes:  sources, then populations, in network order
    by:     counter name -> int64[cells, steps], the names of COUNTERS
    links:  int64[steps], messages over the busiest link of the mesh; link_names: which link that is, at each step
    chips, cores: of the placement, for what flows whatever the network does
    input_bytes: values sent to the chip, whole bytes each
    depth:  steps from the input to the last output
    """

    nodes: tuple[str, ...]
    cells: tuple[Cell, ...]
    by: dict[str, I64]
    links: I64
    link_names: tuple[str, ...]
    samples: int
    steps: int
    chips: int
    cores: int
    input_bytes: int
    depth: int


def count(activity: Activity, placement: Placement, net: QuantNet, schedule: Schedule, profile: Profile) -> Counts:
    """Count events in steady streaming: a new sample every ``net.steps`` steps, every population active at every step.

    Population p does step t of a sample at step ``(t + depth[p]) mod steps`` of the period. Its spikes arrive, and cost
    their synops, one step later; a longer delay waits in the accumulators of the receiving core. Messages (one a spike
    and distinct receiving core), hops and resets are counted where they are sent from, synops and lists (one a spike
    and receiving population, projection and core) where they arrive. Routing is x first, then y; chips sit in a row;
    inputs enter at router ENTRY of chip 0 (assumed), and are counted on the core that receives them.
    """
    verify_activity(net, activity)
    steps = net.steps
    cells: list[Cell] = []
    at: dict[str, list[int]] = {p.name: [] for p in net.populations}
    slices: dict[str, list[I64]] = {p.name: [] for p in net.populations}
    for index, core in enumerate(placement.cores):
        for s in core.slices:
            at[s.population].append(len(cells))
            slices[s.population].append(s.neurons)
            cells.append(Cell(index, s.population, s.neurons.size))
    own = {name: [cells[i].core for i in where] for name, where in at.items()}
    sent = {
        node.name: destinations(net, node.name, prod(node.shape), slices, own, len(placement.cores))
        for node in (*net.sources, *net.populations)
    }
    for s in net.sources:
        reached = np.flatnonzero(sent[s.name].sum(axis=0))
        at[s.name] = list(range(len(cells), len(cells) + reached.size))
        cells += [Cell(int(core), s.name, 0) for core in reached]

    by = {name: np.zeros((len(cells), steps), np.int64) for name in COUNTERS}
    for e in net.projections:
        reach = table(e.map, slices[e.target])
        arrive = np.roll(activity.spikes[e.source], schedule.depth[e.source] + 1, axis=0)
        by["synops"][at[e.target]] += (arrive @ reach).T
        reach.data[:] = 1
        by["lists"][at[e.target]] += (arrive @ reach).T
    for p in net.populations:
        spikes = np.roll(activity.spikes[p.name], schedule.depth[p.name], axis=0)
        active = np.roll(activity.active[p.name], schedule.depth[p.name], axis=0)
        for i, neurons in zip(at[p.name], slices[p.name], strict=True):
            by["spikes"][i] = spikes[:, neurons].sum(axis=1)
            by["updates_active"][i] = active[:, neurons].sum(axis=1)
            by["updates_idle"][i] = neurons.size * activity.samples - by["updates_active"][i]
            if not p.memoryless:
                by["resets"][i, schedule.depth[p.name] % steps] = neurons.size * activity.samples
    links, link_names = _send(net, activity, schedule, placement, profile, cells, at, slices, sent, by)
    counts = Counts(
        nodes=tuple(node.name for node in (*net.sources, *net.populations)),
        cells=tuple(cells),
        by=by,
        links=links,
        link_names=link_names,
        samples=activity.samples,
        steps=steps,
        chips=placement.chips,
        cores=len(placement.cores),
        input_bytes=sum(int(activity.spikes[s.name].sum()) * -(-s.bits // 8) for s in net.sources),
        depth=max(schedule.depth[name] for name in net.outputs),
    )
    verify(counts)
    return counts


def verify(counts: Counts) -> None:
    """Raise AssertionError unless the counters could be of a chip: whole, not negative, and consistent.

    A neuron is updated once a step and sample and spikes at most as often; a list holds at least one synapse; a spike
    that stays on its chip crosses none; no link carries more than was sent.
    """
    shape = (len(counts.cells), counts.steps)
    assert set(counts.by) == set(COUNTERS), "counters are missing"
    for name, values in counts.by.items():
        assert values.shape == shape and values.dtype == np.int64, f"{name} is {values.dtype}{values.shape}"
        assert not values.size or values.min() >= 0, f"{name} is negative"
    by, neurons = counts.by, np.array([c.neurons for c in counts.cells], np.int64).reshape(-1, 1)
    seen = neurons * counts.samples
    assert (by["updates_active"] + by["updates_idle"] == seen).all(), "a neuron is not updated once a step"
    assert (by["spikes"] <= seen).all(), "a neuron spikes more than once a step"
    assert ((by["resets"] == 0) | (by["resets"] == seen)).all(), "some neurons of a population are reset"
    assert (by["lists"] <= by["synops"]).all(), "a list holds no synapse"
    assert (by["hops_ew"] + by["hops_ns"] >= by["interchip"]).all(), "a chip is crossed without a hop"
    assert counts.chips > 1 or not by["interchip"].any(), "one chip sends to another"
    assert counts.links.shape == (counts.steps,) and len(counts.link_names) == counts.steps, "links"
    assert ((counts.links >= 0) & (counts.links <= by["messages"].sum(axis=0))).all(), "a link carries what none sent"
    for cell in counts.cells:
        assert 0 <= cell.core < counts.cores and cell.node in counts.nodes, f"no core {cell.core} or node {cell.node}"


def _send(
    net: QuantNet,
    activity: Activity,
    schedule: Schedule,
    placement: Placement,
    profile: Profile,
    cells: Sequence[Cell],
    at: dict[str, list[int]],
    slices: dict[str, list[I64]],
    sent: dict[str, csr_array],
    by: dict[str, I64],
) -> tuple[I64, tuple[str, ...]]:
    """Fill in messages, hops and chip crossings; returns the load and the name of the busiest link of every step."""
    width = profile.chip.mesh_width.whole
    xy = np.array([(c.chip * width + c.x, c.y) for c in placement.cores], np.int64).reshape(-1, 2)
    chip_of = np.array([c.chip for c in placement.cores], np.int64)
    routes: list[I64] = []
    loads: list[I64] = []
    for node in (*net.sources, *net.populations):
        spikes = np.roll(activity.spikes[node.name], schedule.depth[node.name], axis=0)
        source = isinstance(node, QuantSource)
        where = [at[node.name]] if source else [[i] for i in at[node.name]]
        for cell, neurons in zip(where, [slice(None)] if source else slices[node.name], strict=True):
            messages = spikes[:, neurons] @ sent[node.name][neurons]  # [steps, cores]
            to = np.flatnonzero(messages.any(axis=0))
            start, chip = (np.array(ENTRY), 0) if source else (xy[cells[cell[0]].core], chip_of[cells[cell[0]].core])
            by_core = dict(zip((cells[i].core for i in cell), cell, strict=True))
            into = [by_core[int(c)] for c in to] if source else cell * to.size
            ew, ns = np.abs(xy[to] - start).T
            crossed = np.abs(chip_of[to] - chip)
            for name, per in (("messages", np.ones_like(ew)), ("hops_ew", ew), ("hops_ns", ns), ("interchip", crossed)):
                np.add.at(by[name], into, (messages[:, to] * per).T)
            routes.append(np.hstack([np.broadcast_to(start, (to.size, 2)), xy[to]]))
            loads.append(messages[:, to].T)
    shape = (placement.chips * width, profile.chip.mesh_height.whole)
    return busiest_links(np.concatenate(routes), np.concatenate(loads), shape)


def busiest_links(routes: I64, loads: I64, mesh: tuple[int, int]) -> tuple[I64, tuple[str, ...]]:
    """Load and name of the busiest of all links, at every step, with x-then-y routing.

    routes: int64[k, 4], x and y of the first and the last router; loads: int64[k, steps]; mesh: width and height
    """
    steps = loads.shape[1]
    best, names = np.zeros(steps, np.int64), ["none"] * steps
    x0, y0, x1, y1 = routes.T
    ways = (("east", x0, x1, y0, 0), ("west", x1, x0, y0, 0), ("south", y0, y1, x1, 1), ("north", y1, y0, x1, 1))
    for way, low, high, lane, axis in ways:
        ends = np.zeros((mesh[1 - axis], mesh[axis] + 1, steps), np.int64)
        go = low < high
        np.add.at(ends, (lane[go], low[go]), loads[go])
        np.add.at(ends, (lane[go], high[go]), -loads[go])
        load = ends.cumsum(axis=1)  # [lane, the link from this position to the next, step]
        top = load.reshape(-1, steps).argmax(axis=0)
        for t in range(steps):
            fixed, along = divmod(int(top[t]), mesh[axis] + 1)
            if load[fixed, along, t] > best[t]:
                best[t] = load[fixed, along, t]
                along += way in ("west", "north")
                x, y = (along, fixed) if axis == 0 else (fixed, along)
                names[t] = f"link {way} of router ({x}, {y})"
    return best, tuple(names)
