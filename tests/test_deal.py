"""Dealing shares the work of every step over all cores, keeps limits, and wins only where its price is lower."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from math import prod

import numpy as np
import pytest
from builders import population, quantnet
from hypothesis import given, settings
from hypothesis import strategies as st
from mapping import SEEDS, activity, looped, quantity, small

from snnergy.deploy import deal
from snnergy.deploy.activity import Activity
from snnergy.deploy.count import count
from snnergy.deploy.latency import loads
from snnergy.deploy.legality import violations
from snnergy.deploy.place import place
from snnergy.deploy.price import price
from snnergy.deploy.schedule import balance
from snnergy.errors import DoesNotFit
from snnergy.export.maps import Conv
from snnergy.export.quantnet import QuantNet, QuantProjection, QuantSource
from snnergy.hardware_profiles import Profile, load


def quick() -> Profile:
    """Loihi 2 without a barrier."""
    profile = load("loihi2")
    return replace(profile, time_ns=replace(profile.time_ns, barrier=None))


def clustered() -> tuple[QuantNet, Activity]:
    """Two convolutions; what happens, happens in one corner of the image, a pixel more at every step."""
    rng = np.random.default_rng(0)
    first = Conv(rng.integers(1, 9, (8, 1, 3, 3)).astype(np.int8), (1, 12, 12), padding=(1, 1))
    second = Conv(rng.integers(1, 9, (8, 8, 3, 3)).astype(np.int8), (8, 12, 12), padding=(1, 1))
    net = quantnet(
        [QuantSource("in", (1, 12, 12), 1, 1.0)],
        [population("a", (8, 12, 12)), population("b", (8, 12, 12))],
        [QuantProjection("in", "a", first, 0), QuantProjection("a", "b", second, 0)],
        8,
    )
    spikes = {}
    for node in (*net.sources, *net.populations):
        image = np.zeros((net.steps, *node.shape), np.int64)
        image[:, :, :4, :4] = 1
        spikes[node.name] = image.reshape(net.steps, -1)
    spikes["b"] = np.zeros_like(spikes["b"])
    return net, Activity(
        1, net.steps, spikes, {p.name: np.ones((net.steps, prod(p.shape)), np.int64) for p in net.populations}
    )


@given(SEEDS, st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_every_tile_goes_to_a_core_with_room_where_the_sum_of_powers_grows_least(seed: int, cores: int) -> None:
    rng = np.random.default_rng(seed)
    work, sizes, most = rng.random((7, 2, 3)), rng.integers(1, 4, 7), 6
    home = deal.dealt(work, sizes, cores, most)
    load, taken = np.zeros((cores, 2, 3)), np.zeros(cores)
    scaled = work / (work.sum(axis=0).max() / cores)
    for tile in np.argsort(-work.max(axis=2).sum(axis=1), kind="stable"):
        free = [c for c in range(cores) if taken[c] + sizes[tile] <= most]
        if not free:
            assert home[tile] == -1
            return
        grown = {
            c: ((load[c] + scaled[tile]) ** deal.SHARPNESS).sum() - (load[c] ** deal.SHARPNESS).sum() for c in free
        }
        assert grown[home[tile]] <= min(grown.values()) * (1 + 1e-9) + 1e-12
        load[home[tile]] += scaled[tile]
        taken[home[tile]] += sizes[tile]


def test_activity_in_one_corner_is_shared_out() -> None:
    net, act = clustered()
    profile = small(quick(), cores=16)
    schedule = balance(net)
    slices = deal.Dealer(net, schedule, profile, act).deal("latency", 16)
    assert slices is not None and len(slices) <= 16
    placed = place(net, schedule, profile, 1, objective="latency", activity=act)
    assert violations(net, schedule, profile, placed) == []
    boxes = place(net, schedule, profile, 1, objective="latency", activity=act, partition="fixed")
    busiest = [loads(count(act, p, net, schedule, profile)).synops.max() for p in (placed, boxes)]
    assert busiest[0] < 0.7 * busiest[1]


def test_what_is_dealt_costs_no_more_than_what_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    net, act = clustered()
    schedule = balance(net)
    for cores, objective in product((4, 16), ("edp", "latency", "energy")):
        profile = small(quick(), cores=cores, neurons=2000)
        worth: list[float] = []
        for dealing in (True, False):
            with monkeypatch.context() as without:
                if not dealing:
                    without.setattr("snnergy.deploy.deal.worth", lambda _: False)
                placed = place(net, schedule, profile, 1, objective=objective, activity=act)
            report = price(act, placed, net, schedule, profile)
            energy, latency = report.total_pj.nominal, report.latency_ns.nominal
            worth.append({"edp": energy * latency, "energy": energy, "latency": latency}[objective])
        assert worth[0] <= worth[1]


def test_the_loads_that_it_deals_by_are_those_that_are_counted() -> None:
    net, act = clustered()
    schedule, profile = balance(net), small(quick(), cores=8)
    slices = deal.Dealer(net, schedule, profile, act).deal("latency", 8)
    assert slices is not None
    home = np.zeros(2 * 8 * 144, np.int64)
    for core, held in enumerate(slices):
        for s in held:
            home[s.neurons + (0 if s.population == "a" else 8 * 144)] = core
    dealer = deal.Dealer(net, schedule, profile, act)
    busy, messages = dealer._loads(home, len(slices))
    placed = place(net, schedule, small(profile, cores=8), 1, objective="latency", activity=act)
    counts = count(act, replace(placed, cores=tuple(
        replace(placed.cores[k % len(placed.cores)], core=k, slices=held) for k, held in enumerate(slices)
    )), net, schedule, profile)  # fmt: skip
    load = loads(counts)
    assert profile.time_ns.synop is not None
    np.testing.assert_allclose(busy[:, 0], load.synops * profile.time_ns.synop.value)
    np.testing.assert_allclose(messages, counts.by["messages"].sum() / net.steps)


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(4, 80), st.integers(300, 3000))
def test_random_networks_that_are_dealt_are_legal_or_not_dealt(seed: int, neurons: int, memory: int) -> None:
    net = looped(seed)
    profile = small(quick(), neurons=neurons, synapse_bytes=memory, in_axons=200, groups=3)
    schedule, act = balance(net), activity(net, np.random.default_rng(seed))
    profile = replace(profile, power_mw=replace(profile.power_mw, chip=quantity(1e4, 1e5, 1e6)))  # time is dear
    placed = place(net, schedule, load("loihi2"), objective="latency", activity=act)
    assert violations(net, schedule, load("loihi2"), placed) == []
    try:
        placed = place(net, schedule, profile, objective="edp", activity=act)
    except DoesNotFit:
        return
    assert violations(net, schedule, profile, placed) == []


def test_a_network_too_large_to_unroll_is_not_dealt() -> None:
    net, _ = clustered()
    assert deal.worth(net)
    big = replace(net.populations[0], shape=(8, 60, 60))
    assert not deal.worth(replace(net, populations=(big,)))
