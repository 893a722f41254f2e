"""The core that sets the pace is the one that a recount names, and in halves it keeps every neuron."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
from builders import population, quantnet
from hypothesis import given
from mapping import SEEDS, activity, halve, looped, scattered, small

from snnergy.deploy.activity import Activity
from snnergy.deploy.count import count
from snnergy.deploy.demand import assumed
from snnergy.deploy.place import place
from snnergy.deploy.placement import Placement, Slice
from snnergy.deploy.refine import slowest
from snnergy.deploy.schedule import Schedule, balance
from snnergy.deploy.settle import settle
from snnergy.export.maps import Dense
from snnergy.export.quantnet import QuantNet, QuantProjection, QuantSource
from snnergy.hardware_profiles import Profile, load

LOIHI2 = load("loihi2")
QUICK = replace(LOIHI2, time_ns=replace(LOIHI2.time_ns, barrier=None))


def recount(act: Activity, placed: Placement, net: QuantNet, schedule: Schedule, profile: Profile) -> dict[int, float]:
    """Core -> nanoseconds of the steps in which it is the slowest of all, link and barrier included; event by event."""
    cost, counts = profile.time_ns, count(act, placed, net, schedule, profile)
    assert cost.synop and cost.update_active and cost.update_idle and cost.spike and cost.link
    found: dict[int, float] = {}
    for t in range(counts.steps):
        slow, who = 0.0, -1
        for unit in ("synops", "updates"):
            for core in range(counts.cores):
                ns = 0.0
                for i, cell in enumerate(counts.cells):
                    if cell.core == core and unit == "synops":
                        ns += counts.by["synops"][i, t] * cost.synop.value
                    elif cell.core == core:
                        ns += counts.by["updates_active"][i, t] * cost.update_active.value
                        ns += counts.by["updates_idle"][i, t] * cost.update_idle.value
                        ns += counts.by["spikes"][i, t] * cost.spike.value
                if ns / counts.samples > slow:
                    slow, who = ns / counts.samples, core
        barrier = cost.barrier.value if cost.barrier else 0.0
        if slow >= max(counts.links[t] * cost.link.value / counts.samples, barrier) and who >= 0:
            found[who] = found.get(who, 0.0) + slow
    return found


@given(SEEDS)
def test_the_slowest_core_is_the_one_that_a_recount_names(seed: int) -> None:
    net, rng = looped(seed), np.random.default_rng(seed)
    act, placed, schedule = activity(net, rng), scattered(net, rng, LOIHI2), balance(net)
    for profile in (QUICK, LOIHI2):
        paces = recount(act, placed, net, schedule, profile)
        found = slowest(count(act, placed, net, schedule, profile), profile)
        if found is None:
            assert not paces
        else:
            assert paces[found] >= max(paces.values()) * (1 - 1e-9)


@given(SEEDS)
def test_halves_keep_every_neuron_once(seed: int) -> None:
    net, rng = looped(seed), np.random.default_rng(seed)
    act, schedule = activity(net, rng), balance(net)
    for placed in (place(net, schedule, small(QUICK, neurons=20)), scattered(net, rng, QUICK)):
        placed = replace(placed, cores=tuple(core for core in placed.cores if core.slices))
        index = slowest(count(act, placed, net, schedule, QUICK), QUICK)
        halved = halve(placed, act, net, schedule, QUICK, 120)
        if halved is None:
            assert index is None or sum(s.size for s in placed.cores[index].slices) == 1
            continue
        assert index is not None and len(halved) == len(placed.cores) + 1
        assert all(slices and all(s.size for s in slices) for slices in halved)
        assert halved[:index] == [core.slices for core in placed.cores[:index]]
        for p in net.populations:
            held = [s.neurons for slices in halved for s in slices if s.population == p.name]
            assert np.array_equal(np.sort(np.concatenate(held)), np.arange(prod(p.shape)))
        settle(net, schedule, QUICK, halved, assumed(net))  # halves are slices like any other


def skewed() -> tuple[QuantNet, Activity]:
    """Twelve neurons, of which the first two take nearly all events."""
    weight = np.eye(12, 24, dtype=np.int8)
    weight[:2] = 1
    net = quantnet(
        [QuantSource("in", (24,), 1, 1.0)],
        [population("a", (12,))],
        [QuantProjection("in", "a", Dense(weight, (24,), (12,)), 0)],
        2,
    )
    every = np.full((2, 24), 3)
    return net, Activity(3, 2, {"in": every, "a": 0 * every[:, :12]}, {"a": every[:, :12]})


def test_halves_have_half_of_the_work_each_and_not_of_the_neurons() -> None:
    net, act = skewed()
    placed = place(net, balance(net), QUICK)
    halved = halve(placed, act, net, balance(net), QUICK, 120)
    assert halved and [[s.size for s in slices] for slices in halved] == [[1], [11]]
    listed = [replace(core, slices=(Slice("a", np.arange(12)),)) for core in placed.cores]
    again = halve(replace(placed, cores=tuple(listed)), act, net, balance(net), QUICK, 120)
    assert again and sum(s.size for slices in again for s in slices) == 12


def test_there_is_nothing_to_halve_without_cores_to_spare_or_under_the_barrier() -> None:
    net, act = skewed()
    placed = place(net, balance(net), LOIHI2)
    assert halve(placed, act, net, balance(net), QUICK, len(placed.cores)) is None
    assert slowest(count(act, placed, net, balance(net), LOIHI2), LOIHI2) is None
    assert halve(placed, act, net, balance(net), LOIHI2, 120) is None
    alone = place(net, balance(net), small(QUICK, neurons=1))
    assert halve(alone, act, net, balance(net), QUICK, 120) is None
