from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from builders import population, quantnet, readout
from hypothesis import given
from torch import nn

from snnergy.export.maps import Conv, Dense, Sparse
from snnergy.export.quantnet import STATE_LIMIT, QuantNet, QuantProjection, QuantSource
from snnergy.export.to_torch import SparseLinear, record, to_torch
from snnergy.testing import reference
from snnergy.testing.strategies import quantnets

pytestmark = pytest.mark.usefixtures("one_thread")


def check(net: QuantNet, inputs: dict[str, Any]) -> None:
    """Spikes, membranes and currents of the module against plain Python integers."""
    wanted = reference.run(net, inputs)
    spikes, membranes, currents = record(to_torch(net, truncate=True), inputs)
    for p in net.populations:
        np.testing.assert_array_equal(spikes[p.name], wanted.spikes[p.name])
        np.testing.assert_array_equal(membranes[p.name], wanted.membranes[p.name])
        np.testing.assert_array_equal(currents[p.name], wanted.currents[p.name])


@given(quantnets())
def test_with_the_chips_roundings_it_is_the_chip(drawn: tuple[QuantNet, dict[str, Any]]) -> None:
    check(*drawn)


def one_neuron(
    weight: int, steps: int = 3, delay: int = 0, exponent: int = 0, bits: int = 8, **changes: Any
) -> QuantNet:
    edge = QuantProjection("in", "p", Dense(np.array([[weight]], np.int8), (1,), (1,)), exponent, delay)
    return quantnet([QuantSource("in", (1,), bits, 1.0)], [population("p", (1,), **changes)], [edge], steps)


def test_a_threshold_is_met_only_from_above() -> None:
    net = one_neuron(100, threshold=100)
    assert not record(to_torch(net, True), {"in": np.ones((1, 1))})[0]["p"][0, 0]
    net = one_neuron(101, threshold=100)
    assert record(to_torch(net, True), {"in": np.ones((1, 1))})[0]["p"][0, 0]


def test_a_current_wraps_past_24_bits() -> None:
    net = one_neuron(127, steps=1, bits=1, exponent=11, threshold=131071)
    shown = {"in": np.ones((1, 1), np.int64)}
    check(net, shown)
    assert record(to_torch(net, True), shown)[2]["p"].item() == (127 << 17) - (1 << 24)
    assert record(to_torch(net, False), shown)[2]["p"].item() == 127 << 17


def test_a_membrane_saturates_at_24_bits() -> None:
    net = one_neuron(-100, steps=2, bits=1, exponent=10, decay=0)
    shown = {"in": np.ones((1, 1), np.int64)}
    check(net, shown)
    assert record(to_torch(net, True), shown)[1]["p"].ravel().tolist() == [-100 << 16, -STATE_LIMIT]
    assert record(to_torch(net, False), shown)[1]["p"].ravel().tolist() == [-100 << 16, -200 << 16]


def test_without_truncation_fractions_are_kept() -> None:
    net = one_neuron(3, steps=2, decay=4095, threshold=1000)
    shown = {"in": np.array([[[1], [0]]])}
    assert record(to_torch(net, True), shown)[1]["p"][0, :, 0].tolist() == [192.0, 0.0]
    assert record(to_torch(net, False), shown)[1]["p"][0, :, 0].tolist() == [192.0, 192 / 4096]
    net = one_neuron(-1, steps=1, exponent=-3, threshold=1000)
    assert record(to_torch(net, True), {"in": np.ones((1, 1))})[1]["p"].item() == -64
    assert record(to_torch(net, False), {"in": np.ones((1, 1))})[1]["p"].item() == -8


def test_a_delay_of_the_whole_run_brings_nothing() -> None:
    for delay, wanted in ((0, [64, 96, 112]), (1, [0, 64, 96]), (3, [0, 0, 0])):
        net = one_neuron(1, delay=delay)
        assert record(to_torch(net, True), {"in": np.ones((1, 1))})[1]["p"][0, :, 0].tolist() == wanted


def test_a_loop_goes_on_by_itself() -> None:
    again = QuantProjection("p", "p", Dense(np.array([[120]], np.int8), (1,), (1,)), 0, 1)
    net = one_neuron(120, steps=4)
    net = replace(net, projections=(*net.projections, again))
    assert record(to_torch(net, True), {"in": np.array([[[1], [0], [0], [0]]])})[0]["p"].ravel().tolist() == [1] * 4


def test_the_layers_are_torchs_own_with_the_quantised_weights() -> None:
    rng = np.random.default_rng(0)
    conv = Conv(rng.integers(-9, 9, (4, 1, 2, 3)).astype(np.int8), (2, 4, 5), (1, 2), (1, 0), (2, 1), 2)
    n = int(np.prod(conv.output_shape))
    dense = Dense(rng.integers(-9, 9, (3, n)).astype(np.int8), conv.output_shape, (3,))
    sparse = Sparse(Dense(rng.integers(-1, 2, (3, n)).astype(np.int8), conv.output_shape, (3,)).matrix(),
                    conv.output_shape, (3,))  # fmt: skip
    edges = [
        QuantProjection("in", "c", conv, 0),
        QuantProjection("c", "r", dense, 0),
        QuantProjection("c", "r", sparse, 1),
    ]
    populations = [population("c", conv.output_shape), readout("r", (3,))]
    net = quantnet([QuantSource("in", (2, 4, 5), 8, 1.0)], populations, edges, 3)
    module = to_torch(net, True)
    assert [type(layer) for layer in module.synapses] == [nn.Conv2d, nn.Linear, SparseLinear]
    for layer, e in zip(module.synapses, edges, strict=True):
        weight = layer.weight.to_dense() if isinstance(layer, SparseLinear) else layer.weight
        wanted = e.map.matrix().toarray() if isinstance(layer, SparseLinear) else e.map.weight
        assert weight.dtype == torch.float64
        np.testing.assert_array_equal(weight.detach().numpy(), wanted)
    check(net, {"in": rng.integers(0, 256, (2, 2, 4, 5))})


def test_a_frame_and_the_same_frame_at_every_step_are_one_input() -> None:
    net = one_neuron(7)
    still, moving = np.array([[9], [200]]), np.repeat(np.array([[[9]], [[200]]]), 3, axis=1)
    for a, b in zip(
        record(to_torch(net, True), {"in": still}), record(to_torch(net, True), {"in": moving}), strict=True
    ):
        np.testing.assert_array_equal(a["p"], b["p"])
