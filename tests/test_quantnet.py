from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from builders import SMALL, population, quantnet, readout, spiking_model
from scipy.sparse import csr_array

from snnergy.deploy.schedule import balance
from snnergy.errors import UnsupportedLayer
from snnergy.export import quantnet as quantnet_module
from snnergy.export.from_torch import to_nir
from snnergy.export.lower import lower
from snnergy.export.maps import Dense, Sparse
from snnergy.export.quantize import quantize
from snnergy.export.quantnet import (
    PER_NEURON,
    QuantNet,
    QuantPopulation,
    QuantProjection,
    QuantSource,
    dump,
    shifted,
    verify,
)


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
    assert not population("n", (2,), decay=4096, reset=[0, 1]).memoryless


def test_a_reset_other_than_to_0_takes_a_program() -> None:
    plain = population("n", (2,))
    assert plain.back.tolist() == [0, 0] and plain.back.dtype == np.int64 and not plain.programmed
    assert not population("n", (2,), reset=[0, 0]).programmed
    assert population("n", (2,), reset=[0, -1]).programmed
    assert population("n", (2,), reset=[0, 0], subtract=True).programmed
    assert not population("n", (2,), reset=[5, 5], spiking=False).programmed
    text = [dump(one_edge(np.ones((2, 1), np.int8), reset=5, subtract=taken)) for taken in (False, True)]
    assert "resets to 5" in text[0] and "subtracts 5" in text[1]
    assert "reset" not in dump(one_edge(np.ones((2, 1), np.int8)))


def test_what_is_taken_away_is_not_negative_and_stays_in_the_register() -> None:
    for reset in (8_388_607, -8_388_607):
        verify(one_edge(np.ones((2, 1), np.int8), reset=reset))
        refuses(one_edge(np.ones((2, 1), np.int8), reset=reset + (1 if reset > 0 else -1)), "n")
    verify(one_edge(np.ones((2, 1), np.int8), reset=0, subtract=True))
    refuses(one_edge(np.ones((2, 1), np.int8), reset=[0, -1], subtract=True), "n")


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


# limits, at their edges


def one_edge(weight: Any, exponent: int = 0, bits: int = 8, delay: int = 0, **changes: Any) -> QuantNet:
    """x -> n, with weights [n_out, n_in]; not verified."""
    weight = np.asarray(weight)
    n_out, n_in = weight.shape
    linear = Dense(weight, (n_in,), (n_out,))
    return QuantNet(
        (QuantSource("x", (n_in,), bits, 1.0),),
        (population("n", (n_out,), **changes),),
        (QuantProjection("x", "n", linear, exponent, delay),),
        ("n",),
        1e-4,
        4,
        8,
        (),
    )


def refuses(net: QuantNet, message: str) -> None:
    with pytest.raises(AssertionError) as error:
        verify(net)
    assert str(error.value) == message


def test_the_registers_are_those_of_the_chip() -> None:
    limits = (quantnet_module.STATE_LIMIT, quantnet_module.THRESHOLD_LIMIT, quantnet_module.BIAS_LIMIT)
    assert limits == (8_388_607, 131_071, 4_095)
    assert (quantnet_module.STATE_SHIFT, quantnet_module.DECAY_ONE, quantnet_module.BIAS_EXPONENT_LIMIT) == (6, 4096, 7)
    assert (quantnet_module.ACCUMULATOR_LIMIT, quantnet_module.INPUT_LIMIT) == (2_147_483_647, 262_144)


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("decay", (0, 4096), (-1, 4097)),
        ("current_decay", (1, 4096), (0, 4097)),
        ("threshold", (0, 131_071), (-1, 131_072)),
        ("bias_mantissa", (-4095, 4095), (-4096, 4096)),
        ("bias_exponent", (0, 7), (-1, 8)),
    ],
)
def test_every_register_takes_its_ends_and_no_more(field: str, good: Any, bad: Any) -> None:
    for value in good:
        verify(one_edge(np.ones((2, 1), np.int8), **{field: value}))
    for value in bad:
        refuses(one_edge(np.ones((2, 1), np.int8), **{field: value}), "n")
        if field != "bias_exponent":  # one neuron of two
            refuses(one_edge(np.ones((2, 1), np.int8), **{field: [good[0], value]}), "n")


@pytest.mark.parametrize("field", ["decay", "current_decay", "threshold", "bias_mantissa", "reset"])
def test_a_parameter_of_another_length_is_refused(field: str) -> None:
    net = one_edge(np.ones((2, 1), np.int8))
    wrong = replace(net.populations[0], **{field: np.ones(3, np.int64)})
    refuses(replace(net, populations=(wrong,)), "n")


@pytest.mark.parametrize(("bits", "least", "most"), [(8, -128, 127), (7, -64, 63), (2, -2, 1)])
def test_weights_span_their_bits_and_no_more(bits: int, least: int, most: int) -> None:
    for value in (least, 0, most):
        verify(replace(one_edge(np.array([[value, 0]])), weight_bits=bits))
    for value in (least - 1, most + 1):
        refuses(replace(one_edge(np.array([[value, 0]])), weight_bits=bits), "x -> n")
    empty = Sparse(csr_array((1, 1), dtype=np.int8), (1,), (1,))
    net = one_edge(np.ones((1, 1), np.int8))
    bare = replace(net, projections=(QuantProjection("x", "n", empty, 0),))
    verify(bare)
    assert "<- x sparse 1->1 (0 synapses) w none << 0" in dump(bare)


def test_weights_must_be_integers() -> None:
    refuses(one_edge(np.ones((1, 1), np.float32)), "x -> n")


def test_the_sum_of_all_inputs_reaches_its_limit_and_no_more() -> None:
    """2**18 = 64 * 2**12 up, and down; the bits of a source and the shift count."""
    for sign in (1, -1):
        verify(one_edge([[sign * 64]], exponent=12, bits=1))
        refuses(one_edge([[sign * 65]], exponent=12, bits=1), "n")
        verify(one_edge([[sign * 64, sign * 64]], exponent=11, bits=1))
        refuses(one_edge([[sign * 64, sign * 64, sign]], exponent=11, bits=1), "n")
        verify(one_edge([[sign * 68]], exponent=8, bits=4))  # 68 * 15 * 2**8 = 261,120; 69 make 264,960
        refuses(one_edge([[sign * 69]], exponent=8, bits=4), "n")


def test_sums_that_no_accumulator_holds_are_refused_whatever_is_shifted_away() -> None:
    row = np.full((1, 66_312), 127, np.int8)  # times 255: 2,147,514,120 > 2**31 - 1
    refuses(one_edge(row, exponent=-14), "x -> n")
    refuses(one_edge(-row, exponent=-14), "x -> n")
    for sign in (1, -1):
        verify(one_edge(sign * row[:, 1:], exponent=-14))  # 2,147,481,735


def test_what_several_projections_send_is_added_up() -> None:
    net = one_edge([[64]], exponent=11, bits=1)
    twice = replace(net, projections=net.projections * 2)
    verify(twice)
    one_more = QuantProjection("x", "n", Dense(np.ones((1, 1), np.int8), (1,), (1,)), 0)
    refuses(replace(net, projections=(*twice.projections, one_more)), "n")
    opposite = QuantProjection("x", "n", Dense(np.full((1, 1), -64, np.int8), (1,), (1,)), 12)
    verify(replace(net, projections=(*twice.projections, opposite)))


def test_edges_join_known_nodes_of_their_size_without_going_back_in_time() -> None:
    net = one_edge(np.ones((2, 3), np.int8))
    (e,) = net.projections
    for wrong, name in (
        (replace(e, source="y"), "y -> n"),
        (replace(e, target="y"), "x -> y"),
        (replace(e, target="x"), "x -> x"),
        (replace(e, delay=-1), "x -> n"),
        (replace(e, map=Dense(np.ones((2, 4), np.int8), (4,), (2,))), "x -> n"),
        (replace(e, map=Dense(np.ones((3, 3), np.int8), (3,), (3,))), "x -> n"),
    ):
        refuses(replace(net, projections=(wrong,)), name)
    verify(replace(net, projections=(replace(e, delay=1),)))


def test_two_nodes_of_one_name_and_loops_without_delay_are_refused() -> None:
    net = one_edge(np.ones((1, 1), np.int8))
    refuses(replace(net, populations=(population("x", (1,)),)), "two nodes share a name")
    loop = QuantProjection("n", "n", net.projections[0].map, 0)
    with pytest.raises(UnsupportedLayer, match="the loop n -> n has no delay"):
        verify(replace(net, projections=(*net.projections, loop)))
    verify(replace(net, projections=(*net.projections, replace(loop, delay=1))))


# what is derived


def test_encoding_scales_rounds_to_even_and_clips() -> None:
    net = replace(one_edge(np.ones((1, 6), np.int8)), sources=(QuantSource("x", (6,), 3, 2.0),))
    encoded = net.encode({"x": np.array([[-1.0, 0.2, 0.25, 0.75, 3.4, 9.0]])})["x"]
    assert encoded.dtype == np.int32 and encoded.tolist() == [[0, 0, 0, 2, 7, 7]]


def test_shifting_rounds_down() -> None:
    assert shifted(np.array([-5, 5]), 2).tolist() == [-20, 20]
    assert shifted(np.array([-5, 5]), 0).tolist() == [-5, 5]
    assert shifted(np.array([-5, 5]), -1).tolist() == [-3, 2]


def test_a_current_with_memory_is_no_gate() -> None:
    assert not population("n", (2,)).cuba and population("n", (2,), current_decay=[4096, 4095]).cuba
    assert not population("n", (1,), decay=4096, current_decay=4095).memoryless
    assert not population("n", (1,), decay=4094).memoryless


def test_delays_currents_and_losses_are_printed() -> None:
    net = replace(one_edge([[-3, 7]], 2, delay=5, current_decay=8, bias_mantissa=3, bias_exponent=1), lossy=("a", "b"))
    assert dump(net) == (
        "quantnet 8-bit weights, 4 steps, dt 0.0001 s\n"
        "  source x [2] 8 bits x1\n"
        "  n [1] decay 2048 current 8 threshold 100 bias 3 << 1 scale 1\n"
        "    <- x dense 2->1 w -3..7 << 2 delay 5\n"
        "  outputs n\n"
        "  lossy: a\n"
        "  lossy: b"
    )


@pytest.mark.parametrize("kind", [QuantSource, QuantPopulation, QuantProjection, QuantNet])
def test_a_stage_cannot_be_changed(kind: type) -> None:
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert kind.__dataclass_params__.eq == (kind is QuantSource)  # type: ignore[attr-defined]


def test_a_projection_without_a_synapse_prints() -> None:
    nothing = Sparse(csr_array((2, 1), dtype=np.int8), (1,), (2,))
    net = quantnet(
        [QuantSource("x", (1,), 8, 1.0)], [population("n", (2,))], [QuantProjection("x", "n", nothing, 0)], 1
    )
    assert "    <- x sparse 1->2 (0 synapses) w none << 0" in dump(net).splitlines()


def test_taken_neurons_keep_what_is_theirs_in_the_order_asked_for() -> None:
    p = population(
        "p",
        (4,),
        reset=[3, 4, 5, 6],
        decay=[1, 2, 3, 4],
        current_decay=[5, 6, 7, 8],
        threshold=[9, 10, 11, 12],
        bias_mantissa=7,
    )
    found = p.taken(np.array([3, 1]), (2, 1))
    assert (found.name, found.shape, found.bias_exponent) == ("p", (2, 1), p.bias_exponent)
    assert {name: getattr(found, name).tolist() for name in PER_NEURON} == {
        "decay": [4, 2], "current_decay": [8, 6], "threshold": [12, 10], "bias_mantissa": [7, 7],
        "reset": [6, 4],
    }  # fmt: skip
    assert p.decay.tolist() == [1, 2, 3, 4]
