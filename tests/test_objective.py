"""What is asked for is what is chosen: estimates, their order, and mappings that are never slower than the smallest."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapping import SEEDS, looped, quantity, small

from snnergy.deploy.demand import assumed
from snnergy.deploy.objective import OBJECTIVES, Estimate, estimate, score
from snnergy.deploy.partition import Cutter
from snnergy.deploy.place import _by_estimate, _outputs_first, place
from snnergy.deploy.schedule import balance
from snnergy.hardware_profiles import Profile, load

LOIHI2 = load("loihi2")


def quick(barrier: float = 0.0) -> Profile:
    """Small cores; a step takes at least so many nanoseconds."""
    profile = replace(LOIHI2, time_ns=replace(LOIHI2.time_ns, barrier=quantity(0, barrier, 1e3)))
    return small(profile, neurons=12, groups=3)


@settings(max_examples=30)
@given(SEEDS, st.sampled_from(OBJECTIVES), st.integers(5, 120))
def test_no_objective_takes_a_slower_step_than_the_fewest_cores(seed: int, objective: str, more: int) -> None:
    net, profile = looped(seed), quick()
    schedule, rates = balance(net), assumed(net)
    cutter = Cutter(net, _outputs_first(net), schedule, profile, rates)
    fewest = cutter.cut()
    budget = len(fewest.cores) + more
    found = _by_estimate(cutter, fewest, budget, objective, net, schedule, profile)
    estimates = [estimate(partition, net, schedule, profile) for partition in found]
    assert fewest in found and all(e.cores <= budget for e in estimates)
    assert estimates[0].step_ns <= estimate(fewest, net, schedule, profile).step_ns
    scores = [score(objective, e) for e in estimates]
    assert scores == sorted(scores)


@given(SEEDS)
def test_an_estimate_is_of_the_partition(seed: int) -> None:
    net = looped(seed)
    schedule, rates = balance(net), assumed(net)
    for barrier in (0.0, 500.0):
        profile = quick(barrier)
        partition = Cutter(net, _outputs_first(net), schedule, profile, rates).cut()
        found = estimate(partition, net, schedule, profile)
        assert (found.cores, found.messages) == (len(partition.cores), partition.messages)
        assert found.step_ns == max(partition.busy_ns, barrier)
        depth = max(schedule.depth[name] for name in net.outputs)
        assert found.latency_ns == pytest.approx(found.step_ns * (depth + net.steps))


def test_scores_compare_what_they_name() -> None:
    small_, fast, frugal = Estimate(2, 1, 9, 0, 9, 9), Estimate(3, 1, 1, 0, 1, 8), Estimate(4, 1, 4, 0, 4, 1)
    best = {name: min((small_, fast, frugal), key=lambda e, name=name: score(name, e)) for name in OBJECTIVES}
    assert best == {"edp": frugal, "energy": frugal, "latency": fast, "cores": small_}


def test_a_step_that_is_all_barrier_gains_nothing_by_more_cores() -> None:
    net = looped(5)
    few = place(net, balance(net), quick(1e3))
    for objective in OBJECTIVES:
        assert len(place(net, balance(net), quick(1e3), objective=objective).cores) == len(few.cores)


@settings(max_examples=10)
@given(SEEDS, st.sampled_from(OBJECTIVES), st.integers(0, 5))
def test_the_same_seed_gives_the_same_mapping(seed: int, objective: str, annealing: int) -> None:
    net = looped(seed)
    a, b = (place(net, balance(net), quick(), objective=objective, seed=annealing) for _ in range(2))
    for x, y in zip(a.cores, b.cores, strict=True):
        assert (x.chip, x.core, x.x, x.y, x.usage) == (y.chip, y.core, y.x, y.y, y.usage)
        for s, t in zip(x.slices, y.slices, strict=True):
            assert s.population == t.population and np.array_equal(s.neurons, t.neurons)


def test_quicker_cores_are_asked_for_down_to_the_barrier_and_not_below() -> None:
    net = looped(3)
    schedule = balance(net)
    slow = Cutter(net, _outputs_first(net), schedule, quick(), assumed(net)).cut(inf).busy_ns
    profile = quick(slow)
    cutter = Cutter(net, _outputs_first(net), schedule, profile, assumed(net))
    assert len(_by_estimate(cutter, cutter.cut(), 100, "latency", net, schedule, profile)) == 1
