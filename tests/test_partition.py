"""Tiles hold what they say, no core is busier than asked, and every mapping that comes out is legal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from builders import population, quantnet
from hypothesis import given, settings
from hypothesis import strategies as st
from mapping import SEEDS, activity, looped, small

from snnergy.deploy import engine
from snnergy.deploy.count import count
from snnergy.deploy.energy import price
from snnergy.deploy.fanout import fan_in
from snnergy.deploy.latency import loads
from snnergy.deploy.legality import violations
from snnergy.deploy.objective import OBJECTIVES, estimate, score
from snnergy.deploy.partition import Cutter, assumed, events, measured, settle, slices_of, window
from snnergy.deploy.place import _outputs_first, place
from snnergy.deploy.refine import halve_the_slowest, slowest
from snnergy.deploy.schedule import balance
from snnergy.deploy.tiles import Box, whole
from snnergy.errors import DoesNotFit
from snnergy.export.maps import Conv, Dense
from snnergy.export.quantnet import QuantNet, QuantProjection, QuantSource
from snnergy.hardware_profiles import load

LOIHI2 = load("loihi2")


def a_conv(rng: np.random.Generator) -> Conv:
    """Any stride, padding, dilation and groups, without zero weights."""
    groups = int(rng.choice([1, 2]))
    shape = (2, int(rng.integers(4, 9)), int(rng.integers(4, 9)))
    kernel = (2 * int(rng.integers(1, 3)), 2 // groups, int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    pairs = [tuple(int(n) for n in rng.integers(low, high, 2)) for low, high in ((1, 4), (0, 2), (1, 3))]
    conv = Conv(rng.integers(1, 9, kernel).astype(np.int8), shape, *pairs, groups=groups)  # type: ignore[arg-type]
    return conv if min(conv.output_shape) > 0 else Conv(conv.weight, shape, groups=groups)


def inside(rng: np.random.Generator, shape: tuple[int, ...]) -> Box:
    everything = whole(shape)
    low = [int(rng.integers(0, n)) for n in everything.shape]
    high = [int(rng.integers(a + 1, n + 1)) for a, n in zip(low, everything.shape, strict=True)]
    return Box(everything.shape, tuple(low), tuple(high))  # type: ignore[arg-type]


@given(SEEDS)
def test_the_window_of_a_box_is_its_fan_in(seed: int) -> None:
    rng = np.random.default_rng(seed)
    conv = a_conv(rng)
    dense = Dense(rng.integers(1, 9, (6, 5)).astype(np.int8), (5,), (6,))
    for linear in (conv, dense):
        box = inside(rng, linear.output_shape)
        where = window(linear, box, linear.input_shape)
        sources = where.neurons if isinstance(where, Box) else where
        np.testing.assert_array_equal(sources, fan_in(linear, box.neurons).sources)
        by_box, by_index = fan_in(linear, box), fan_in(linear, box.neurons)
        np.testing.assert_array_equal(by_box.sources, by_index.sources)
        np.testing.assert_array_equal(by_box.synapses, by_index.synapses)


@given(SEEDS)
def test_events_are_those_of_the_matrix(seed: int) -> None:
    rng = np.random.default_rng(seed)
    conv = a_conv(rng)
    conv = replace(conv, weight=conv.weight * (rng.random(conv.weight.shape) < 0.7))
    rate = rng.random(int(np.prod(conv.input_shape)))
    np.testing.assert_allclose(events(conv, rate), (conv.matrix() != 0) @ rate, atol=1e-12)


@settings(max_examples=40)
@given(SEEDS, st.integers(2, 60), st.floats(0.05, 1.0))
def test_tiles_take_no_more_than_they_say_and_no_core_is_busier_than_asked(
    seed: int, neurons: int, share: float
) -> None:
    net, profile = looped(seed), small(LOIHI2, neurons=neurons)
    schedule, rates = balance(net), measured(activity(net, np.random.default_rng(seed)))
    cutter = Cutter(net, _outputs_first(net), schedule, profile, rates)
    most_ns = cutter.cut().busy_ns * share
    partition = cutter.cut(most_ns)
    for core in partition.cores:
        assert core.busy_ns <= most_ns * (1 + 1e-9) or [t.box.size for t in core.tiles] == [1]
    settled = settle(net, schedule, profile, slices_of(partition), rates)
    for core, used in zip(partition.cores, settled.usage, strict=True):
        assert all(used[name] <= core.usage[name] for name in used)


@settings(max_examples=40)
@given(SEEDS, st.sampled_from(OBJECTIVES), st.booleans(), st.integers(0, 3), st.integers(3, 80), st.integers(200, 3000))
def test_every_mapping_for_every_objective_is_legal(
    seed: int, objective: str, seen: bool, iterations: int, neurons: int, memory: int
) -> None:
    net = looped(seed)
    profile = small(LOIHI2, neurons=neurons, synapse_bytes=memory, in_axons=200, out_axons=400, groups=3, chips_max=64)
    schedule = balance(net)
    act = activity(net, np.random.default_rng(seed)) if seen else None
    options = {"objective": objective, "activity": act, "iterations": iterations if seen else 0}
    try:
        placed = place(net, schedule, profile, **options)  # type: ignore[arg-type]
    except DoesNotFit:
        return
    assert violations(net, schedule, profile, placed) == []


def corner(rng: np.random.Generator) -> tuple[QuantNet, np.ndarray]:
    """A convolution whose inputs fire in one corner only."""
    conv = Conv(rng.integers(1, 9, (8, 2, 3, 3)).astype(np.int8), (2, 32, 32), padding=(1, 1))
    net = quantnet(
        [QuantSource("in", (2, 32, 32), 1, 1.0)],
        [population("a", conv.output_shape, decay=4096, threshold=60)],
        [QuantProjection("in", "a", conv, 0)],
        4,
    )
    x = np.zeros((3, 4, 2, 32, 32), np.uint8)
    x[..., :10, :10] = rng.random((3, 4, 2, 10, 10)) < 0.8
    return net, x


def test_what_was_measured_makes_the_slowest_core_faster_than_what_was_assumed() -> None:
    net, x = corner(np.random.default_rng(0))
    act = engine.run(net, {"in": x}).activity
    slowest_synops, sizes = {}, {}
    for seen in (None, act):
        placed = place(net, balance(net), LOIHI2, objective="latency", activity=seen)
        load = loads(count(act, placed, net, balance(net), LOIHI2))
        slowest_synops[seen is None] = load.synops.max()
        sizes[seen is None] = sorted(s.size for core in placed.cores for s in core.slices)
    assert slowest_synops[False] < 0.5 * slowest_synops[True]
    assert sizes[False][0] < sizes[False][-1]


@settings(max_examples=15)
@given(SEEDS)
def test_more_iterations_never_cost_more(seed: int) -> None:
    net, act = looped(seed), activity(looped(seed), np.random.default_rng(seed))
    schedule = balance(net)
    found = [
        price(act, place(net, schedule, LOIHI2, objective="latency", activity=act, iterations=n), net, schedule, LOIHI2)
        for n in (0, 1, 4)
    ]
    latency = [report.latency_ns.nominal for report in found]
    assert latency == sorted(latency, reverse=True)


def test_the_slowest_core_is_halved_and_keeps_every_neuron() -> None:
    net, x = corner(np.random.default_rng(1))
    act, schedule = engine.run(net, {"in": x}).activity, balance(net)
    placed = place(net, schedule, LOIHI2)
    index = slowest(act, placed, net, schedule, LOIHI2)
    load = loads(count(act, placed, net, schedule, LOIHI2))
    assert index == int(load.synops.max(axis=1).argmax())
    halved = halve_the_slowest(placed, act, net, schedule, LOIHI2, 120)
    assert halved and len(halved) == len(placed.cores) + 1
    held = np.sort(np.concatenate([s.neurons for core in halved for s in core]))
    assert np.array_equal(held, np.arange(8 * 32 * 32))
    assert halve_the_slowest(placed, act, net, schedule, LOIHI2, len(placed.cores)) is None


def test_the_objective_names_what_it_orders_by() -> None:
    net, _ = corner(np.random.default_rng(2))
    schedule = balance(net)
    cutter = Cutter(net, _outputs_first(net), schedule, LOIHI2, assumed(net))
    few, many = (estimate(cutter.cut(ns), net, schedule, LOIHI2) for ns in (np.inf, cutter.cut().busy_ns / 4))
    assert few.cores < many.cores and few.step_ns > many.step_ns and few.messages <= many.messages
    assert score("cores", few) < score("cores", many)
    assert score("latency", many) < score("latency", few)
    assert score("edp", few)[0] == pytest.approx(few.energy_pj * few.latency_ns)
