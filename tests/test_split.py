"""Readouts in parts add up to the readout, spike for spike before them and value for value after."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from builders import population, quantnet, random_quantnet
from hypothesis import given
from hypothesis import strategies as st
from mapping import SEEDS, small

from snnergy.deploy import engine
from snnergy.deploy.legality import violations
from snnergy.deploy.place import place
from snnergy.deploy.schedule import balance
from snnergy.deploy.split import gather, split
from snnergy.errors import DoesNotFit
from snnergy.export.maps import Conv, Dense, Map
from snnergy.export.quantnet import QuantNet, QuantProjection, QuantSource
from snnergy.hardware_profiles import load


def readout(rng: np.random.Generator, inputs: int = 24, *, spiking: bool = False) -> QuantNet:
    """in -> a, and both of them -> out, which sums up."""

    def weight(*shape: int) -> np.ndarray:
        return (rng.integers(-5, 6, shape) * (rng.random(shape) < 0.8)).astype(np.int8)

    out = population("out", (3,), decay=0, spiking=spiking, threshold=131_071 if not spiking else 40)
    return quantnet(
        [QuantSource("in", (inputs,), 1, 1.0)],
        [population("a", (inputs,), decay=4096, threshold=3), out],
        [
            QuantProjection("in", "a", Dense(weight(inputs, inputs), (inputs,), (inputs,)), 0),
            QuantProjection("in", "out", Dense(weight(3, inputs), (inputs,), (3,)), 0),
            QuantProjection("a", "out", Dense(weight(3, inputs), (inputs,), (3,)), 1),
        ],
        4,
    )


@given(SEEDS, st.integers(24, 26), st.integers(150, 400))
def test_parts_add_up_and_fit(seed: int, axons: int, memory: int) -> None:
    rng = np.random.default_rng(seed)
    net, profile = readout(rng), small(load("loihi2"), in_axons=axons, synapse_bytes=memory, chips_max=64)
    parts = split(net, profile)
    x: dict[str, Any] = {"in": rng.integers(0, 2, (3, 4, 24))}
    before, after = engine.run(net, x, record=("a",)), engine.run(parts, x, record=("a",))
    np.testing.assert_array_equal(before.recorded["a"], after.recorded["a"])
    np.testing.assert_array_equal(gather(after.outputs, net)["out"], before.outputs["out"])
    synapses = [sum(e.map.matrix().nnz for e in n.projections) for n in (net, parts)]
    assert synapses[0] == synapses[1] and len(parts.outputs) > 1
    assert violations(parts, balance(parts), profile, place(parts, balance(parts), profile)) == []


@given(SEEDS, st.integers(3, 40), st.integers(40, 400))
def test_random_readouts_in_parts_add_up(seed: int, axons: int, memory: int) -> None:
    """Any maps and exponents; where the sum is not that of the whole, the network says so."""
    net, inputs = random_quantnet(seed)
    populations = [replace(p, decay=0 * p.decay) if not p.spiking else p for p in net.populations]
    net = replace(net, populations=tuple(populations))
    parts = split(net, small(load("loihi2"), in_axons=axons, synapse_bytes=memory))
    before, after = engine.run(net, inputs).outputs, gather(engine.run(parts, inputs).outputs, net)
    assert before.keys() == after.keys()
    for name, values in before.items():
        if not parts.lossy[len(net.lossy) :]:
            np.testing.assert_array_equal(after[name], values)


def summed(linear: Map, exponent: int = 0, name: str = "out") -> QuantNet:
    """One graded input into one readout."""
    source = QuantSource("in", linear.input_shape, 8, 1.0)
    out = population(name, linear.output_shape, decay=0, spiking=False, threshold=131_071)
    return quantnet([source], [out], [QuantProjection("in", name, linear, exponent)], 1)


def test_a_sum_that_is_rounded_down_is_divided_only_where_it_must_and_says_so() -> None:
    """Of inputs that add up to 3 and 3, the parts give (3 >> 1) + (3 >> 1), the whole (3 + 3) >> 1."""
    ones = Dense(np.ones((1, 6), np.int8), (6,), (1,))
    profile, x = small(load("loihi2"), in_axons=3), {"in": np.ones((1, 6), np.int64)}
    assert split(summed(ones, 0), profile).lossy == ()
    net = summed(ones, -1)
    parts = split(net, profile)
    assert parts.lossy == ("out: what in sends is summed on 2 cores, and rounded down on each",)
    whole, added = engine.run(net, x).outputs["out"], gather(engine.run(parts, x).outputs, net)["out"]
    assert (whole // 64).tolist() == [[3]] and (added // 64).tolist() == [[2]]


def test_a_readout_whose_neurons_fit_is_cut_and_not_split() -> None:
    """Many neurons with few inputs each: an image, or classes whose lists are long."""
    image = summed(Conv(np.ones((2, 1, 3, 3), np.int8), (1, 12, 12), padding=(1, 1)))
    classes = summed(Dense(np.ones((300, 30), np.int8), (30,), (300,)))
    for net in (image, classes):
        profile = small(load("loihi2"), in_axons=40, synapse_bytes=2000)
        assert split(net, profile) is net
        assert len(place(net, balance(net), profile).cores) > 1


def test_lists_longer_than_a_core_leave_no_part_empty() -> None:
    net = summed(Dense(np.ones((500, 30), np.int8), (30,), (500,)))
    profile = small(load("loihi2"), in_axons=20, synapse_bytes=400, chips_max=64)
    parts = split(net, profile)
    assert [e.map.matrix().nnz for e in parts.projections] == [20 * 500, 10 * 500]
    assert violations(parts, balance(parts), profile, place(parts, balance(parts), profile)) == []


def test_names_like_those_of_parts_are_left_alone() -> None:
    linear = Dense(np.ones((1, 6), np.int8), (6,), (1,))
    net = summed(linear)
    others = [replace(net.populations[0], name=name) for name in ("out.part0", "out.partial")]
    few = Dense(np.ones((1, 6), np.int8) * (np.arange(6) < 2).astype(np.int8), (6,), (1,))
    edges = [QuantProjection("in", p.name, few, 0) for p in others]
    names = ("out", "out.part0", "out.partial")
    net = quantnet(net.sources, [*net.populations, *others], [*net.projections, *edges], 1, names)
    parts = split(net, small(load("loihi2"), in_axons=3))
    assert [p.name for p in parts.populations] == ["out.part1", "out.part2", "out.part0", "out.partial"]
    x = {"in": np.arange(6)[None]}
    found = gather(engine.run(parts, x).outputs, net)
    assert {name: int(v[0, 0]) // 64 for name, v in found.items()} == {"out": 15, "out.part0": 1, "out.partial": 1}


def test_what_fits_is_the_same_object() -> None:
    net = readout(np.random.default_rng(0))
    assert split(net, load("loihi2")) is net


def test_a_neuron_that_fires_is_not_split_and_place_names_it() -> None:
    net, profile = readout(np.random.default_rng(0), spiking=True), small(load("loihi2"), in_axons=30)
    assert split(net, profile) is net
    with pytest.raises(DoesNotFit, match=r"^one neuron of layer 'out' needs \d+ in axons, a core of loihi2 has 30: "):
        place(net, balance(net), profile)
