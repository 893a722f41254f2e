"""Activities merge in any order, and counts that no network could have are refused."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from itertools import permutations
from operator import add
from typing import Any

import numpy as np
import pytest
from builders import random_quantnet
from hypothesis import given
from mapping import SEEDS, activity, looped, skip_network

from snnergy.deploy import engine
from snnergy.deploy.activity import Activity, verify


def same(a: Activity, b: Activity) -> bool:
    pairs = [(a.spikes, b.spikes), (a.active, b.active)]
    equal = all(x.keys() == y.keys() and all(np.array_equal(x[n], y[n]) for n in x) for x, y in pairs)
    return equal and (a.samples, a.steps) == (b.samples, b.steps)


@given(SEEDS)
def test_merging_does_not_depend_on_the_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    net = skip_network(rng)
    parts = [activity(net, rng, samples) for samples in (1, 2, 5)]
    whole = reduce(add, parts)
    assert whole.samples == 8
    for order in permutations(parts):
        assert same(reduce(add, order), whole)
    assert same(parts[0] + (parts[1] + parts[2]), whole)
    for name, values in whole.spikes.items():
        assert values.sum() == sum(p.spikes[name].sum() for p in parts)
    for name, values in whole.active.items():
        assert values.sum() == sum(p.active[name].sum() for p in parts)
    verify(net, whole)


def test_activities_of_different_networks_do_not_merge() -> None:
    rng = np.random.default_rng(0)
    net = skip_network(rng)
    longer = replace(net, steps=6)
    with pytest.raises(AssertionError):
        activity(net, rng) + activity(longer, rng)


@given(SEEDS)
def test_what_the_engine_counts_is_possible(seed: int) -> None:
    net, inputs = random_quantnet(seed)
    verify(net, engine.run(net, inputs).activity)


@given(SEEDS)
def test_what_the_engine_counts_in_a_network_with_loops_is_possible(seed: int) -> None:
    net, (_, inputs) = looped(seed), random_quantnet(seed)
    verify(net, engine.run(net, inputs).activity)


def broken(kind: str) -> tuple[Any, Activity]:
    rng = np.random.default_rng(0)
    net = skip_network(rng)
    good = activity(net, rng)
    verify(net, good)
    spikes, active = ({k: v.copy() for k, v in table.items()} for table in (good.spikes, good.active))
    changed: dict[str, Any] = {"spikes": spikes, "active": active}
    if kind == "no samples":
        changed["samples"] = 0
    elif kind == "other steps":
        changed["steps"] = 4
    elif kind == "no source":
        del spikes["in"]
    elif kind == "no population":
        del active["b"]
    elif kind == "too few neurons":
        spikes["c"] = spikes["c"][:, :-1]
    elif kind == "too few steps":
        active["c"] = active["c"][:-1]
    elif kind == "fractions":
        spikes["c"] = spikes["c"].astype(np.float64)
    elif kind == "negative":
        spikes["in"][0, 0] = -1
    elif kind == "too many spikes":
        spikes["in"][4, 39] = 4
    elif kind == "too many updates":
        active["a"][0, 0] = 4
    elif kind == "spikes without cause":
        active["a"][2, 3], spikes["a"][2, 3] = 1, 2
    else:
        c = replace(net.populations[2], spiking=False)
        net = replace(net, populations=(*net.populations[:2], c))
        spikes["c"] *= 0
        verify(net, replace(good, **changed))
        spikes["c"][0, 0] = active["c"][0, 0] = 1
    return net, replace(good, **changed)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("no samples", "0 samples, 5 steps"),
        ("other steps", "3 samples, 4 steps"),
        ("no source", "spikes of other nodes"),
        ("no population", "updates of other nodes"),
        ("too few neurons", "c has int64(5, 4)"),
        ("too few steps", "c has int64(4, 5)"),
        ("fractions", "c has float64(5, 5)"),
        ("negative", "in counts past 3 samples"),
        ("too many spikes", "in counts past 3 samples"),
        ("too many updates", "a counts past 3 samples"),
        ("spikes without cause", "a spikes without cause"),
        ("readout", "c is a readout and spikes"),
    ],
)
def test_counts_that_cannot_be_are_refused(kind: str, message: str) -> None:
    net, wrong = broken(kind)
    with pytest.raises(AssertionError) as error:
        verify(net, wrong)
    assert str(error.value) == message


def test_a_neuron_program_may_fire_on_what_a_spike_left() -> None:
    from builders import population, quantnet

    from snnergy.export.maps import Dense
    from snnergy.export.quantnet import QuantProjection, QuantSource

    one = Dense(np.ones((1, 1), np.int8), (1,), (1,))
    for changes, good in (({"reset": [64], "subtract": True}, True), ({}, False)):
        net = quantnet([QuantSource("x", (1,), 1, 1.0)], [population("n", (1,), **changes)],
                       [QuantProjection("x", "n", one, 0)], 2)  # fmt: skip
        sent, quiet = np.ones((2, 1), np.int64), np.zeros((2, 1), np.int64)
        activity = Activity(1, 2, {"x": quiet, "n": sent}, {"n": quiet})
        if good:
            verify(net, activity)
        else:
            with pytest.raises(AssertionError, match="n spikes without cause"):
                verify(net, activity)
