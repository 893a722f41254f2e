"""One core less busy: the core that sets the pace gives half of what it does to a new one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from snnergy.deploy.counts import Counts
from snnergy.deploy.demand import Rates, events
from snnergy.deploy.latency import loads, terms, times
from snnergy.deploy.placement import Placement, Slice
from snnergy.deploy.tiles import Box, Sums, cut
from snnergy.export.net import incoming
from snnergy.export.quantnet import QuantNet
from snnergy.hardware_profiles import Profile

F64 = NDArray[np.float64]


def slowest(counts: Counts, profile: Profile) -> int | None:
    """The core that takes most of the time in which a core sets the pace; None where only links and barrier do."""
    time, core = terms(loads(counts), {name: q.value for name, q in times(profile.time_ns).items()})
    by: dict[int, float] = {}
    for t, k in enumerate(time.argmax(axis=0)):
        if k < 2:
            by[int(core[k, t])] = by.get(int(core[k, t]), 0.0) + float(time[k, t])
    return max(by, key=by.__getitem__, default=None)


def halve_the_slowest(
    placement: Placement, counts: Counts, rates: Rates, net: QuantNet, profile: Profile, budget: int
) -> list[tuple[Slice, ...]] | None:
    """The slices of every core, the slowest in two; None where there is none, it is one neuron, or cores run out."""
    cores = [core.slices for core in placement.cores]
    index = slowest(counts, profile) if len(cores) < budget else None
    if index is None:
        return None
    slices = cores[index]
    if len(slices) == 1 and slices[0].size == 1:
        return None
    return [*cores[:index], *halves(slices, rates, net), *cores[index + 1 :]]


def halves(slices: tuple[Slice, ...], rates: Rates, net: QuantNet) -> list[tuple[Slice, ...]]:
    """What two cores hold instead of one: its populations shared out, or the two halves of the only one."""
    if len(slices) == 1:
        return [(half,) for half in _halves(slices[0], _work(slices[0], rates, net))]
    heaviest_first = np.argsort([-_work(s, rates, net).sum() for s in slices], kind="stable")
    return [tuple(slices[k] for k in heaviest_first[which::2]) for which in (0, 1)]


def _work(s: Slice, rates: Rates, net: QuantNet) -> F64:
    """Synaptic events of each neuron of the slice and its own update, in a mean step."""
    work = np.ones(rates.spikes[s.population].size)
    for e in incoming(net.projections).get(s.population, []):
        work += events(e.map, rates.spikes[e.source])
    return work[s.neurons]


def _halves(s: Slice, work: F64) -> list[Slice]:
    """The slice in two by the work of its neurons."""
    if isinstance(s.held, Box):
        box = s.held
        parts = cut(Box(box.sides, (0, 0, 0), box.sides), 2, Sums(work.reshape(box.sides)))
        ends = [[tuple(np.add(side, box.low).tolist()) for side in (part.low, part.high)] for part in parts]
        return [Slice(s.population, Box(box.shape, *low_high)) for low_high in ends]  # type: ignore[arg-type]
    at = min(max(int(np.searchsorted(work.cumsum(), work.sum() / 2)), 1), s.size - 1)
    return [Slice(s.population, s.neurons[:at]), Slice(s.population, s.neurons[at:])]
