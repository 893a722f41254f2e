from typing import Any

import numpy as np
import pytest
from builders import population, quantnet, random_quantnet, readout, slow_run
from hypothesis import given, settings
from hypothesis import strategies as st

from snnergy.deploy import engine
from snnergy.deploy.activity import Run
from snnergy.errors import BadInput
from snnergy.export.maps import Dense
from snnergy.export.quantnet import QuantNet, QuantProjection, QuantSource


def assert_same(ours: Run, theirs: Run, record: tuple[str, ...]) -> None:
    assert (ours.activity.samples, ours.activity.steps) == (theirs.activity.samples, theirs.activity.steps)
    for left, right in (
        (ours.outputs, theirs.outputs),
        (ours.activity.spikes, theirs.activity.spikes),
        (ours.activity.active, theirs.activity.active),
        (ours.recorded, {name: theirs.recorded[name] for name in record}),
    ):
        assert set(left) == set(right)
        for name, values in left.items():
            assert values.dtype == right[name].dtype
            np.testing.assert_array_equal(values, right[name], err_msg=name)


def everything(net: QuantNet) -> tuple[str, ...]:
    return tuple(p.name for p in net.populations)


@settings(max_examples=150)
@given(st.integers(0, 2**32))
def test_the_engine_is_the_equations(seed: int) -> None:
    net, inputs = random_quantnet(seed)
    assert_same(engine.run(net, inputs, record=everything(net)), slow_run(net, inputs), everything(net))


def test_the_random_networks_are_worth_running() -> None:
    rates = []
    for seed in range(40):
        net, inputs = random_quantnet(seed)
        found = engine.run(net, inputs, record=everything(net)).recorded
        rates += [found[p.name].mean() for p in net.populations if p.spiking]
    assert 0.15 < np.mean(rates) < 0.85
    assert np.mean([0 < r < 1 for r in rates]) > 0.4


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("chunk_bytes", [1, 300, 64 << 20])
def test_threads_and_chunks_change_nothing(threads: int, chunk_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(6):
        net, inputs = random_quantnet(seed)
        record = everything(net)
        plain = engine.run(net, inputs, record=record, threads=1)
        monkeypatch.setattr(engine, "CHUNK_BYTES", chunk_bytes)
        done: list[tuple[int, int]] = []
        again = engine.run(net, inputs, record=record, threads=threads, progress=lambda a, b: done.append((a, b)))  # noqa: B023
        assert_same(again, plain, record)
        assert done[-1] == (plain.activity.samples,) * 2 and done == sorted(done)


@given(st.integers(0, 2**32), st.integers(1, 4))
def test_activities_of_parts_add_up(seed: int, cut: int) -> None:
    net, inputs = random_quantnet(seed)
    whole = engine.run(net, inputs).activity
    if whole.samples <= cut:
        return
    parts = [engine.run(net, {n: x[s] for n, x in inputs.items()}).activity for s in (slice(cut), slice(cut, None))]
    for merged in (parts[0] + parts[1], parts[1] + parts[0]):
        assert (merged.samples, merged.steps) == (whole.samples, whole.steps)
        for name in whole.spikes:
            np.testing.assert_array_equal(merged.spikes[name], whole.spikes[name])
        for name in whole.active:
            np.testing.assert_array_equal(merged.active[name], whole.active[name])


def one_neuron(**changes: Any) -> QuantNet:
    linear = Dense(np.array([[1]], np.int8), (1,), (1,))
    return quantnet(
        [QuantSource("x", (1,), 8, 1.0)], [population("n", (1,), **changes)], [QuantProjection("x", "n", linear, 0)], 3
    )


def test_a_neuron_fires_strictly_above_its_threshold() -> None:
    spikes = engine.run(one_neuron(threshold=7, decay=4096), {"x": np.array([[7], [8]])}, record=("n",)).recorded["n"]
    assert spikes.ravel().tolist() == [0, 0, 0, 1, 1, 1]


def test_decay_truncates_toward_zero_on_both_sides() -> None:
    net = quantnet([QuantSource("x", (1,), 8, 1.0)], [readout("r", (1,), decay=4095, bias_mantissa=-4095)], [], 2)
    assert engine.run(net, {"x": np.zeros((1, 1), int)}).outputs["r"].item() == -4095  # -4095 / 4096 becomes 0
    net = quantnet([QuantSource("x", (1,), 8, 1.0)], [readout("r", (1,), decay=1, bias_mantissa=-1)], [], 3)
    assert engine.run(net, {"x": np.zeros((1, 1), int)}).outputs["r"].item() == -1


def test_a_negative_exponent_rounds_down() -> None:
    linear = Dense(np.array([[-1], [1]], np.int8), (1,), (2,))
    net = quantnet(
        [QuantSource("x", (1,), 8, 1.0)], [readout("r", (2,), decay=4096)], [QuantProjection("x", "r", linear, -1)], 1
    )
    assert engine.run(net, {"x": np.array([[1]])}).outputs["r"].tolist() == [[-64, 0]]


def test_a_frame_equals_the_same_frame_at_every_step() -> None:
    for seed in range(20):
        net, inputs = random_quantnet(seed)
        if inputs["image"].ndim == 5:
            inputs["image"] = inputs["image"][:, 0]
        repeated = {**inputs, "image": np.repeat(inputs["image"][:, None], net.steps, axis=1)}
        record = everything(net)
        assert_same(engine.run(net, inputs, record=record), engine.run(net, repeated, record=record), record)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "no input for source 'x'; the network reads x"),
        ({"x": np.zeros((2, 3), int)}, "input 'x' has shape [2, 3]; [samples, 1] is needed"),
        ({"x": np.zeros(1, int)}, "input 'x' has shape [1]; [samples, 1] is needed"),
        ({"x": np.zeros((1, 4, 1), int)}, "input 'x' has shape [1, 4, 1]; [samples, 1] is needed"),
        ({"x": np.zeros((0, 1), int)}, "input 'x' has no samples"),
        ({"x": np.array([[-1], [256]])}, "input 'x' spans -1 .. 256; 8 bits hold 0 .. 255"),
        ({"x": np.array([[0.5]])}, "input 'x' is float64; the chip takes integers, as QuantNet.encode makes them"),
    ],
)
def test_a_wrong_input_is_named(inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput) as error:
        engine.run(one_neuron(), inputs)
    assert str(error.value) == message


def test_inputs_of_different_length_are_refused() -> None:
    net, inputs = random_quantnet(0)
    count = len(inputs["image"])
    inputs["events"] = np.zeros((count + 1, net.steps, 5), int)
    with pytest.raises(BadInput) as error:
        engine.run(net, inputs)
    assert str(error.value) == (f"the inputs differ in their number of samples: 'image' {count}, 'events' {count + 1}")
