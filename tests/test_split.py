"""Readouts in parts add up to the readout, spike for spike before them and value for value after."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from builders import population, quantnet
from hypothesis import given
from hypothesis import strategies as st
from mapping import SEEDS, small

from snnergy.deploy import engine
from snnergy.deploy.legality import violations
from snnergy.deploy.place import place
from snnergy.deploy.schedule import balance
from snnergy.deploy.split import gather, split
from snnergy.errors import DoesNotFit
from snnergy.export.maps import Dense
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


@given(SEEDS, st.integers(24, 40), st.integers(150, 400))
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


def test_what_fits_is_the_same_object() -> None:
    net = readout(np.random.default_rng(0))
    assert split(net, load("loihi2")) is net


def test_a_neuron_that_fires_is_not_split_and_place_names_it() -> None:
    net, profile = readout(np.random.default_rng(0), spiking=True), small(load("loihi2"), in_axons=30)
    assert split(net, profile) is net
    with pytest.raises(DoesNotFit, match=r"^one neuron of layer 'out' needs \d+ in axons, a core of loihi2 has 30: "):
        place(net, balance(net), profile)
