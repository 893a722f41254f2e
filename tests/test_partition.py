"""Tiles hold what they say, no core is busier than asked, and every mapping that comes out is legal."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from builders import population, quantnet
from hypothesis import given, settings
from hypothesis import strategies as st
from mapping import SEEDS, activity, halve, looped, quantity, small
from scipy.sparse import csr_array

from snnergy.deploy import engine
from snnergy.deploy.count import count
from snnergy.deploy.demand import Rates, assumed, events, measured, window
from snnergy.deploy.fanout import fan_in
from snnergy.deploy.latency import loads
from snnergy.deploy.legality import violations
from snnergy.deploy.objective import OBJECTIVES, estimate, score
from snnergy.deploy.partition import Cutter, TooLarge, slices_of
from snnergy.deploy.place import _outputs_first, place
from snnergy.deploy.placement import Slice
from snnergy.deploy.price import price
from snnergy.deploy.refine import slowest
from snnergy.deploy.schedule import Schedule, balance
from snnergy.deploy.settle import settle
from snnergy.deploy.tiles import Box, whole
from snnergy.errors import DoesNotFit
from snnergy.export.maps import Conv, Dense, Sparse
from snnergy.export.quantnet import QuantNet, QuantProjection, QuantSource
from snnergy.hardware_profiles import Profile, load
from snnergy.testing import integer
from snnergy.testing.draw import Seeded

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


@settings(max_examples=40)
@given(SEEDS, st.integers(2, 40))
def test_tiles_take_exactly_what_they_say_where_no_weight_is_zero(seed: int, neurons: int) -> None:
    rng = np.random.default_rng(seed)
    conv = a_conv(rng)
    full = Dense(rng.integers(1, 9, (7, int(np.prod(conv.output_shape)))).astype(np.int8), conv.output_shape, (7,))
    net = quantnet(
        [QuantSource("in", conv.input_shape, 1, 1.0)],
        [population("a", conv.output_shape), population("b", (7,))],
        [QuantProjection("in", "a", conv, 0), QuantProjection("a", "b", full, 0)],
        2,
    )
    schedule, profile = balance(net), small(LOIHI2, neurons=neurons)
    partition = Cutter(net, _outputs_first(net), schedule, profile, assumed(net)).cut()
    settled = settle(net, schedule, profile, slices_of(partition), assumed(net))
    assert [core.usage for core in partition.cores] == list(settled.usage)
    held = [
        np.concatenate([t.box.neurons for c in partition.cores for t in c.tiles if t.population == n]) for n in "ab"
    ]
    for neurons_of, p in zip(held, net.populations, strict=True):
        assert np.array_equal(np.sort(neurons_of), np.arange(np.prod(p.shape)))


@settings(max_examples=60)
@given(SEEDS, st.sampled_from(OBJECTIVES), st.data())
def test_networks_with_every_map_delay_and_loop_are_placed_legally_or_refused_rightly(
    seed: int, objective: str, data: st.DataObject
) -> None:
    net, inputs = integer.network(Seeded(seed))
    ranges = {"neurons": (1, 60), "synapse_bytes": (100, 6000), "in_axons": (10, 300), "out_axons": (12, 600)}
    limits = {name: data.draw(st.integers(*ends), name) for name, ends in ranges.items()}
    schedule, profile = balance(net), small(quick(LOIHI2), groups=data.draw(st.integers(1, 5), "groups"), **limits)
    act = engine.run(net, inputs).activity if data.draw(st.booleans(), "seen") else None
    iterations = data.draw(st.integers(0, 3), "iterations") if act else 0
    try:
        placed = place(net, schedule, profile, objective=objective, activity=act, iterations=iterations)
    except DoesNotFit as refused:
        true(refused, net, schedule, profile)
        return
    assert violations(net, schedule, profile, placed) == []


def true(refused: DoesNotFit, net: QuantNet, schedule: Schedule, profile: Profile) -> None:
    """A refusal names a neuron that by itself is too much, counted from its synapses; or too few cores."""
    says = re.search(r"(?:layer '(\S+)'.*)? needs ([\d,]+) (\D+), a core of loihi2 has ([\d,]+)", str(refused))
    if not says:
        says = re.search(r"the network needs ([\d,]+) cores, .* have ([\d,]+)", str(refused))
        assert says and int(says[1].replace(",", "")) > int(says[2].replace(",", ""))
        return
    name, limit, need, have = says[1], says[3].replace(" ", "_"), *(int(says[k].replace(",", "")) for k in (2, 4))
    assert need > have == getattr(profile.core, limit).whole
    (p,) = (p for p in net.populations if p.name == name)
    alone = [(Slice(name, np.array([n])),) for n in range(int(np.prod(p.shape)))]
    if limit == "out_axons":  # no more cores than neurons that it has a synapse to
        to: dict[str, np.ndarray] = {}
        for e in net.projections:
            if e.source == name:
                to[e.target] = to.get(e.target, 0) + (e.map.matrix() != 0).astype(np.int64).toarray()
        assert sum((reached > 0).sum(axis=0) for reached in to.values()).max() >= need  # type: ignore[attr-defined]
    else:
        one = settle(net, schedule, profile, rest(net, name) + alone, assumed(net))
        assert need in {used[limit] for used in one.usage[len(rest(net, name)) :]}


def rest(net: QuantNet, name: str) -> list[tuple[Slice, ...]]:
    """A core for every other population."""
    return [(Slice(p.name, whole(p.shape)),) for p in net.populations if p.name != name]


def quick(profile: Profile) -> Profile:
    """Without a barrier, so that even small networks gain by smaller tiles."""
    return replace(profile, time_ns=replace(profile.time_ns, barrier=None))


def fully(*sizes: int, zeros: float = 0.0) -> QuantNet:
    """in -> a -> b ..., all to all but for so many of the weights."""
    rng, names = np.random.default_rng(0), ["in", *"abcdef"]
    edges = [
        QuantProjection(names[k], names[k + 1], Dense((rng.random((n, m)) >= zeros).astype(np.int8), (m,), (n,)), 0)
        for k, (m, n) in enumerate(pairwise(sizes))
    ]
    nodes = [population(name, (n,)) for name, n in zip(names[1:], sizes[1:], strict=False)]
    return quantnet([QuantSource("in", (sizes[0],), 1, 1.0)], nodes, edges, 2)


def test_smaller_tiles_for_which_no_axons_are_left_are_passed_over() -> None:
    """Cut in more than two, ``b`` is more cores than a neuron of ``a`` can reach: that was an error once."""
    net, profile = fully(4, 4, 40), small(quick(LOIHI2), out_axons=2)
    placed = place(net, balance(net), profile, objective="latency")
    assert violations(net, balance(net), profile, placed) == []
    assert sum(s.population == "b" for core in placed.cores for s in core.slices) == 2


def test_a_neuron_is_not_refused_for_weights_that_are_zero() -> None:
    """One in twenty of the weights is zero, and every neuron has fewer inputs than the layer."""
    net = fully(200, 20, zeros=0.05)
    most = max(int(np.count_nonzero(row)) for row in net.projections[0].map.weight)  # pyright: ignore[reportUnknownArgumentType]
    assert most < 200
    placed = place(net, balance(net), small(LOIHI2, in_axons=most))
    assert violations(net, balance(net), small(LOIHI2, in_axons=most), placed) == []
    with pytest.raises(DoesNotFit, match=rf"^one neuron of layer 'a' needs {most} in axons, .* has {most - 1}: "):
        place(net, balance(net), small(LOIHI2, in_axons=most - 1))


def test_a_pruned_layer_takes_the_memory_of_the_synapses_that_are_left() -> None:
    """Bounds of all weights would make ten times as many cores of nine tenths of zeros."""
    full, pruned = fully(256, 256), fully(256, 256, zeros=0.9)
    profile = small(LOIHI2, synapse_bytes=4096)
    cores = [len(place(net, balance(net), profile).cores) for net in (full, pruned)]
    assert cores[0] >= 17 and cores[1] <= 5


def test_the_neuron_that_is_too_much_is_named_with_what_it_needs() -> None:
    """All but the first neuron of ``a`` have one input; the one in the middle would fit."""
    weight = np.eye(9, 20, dtype=np.int8)
    weight[0] = 1
    net = fully(20, 9)
    net = replace(net, projections=(replace(net.projections[0], map=Dense(weight, (20,), (9,))),))
    with pytest.raises(TooLarge) as found:
        Cutter(net, net.populations, balance(net), small(LOIHI2, in_axons=15), assumed(net)).cut()
    assert (found.value.population, found.value.limit, found.value.need) == ("a", "in_axons", 20)


def test_a_layer_slower_than_asked_neuron_by_neuron_is_a_core_for_each() -> None:
    conv = Conv(np.ones((2, 1, 3, 3), np.int8), (1, 4, 5), padding=(1, 1))
    edges = [QuantProjection("in", "a", conv, 0)]
    net = quantnet([QuantSource("in", (1, 4, 5), 1, 1.0)], [population("a", conv.output_shape)], edges, 2)
    partition = Cutter(net, net.populations, balance(net), LOIHI2, assumed(net)).cut(1e-3)
    assert [core.usage["neurons"] for core in partition.cores] == [1] * 40


def test_a_core_is_filled_with_synapses_and_updates_that_go_side_by_side() -> None:
    """Both take as long as asked: half of the cores that their sum would need."""
    profile = replace(quick(LOIHI2), time_ns=replace(LOIHI2.time_ns, barrier=None, update_active=quantity(7, 7, 7)))
    profile = replace(profile, time_ns=replace(profile.time_ns, synop=quantity(1, 1, 1), spike=None))
    net = fully(70, 64)  # 70 inputs at the assumed rate are 7 synops a step
    partition = Cutter(net, net.populations, balance(net), profile, assumed(net)).cut(16 * 7.0001)
    assert [core.usage["neurons"] for core in partition.cores] == [16] * 4


def test_two_projections_of_a_loop_take_the_axons_of_one() -> None:
    n = 12
    net = fully(1, n)
    ring = Dense(np.ones((n, n), np.int8), (n,), (n,))
    net = replace(net, projections=(*net.projections, *(QuantProjection("a", "a", ring, 0, d) for d in (1, 1, 2))))
    profile = small(LOIHI2, neurons=6, out_axons=12)
    placed = place(net, balance(net), profile)
    assert [core.usage["out_axons"] for core in placed.cores] == [12, 12]


def test_a_sparse_loop_sets_aside_no_more_axons_than_synapses() -> None:
    n = 12
    net = fully(1, n)
    ring = Sparse(csr_array(np.roll(np.eye(n, dtype=np.int8), 1, axis=0)), (n,), (n,))
    net = replace(net, projections=(*net.projections, QuantProjection("a", "a", ring, 0, 1)))
    profile = small(LOIHI2, neurons=1, out_axons=1)
    placed = place(net, balance(net), profile)
    assert violations(net, balance(net), profile, placed) == [] and len(placed.cores) == n


@given(SEEDS)
def test_rates_that_are_alike_everywhere_may_be_one_number(seed: int) -> None:
    net = looped(seed)
    alike, profile = assumed(net), small(LOIHI2, neurons=10)
    listed = Rates(*({name: x.copy() for name, x in rates.items()} for rates in (alike.spikes, alike.active)))
    found = [Cutter(net, _outputs_first(net), balance(net), profile, rates).cut() for rates in (alike, listed)]
    for a, b in zip(*(partition.cores for partition in found), strict=True):
        assert [(t.population, t.box) for t in a.tiles] == [(t.population, t.box) for t in b.tiles]
        assert a.busy_ns == pytest.approx(b.busy_ns)


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
    index = slowest(count(act, placed, net, schedule, LOIHI2), LOIHI2)
    load = loads(count(act, placed, net, schedule, LOIHI2))
    assert index == int(load.synops.max(axis=1).argmax())
    halved = halve(placed, act, net, schedule, LOIHI2, 120)
    assert halved and len(halved) == len(placed.cores) + 1
    held = np.sort(np.concatenate([s.neurons for core in halved for s in core]))
    assert np.array_equal(held, np.arange(8 * 32 * 32))
    assert halve(placed, act, net, schedule, LOIHI2, len(placed.cores)) is None


def test_the_objective_names_what_it_orders_by() -> None:
    net, _ = corner(np.random.default_rng(2))
    schedule = balance(net)
    cutter = Cutter(net, _outputs_first(net), schedule, LOIHI2, assumed(net))
    few, many = (estimate(cutter.cut(ns), net, schedule, LOIHI2) for ns in (np.inf, cutter.cut().busy_ns / 4))
    assert few.cores < many.cores and few.step_ns > many.step_ns and few.messages <= many.messages
    assert score("cores", few) < score("cores", many)
    assert score("latency", many) < score("latency", few)
    assert score("edp", few)[0] == pytest.approx(few.energy_pj * few.latency_ns)
