from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import pytest
from builders import population, quantnet, random_quantnet
from hypothesis import given
from hypothesis import strategies as st

import snnergy
from snnergy.errors import BadInput
from snnergy.export.maps import Dense
from snnergy.export.quantnet import QuantNet, QuantProjection, QuantSource


def looped(seed: int) -> tuple[QuantNet, dict[str, Any]]:
    """A random network with delays, and one projection that leads back."""
    net, inputs = random_quantnet(seed)
    rng = np.random.default_rng(seed)
    late = [replace(e, delay=int(rng.integers(0, 3))) for e in net.projections]
    p = next((p for p in net.populations if p.spiking), None)
    if p is not None:
        n = prod(p.shape)
        weight = rng.integers(-9, 10, (n, n)).astype(np.int8)
        late.append(QuantProjection(p.name, p.name, Dense(weight, p.shape, p.shape), 0, int(rng.integers(1, 3))))
    return replace(net, projections=tuple(late)), inputs


def frames(net: QuantNet, inputs: dict[str, Any]) -> Any:
    for t in range(net.steps):
        yield {s.name: x if (x := inputs[s.name]).ndim == len(s.shape) + 1 else x[:, t] for s in net.sources}


@given(st.integers(0, 2**32))
def test_step_by_step_is_what_a_run_gives(seed: int) -> None:
    net, inputs = looped(seed)
    whole = snnergy.simulate(net, inputs, record=tuple(p.name for p in net.populations if p.spiking))
    sim = snnergy.Simulator(net, len(whole.outputs[net.outputs[0]]))
    total = dict.fromkeys(net.outputs, 0)
    for t, frame in enumerate(frames(net, inputs)):
        for name, values in sim.step(frame).items():
            flat = values.reshape(len(values), -1)
            if name in whole.recorded:
                np.testing.assert_array_equal(flat, whole.recorded[name][:, t])
                total[name] = total[name] + flat.astype(np.int64)
            else:
                total[name] = flat
    for name in net.outputs:
        np.testing.assert_array_equal(total[name], whole.outputs[name])


@given(st.integers(0, 2**32), st.integers(0, 5))
def test_a_restored_state_goes_on_as_if_nothing_had_happened(seed: int, stop: int) -> None:
    net, inputs = looped(seed)
    samples = len(next(iter(inputs.values())))
    straight, first, second = (snnergy.Simulator(net, samples) for _ in range(3))
    for t, frame in enumerate(frames(net, inputs)):
        if t == stop % net.steps:
            second.restore(first.state())
        expected, sim = straight.step(frame), second if t >= stop % net.steps else first
        for name, values in sim.step(frame).items():
            np.testing.assert_array_equal(values, expected[name])
    assert second.steps_done == net.steps


def test_reset_forgets_everything() -> None:
    net, inputs = looped(4)
    samples = len(next(iter(inputs.values())))
    sim, frame = snnergy.Simulator(net, samples), next(frames(net, inputs))
    before = sim.state()
    once = sim.step(frame)
    sim.step(frame)
    sim.reset()
    assert all(np.array_equal(x, before[k]) for k, x in sim.state().items())
    assert all(np.array_equal(x, once[k]) for k, x in sim.step(frame).items())


def test_a_wrong_frame_is_one_line_and_changes_nothing() -> None:
    net, _inputs = looped(4)
    sim = snnergy.Simulator(net)
    frame = {"image": np.zeros((2, 4, 3), int), "events": np.zeros(5, int)}
    sim.step(frame)
    before = sim.state()
    with pytest.raises(BadInput, match=r"frame 'events' has shape \[4\]; \[1, 5\] is needed"):
        sim.step({**frame, "events": np.zeros(4, int)})
    with pytest.raises(BadInput, match="no input for source 'events'"):
        sim.step({"image": frame["image"]})
    assert all(np.array_equal(x, before[k]) for k, x in sim.state().items())


def test_a_state_of_another_network_is_refused() -> None:
    one, other = (snnergy.Simulator(looped(seed)[0]) for seed in (4, 5))
    with pytest.raises(BadInput, match="this state is of another network or number of samples"):
        one.restore(other.state())


def test_one_array_is_enough_for_one_source() -> None:
    net, _ = random_quantnet(4)
    with pytest.raises(BadInput, match="the network reads image, events; pass one array for each, by name"):
        snnergy.simulate(net, np.zeros((1, 5), int))


def test_the_package_names_what_it_does_not_have() -> None:
    with pytest.raises(AttributeError, match="module 'snnergy' has no attribute 'stimulate'"):
        snnergy.stimulate  # noqa: B018  # pyright: ignore


def test_no_samples_are_refused() -> None:
    with pytest.raises(BadInput, match="0 samples side by side; at least 1 is needed"):
        snnergy.Simulator(looped(4)[0], 0)


def test_one_source_takes_one_array() -> None:
    one = Dense(np.ones((1, 1), np.int8), (1,), (1,))
    net = quantnet([QuantSource("x", (1,), 8, 1.0)], [population("n", (1,))], [QuantProjection("x", "n", one, 0)], 3)
    assert snnergy.simulate(net, np.full((2, 1), 101)).outputs["n"].tolist() == [[3], [3]]
    assert snnergy.Simulator(net).step({"x": np.array([101])})["n"].tolist() == [[1]]
