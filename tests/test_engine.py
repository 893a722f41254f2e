import gc
import inspect
import weakref
from typing import Any

import numpy as np
import pytest
from builders import population, quantnet, random_quantnet, readout
from hypothesis import given, settings
from hypothesis import strategies as st

from snnergy.deploy import engine, layers, synapses
from snnergy.deploy.activity import Run
from snnergy.errors import BadInput
from snnergy.export.maps import Dense
from snnergy.export.quantnet import QuantNet, QuantProjection, QuantSource
from snnergy.testing import reference
from snnergy.testing.strategies import quantnets


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


@pytest.mark.parametrize("path", synapses.NAMES)
def test_every_path_alone_gives_the_same_run(path: str) -> None:
    for seed in range(12):
        net, inputs = random_quantnet(seed)
        record = everything(net)
        assert_same(engine.run(net, inputs, record=record, path=path), engine.run(net, inputs, record=record), record)


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
        monkeypatch.setattr(engine, "CHUNK_WORK", chunk_bytes)
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


@pytest.mark.parametrize("more", [1, -1])
def test_inputs_of_different_length_are_refused(more: int) -> None:
    net, inputs = random_quantnet(0)
    count = len(inputs["image"])
    inputs["events"] = np.zeros((count + more, net.steps, 5), int)
    with pytest.raises(BadInput) as error:
        engine.run(net, inputs)
    assert str(error.value) == f"the inputs differ in their number of samples: 'image' {count}, 'events' {count + more}"


# loops, delays, currents with memory, and the state after each step


@settings(max_examples=100)
@given(quantnets(hardware=False))
def test_any_network_runs_as_the_slow_reference_does(drawn: Any) -> None:
    net, inputs = drawn
    names = everything(net)
    found, expected = engine.run(net, inputs, record=names, states=names), reference.run(net, inputs)
    for ours, theirs in (
        (found.recorded, expected.spikes),
        (found.membranes, expected.membranes),
        (found.currents, expected.currents),
        (found.activity.active, expected.active),
        (found.activity.spikes, expected.sent),
        (found.outputs, expected.outputs(net)),
    ):
        assert ours.keys() == theirs.keys()
        for name, values in ours.items():
            assert values.dtype == theirs[name].dtype, name
            np.testing.assert_array_equal(values, theirs[name], err_msg=name)


@given(quantnets(hardware=False), st.integers(1, 3), st.integers(1, 400))
def test_chunks_and_threads_change_nothing_in_a_loop_either(drawn: Any, threads: int, chunk_bytes: int) -> None:
    net, inputs = drawn
    names = everything(net)
    plain = engine.run(net, inputs, record=names, threads=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "CHUNK_BYTES", chunk_bytes)
        assert_same(engine.run(net, inputs, record=names, threads=threads), plain, names)


def stops(net: QuantNet, samples: int, chunk_bytes: int, **options: Any) -> list[tuple[int, int]]:
    """What progress is told."""
    told: list[tuple[int, int]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "CHUNK_BYTES", chunk_bytes)
        inputs = {s.name: np.zeros((samples, *s.shape), int) for s in net.sources}
        engine.run(net, inputs, progress=lambda done, of: told.append((done, of)), **options)
    return told


def test_chunks_hold_as_many_samples_as_the_bytes_allow() -> None:
    net = one_neuron()  # 3 steps of 1 neuron: 1 byte of spikes and 4 of current each, and 8 of state where asked for
    assert stops(net, 5, 30, threads=1) == [(2, 5), (4, 5), (5, 5)]
    assert stops(net, 5, 44, threads=1) == [(2, 5), (4, 5), (5, 5)]
    assert stops(net, 5, 45, threads=1) == [(3, 5), (5, 5)]
    assert stops(net, 5, 14, threads=1) == [(k, 5) for k in range(1, 6)]
    assert stops(net, 3, 77, threads=1, states=("n",)) == [(1, 3), (2, 3), (3, 3)]
    assert stops(net, 3, 78, threads=1, states=("n",)) == [(2, 3), (3, 3)]
    assert stops(net, 5, 10**6, threads=1) == [(5, 5)]
    assert stops(net, 5, 10**6, threads=2) == [(3, 5), (5, 5)]
    assert stops(net, 5, 10**6, threads=9) == [(k, 5) for k in range(1, 6)]


def test_populations_of_a_loop_have_their_inputs_apart() -> None:
    """Both hear the source before either steps; run again, when arrays are kept."""

    rng = np.random.default_rng(0)

    def full(n: int) -> Dense:
        return Dense(rng.integers(-6, 9, (n, n)).astype(np.int8), (n,), (n,))

    net = quantnet(
        [QuantSource("x", (3,), 1, 1.0)],
        [population("a", (3,), decay=1000, threshold=5), population("b", (3,), decay=2000, threshold=9)],
        [QuantProjection("x", "a", full(3), 0), QuantProjection("x", "b", full(3), 1),
         QuantProjection("a", "b", full(3), 0, 1), QuantProjection("b", "a", full(3), 0, 1)],
        8,
    )  # fmt: skip
    x = {"x": rng.integers(0, 2, (2, 8, 3))}
    wanted = reference.run(net, x).spikes
    for _ in range(3):
        found = engine.run(net, x, record=("a", "b"), threads=1).recorded
        for name in ("a", "b"):
            np.testing.assert_array_equal(found[name], wanted[name])
    assert 0 < wanted["a"].mean() < 1 and (wanted["a"] != wanted["b"]).any()


def test_neurons_of_a_loop_are_held_together() -> None:
    one = Dense(np.ones((1, 1), np.int8), (1,), (1,))
    edges = [("x", "a", 0), ("a", "b", 0), ("b", "c", 0), ("c", "b", 2)]
    net = quantnet(
        [QuantSource("x", (1,), 8, 1.0)],
        [population(name, (1,)) for name in "abc"],
        [QuantProjection(a, b, one, 0, delay) for a, b, delay in edges],
        2,
    )
    # 2 steps of 3 bytes of spikes, and of 4 of current for each of b and c
    assert stops(net, 4, 44, threads=1) == [(2, 4), (4, 4)]
    assert stops(net, 4, 43, threads=1) == [(k, 4) for k in range(1, 5)]


def test_a_spike_on_its_way_arrives_after_its_delay_or_not_at_all() -> None:
    one = Dense(np.ones((1, 1), np.int8), (1,), (1,))
    for delay in range(5):
        net = quantnet(
            [QuantSource("x", (1,), 1, 1.0)],
            [population("n", (1,), threshold=0, decay=4096)],
            [QuantProjection("x", "n", one, 0, delay)],
            4,
        )
        once = np.array([[[1], [0], [0], [0]], [[0], [0], [1], [0]]])
        spikes = engine.run(net, {"x": once}, record=("n",)).recorded["n"][:, :, 0]
        expected = [[int(t == start + delay) for t in range(4)] for start in (0, 2)]
        assert spikes.tolist() == expected
        always = engine.run(net, {"x": np.ones((1, 1), int)}, record=("n",)).recorded["n"][0, :, 0]
        assert always.tolist() == [int(t >= delay) for t in range(4)]


def test_inputs_at_both_ends_and_of_every_integer_type_are_taken() -> None:
    net = one_neuron(threshold=254, decay=4096)
    for kind in (np.uint8, np.int16, np.int64, np.uint64):
        found = engine.run(net, {"x": np.array([[0], [255]], kind)}, record=("n",))
        assert found.recorded["n"][:, 0, 0].tolist() == [0, 1]
    sparks = one_neuron(threshold=0, decay=4096)
    assert engine.run(sparks, {"x": np.array([[True], [False]])}).outputs["n"].tolist() == [[3], [0]]
    with pytest.raises(BadInput, match=r"spans 256 \.\. 256; 8 bits hold 0 \.\. 255"):
        engine.run(net, {"x": np.array([[256]])})
    with pytest.raises(BadInput, match=r"spans -1 \.\. -1; 8 bits hold 0 \.\. 255"):
        engine.run(net, {"x": np.array([[-1]])})


def test_options_are_given_by_name() -> None:
    kinds = {name: p.kind.name for name, p in inspect.signature(engine.run).parameters.items()}
    assert [name for name, kind in kinds.items() if kind == "POSITIONAL_OR_KEYWORD"] == ["net", "inputs"]
    assert [name for name, kind in kinds.items() if kind == "KEYWORD_ONLY"] == [
        "record",
        "states",
        "threads",
        "path",
        "observe",
        "progress",
    ]


def test_nothing_is_recorded_that_was_not_asked_for() -> None:
    found = engine.run(one_neuron(), {"x": np.array([[7]])})
    assert found.recorded == found.membranes == found.currents == {}
    assert set(found.outputs) == {"n"}


def test_what_a_run_counted_stays_as_it_is_whatever_runs_later() -> None:
    net = one_neuron(threshold=0, decay=4096)
    runs = [engine.run(net, {"x": np.full((k + 1, 1), 7)}) for k in range(4)]
    for k, run in enumerate(runs):
        assert run.activity.spikes["n"].tolist() == [[k + 1]] * 3
    del runs[1:]
    other = engine.run(net, {"x": np.full((9, 1), 7)}, threads=2)
    assert runs[0].activity.active["n"].tolist() == [[1]] * 3 and other.activity.active["n"].tolist() == [[9]] * 3


def test_a_run_does_not_see_what_becomes_of_the_callers_arrays() -> None:
    x = np.full((2, 1), 7, np.uint8)
    run = engine.run(one_neuron(), {"x": x})
    x[:] = 0
    assert run.activity.spikes["x"].tolist() == [[2]] * 3


def test_a_network_that_nobody_holds_is_forgotten() -> None:
    net = one_neuron()
    run = engine.run(net, {"x": np.array([[7]])})
    kept = weakref.ref(layers.ready(net))
    del net, run
    gc.collect()
    assert kept() is None


def test_every_thread_gets_as_many_chunks() -> None:
    net = one_neuron()
    for samples, chunk_bytes, threads, sizes in (
        (64, 150, 2, [8] * 8),
        (9, 1 << 20, 4, [3] * 3),
        (70, 150, 3, [8] * 8 + [6]),
    ):
        ends = [0, *(done for done, _ in stops(net, samples, chunk_bytes, threads=threads))]
        assert np.diff(ends).tolist() == sizes


def test_the_arrays_of_a_large_network_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    net = one_neuron()
    monkeypatch.setattr(layers, "SMALL", 2 * 3 * 1 - 1)  # two samples of three steps of a neuron are too many
    engine.run(net, {"x": np.array([[7], [7]])}, threads=1)
    assert not layers.ready(net).idle[0]._small
    engine.run(net, {"x": np.array([[7]])}, threads=1)
    assert set(layers.ready(net).idle[0]._small) == {"n"}
    monkeypatch.setattr(layers, "KEPT_BYTES", 0)
    engine.run(net, {"x": np.array([[7], [7]])}, threads=1)
    assert layers.ready(net).idle[0]._free == []


def test_arrays_begin_with_a_line_of_the_cache() -> None:
    for shape in ((3,), (5, 7), (1, 1, 1)):
        found = [layers.lined(shape, np.int32) for _ in range(20)]
        assert all(x.ctypes.data % layers.LINE == 0 and x.shape == shape and x.dtype == np.int32 for x in found)


def test_a_path_is_looked_for_again_after_some_chunks_or_for_other_rows() -> None:
    looked: list[int] = []

    def path(name: str, costs: float) -> synapses.Path:
        def cost(rows: int, events: int) -> float:
            looked.append(events)
            return costs

        return synapses.Path(name, lambda x, current, fresh: None, cost)

    s = layers.Synapses("x", 0, (path("dear", 2.0), path("cheap", 1.0)))
    x, current = np.ones((3, 4), np.uint8), np.zeros((3, 1), np.int32)
    for _ in range(layers.AGAIN):
        s.add(x, current, True)
    assert looked == [12, 12] and s.taken[0].name == "cheap"
    s.add(x, current, True)
    assert len(looked) == 4
    s.add(x[:2], current[:2], True)
    assert looked[4:] == [8, 8]
