"""Exact integer counters of every core and hardware step, from what the neurons did and where they sit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, hstack

from snnergy.deploy.activity import Activity, Trace
from snnergy.deploy.activity import verify as verify_activity
from snnergy.deploy.counts import COUNTERS, OUTPUT_BYTES, Cell, Counts, verify
from snnergy.deploy.fanout import destinations, table
from snnergy.deploy.mesh import ENTRY
from snnergy.deploy.placement import Placement
from snnergy.deploy.schedule import Schedule
from snnergy.deploy.tiles import Box
from snnergy.export.maps import Conv
from snnergy.export.quantnet import QuantNet, QuantSource
from snnergy.hardware_profiles import Profile

I64 = NDArray[np.int64]


def count(activity: Activity, placement: Placement, net: QuantNet, schedule: Schedule, profile: Profile) -> Counts:
    """Count the events of a run; see ``Counter``."""
    return Counter(placement, net, schedule, profile).count(activity)


@dataclass(frozen=True, eq=False)
class _Sender:
    """What a spike of each neuron of one node causes.

    table:   int64[n, 2 a + r + s]: synapses that reach each of a cells; 1 where there are any; 1 for each of r routes
             that a message takes; 1 for the cell that the neuron sits on, of s
    arrive:  int64[a], the cells that synops and lists are counted on; own: the s cells of a population's own
    routes:  int64[r, 4], x and y of the first and the last router; cell: int64[r], where a message is counted
    crossed: counter -> int64[r, 1], how much of it a message adds
    """

    table: csr_array
    arrive: I64
    own: list[int]
    routes: I64
    cell: I64
    crossed: dict[str, I64]


class Counter:
    """Counts events in steady streaming: a new sample every ``net.steps`` steps, every population active at every step.

    Population p does step t of a sample at step ``(t + depth[p]) mod steps`` of the period. Its spikes arrive, and cost
    their synops, one step later; a longer delay waits in the accumulators of the receiving core. Messages (one a spike
    and distinct receiving core), hops and resets are counted where they are sent from, synops and lists (one a spike
    and receiving population, projection and core) where they arrive. Routing is x first, then y; chips sit in a row;
    inputs enter at router ENTRY of chip 0 (assumed), and are counted on the core that receives them.

    All follows from the fan-out of every neuron, tabled once; a count is a product of spikes and tables.
    """

    def __init__(self, placement: Placement, net: QuantNet, schedule: Schedule, profile: Profile) -> None:
        self.net, self.schedule, self._placement = net, schedule, placement
        width = profile.chip.mesh_width.whole
        self._mesh = placement.chips * width, profile.chip.mesh_height.whole
        self._xy = np.array([(c.chip * width + c.x, c.y) for c in placement.cores], np.int64).reshape(-1, 2)
        self._chip = np.array([c.chip for c in placement.cores], np.int64)
        cells: list[Cell] = []
        self._at: dict[str, list[int]] = {p.name: [] for p in net.populations}
        self._slices: dict[str, list[I64]] = {p.name: [] for p in net.populations}
        self._tiles: dict[str, list[I64 | Box]] = {p.name: [] for p in net.populations}
        for index, core in enumerate(placement.cores):
            for s in core.slices:
                self._at[s.population].append(len(cells))
                self._slices[s.population].append(s.neurons)
                self._tiles[s.population].append(s.neurons if s.tile is None else s.tile)
                cells.append(Cell(index, s.population, s.slots))
        own = {name: [cells[i].core for i in where] for name, where in self._at.items()}
        self._senders: dict[str, _Sender] = {}
        for node in (*net.sources, *net.populations):
            size = prod(node.shape)
            to = destinations(net, node.name, size, self._slices, own, len(placement.cores))
            if isinstance(node, QuantSource):
                reached = np.flatnonzero(to.sum(axis=0))
                self._at[node.name] = list(range(len(cells), len(cells) + reached.size))
                cells += [Cell(int(core), node.name, 0) for core in reached]
            self._senders[node.name] = self._sender(node.name, size, to, cells)
        self.cells = tuple(cells)

    def _sender(self, name: str, size: int, to: csr_array, cells: Sequence[Cell]) -> _Sender:
        """to: [size, cores], 0 or 1, the cores that each neuron sends to."""
        edges = [e for e in self.net.projections if e.source == name]
        reach = [table(e.map, (self._tiles if isinstance(e.map, Conv) else self._slices)[e.target]) for e in edges]
        lists = [csr_array((np.ones_like(t.data), t.indices, t.indptr), t.shape) for t in reach]
        arrive = [i for e in edges for i in self._at[e.target]]
        slices, own = self._slices.get(name, []), self._at[name] if name in self._slices else []
        slice_of = np.zeros(size, np.int64)
        for k, neurons in enumerate(slices):
            slice_of[neurons] = k
        sits = csr_array((np.ones(size, np.int64), slice_of, np.arange(size + 1)), shape=(size, max(len(own), 1)))
        cores = len(self._placement.cores)
        pairs = to.tocoo()  # one route for each core that sends and core that it sends to
        found, column = np.unique(slice_of[pairs.row] * cores + pairs.col, return_inverse=True)
        sent = csr_array((pairs.data, (pairs.row, column)), shape=(size, found.size))
        part, core = np.divmod(found, cores)
        if own:
            cell = np.array(own, np.int64)[part]
            home = np.array([cells[i].core for i in own], np.int64)[part]
            start, chip = self._xy[home], self._chip[home]
        else:
            by_core = {cells[i].core: i for i in self._at[name]}
            cell = np.array([by_core[int(c)] for c in core], np.int64)
            start, chip = np.broadcast_to(np.array(ENTRY, np.int64), (core.size, 2)), np.zeros(core.size, np.int64)
        ew, ns = np.abs(self._xy[core] - start).T[:, :, None]
        return _Sender(
            table=csr_array(hstack([*reach, *lists, sent, sits])),
            arrive=np.array(arrive, np.int64),
            own=own,
            routes=np.hstack([start, self._xy[core]]),
            cell=cell,
            crossed={
                "messages": np.ones_like(ew),
                "hops_ew": ew,
                "hops_ns": ns,
                "interchip": np.abs(self._chip[core] - chip)[:, None],
            },
        )

    def count(self, activity: Activity) -> Counts:
        """The events of all samples together."""
        verify_activity(self.net, activity)
        return self._count(activity.spikes, activity.active, activity.samples, 1)

    def each(self, trace: Trace) -> Counts:
        """The events of every sample by itself, as if it alone were streamed: ``steps`` holds one after the other."""
        n = {s.name: prod(s.shape) for s in self.net.sources}

        def rows(name: str, values: NDArray[np.uint8]) -> NDArray[np.uint8]:
            if name in n:
                values = np.broadcast_to(values, (len(values), self.net.steps, n[name]))
            return values.reshape(-1, values.shape[2])

        spikes = {name: rows(name, values) for name, values in trace.spikes.items()}
        active = {name: rows(name, values) for name, values in trace.active.items()}
        return self._count(spikes, active, 1, len(next(iter(trace.spikes.values()))))

    def _count(
        self, spikes: Mapping[str, NDArray[Any]], active: Mapping[str, NDArray[Any]], samples: int, runs: int
    ) -> Counts:
        """spikes, active: [runs * steps, n], each run the sum of so many samples."""
        steps = self.net.steps
        by = {name: np.zeros((len(self.cells), runs * steps), np.int64) for name in COUNTERS}

        def moved(values: I64, later: int) -> I64:
            """Later in the period of each run."""
            return np.roll(values.reshape(-1, runs, steps), later, axis=2).reshape(-1, runs * steps)

        routes: list[I64] = []
        loads: list[I64] = []
        for name, sender in self._senders.items():
            found, depth = _product(spikes[name], sender.table).T, self.schedule.depth[name]
            reached, sent = sender.arrive.size, len(sender.routes)
            arrived, left = moved(found[: 2 * reached], depth + 1), moved(found[2 * reached :], depth)
            np.add.at(by["synops"], sender.arrive, arrived[:reached])
            np.add.at(by["lists"], sender.arrive, arrived[reached:])
            for counter, times in sender.crossed.items():
                np.add.at(by[counter], sender.cell, left[:sent] * times)
            if sender.own:
                by["spikes"][sender.own] = left[sent:]
            routes.append(sender.routes)
            loads.append(left[:sent])
        for p in self.net.populations:
            depth = self.schedule.depth[p.name]
            for i, neurons in zip(self._at[p.name], self._slices[p.name], strict=True):
                by["updates_active"][i] = moved(active[p.name][:, neurons].sum(axis=1, dtype=np.int64), depth)
                by["updates_idle"][i] = self.cells[i].neurons * samples - by["updates_active"][i]
                if not p.memoryless:
                    by["resets"][i, depth % steps :: steps] = self.cells[i].neurons * samples
        into, out = self.traffic(spikes, samples, runs)
        links, link_names = busiest_links(np.concatenate(routes), np.concatenate(loads), self._mesh)
        counts = Counts(
            nodes=tuple(self._senders),
            cells=self.cells,
            by=by,
            links=links,
            link_names=link_names,
            samples=samples,
            steps=runs * steps,
            chips=self._placement.chips,
            cores=len(self._placement.cores),
            input_bytes=int(into.sum()),
            output_bytes=int(out.sum()),
            depth=max(self.schedule.depth[name] for name in self.net.outputs),
        )
        verify(counts)
        return counts

    def traffic(self, spikes: Mapping[str, NDArray[Any]], samples: int, runs: int) -> tuple[I64, I64]:
        """Bytes sent to the chip and read back: int64[runs] each.

        spikes: of every run so many numbers, [..., n], that add up to what ``samples`` samples sent
        """
        into, out = np.zeros(runs, np.int64), np.zeros(runs, np.int64)

        def sent(name: str) -> I64:
            return spikes[name].reshape(runs, -1).sum(axis=1, dtype=np.int64)

        for s in self.net.sources:
            into += sent(s.name) * -(-s.bits // 8)
        for p in self.net.populations:
            if p.name in self.net.outputs:
                out += OUTPUT_BYTES * (sent(p.name) if p.spiking else prod(p.shape) * samples)
        return into, out


def _product(x: NDArray[Any], by: csr_array) -> I64:
    """[rows, n] times [n, k]. What single samples did is few spikes, so their places are listed first."""
    if x.dtype != np.uint8:
        return x @ by
    rows, n = x.shape
    places = np.flatnonzero(x.reshape(-1).view(np.bool_))
    row_starts = np.searchsorted(places, np.arange(rows + 1) * n)
    spikes: Any = csr_array((np.ones(places.size, np.int64), places % n, row_starts), shape=(rows, n))
    return (spikes @ by).toarray()


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
