"""Tiles of all populations dealt over all cores: what one population leaves idle in a step, another that is busy takes.

For networks small enough to unroll, beside cores that are plentiful. Every population is cut into small tiles, more
than there are cores, and each tile goes where ``sum over cores and steps of load ** SHARPNESS`` grows least: close to
the least of the busiest core's load. How small the tiles are is searched, population by population, for the objective.
Partitions that cut along traffic do the opposite: activity comes in clusters, and the core of one sets the pace.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, hstack, vstack

from snnergy.deploy.activity import Activity
from snnergy.deploy.demand import pace
from snnergy.deploy.fit import limit
from snnergy.deploy.kernels import compiled
from snnergy.deploy.objective import estimated, score
from snnergy.deploy.placement import Slice
from snnergy.deploy.schedule import Schedule
from snnergy.deploy.tiles import grid
from snnergy.export.net import count_synapses
from snnergy.export.quantnet import QuantNet
from snnergy.hardware_profiles import Profile, nominal

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

SYNAPSES = 5_000_000
"""Most of a network that is dealt: it is unrolled."""
NEURONS = 20_000
TILES = 8192
"""Most tiles that are dealt."""
STEPS = 200
"""Most steps that are told apart; of a longer sample, neighbouring steps are taken together."""
EDGES = (1, 2, 3)
GROUPS = (1, 2, 4, 8)
SHARPNESS = 6
"""1 is the mean load, infinity the busiest core."""
ROUNDS = 2
Plan = tuple[tuple[int, int], ...]
"""Of every population, rows and columns of a tile, and groups of channels."""


def worth(net: QuantNet) -> bool:
    """Whether the network is small enough to be dealt."""
    return sum(prod(p.shape) for p in net.populations) <= NEURONS and count_synapses(net.projections) <= SYNAPSES


class Dealer:
    """Deals one network, with what it did in a run."""

    def __init__(self, net: QuantNet, schedule: Schedule, profile: Profile, activity: Activity) -> None:
        self._net, self._schedule, self._profile = net, schedule, profile
        self._first = np.concatenate([[0], np.cumsum([prod(p.shape) for p in net.populations])])
        self._synapses = _synapses(net)
        bins = max(1, -(-net.steps // STEPS))
        depth, times, per = schedule.depth, pace(profile), 1 / (activity.samples * bins)

        def binned(counts: I64, later: int) -> F64:
            """float64[bins, n], mean events of a sample in a step of the hardware's period."""
            return np.add.reduceat(np.roll(counts, later, axis=0), np.arange(0, net.steps, bins), axis=0) * per

        nodes = (*net.sources, *net.populations)
        self._arrive = np.hstack([binned(activity.spikes[n.name], depth[n.name] + 1) for n in nodes])
        active, fires = (
            np.hstack([binned(counts[p.name], depth[p.name]) for p in net.populations])
            for counts in (activity.active, activity.spikes)
        )
        self._update = active * times.active + (1 - active) * times.idle + fires * times.spike
        self._synop = times.synop

    def deal(self, objective: str, cores: int) -> list[tuple[Slice, ...]] | None:
        """The slices of every core, at most so many, for the least ``score`` by estimate; None where none fits."""
        plan = tuple(self._first_choice(k) for k in range(len(self._net.populations)))
        best, home = self._try(plan, cores, objective)
        for _ in range(ROUNDS):
            before = plan
            for k in reversed(range(len(plan))):
                for choice in self._choices(k):
                    other = (*plan[:k], choice, *plan[k + 1 :])
                    if other != plan and (found := self._try(other, cores, objective))[0] < best:
                        (best, home), plan = found, other
            if plan == before:
                break
        for fewer in (3 * cores // 4, cores // 2):
            if fewer and (found := self._try(plan, fewer, objective))[0] < best:
                best, home = found
        return None if home is None else self._slices(home)

    def _first_choice(self, k: int) -> tuple[int, int]:
        channels, rows, columns = grid(self._net.populations[k].shape)
        return (1, channels) if rows == columns == 1 else (2, min(4, channels))

    def _choices(self, k: int) -> Iterator[tuple[int, int]]:
        channels, rows, columns = grid(self._net.populations[k].shape)
        if rows == columns == 1:
            yield from {(1, channels), (1, -(-channels // 4))}
        else:
            yield from sorted({(edge, min(groups, channels)) for edge in EDGES for groups in GROUPS})

    def _try(self, plan: Plan, cores: int, objective: str) -> tuple[tuple[float, ...], I64 | None]:
        """What the plan is worth, and the core of every neuron; infinity and None where it does not fit."""
        nothing = (float("inf"), float("inf")), None
        tiles, count = self._cut(plan)
        if count > TILES:
            return nothing
        work, _ = self._loads(tiles, count)
        most = limit(self._profile.core, "neurons") or tiles.size
        home = dealt(work, np.bincount(tiles, minlength=count), cores, most)
        if home.min() < 0:
            return nothing
        on = home[tiles]
        loads, messages = self._loads(on, cores)
        barrier = nominal(self._profile.time_ns.barrier)
        step_ns = float(np.maximum(loads.max(axis=(0, 1)), barrier).mean())
        used = np.unique(home).size
        found = estimated(used, step_ns, messages, self._net, self._schedule, self._profile)
        return score(objective, found), on

    def _cut(self, plan: Plan) -> tuple[I64, int]:
        """int64[neurons], the tile of every neuron, and how many there are."""
        tiles: list[I64] = []
        count = 0
        for p, (edge, groups) in zip(self._net.populations, plan, strict=True):
            channels, rows, columns = grid(p.shape)
            c, y, x = np.ogrid[:channels, :rows, :columns]
            tile = (c * groups // channels * -(-rows // edge) + y // edge) * -(-columns // edge) + x // edge
            _, here = np.unique(tile.ravel(), return_inverse=True)
            tiles.append(count + here.ravel())
            count += int(here.max()) + 1
        return np.concatenate(tiles), count

    def _loads(self, on: I64, count: int) -> tuple[F64, float]:
        """float64[count, 2, bins], nanoseconds of synapses and of updates of each part, and messages of a mean step."""
        n = on.size
        member = csr_array((np.ones(n), on, np.arange(n + 1)), shape=(n, count))
        reached = csr_array(self._synapses @ member)
        synops = self._synop * (self._arrive @ reached).T
        messages = float(self._arrive.mean(axis=0) @ np.diff(reached.indptr))
        return np.stack([synops, (self._update @ member).T], axis=1), messages

    def _slices(self, home: I64) -> list[tuple[Slice, ...]]:
        cores: list[tuple[Slice, ...]] = []
        for core in np.unique(home):
            held: list[Slice] = []
            for p, first in zip(self._net.populations, self._first, strict=False):
                neurons = np.flatnonzero(home[first : first + prod(p.shape)] == core)
                if neurons.size:
                    held.append(Slice(p.name, neurons))
            cores.append(tuple(held))
        return cores


def _synapses(net: QuantNet) -> csr_array:
    """float64[sources and neurons, neurons], the synapses from each to each."""
    rows: list[csr_array] = []
    for node in (*net.sources, *net.populations):
        row: list[csr_array] = []
        for p in net.populations:
            part = csr_array((prod(node.shape), prod(p.shape)))
            for e in net.projections:
                if (e.source, e.target) == (node.name, p.name):
                    part = part + csr_array(e.map.matrix() != 0, dtype=np.float64).T
            row.append(csr_array(part))
        rows.append(csr_array(hstack(row)))
    return csr_array(vstack(rows))


def dealt(work: F64, sizes: I64, cores: int, most: int) -> I64:
    """int64[tiles], the core of every tile, the largest first; -1 where none has room for so many neurons.

    work: float64[tiles, 2, steps]; sizes: int64[tiles], neurons of each, of which a core holds ``most``
    """
    scale = work.sum(axis=0).max() / cores
    order = np.argsort(-work.max(axis=2).sum(axis=1), kind="stable")
    return _deal(np.ascontiguousarray(work / (scale or 1.0)).reshape(len(work), -1), order, sizes, cores, most)


def _dealt(work: Any, order: Any, sizes: Any, cores: int, most: int) -> Any:
    tiles, terms = work.shape
    load, power = np.zeros((cores, terms)), np.zeros(cores)
    taken, home = np.zeros(cores, np.int64), np.full(tiles, -1, np.int64)
    for tile in order:
        best, least = -1, np.inf
        for core in range(cores):
            if taken[core] + sizes[tile] <= most:
                after = 0.0
                for k in range(terms):
                    cube = load[core, k] + work[tile, k]
                    cube = cube * cube * cube
                    after += cube * cube
                if after - power[core] < least:
                    best, least = core, after - power[core]
        if best < 0:
            break
        home[tile] = best
        taken[best] += sizes[tile]
        power[best] += least
        for k in range(terms):
            load[best, k] += work[tile, k]
    return home


_deal = compiled(_dealt)
