from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from builders import SMALL, population, quantnet, readout, spiking_model

from snnergy.deploy.schedule import balance
from snnergy.export.from_torch import to_nir
from snnergy.export.lower import lower
from snnergy.export.maps import Dense
from snnergy.export.quantize import quantize
from snnergy.export.quantnet import QuantNet, QuantProjection, QuantSource, dump, verify


def good(**changes: Any) -> QuantNet:
    linear = Dense(np.array([[-128], [127]], np.int8), (1,), (2,))
    return quantnet(
        [QuantSource("x", (1,), 8, 255.0)],
        [population("n", (2,), **changes), readout("r", (2,))],
        [
            QuantProjection("x", "n", linear, -3),
            QuantProjection("n", "r", Dense(np.eye(2, dtype=np.int8), (2,), (2,)), 1),
        ],
        4,
    )


def test_dump_of_an_integer_network(golden: Callable[[str], None]) -> None:
    golden(dump(good()))


def test_dump_of_a_one_block_integer_network(golden: Callable[[str], None]) -> None:
    shapes = dict.fromkeys(("audio", "video"), (1, 16, 16))
    net = lower(to_nir(spiking_model(blocks=(0, 0, 1), modalities="video"), shapes, 1e-4, SMALL.timesteps), 1e-4)
    quant = quantize(net, SMALL.timesteps)
    depth, delays = (lambda s: (s.depth, s.delays))(balance(quant))
    schedule = [f"{e.source} -> {e.target} delay {d}" for e, d in zip(quant.projections, delays, strict=True) if d]
    golden("\n".join([dump(quant), "depth", *(f"  {n} {d}" for n, d in depth.items()), "delays", *schedule]))


def test_memoryless_means_that_every_neuron_forgets() -> None:
    assert population("n", (2,), decay=4095).memoryless and population("n", (2,), decay=4096).memoryless
    assert not population("n", (2,), decay=[4096, 2048]).memoryless


def test_bias_is_mantissa_times_a_power_of_two() -> None:
    assert population("n", (2,), bias_mantissa=[-5, 4], bias_exponent=3).bias.tolist() == [-40, 32]


@pytest.mark.parametrize(
    "changes",
    [
        {"decay": 4097},
        {"decay": -1},
        {"threshold": 1 << 17},
        {"threshold": -1},
        {"bias_mantissa": 4096},
        {"bias_mantissa": -4096},
        {"bias_exponent": 8},
        {"bias_exponent": -1},
    ],
)
def test_verify_refuses_what_no_register_holds(changes: dict[str, int]) -> None:
    with pytest.raises(AssertionError, match=r"^n"):
        good(**changes)


def test_verify_refuses_weights_beyond_their_bits_and_edges_of_another_shape() -> None:
    with pytest.raises(AssertionError, match="x -> n"):
        verify(replace(good(), weight_bits=7))
    real = Dense(np.array([[0.5], [1.0]]), (1,), (2,))
    with pytest.raises(AssertionError, match="x -> n"):
        verify(replace(good(), projections=(QuantProjection("x", "n", real, 0),)))
    with pytest.raises(AssertionError, match="x -> r"):
        verify(
            replace(good(), projections=(QuantProjection("x", "r", Dense(np.ones((3, 1), np.int8), (1,), (3,)), 0),))
        )
