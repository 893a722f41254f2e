"""Counters equal a count by hand, add up over cores, layers and samples, and impossible ones are refused."""

from __future__ import annotations

from dataclasses import fields, replace
from math import prod
from typing import Any

import numpy as np
import pytest
from builders import population, quantnet, readout
from hypothesis import given, settings
from hypothesis import strategies as st
from mapping import SEEDS, activity, looped, scattered, silent, skip_network, small

from snnergy.deploy.activity import Activity
from snnergy.deploy.count import busiest_links, count
from snnergy.deploy.counts import COUNTERS, Cell, Counts, verify
from snnergy.deploy.place import place
from snnergy.deploy.placement import Core, Placement, Slice
from snnergy.deploy.schedule import Schedule, balance
from snnergy.export.maps import Dense
from snnergy.export.quantnet import QuantNet, QuantProjection, QuantSource
from snnergy.hardware_profiles import load

LOIHI2 = load("loihi2")


def by_hand(
    act: Activity, placement: Placement, net: QuantNet, schedule: Schedule, width: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Every counter per core and step of the period, one neuron, step and synapse at a time; the busiest link's load.

    A message walks its route router by router: x first, then y.
    """
    steps, cores = net.steps, placement.cores
    total = {name: np.zeros((len(cores), steps), np.int64) for name in COUNTERS}
    home = {(s.population, n): i for i, core in enumerate(cores) for s in core.slices for n in s.neurons.tolist()}
    memoryless = {p.name for p in net.populations if p.memoryless}
    matrix = {id(e): e.map.matrix().toarray() for e in net.projections}
    links: dict[tuple[int, int, int, int, int], int] = {}
    for node in (*net.sources, *net.populations):
        for n in range(prod(node.shape)):
            me = home.get((node.name, n))
            x, y, chip = (
                (0, 0, 0) if me is None else (cores[me].chip * width + cores[me].x, cores[me].y, cores[me].chip)
            )
            for t in range(steps):
                spikes = int(act.spikes[node.name][t, n])
                now = (t + schedule.depth[node.name]) % steps
                targets: set[int] = set()
                for e in net.projections:
                    if e.source != node.name:
                        continue
                    lists: set[int] = set()
                    for j in np.flatnonzero(matrix[id(e)][:, n]).tolist():
                        core = home[e.target, j]
                        total["synops"][core, (now + 1) % steps] += spikes
                        lists.add(core)
                    for core in lists:
                        total["lists"][core, (now + 1) % steps] += spikes
                    targets |= lists
                for core in targets:
                    charged = core if me is None else me
                    to = cores[core]
                    total["messages"][charged, now] += spikes
                    total["interchip"][charged, now] += spikes * abs(to.chip - chip)
                    here, there = [x, y], (to.chip * width + to.x, to.y)
                    for axis, name in ((0, "hops_ew"), (1, "hops_ns")):
                        while here[axis] != there[axis]:
                            step = 1 if here[axis] < there[axis] else -1
                            key = (now, here[0], here[1], axis, step)
                            links[key] = links.get(key, 0) + spikes
                            total[name][charged, now] += spikes
                            here[axis] += step
                if me is not None:
                    active = int(act.active[node.name][t, n])
                    total["spikes"][me, now] += spikes
                    total["updates_active"][me, now] += active
                    total["updates_idle"][me, now] += act.samples - active
                    if t == 0 and node.name not in memoryless:
                        total["resets"][me, now] += act.samples
    busiest = [max((v for key, v in links.items() if key[0] == t), default=0) for t in range(steps)]
    return total, np.array(busiest)


def assert_counts_by_hand(net: QuantNet, placement: Placement, act: Activity) -> None:
    schedule = balance(net)
    counts = count(act, placement, net, schedule, LOIHI2)
    expected, links = by_hand(act, placement, net, schedule, 8)
    for name, values in expected.items():
        got = np.zeros_like(values)
        np.add.at(got, [cell.core for cell in counts.cells], counts.by[name])
        np.testing.assert_array_equal(got, values, err_msg=name)
    np.testing.assert_array_equal(counts.links, links)
    sizes = {s.name: 1 if s.bits <= 8 else 2 for s in net.sources}
    assert counts.input_bytes == sum(int(act.spikes[name].sum()) * size for name, size in sizes.items())
    assert (counts.samples, counts.steps) == (act.samples, net.steps)
    assert (counts.chips, counts.cores) == (placement.chips, len(placement.cores))
    assert counts.depth == max(schedule.depth[name] for name in net.outputs)
    assert counts.nodes == tuple(n.name for n in (*net.sources, *net.populations))


@settings(max_examples=15)
@given(SEEDS)
def test_every_counter_equals_a_count_by_hand(seed: int) -> None:
    rng = np.random.default_rng(seed)
    net = skip_network(rng)
    act = activity(net, rng)
    spread = place(net, balance(net), small(LOIHI2, neurons=12))
    for placement in (scattered(net, rng, LOIHI2), place(net, balance(net), LOIHI2), spread):
        assert_counts_by_hand(net, placement, act)


@settings(max_examples=15)
@given(SEEDS)
def test_every_counter_of_any_network_equals_a_count_by_hand(seed: int) -> None:
    rng = np.random.default_rng(seed)
    net = looped(seed)
    assert_counts_by_hand(net, scattered(net, rng, LOIHI2, chips=3, cores=4), activity(net, rng, 2))


@given(SEEDS)
def test_counters_of_both_runs_together_are_the_sum(seed: int) -> None:
    rng = np.random.default_rng(seed)
    net = looped(seed)
    a, b = activity(net, rng, 2), activity(net, rng, 3)
    placement, schedule = scattered(net, rng, LOIHI2), balance(net)
    one, two, both = (count(act, placement, net, schedule, LOIHI2) for act in (a, b, a + b))
    for name in COUNTERS:
        np.testing.assert_array_equal(one.by[name] + two.by[name], both.by[name])
    assert one.input_bytes + two.input_bytes == both.input_bytes
    assert both.cells == one.cells == two.cells
    assert (both.links <= one.links + two.links).all()
    assert (both.links >= np.maximum(one.links, two.links)).all()


@given(SEEDS, st.integers(1, 5))
def test_cores_and_layers_both_add_up_to_the_network(seed: int, samples: int) -> None:
    rng = np.random.default_rng(seed)
    net = looped(seed)
    act = activity(net, rng, samples)
    counts = count(act, scattered(net, rng, LOIHI2), net, balance(net), LOIHI2)
    for values in counts.by.values():
        by_core = [values[[i for i, c in enumerate(counts.cells) if c.core == k]].sum() for k in range(counts.cores)]
        by_node = [values[[i for i, c in enumerate(counts.cells) if c.node == n]].sum() for n in counts.nodes]
        assert sum(by_core) == sum(by_node) == values.sum()
    neurons = sum(prod(p.shape) for p in net.populations)
    assert sum(c.neurons for c in counts.cells) == neurons
    updates = counts.by["updates_active"] + counts.by["updates_idle"]
    assert (updates.sum(axis=0) == neurons * samples).all()
    assert counts.by["spikes"].sum() == sum(act.spikes[p.name].sum() for p in net.populations)
    synops = sum(int((act.spikes[e.source] @ (e.map.matrix() != 0).T).sum()) for e in net.projections)
    assert counts.by["synops"].sum() == synops


@given(SEEDS)
def test_nothing_in_and_no_bias_is_no_event_but_idle_updates_and_resets(seed: int) -> None:
    rng = np.random.default_rng(seed)
    net = looped(seed)
    counts = count(silent(net), scattered(net, rng, LOIHI2), net, balance(net), LOIHI2)
    neurons = sum(prod(p.shape) for p in net.populations)
    kept = sum(prod(p.shape) for p in net.populations if not p.memoryless)
    totals = {name: int(values.sum()) for name, values in counts.by.items() if values.any()}
    assert totals.pop("updates_idle") == 3 * neurons * net.steps
    assert totals == ({"resets": 3 * kept} if kept else {})
    assert counts.input_bytes == 0 and not counts.links.any()
    assert set(counts.link_names) == {"none"}


@pytest.mark.parametrize(("bits", "each"), [(1, 1), (8, 1), (9, 2), (16, 2), (17, 3)])
def test_input_values_take_whole_bytes(bits: int, each: int) -> None:
    one = Dense(np.ones((1, 1), np.int8), (1,), (1,))
    net = quantnet(
        [QuantSource("x", (1,), bits, 1.0)], [population("n", (1,))], [QuantProjection("x", "n", one, -12)], 2
    )
    act = replace(silent(net), spikes={"x": np.array([[2], [3]]), "n": np.zeros((2, 1), np.int64)})
    counts = count(act, place(net, balance(net), LOIHI2), net, balance(net), LOIHI2)
    assert counts.input_bytes == 5 * each


@pytest.mark.parametrize(("spiking", "bytes_out"), [(True, 4 * 7), (False, 4 * 3 * 1)])
def test_what_is_read_takes_a_word_each(spiking: bool, bytes_out: int) -> None:
    one = Dense(np.ones((1, 1), np.int8), (1,), (1,))
    last = population("n", (1,)) if spiking else readout("n", (1,))
    net = quantnet([QuantSource("x", (1,), 1, 1.0)], [last], [QuantProjection("x", "n", one, -12)], 2)
    sent = np.array([[3], [4]]) if spiking else np.zeros((2, 1), np.int64)
    act = replace(silent(net), samples=4 if spiking else 3, spikes={"x": np.zeros((2, 1), np.int64), "n": sent},
                  active={"n": np.full((2, 1), 4 if spiking else 3)})  # fmt: skip
    assert count(act, place(net, balance(net), LOIHI2), net, balance(net), LOIHI2).output_bytes == bytes_out


def test_a_pipeline_counts_each_step_where_it_happens() -> None:
    """x -> a -> b, three steps, one neuron each on two cores: a sends at its step, b computes one later, modulo 3."""
    one = Dense(np.ones((1, 1), np.int8), (1,), (1,))
    net = quantnet(
        [QuantSource("x", (1,), 1, 1.0)],
        [population("a", (1,)), population("b", (1,), decay=4096)],
        [QuantProjection("x", "a", one, 0), QuantProjection("a", "b", one, 0)],
        3,
    )
    cores = (
        Core(0, 0, 0, 0, (Slice("a", np.array([0])),), {}),
        Core(1, 4, 1, 0, (Slice("b", np.array([0])),), {}),
    )
    zero = np.zeros((3, 1), np.int64)
    first, last = np.array([[5], [0], [0]]), np.array([[0], [0], [4]])
    act = Activity(5, 3, {"x": first, "a": last, "b": zero}, {"a": last, "b": first})
    counts = count(act, Placement("loihi2", 2, cores), net, balance(net), LOIHI2)
    assert counts.cells == (Cell(0, "a", 1), Cell(1, "b", 1), Cell(0, "x", 0))
    assert counts.depth == 2 and counts.chips == 2
    expected: dict[str, list[list[int]]] = {
        "synops": [[0, 5, 0], [0, 4, 0], [0, 0, 0]],  # x at 0 arrives at 1; a at 2 + 1 = 0 arrives at 1
        "lists": [[0, 5, 0], [0, 4, 0], [0, 0, 0]],
        "spikes": [[4, 0, 0], [0, 0, 0], [0, 0, 0]],
        "updates_active": [[4, 0, 0], [0, 0, 5], [0, 0, 0]],
        "updates_idle": [[1, 5, 5], [5, 5, 0], [0, 0, 0]],
        "messages": [[4, 0, 0], [0, 0, 0], [5, 0, 0]],
        "hops_ew": [[36, 0, 0], [0, 0, 0], [0, 0, 0]],  # nine routers east, on the next chip
        "hops_ns": [[0, 0, 0]] * 3,
        "interchip": [[4, 0, 0], [0, 0, 0], [0, 0, 0]],
        "resets": [[0, 5, 0], [0, 0, 0], [0, 0, 0]],
    }
    assert {name: values.tolist() for name, values in counts.by.items()} == expected
    assert counts.links.tolist() == [4, 0, 0]
    assert counts.link_names == ("link east of router (0, 0)", "none", "none")


@given(SEEDS)
def test_chips_sit_side_by_side_whatever_their_width(seed: int) -> None:
    rng = np.random.default_rng(seed)
    net = skip_network(rng)
    narrow = small(LOIHI2, mesh_width=3, mesh_height=2, cores=24)
    placement, schedule, act = scattered(net, rng, narrow, chips=3), balance(net), activity(net, rng)
    counts = count(act, placement, net, schedule, narrow)
    expected, links = by_hand(act, placement, net, schedule, 3)
    assert counts.by["hops_ew"].sum() == expected["hops_ew"].sum()
    np.testing.assert_array_equal(counts.links, links)


def test_links_are_loaded_along_x_first_then_y() -> None:
    routes = np.array([[0, 0, 2, 1], [1, 0, 2, 0], [2, 1, 2, 0], [2, 0, 1, 0]])
    loads = np.array([[5, 0, 0], [2, 0, 0], [1, 9, 0], [0, 0, 4]])
    load_, names = busiest_links(routes, loads, (3, 2))
    assert load_.tolist() == [7, 9, 4]
    assert names == ("link east of router (1, 0)", "link north of router (2, 1)", "link west of router (2, 0)")


def test_every_direction_names_the_router_it_leaves() -> None:
    routes = np.array([[1, 2, 2, 2], [2, 2, 1, 2], [1, 1, 1, 2], [1, 2, 1, 1], [3, 3, 3, 3]])
    loads = np.eye(5, dtype=np.int64) * 3
    load_, names = busiest_links(routes, loads, (4, 4))
    assert load_.tolist() == [3, 3, 3, 3, 0]
    assert names == (
        "link east of router (1, 2)",
        "link west of router (2, 2)",
        "link south of router (1, 1)",
        "link north of router (1, 2)",
        "none",
    )


def test_the_column_of_a_route_is_where_it_ends_and_the_row_where_it_starts() -> None:
    load_, names = busiest_links(np.array([[0, 0, 0, 3], [3, 0, 0, 3]]), np.array([[2], [1]]), (4, 4))
    assert load_.tolist() == [3] and names == ("link south of router (0, 0)",)
    load_, names = busiest_links(np.array([[0, 2, 3, 0], [0, 2, 3, 2]]), np.array([[2], [1]]), (4, 3))
    assert load_.tolist() == [3] and names == ("link east of router (0, 2)",)


def test_of_equal_links_the_first_is_named() -> None:
    load_, names = busiest_links(
        np.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]]), np.array([[2], [2], [2]]), (2, 2)
    )
    assert load_.tolist() == [2] and names == ("link east of router (0, 0)",)


def counted() -> Counts:
    rng = np.random.default_rng(3)
    net = skip_network(rng)
    return count(activity(net, rng), scattered(net, rng, LOIHI2), net, balance(net), LOIHI2)


def changed(counts: Counts, name: str, where: Any, value: Any) -> Counts:
    by = {**counts.by, name: counts.by[name].copy()}
    by[name][where] = value
    return replace(counts, by=by)


def test_books_that_do_not_balance_are_refused() -> None:
    good = counted()
    verify(good)
    by, seen = good.by, good.cells[0].neurons * good.samples
    busy = tuple(k[0] for k in np.nonzero(by["synops"]))
    cell = good.cells[0]
    assert seen > 3
    cases: list[tuple[Counts, str]] = [
        (replace(good, by={n: v for n, v in by.items() if n != "lists"}), "counters are missing"),
        (replace(good, by={**by, "more": by["lists"]}), "counters are missing"),
        (replace(good, by={**by, "lists": by["lists"][:, 1:]}), f"lists is int64({len(good.cells)}, 4)"),
        (replace(good, by={**by, "lists": by["lists"][1:]}), f"lists is int64({len(good.cells) - 1}, 5)"),
        (replace(good, by={**by, "hops_ns": by["hops_ns"] * 1.0}), f"hops_ns is float64({len(good.cells)}, 5)"),
        (changed(good, "messages", (0, 0), -1), "messages is negative"),
        (changed(good, "updates_idle", (0, 0), by["updates_idle"][0, 0] + 1), "a neuron is not updated once a step"),
        (
            changed(good, "updates_active", (0, 0), by["updates_active"][0, 0] + 1),
            "a neuron is not updated once a step",
        ),
        (changed(good, "spikes", (0, 0), seen + 1), "a neuron spikes more than once a step"),
        (changed(good, "resets", (0, 0), -seen), "resets is negative"),
        (changed(good, "resets", (0, 0), 1), "some neurons of a population are reset"),
        (changed(good, "lists", busy, by["synops"][busy] + 1), "a list holds no synapse"),
        (
            changed(good, "interchip", (0, 0), by["hops_ew"][0, 0] + by["hops_ns"][0, 0] + 1),
            "a chip is crossed without a hop",
        ),
        (replace(good, chips=1), "one chip sends to another"),
        (replace(good, links=good.links[1:]), "links"),
        (replace(good, link_names=good.link_names[1:]), "links"),
        (replace(good, links=by["messages"].sum(axis=0) + 1), "a link carries what none sent"),
        (replace(good, links=good.links - good.links - 1), "a link carries what none sent"),
        (replace(good, cores=cell.core), f"no core {cell.core} or node {cell.node}"),
        (replace(good, cells=(replace(cell, core=9), *good.cells[1:])), f"no core 9 or node {cell.node}"),
        (replace(good, cells=(replace(cell, core=-1), *good.cells[1:])), f"no core -1 or node {cell.node}"),
        (replace(good, cells=(replace(cell, node="?"), *good.cells[1:])), f"no core {cell.core} or node ?"),
    ]
    for wrong, message in cases:
        with pytest.raises(AssertionError) as error:
            verify(wrong)
        assert str(error.value) == message


def test_books_at_their_edges_are_accepted() -> None:
    good = counted()
    seen = good.cells[0].neurons * good.samples
    verify(replace(good, by={**good.by, "messages": good.by["messages"] + 1}))
    verify(changed(good, "spikes", (0, 0), seen))
    verify(changed(good, "resets", (0, 0), seen))
    verify(changed(good, "interchip", (0, 0), good.by["hops_ew"][0, 0] + good.by["hops_ns"][0, 0]))
    verify(replace(good, links=good.by["messages"].sum(axis=0)))
    verify(replace(changed(good, "interchip", slice(None), 0), chips=1))
    nothing = {name: np.zeros((0, 5), np.int64) for name in COUNTERS}
    verify(replace(good, cells=(), by=nothing, links=np.zeros(5, np.int64)))
    assert {f.name for f in fields(Counts)} >= {"by", "links", "cells"}


def test_counting_another_network_is_refused() -> None:
    rng = np.random.default_rng(0)
    net = skip_network(rng)
    act = activity(net, rng)
    with pytest.raises(AssertionError, match="3 samples, 5 steps"):
        count(act, place(net, balance(net), LOIHI2), replace(net, steps=4), balance(net), LOIHI2)


@pytest.mark.parametrize("kind", [Cell, Counts, Activity, Core, Placement, Slice])
def test_what_was_counted_cannot_be_changed(kind: Any) -> None:
    assert kind.__dataclass_params__.frozen and kind.__dataclass_params__.eq == (kind is Cell)
