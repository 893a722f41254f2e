"""Cores from a hypergraph partitioner, Mt-KaHyPar (MIT, an optional part): the fewest messages, parts of equal work.

A neuron's spike is one message to each distinct core that it reaches, which is a hyperedge and what the partitioner
counts (connectivity - 1). Units are pixels with their channels, in blocks where a pixel is more than a small share of a
core, and single neurons of populations without rows: all neurons of a pixel reach the same pixels, so nothing is lost
and the hypergraph is 10 to 25 times smaller. No partitioner knows the limits of a core but its size: a core that passes
one is halved, again and again.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, eye_array

from snnergy.deploy.demand import Demand, Rates
from snnergy.deploy.fit import LIMITS, limit
from snnergy.deploy.placement import Slice
from snnergy.deploy.refine import halves
from snnergy.deploy.schedule import Schedule
from snnergy.deploy.settle import settle
from snnergy.deploy.tiles import Sums, grid
from snnergy.errors import BadInput, MissingPart
from snnergy.export.net import count_synapses
from snnergy.export.quantnet import QuantNet
from snnergy.hardware_profiles import Profile

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

SYNAPSES = 20_000_000
"""Most of a network that is partitioned so: it is unrolled."""
SHARE = 8
"""A pixel is kept whole where so many fit a core."""
SLACK = 0.03
"""By how much the heaviest part may pass the mean."""
WEIGHTS = 1 << 16
"""Whole numbers that weights are scaled to: the partitioner takes no others."""
PASSES = 12
"""Times that all cores beyond a limit are halved."""


def require(net: QuantNet) -> None:
    """Raise MissingPart or BadInput where this network cannot be partitioned so, here."""
    if find_spec("mtkahypar") is None:
        raise MissingPart("--partition hypergraph needs mtkahypar, not installed", "pip install 'snnergy[partition]'")
    if (count := count_synapses(net.projections)) > SYNAPSES:
        raise BadInput(f"{count:,} synapses; --partition hypergraph unrolls at most {SYNAPSES:,}: use free")


def cores_of(
    net: QuantNet, schedule: Schedule, profile: Profile, rates: Rates, parts: int, budget: int, seed: int = 0
) -> list[tuple[Slice, ...]] | None:
    """The slices of about so many cores, at most ``budget``, each within every limit; None where that is not found."""
    home = partitioned(net, schedule, profile, rates, parts, seed)
    cores: list[tuple[Slice, ...]] = []
    first = _first(net)
    for part in range(int(home.max()) + 1):
        held = ((p.name, np.flatnonzero(home[first[p.name] :][: prod(p.shape)] == part)) for p in net.populations)
        if slices := tuple(Slice(name, neurons) for name, neurons in held if neurons.size):
            cores.append(slices)
    return repaired(cores, net, schedule, profile, rates, budget)


def partitioned(net: QuantNet, schedule: Schedule, profile: Profile, rates: Rates, parts: int, seed: int) -> I64:
    """int64[neurons], the part of every neuron."""
    unit, heavy = _units(net, schedule, profile, rates)
    parts = min(parts, len(heavy))
    if parts < 2:
        return np.zeros(unit.size, np.int64)
    edges, weight = _edges(net, rates, unit, len(heavy))
    return _mtkahypar(edges, weight, heavy, parts, seed)[unit]


def repaired(
    cores: list[tuple[Slice, ...]], net: QuantNet, schedule: Schedule, profile: Profile, rates: Rates, budget: int
) -> list[tuple[Slice, ...]] | None:
    """The same with cores halved that pass a limit, until none does; None where that takes too many or never ends."""
    most = {name: have for name in LIMITS if (have := limit(profile.core, name)) is not None}
    for _ in range(PASSES):
        usage = settle(net, schedule, profile, cores, rates).usage
        over = [any(used[name] > have for name, have in most.items()) for used in usage]
        if not any(over):
            return cores
        after: list[tuple[Slice, ...]] = []
        for slices, beyond in zip(cores, over, strict=True):
            if beyond and len(slices) == 1 and slices[0].size == 1:
                return None
            after += halves(slices, rates, net) if beyond else [slices]
        cores = after
        if len(cores) > budget:
            return None
    return None


def _units(net: QuantNet, schedule: Schedule, profile: Profile, rates: Rates) -> tuple[I64, F64]:
    """int64[neurons], the unit of every neuron, and float64[units], its share of a core: of neurons or of time."""
    most = limit(profile.core, "neurons") or 1 << 30
    units: list[I64] = []
    shares: list[F64] = []
    count = 0
    for p in net.populations:
        channels, rows, columns = grid(p.shape)
        block = channels if rows * columns > 1 else 1
        block = max(1, min(block, most // SHARE))
        c, pixel = np.divmod(np.arange(prod(p.shape)), rows * columns)
        _, here = np.unique(c // block * (rows * columns) + pixel, return_inverse=True)
        units.append(count + here)
        nothing = Sums(np.zeros((1, rows, columns)))
        busy = Demand(p, net, schedule, profile, rates, nothing).busy()
        shares.append(np.stack([np.full(prod(p.shape), 1 / most), busy], axis=1))
        count += int(here.max()) + 1
    unit, share = np.concatenate(units), np.concatenate(shares)
    share[:, 1] *= share[:, 0].sum() / (share[:, 1].sum() or 1.0)  # as much of time in all as of neurons
    return unit, np.bincount(unit, share.max(axis=1), count).astype(np.float64)


def _edges(net: QuantNet, rates: Rates, unit: I64, count: int) -> tuple[csr_array, F64]:
    """[units, units], where each unit's neurons send, itself included; float64[units], its spikes in a mean step."""
    first, reach = _first(net), csr_array((count, count))
    spikes = np.zeros(count)
    for p in net.populations:
        mine = unit[first[p.name] : first[p.name] + prod(p.shape)]
        spikes += np.bincount(mine, rates.spikes[p.name], count)
    for e in net.projections:
        if e.source in first:
            joined = e.map.matrix().tocoo()
            where = (unit[first[e.source] + joined.col], unit[first[e.target] + joined.row])
            reach = reach + csr_array((np.ones(joined.nnz), where), shape=(count, count))
    return csr_array(reach + eye_array(count, format="csr")), spikes


def _first(net: QuantNet) -> dict[str, int]:
    """Population -> its first neuron, all of them counted through."""
    sizes = [prod(p.shape) for p in net.populations]
    return {p.name: sum(sizes[:k]) for k, p in enumerate(net.populations)}


def _mtkahypar(edges: csr_array, weight: F64, heavy: F64, parts: int, seed: int) -> I64:
    """int64[units], the part of each: deterministic under the seed, whatever the threads."""
    import mtkahypar  # pyright: ignore[reportMissingImports]

    library: Any = _started(mtkahypar)
    context = library.context_from_preset(mtkahypar.PresetType.DETERMINISTIC)
    context.set_partitioning_parameters(parts, SLACK, mtkahypar.Objective.KM1)
    context.logging = False
    mtkahypar.set_seed(seed)
    edges.sum_duplicates()
    edges.sort_indices()
    talks = np.flatnonzero((np.diff(edges.indptr) > 1) & (weight > 0))
    pins = [edges.indices[edges.indptr[k] : edges.indptr[k + 1]].tolist() for k in talks]
    graph = library.create_hypergraph(
        context, len(heavy), len(pins), pins, _whole(heavy).tolist(), _whole(weight[talks]).tolist()
    )
    found = graph.partition(context)
    return np.array([found.block_id(k) for k in range(len(heavy))], np.int64)


_LIBRARY: list[Any] = []
"""The one that is started: threads are started once a process."""


def _started(mtkahypar: Any) -> Any:
    if not _LIBRARY:
        _LIBRARY.append(mtkahypar.initialize(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1))
    return _LIBRARY[0]


def _whole(values: F64) -> I64:
    """At least 1, in proportion."""
    most = values.max(initial=0.0) or 1.0
    return np.maximum(np.rint(values * (WEIGHTS / most)), 1).astype(np.int64)
