"""Counters equal a count by hand, energies are counters times constants, and a published measurement is met."""

from __future__ import annotations

import json
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from snnergy.deploy.activity import Activity
from snnergy.deploy.count import COUNTERS, Cell, Counts, busiest_links, count
from snnergy.deploy.energy import OPS, EnergyReport, Interval, cost, price
from snnergy.deploy.place import place
from snnergy.deploy.placement import Core, Placement, Slice
from snnergy.deploy.schedule import Schedule, balance
from snnergy.export.maps import Conv, Dense, Sparse
from snnergy.export.quantnet import QuantNet, QuantPopulation, QuantProjection, QuantSource
from snnergy.hardware_profiles import Profile, load

CASE = Path(__file__).parents[2] / "shared" / "cases" / "pilotnet-lif-loihi2" / "case.json"


def network(rng: np.random.Generator) -> QuantNet:
    """in -> conv -> sparse -> dense with a skip from conv to dense; steps 5; the sparse population is memoryless."""

    def weight(*shape: int) -> np.ndarray:
        return (rng.integers(-5, 6, shape) * (rng.random(shape) < 0.6)).astype(np.int8)

    def population(name: str, shape: tuple[int, ...], decay: int) -> QuantPopulation:
        zero = np.zeros(prod(shape), np.int64)
        return QuantPopulation(name, shape, zero + decay, zero + 4096, zero + 10, zero, 0, True, 1.0)

    conv = Conv(weight(3, 2, 3, 3), (2, 4, 5), padding=(1, 1))
    n = prod(conv.output_shape)
    return QuantNet(
        (QuantSource("in", (2, 4, 5), 12, 1.0),),
        (population("a", conv.output_shape, 2048), population("b", (4,), 4096), population("c", (5,), 0)),
        (
            QuantProjection("in", "a", conv, 0),
            QuantProjection("a", "b", Sparse(csr_array(weight(4, n)), conv.output_shape, (4,)), 0),
            QuantProjection("b", "c", Dense(weight(5, 4), (4,), (5,)), 0),
            QuantProjection("a", "c", Dense(weight(5, n), conv.output_shape, (5,)), 0),
        ),
        ("c",),
        1e-3,
        5,
        8,
        (),
    )


def activity(net: QuantNet, rng: np.random.Generator, samples: int = 3) -> Activity:
    def counts(node: QuantSource | QuantPopulation) -> np.ndarray:
        return rng.integers(0, samples + 1, (net.steps, prod(node.shape)))

    nodes = (*net.sources, *net.populations)
    return Activity(
        samples, net.steps, {n.name: counts(n) for n in nodes}, {p.name: counts(p) for p in net.populations}
    )


def scattered(net: QuantNet, rng: np.random.Generator, profile: Profile, chips: int = 2, cores: int = 5) -> Placement:
    """Neurons thrown at cores at random, cores at seats at random: nothing a mapper would do."""
    width, height = profile.chip.mesh_width.whole, profile.chip.mesh_height.whole
    where = {p.name: rng.integers(0, cores, prod(p.shape)) for p in net.populations}
    placed: list[Core] = []
    for i in range(cores):
        here = {name: np.flatnonzero(at == i) for name, at in where.items()}
        slices = tuple(Slice(name, neurons) for name, neurons in here.items() if neurons.size)
        x, y = int(rng.integers(width)), int(rng.integers(height))
        placed.append(Core(int(rng.integers(chips)), i, x, y, slices, {}))
    return Placement(profile.name, chips, tuple(placed))


def by_hand(
    act: Activity, placement: Placement, net: QuantNet, schedule: Schedule, width: int
) -> dict[str, np.ndarray]:
    """Every counter per core and step of the period, one neuron, step and synapse at a time."""
    steps, cores = net.steps, placement.cores
    total = {name: np.zeros((len(cores), steps), np.int64) for name in COUNTERS}
    home = {(s.population, n): i for i, core in enumerate(cores) for s in core.slices for n in s.neurons.tolist()}
    for node in (*net.sources, *net.populations):
        for n in range(prod(node.shape)):
            for t in range(steps):
                spikes = int(act.spikes[node.name][t, n])
                now = (t + schedule.depth[node.name]) % steps
                targets: set[int] = set()
                for e in net.projections:
                    if e.source != node.name:
                        continue
                    column = e.map.matrix().toarray()[:, n]
                    lists: set[int] = set()
                    for j in np.flatnonzero(column).tolist():
                        core = home[e.target, j]
                        total["synops"][core, (now + 1) % steps] += spikes
                        lists.add(core)
                    for core in lists:
                        total["lists"][core, (now + 1) % steps] += spikes
                    targets |= lists
                me = home.get((node.name, n))
                x, y, chip = (
                    (0, 0, 0) if me is None else (cores[me].chip * width + cores[me].x, cores[me].y, cores[me].chip)
                )
                for core in targets:
                    charged = core if me is None else me
                    to = cores[core]
                    total["messages"][charged, now] += spikes
                    total["hops_ew"][charged, now] += spikes * abs(to.chip * width + to.x - x)
                    total["hops_ns"][charged, now] += spikes * abs(to.y - y)
                    total["interchip"][charged, now] += spikes * abs(to.chip - chip)
                if me is not None:
                    active = int(act.active[node.name][t, n])
                    total["spikes"][me, now] += spikes
                    total["updates_active"][me, now] += active
                    total["updates_idle"][me, now] += act.samples - active
                    if t == 0 and node.name != "b":
                        total["resets"][me, now] += act.samples
    return total


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_counter_equals_a_count_by_hand(seed: int) -> None:
    rng = np.random.default_rng(seed)
    profile, net = load("loihi2"), network(rng)
    schedule, act = balance(net), activity(net, rng)
    for placement in (scattered(net, rng, profile), place(net, schedule, profile)):
        counts = count(act, placement, net, schedule, profile)
        expected = by_hand(act, placement, net, schedule, profile.chip.mesh_width.whole)
        for name, values in expected.items():
            got = np.zeros_like(values)
            np.add.at(got, [cell.core for cell in counts.cells], counts.by[name])
            assert np.array_equal(got, values), name
        assert counts.input_bytes == 2 * act.spikes["in"].sum()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_cores_layers_and_operations_each_add_up_to_the_total(seed: int) -> None:
    rng = np.random.default_rng(seed)
    profile, net = load("loihi2"), network(rng)
    report = price(activity(net, rng), scattered(net, rng, profile), net, balance(net), profile)
    dynamic = [report.dynamic_pj.low, report.dynamic_pj.nominal, report.dynamic_pj.high]
    assert report.per_core().sum(axis=(0, 1)) == pytest.approx(dynamic)
    assert sum(report.per_layer().values()).sum(axis=0) == pytest.approx(dynamic)
    counters, energy = report.counters, profile.energy_pj
    assert report.dynamic_pj.nominal == pytest.approx(
        sum(counters[c] * getattr(energy, e).value for pairs in OPS.values() for c, e in pairs if getattr(energy, e))
    )
    assert_ordered(report)
    total = report.dynamic_pj + report.static_pj + report.host_pj
    assert report.total_pj == total
    assert report.edp_js.nominal == pytest.approx(total.nominal * 1e-12 * report.latency_ns.nominal * 1e-9)


def assert_ordered(report: EnergyReport) -> None:
    for name in ("dynamic_pj", "static_pj", "host_pj", "total_pj", "step_ns", "latency_ns", "period_ns", "edp_js"):
        value: Interval = getattr(report, name)
        assert 0 <= value.low <= value.nominal <= value.high, name
    for driver in report.tornado:
        assert driver.low <= report.total_pj.nominal * (1 + 1e-12) and report.total_pj.nominal <= driver.high * (
            1 + 1e-12
        )
    spans = [d.high - d.low for d in report.tornado]
    assert spans == sorted(spans, reverse=True)


def test_without_activity_only_idle_updates_and_resets_cost_energy() -> None:
    rng = np.random.default_rng(0)
    profile, net = load("loihi2"), network(rng)
    silent = activity(net, rng)
    silent = Activity(3, 5, {k: 0 * v for k, v in silent.spikes.items()}, {k: 0 * v for k, v in silent.active.items()})
    report = price(silent, place(net, balance(net), profile), net, balance(net), profile)
    used = {name for name, value in report.counters.items() if value}
    assert used == {"updates_idle", "resets"}
    assert report.counters["updates_idle"] == 69 * net.steps
    assert report.counters["resets"] == 65


def test_prices_do_not_depend_on_how_many_times_a_sample_was_seen() -> None:
    rng = np.random.default_rng(1)
    profile, net = load("loihi2"), network(rng)
    once = activity(net, rng)
    placement = place(net, balance(net), profile)
    a, b = (price(act, placement, net, balance(net), profile) for act in (once, once + once))
    assert a.total_pj.nominal == pytest.approx(b.total_pj.nominal)
    assert a.latency_ns.nominal == pytest.approx(b.latency_ns.nominal)


def test_links_are_loaded_along_x_first_then_y() -> None:
    routes = np.array([[0, 0, 2, 1], [1, 0, 2, 0], [2, 1, 2, 0], [2, 0, 1, 0]])
    loads = np.array([[5, 0, 0], [2, 0, 0], [1, 9, 0], [0, 0, 4]])
    load_, names = busiest_links(routes, loads, (3, 2))
    assert load_.tolist() == [7, 9, 4]
    assert names == ("link east of router (1, 0)", "link north of router (2, 1)", "link west of router (2, 0)")


def cells(table: dict[str, list[dict[str, float]]], steps: int = 1, samples: int = 16) -> Counts:
    """Counts of one mean step from counters per core and step; ``samples`` makes them whole."""
    rows = [(name, core) for name, cores in table.items() for core in cores]
    by = {
        c: np.array([[round(samples * row.get(c, 0))] * steps for _, row in rows], np.int64).reshape(-1, steps)
        for c in COUNTERS
    }
    where = tuple(Cell(i, name, round(row["neurons"])) for i, (name, row) in enumerate(rows))
    links = np.zeros(steps, np.int64)
    return Counts(tuple(table), where, by, links, ("none",) * steps, samples, steps, 1, len(rows), 0, 0)


def pilotnet(tiles: bool) -> tuple[Counts, dict[str, float]]:
    """The published per-core counters of PilotNet-LIF on one Loihi 2, and its measurement.

    tiles: whether unused neurons of the last convolution tiles, which the chip serves too, are counted
    """
    if not CASE.is_file():
        pytest.skip("the PilotNet-LIF measurement (shared/cases/pilotnet-lif-loihi2/case.json) is not here")
    case = json.loads(CASE.read_text())
    last = case["hw_tile"]["last_core_synops_per_step"] if tiles else {}
    idle_input = case["hw_tile"]["tile_neurons"] - 124_929 if tiles else 39_600
    table: dict[str, list[dict[str, float]]] = {
        "input": [{"neurons": idle_input / 13, "updates_idle": idle_input / 13} for _ in range(13)]
    }
    spikes = sum(layer["spikes_per_step"] for layer in case["layers"])
    for layer in case["layers"]:
        name, per_core = layer["name"], list(layer["per_core_nonzero"])
        per_core[-1] = last.get(name, per_core[-1])
        per_core = per_core * 25 if name == "conv1" else per_core
        part = {"neurons": layer["neurons"] / len(per_core), "spikes": layer["spikes_per_step"] / len(per_core)}
        messages = 40_000 * part["spikes"] / spikes
        rest = {
            "updates_active": part["spikes"],
            "updates_idle": part["neurons"] - part["spikes"],
            "messages": messages,
            "hops_ew": 2 * messages,
            "hops_ns": 2 * messages,
        }
        table[name] = [{"synops": synops, **part, **rest} for synops in per_core]
    return cells(table), case["measured"]


@pytest.mark.parametrize("tiles", [False, True])
def test_loihi2_meets_the_measured_dynamic_energy_of_pilotnet_within_a_tenth(tiles: bool) -> None:
    """Known result, not a blind prediction: the constants were not fitted to it, the bar was set after seeing it."""
    counts, measured = pilotnet(tiles)
    report = cost(counts, load("loihi2"))
    step_uj = measured["dynamic_W"] * measured["us_per_step"]
    events_uj = report.dynamic_pj.nominal * 1e-6
    host_uj = load("loihi2").power_mw.host.value * 1e-3 * measured["us_per_step"]
    assert events_uj == pytest.approx(64.2 if tiles else 63.4, abs=0.3)
    assert events_uj == pytest.approx(step_uj, rel=0.1)
    assert events_uj + host_uj == pytest.approx(step_uj, rel=0.1)


def test_loihi2_brackets_the_measured_time_step_of_pilotnet() -> None:
    """Mean of the busiest core over the four phases, 169,872 synops: within 30 % at nominal, inside the interval."""
    counts, measured = pilotnet(tiles=True)
    phases = json.loads(CASE.read_text())["phase"]
    busiest = sum(max(p["conv2_max"], p["conv3_max"]) for p in phases) / len(phases)
    by = dict(counts.by)
    by["synops"] = np.minimum(counts.by["synops"], round(busiest * counts.samples))
    by["synops"][counts.by["synops"].argmax()] = round(busiest * counts.samples)
    report = cost(replace(counts, by=by), load("loihi2"))
    assert report.step_ns.low <= measured["us_per_step"] * 1e3 <= report.step_ns.high
    assert report.step_ns.nominal == pytest.approx(measured["us_per_step"] * 1e3, rel=0.3)
    assert report.bound_by.startswith("synops of core ")
    total = report.total_pj.nominal * 1e-6
    assert total == pytest.approx(measured["total_W"] * measured["us_per_step"], rel=0.15)


def test_what_is_not_priced_is_listed() -> None:
    rng = np.random.default_rng(2)
    profile, net = load("loihi2"), network(rng)
    act = activity(net, rng)
    two = price(act, scattered(net, rng, profile), net, balance(net), profile)
    one = price(act, place(net, balance(net), profile), net, balance(net), profile)
    link = "energy of the links between chips: not published"
    assert link in two.unpriced and link not in one.unpriced
    assert any("barrier" in line for line in one.unpriced)
