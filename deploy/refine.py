"""One core less busy: the core that sets the pace gives half of what it does to a new one."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from snnergy.deploy.activity import Activity
from snnergy.deploy.count import count
from snnergy.deploy.latency import loads, terms
from snnergy.deploy.partition import events, measured
from snnergy.deploy.placement import Placement, Slice
from snnergy.deploy.schedule import Schedule
from snnergy.deploy.tiles import Box, Sums, cut
from snnergy.export.net import incoming
from snnergy.export.quantnet import QuantNet
from snnergy.hardware_profiles import Profile, TimeCosts

F64 = NDArray[np.float64]


def slowest(
    activity: Activity, placement: Placement, net: QuantNet, schedule: Schedule, profile: Profile
) -> int | None:
    """The core that takes most of the time in which a core sets the pace; None where only links and barrier do."""
    load = loads(count(activity, placement, net, schedule, profile))
    ns = {f.name: q.value for f in fields(TimeCosts) if (q := getattr(profile.time_ns, f.name))}
    time, core = terms(load, ns)
    by: dict[int, float] = {}
    for t, k in enumerate(time.argmax(axis=0)):
        if k < 2:
            by[int(core[k, t])] = by.get(int(core[k, t]), 0.0) + float(time[k, t])
    return max(by, key=by.__getitem__, default=None)


def halve_the_slowest(
    placement: Placement, activity: Activity, net: QuantNet, schedule: Schedule, profile: Profile, budget: int
) -> list[tuple[Slice, ...]] | None:
    """The slices of every core, the slowest in two; None where there is none, it is one neuron, or cores run out."""
    cores = [core.slices for core in placement.cores]
    index = slowest(activity, placement, net, schedule, profile) if len(cores) < budget else None
    if index is None:
        return None
    slices = cores[index]
    if len(slices) == 1 and slices[0].size == 1:
        return None
    if len(slices) == 1:
        halves = [[_part(slices[0], which, activity, net)] for which in (0, 1)]
    else:
        heaviest_first = np.argsort([-_work(s, activity, net).sum() for s in slices], kind="stable")
        halves = [[slices[k] for k in heaviest_first[which::2]] for which in (0, 1)]
    return [*cores[:index], *(tuple(half) for half in halves), *cores[index + 1 :]]


def _work(s: Slice, activity: Activity, net: QuantNet) -> F64:
    """Synaptic events of each neuron of the slice and its own update, in a mean step."""
    rates = measured(activity)
    work = np.ones(rates.spikes[s.population].size)
    for e in incoming(net.projections).get(s.population, []):
        work += events(e.map, rates.spikes[e.source])
    return work[s.neurons]


def _part(s: Slice, which: int, activity: Activity, net: QuantNet) -> Slice:
    """One half of a slice by its work."""
    work = _work(s, activity, net)
    if isinstance(s.held, Box):
        inside = Sums(work.reshape(s.held.sides))
        box = cut(Box(s.held.sides, (0, 0, 0), s.held.sides), 2, inside)[which]
        low, high = (tuple(np.add(side, s.held.low).tolist()) for side in (box.low, box.high))
        return Slice(s.population, Box(s.held.shape, low, high))  # type: ignore[arg-type]
    at = min(max(int(np.searchsorted(work.cumsum(), work.sum() / 2)), 1), s.size - 1)
    return Slice(s.population, s.neurons[:at] if which == 0 else s.neurons[at:])
