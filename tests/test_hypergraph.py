"""Mt-KaHyPar behind the mapper's interface: legal, deterministic, fewer messages; one line where it is missing."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
import pytest
from builders import population, quantnet
from hypothesis import given, settings
from hypothesis import strategies as st
from mapping import SEEDS, activity, looped, small

from snnergy.deploy import hypergraph
from snnergy.deploy.count import count
from snnergy.deploy.demand import assumed
from snnergy.deploy.legality import violations
from snnergy.deploy.place import place
from snnergy.deploy.placement import Slice
from snnergy.deploy.schedule import balance
from snnergy.errors import BadInput, DoesNotFit, MissingPart
from snnergy.export.maps import Conv, Dense
from snnergy.export.quantnet import QuantNet, QuantProjection, QuantSource
from snnergy.hardware_profiles import load

LOIHI2 = load("loihi2")


def network() -> QuantNet:
    """Two convolutions and a dense layer, 1,098 neurons."""
    rng = np.random.default_rng(0)
    first = Conv(rng.integers(1, 9, (4, 1, 3, 3)).astype(np.int8), (1, 12, 12), padding=(1, 1))
    second = Conv(rng.integers(1, 9, (4, 4, 3, 3)).astype(np.int8), (4, 12, 12), padding=(1, 1))
    last = Dense(rng.integers(1, 9, (10, 4 * 144)).astype(np.int8), (4, 12, 12), (10,))
    return quantnet(
        [QuantSource("in", (1, 12, 12), 1, 1.0)],
        [population("a", (4, 12, 12)), population("b", (4, 12, 12)), population("c", (10,))],
        [
            QuantProjection("in", "a", first, 0),
            QuantProjection("a", "b", second, 0),
            QuantProjection("b", "c", last, 0),
        ],
        3,
    )


def test_without_it_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snnergy.deploy.hypergraph.find_spec", lambda _: None)
    net = network()
    with pytest.raises(MissingPart) as missing:
        place(net, balance(net), LOIHI2, partition="hypergraph")
    assert str(missing.value) == "--partition hypergraph needs mtkahypar, not installed"
    assert missing.value.help == "pip install 'snnergy[partition]'"


def test_cores_beyond_a_limit_are_halved_until_none_is() -> None:
    net, profile = network(), small(LOIHI2, neurons=200, in_axons=150)
    schedule, rates = balance(net), assumed(net)
    every = [(Slice(p.name, np.arange(prod(p.shape))),) for p in net.populations]
    assert hypergraph.repaired(every, net, schedule, profile, rates, 5) is None  # more than 5 are needed
    assert hypergraph.repaired(every, net, schedule, small(profile, in_axons=500), rates, 9) is None  # c needs 576
    cores = hypergraph.repaired(every[:2], net, schedule, profile, rates, 60)
    assert cores is not None and sum(s.size for core in cores for s in core) == 2 * 576


mtkahypar = pytest.mark.skipif(hypergraph.find_spec("mtkahypar") is None, reason="mtkahypar is not installed")


@mtkahypar
def test_its_parts_are_legal_alike_every_time_and_of_fewer_messages() -> None:
    net, profile = network(), small(LOIHI2, neurons=120)
    schedule, act = balance(net), activity(network(), np.random.default_rng(0))
    twice = [place(net, schedule, profile, partition="hypergraph", activity=act, seed=3) for _ in range(2)]
    for one, other in zip(twice[0].cores, twice[1].cores, strict=True):
        assert (one.core, one.usage) == (other.core, other.usage)
        for s, t in zip(one.slices, other.slices, strict=True):
            assert s.population == t.population and np.array_equal(s.neurons, t.neurons)
    assert violations(net, schedule, profile, twice[0]) == []
    order = np.arange(576 * 2 + 10) // 120
    in_order = replace(twice[0], cores=tuple(
        replace(twice[0].cores[k], core=k, slices=tuple(
            Slice(p.name, here) for p, first in zip(net.populations, (0, 576, 1152), strict=True)
            if (here := np.flatnonzero(order[first : first + prod(p.shape)] == k)).size
        ))
        for k in range(int(order.max()) + 1)
    ))  # fmt: skip
    sent = [count(act, placed, net, schedule, profile).by["messages"].sum() for placed in (twice[0], in_order)]
    assert sent[0] < 0.7 * sent[1]


@mtkahypar
@settings(max_examples=15, deadline=None)
@given(SEEDS, st.integers(4, 80), st.integers(300, 3000))
def test_random_networks_are_legal_or_refused(seed: int, neurons: int, memory: int) -> None:
    net = looped(seed)
    profile = small(LOIHI2, neurons=neurons, synapse_bytes=memory, in_axons=200, groups=3, chips_max=64)
    schedule = balance(net)
    try:
        placed = place(net, schedule, profile, partition="hypergraph")
    except DoesNotFit:
        return
    assert violations(net, schedule, profile, placed) == []


@mtkahypar
def test_a_network_too_large_to_unroll_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hypergraph, "SYNAPSES", 1000)
    with pytest.raises(BadInput) as refused:
        hypergraph.require(network())
    assert str(refused.value) == "28,880 synapses; --partition hypergraph unrolls at most 1,000: use free"
