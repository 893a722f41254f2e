"""What chosen cores hold, counted exactly, without unrolling a convolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from snnergy.deploy.demand import Rates, held_bytes
from snnergy.deploy.fanout import fan_in
from snnergy.deploy.fit import LIMITS, slots
from snnergy.deploy.placement import Slice
from snnergy.deploy.schedule import Schedule
from snnergy.export.quantnet import QuantNet
from snnergy.hardware_profiles import Profile

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Settled:
    """What the cores hold, counted exactly.

    usage: of each core by LIMITS; traffic: float64[cores, cores] messages in a mean step; entering: float64[cores]
    """

    usage: tuple[dict[str, int], ...]
    traffic: csr_array
    entering: F64


def settle(
    net: QuantNet, schedule: Schedule, profile: Profile, cores: Sequence[Sequence[Slice]], rates: Rates
) -> Settled:
    """Count what the slices of every core take and send, synapse by synapse where weights are zero."""
    count = len(cores)
    usage: list[dict[str, int]] = [dict.fromkeys(LIMITS, 0) for _ in cores]
    home = {p.name: np.zeros(prod(p.shape), np.int64) for p in net.populations}
    held: dict[str, list[tuple[int, Slice]]] = {p.name: [] for p in net.populations}
    for index, slices in enumerate(cores):
        for s in slices:
            home[s.population][s.neurons] = index
            held[s.population].append((index, s))
            usage[index]["neurons"] += s.slots
            usage[index]["groups"] += 1
            usage[index]["accumulator_slots"] += slots(s.slots, s.population, net, schedule)
    traffic, entering = csr_array((count, count)), np.zeros(count)
    for node in (*net.sources, *net.populations):
        into: dict[int, list[I64]] = {}
        for e in net.projections:
            if e.source == node.name:
                for index, s in held[e.target]:
                    reach = fan_in(e.map, s.held)
                    usage[index]["synapse_bytes"] += held_bytes(e.map, s.held, reach, net.weight_bits, profile.core)
                    into.setdefault(index, []).append(reach.sources)
        sources = [_merged(places) for places in into.values()]
        for index, source in zip(into, sources, strict=True):
            usage[index]["in_axons"] += source.size
        source = np.concatenate([np.zeros(0, np.int64), *sources])
        to = np.repeat(np.array(list(into), np.int64), [s.size for s in sources])
        rate = rates.spikes[node.name][source]
        if node.name in home:
            start = home[node.name][source]
            for index, axons in enumerate(np.bincount(start, minlength=count)):
                usage[index]["out_axons"] += int(axons)
            traffic = traffic + csr_array((rate, (start, to)), shape=(count, count))
        else:
            entering += np.bincount(to, rate, count)
    return Settled(tuple(usage), csr_array(traffic), entering)


def _merged(places: list[I64]) -> I64:
    """All indices once, ascending; each of ``places`` is."""
    if len(places) == 1:
        return places[0]
    every = np.sort(np.concatenate(places), kind="stable")
    return every[np.diff(every, prepend=-1) > 0]
