"""Energies are counters times constants, the books balance, and a published measurement is met."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import population, quantnet
from hypothesis import given
from hypothesis import strategies as st
from mapping import SEEDS, activity, looped, priced, quantity, scattered, silent, skip_network

from snnergy.deploy import evidence
from snnergy.deploy.counts import COUNTERS, Cell, Counts
from snnergy.deploy.energy import ENDS, OPS, Driver, EnergyReport, Interval, cost, verify
from snnergy.deploy.latency import loads, terms
from snnergy.deploy.monte_carlo import draw
from snnergy.deploy.place import place
from snnergy.deploy.price import price
from snnergy.deploy.schedule import balance
from snnergy.export.maps import Dense
from snnergy.export.quantnet import QuantNet, QuantProjection, QuantSource
from snnergy.hardware_profiles import EnergyCosts, PowerCosts, Profile, TimeCosts, load

CASE = Path(__file__).parents[2] / "shared" / "cases" / "pilotnet-lif-loihi2" / "case.json"
LOIHI2 = load("loihi2")
PRICES = {
    "synops": ("synop",),
    "lists": ("list_fetch",),
    "updates_active": ("update_active",),
    "updates_idle": ("update_idle",),
    "spikes": ("spike",),
    "messages": ("message_out", "message_in"),
    "hops_ew": ("hop_ew",),
    "hops_ns": ("hop_ns",),
    "interchip": ("interchip",),
    "resets": ("reset",),
}
"""What each counter costs, written down anew."""
KIND = {
    "lists": "synops",
    "updates_active": "updates",
    "updates_idle": "updates",
    "hops_ew": "hops",
    "hops_ns": "hops",
}
INTERVALS = ("dynamic_pj", "static_pj", "host_pj", "total_pj", "step_ns", "latency_ns", "period_ns", "edp_js")


def ends(value: Interval) -> list[float]:
    return [value.low, value.nominal, value.high]


def random_price(seed: int) -> EnergyReport:
    """Any network, thrown over two chips, at prices that all differ and none of which is 0."""
    rng = np.random.default_rng(seed)
    net, profile = looped(seed), random_profile(rng)
    return price(activity(net, rng), scattered(net, rng, profile), net, balance(net), profile)


def random_profile(rng: np.random.Generator) -> Profile:
    def table(name: str, kind: Any) -> dict[str, Any]:
        return {f"{name}__{f.name}": quantity(*np.sort(rng.uniform(0.1, 9, 3)).tolist()) for f in fields(kind)}

    return priced(**table("energy_pj", EnergyCosts), **table("time_ns", TimeCosts), **table("power_mw", PowerCosts))


# the laws of the books


@given(SEEDS)
def test_cores_layers_and_operations_each_add_up_to_the_total(seed: int) -> None:
    report = random_price(seed)
    dynamic = ends(report.dynamic_pj)
    np.testing.assert_allclose(report.per_core().sum(axis=(0, 1)), dynamic, rtol=1e-12)
    np.testing.assert_allclose(sum(report.per_layer().values()).sum(axis=0), dynamic, rtol=1e-12)
    np.testing.assert_allclose(report.energy_pj.sum(axis=0).sum(axis=0), dynamic, rtol=1e-12)
    assert tuple(report.per_layer()) == report.counts.nodes
    for k, end in enumerate(("low", "value", "high")):
        expected = sum(
            report.counters[c] * getattr(getattr(report.profile.energy_pj, name), end)
            for c, names in PRICES.items()
            for name in names
        )
        assert dynamic[k] == pytest.approx(expected, rel=1e-12)
    total = report.dynamic_pj + report.static_pj + report.host_pj + report.io_pj
    assert report.total_pj == total
    np.testing.assert_allclose(
        ends(report.edp_js), np.multiply(ends(total), ends(report.latency_ns)) * 1e-21, rtol=1e-12
    )


@given(SEEDS)
def test_every_number_is_finite_not_negative_and_inside_its_interval(seed: int) -> None:
    for report in (random_price(seed), random_loihi(seed)):
        for name in INTERVALS:
            value: Interval = getattr(report, name)
            assert 0 <= value.low <= value.nominal <= value.high < np.inf, name
        for values in (report.energy_pj, report.per_core(), *report.per_layer().values()):
            assert np.isfinite(values).all() and (values >= 0).all() and (np.diff(values, axis=-1) >= 0).all()


def random_loihi(seed: int) -> EnergyReport:
    rng = np.random.default_rng(seed)
    net = looped(seed)
    return price(activity(net, rng), place(net, balance(net), LOIHI2), net, balance(net), LOIHI2)


@given(SEEDS)
def test_each_cell_pays_for_its_own_events(seed: int) -> None:
    report = random_price(seed)
    kinds = list(OPS)
    expected = np.zeros(report.energy_pj.shape)
    for counter, names in PRICES.items():
        events = report.counts.by[counter].sum(axis=1) / report.counts.samples
        for name in names:
            q = getattr(report.profile.energy_pj, name)
            expected[:, kinds.index(KIND.get(counter, counter))] += np.outer(events, [q.low, q.value, q.high])
    np.testing.assert_allclose(report.energy_pj, expected, rtol=1e-12)
    assert kinds == ["synops", "updates", "spikes", "messages", "hops", "interchip", "resets"]
    assert ENDS == ("low", "nominal", "high")


@given(SEEDS)
def test_no_input_and_no_bias_costs_no_synop_spike_message_or_hop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    net, profile = looped(seed), random_profile(rng)
    report = price(silent(net), scattered(net, rng, profile), net, balance(net), profile)
    spent = {op for k, op in enumerate(OPS) if report.energy_pj[:, k].any()}
    assert spent <= {"updates", "resets"} and "updates" in spent
    assert report.counters["updates_active"] == 0


@given(SEEDS)
def test_the_energy_of_a_mixture_is_the_mean_over_its_samples(seed: int) -> None:
    rng = np.random.default_rng(seed)
    net, profile = looped(seed), random_profile(rng)
    placement, schedule = scattered(net, rng, profile), balance(net)
    a, b = activity(net, rng, 2), activity(net, rng, 3)
    one, two, both, back = (price(act, placement, net, schedule, profile) for act in (a, b, a + b, b + a))
    np.testing.assert_allclose((2 * one.energy_pj + 3 * two.energy_pj) / 5, both.energy_pj, rtol=1e-12)
    np.testing.assert_array_equal(both.energy_pj, back.energy_pj)
    again = price(a + a, placement, net, schedule, profile)
    np.testing.assert_allclose(again.energy_pj, one.energy_pj, rtol=1e-12)
    np.testing.assert_allclose(ends(again.latency_ns), ends(one.latency_ns), rtol=1e-12)


@given(SEEDS, st.sampled_from(["energy_pj", "time_ns", "power_mw"]), st.sampled_from([0.5, 2.0, 4.0]))
def test_scaling_all_constants_of_a_kind_scales_what_they_price(seed: int, table: str, by: float) -> None:
    before = random_price(seed)
    constants = getattr(before.profile, table)
    scaled = {
        f.name: quantity(q.low * by, q.value * by, q.high * by)
        for f in fields(constants)
        if (q := getattr(constants, f.name))
    }
    profile = replace(before.profile, **{table: replace(constants, **scaled)})
    after = cost(before.counts, profile, before.placement)
    factors = {
        "energy_pj": {"dynamic_pj": by},
        "time_ns": dict.fromkeys(("step_ns", "latency_ns", "period_ns", "static_pj", "host_pj"), by),
        "power_mw": {"static_pj": by, "host_pj": by},
    }[table]
    for name in INTERVALS:
        if name not in ("total_pj", "edp_js"):  # sums and products of the others
            expected = np.multiply(ends(getattr(before, name)), factors.get(name, 1.0))
            np.testing.assert_allclose(ends(getattr(after, name)), expected, rtol=1e-12, err_msg=name)


@given(SEEDS, st.sampled_from(COUNTERS), st.integers(1, 9))
def test_one_more_event_costs_its_price_and_never_saves_time(seed: int, counter: str, more: int) -> None:
    before = random_price(seed)
    values = before.counts.by[counter].copy()
    values[0, 0] += more
    after = cost(replace(before.counts, by={**before.counts.by, counter: values}), before.profile, before.placement)
    each = sum(getattr(before.profile.energy_pj, name).value for name in PRICES[counter])
    added = after.dynamic_pj.nominal - before.dynamic_pj.nominal
    assert added == pytest.approx(each * more / before.counts.samples, rel=1e-6)
    for name in INTERVALS:
        assert (np.array(ends(getattr(after, name))) >= ends(getattr(before, name))).all()


# time and power


@given(SEEDS)
def test_a_step_is_its_slowest_term_or_at_worst_their_sum(seed: int) -> None:
    report = random_price(seed)
    load, counts = loads(report.counts), report.counts
    ns = [
        {f.name: getattr(getattr(report.profile.time_ns, f.name), end) for f in fields(TimeCosts)}
        for end in ("low", "value", "high")
    ]
    low, nominal, high = (terms(load, constants)[0] for constants in ns)
    period = [low.max(axis=0).sum(), nominal.max(axis=0).sum(), high.sum()]
    np.testing.assert_allclose(ends(report.period_ns), period, rtol=1e-12)
    np.testing.assert_allclose(ends(report.step_ns), np.divide(period, counts.steps), rtol=1e-12)
    steps = counts.depth + counts.steps
    np.testing.assert_allclose(ends(report.latency_ns), np.multiply(ends(report.step_ns), steps), rtol=1e-12)
    power = report.profile.power_mw
    assert power.chip_many is not None
    for k, end in enumerate(("low", "value", "high")):
        static = getattr(power.chip_many, end) * counts.chips + getattr(power.core, end) * counts.cores
        assert ends(report.static_pj)[k] == pytest.approx(static * period[k], rel=1e-12)
        assert ends(report.host_pj)[k] == pytest.approx(getattr(power.host, end) * counts.chips * period[k], rel=1e-12)
    assert report.bound_by in report.binding
    assert all(report.binding.count(report.bound_by) >= report.binding.count(b) for b in report.binding)


def test_what_binds_most_steps_is_named_the_first_on_a_tie() -> None:
    table = {"a": [{"neurons": 1, "synops": 1.0}], "b": [{"neurons": 1}]}
    counts = cells(table, steps=4, samples=1)
    by = {**counts.by, "synops": np.array([[9, 0, 0, 0], [0, 9, 0, 0]])}
    profile = priced(time_ns__synop=quantity(1, 1, 1), time_ns__barrier=quantity(2, 2, 2))
    report = cost(replace(counts, by=by), profile)
    assert report.binding == ("synops of core 0 (a)", "synops of core 1 (b)", "barrier", "barrier")
    assert report.bound_by == "barrier"
    by["synops"] = np.array([[9, 0, 9, 0], [0, 9, 0, 9]])
    assert cost(replace(counts, by=by), profile).bound_by == "synops of core 0 (a)"


@pytest.mark.parametrize(
    ("chips", "many", "mw"), [(1, None, 2.0 + 15), (1, 7.0, 2.0 + 15), (2, 7.0, 14 + 15), (2, None, 4 + 15)]
)
def test_several_chips_have_their_own_idle_power(chips: int, many: float | None, mw: float) -> None:
    profile = priced(
        power_mw__chip=quantity(2, 2, 2),
        power_mw__chip_many=None if many is None else quantity(many, many, many),
        power_mw__core=quantity(5, 5, 5),
        power_mw__host=quantity(11, 11, 11),
        time_ns__barrier=quantity(100, 100, 100),
    )
    counts = replace(cells({"a": [{"neurons": 1}] * 3}, steps=2), chips=chips)
    report = cost(counts, profile)
    assert ends(report.period_ns) == [200.0] * 3
    assert ends(report.static_pj) == [mw * 200.0] * 3
    assert ends(report.host_pj) == [11.0 * chips * 200.0] * 3


def test_input_and_output_are_priced_by_the_byte_and_by_the_power_of_the_interfaces() -> None:
    profile = priced(
        energy_pj__input_byte=quantity(1, 2, 3),
        energy_pj__output_byte=quantity(10, 20, 30),
        power_mw__io=quantity(5, 6, 7),
        **dict.fromkeys(("power_mw__chip", "power_mw__chip_many", "power_mw__core", "power_mw__host")),
        time_ns__barrier=quantity(100, 100, 100),
    )
    counts = replace(cells({"a": [{"neurons": 1}]}, steps=2, samples=4), input_bytes=40, output_bytes=8, chips=2)
    report = cost(counts, profile)
    assert ends(report.io_pj) == [1 * 10 + 10 * 2 + 5 * 400, 2 * 10 + 20 * 2 + 6 * 400, 3 * 10 + 30 * 2 + 7 * 400]
    assert report.total_pj == report.io_pj and report.dynamic_pj == Interval(0, 0, 0)
    found = {d.constant: (d.low, d.high) for d in report.tornado}
    assert found["energy_pj.input_byte"] == (2450, 2470) and found["energy_pj.output_byte"] == (2440, 2480)
    assert found["power_mw.io"] == (2060, 2860)
    draws = draw(counts, profile)
    assert (draws.total_pj > 30 + 2000).all() and (draws.total_pj < 90 + 2800).all() and draws.total_pj.std() > 0
    shares = evidence.shares(report)
    assert sum(shares.values()) == pytest.approx(1, rel=1e-12)


@given(SEEDS)
def test_bytes_go_in_by_the_value_and_come_out_by_the_word(seed: int) -> None:
    rng = np.random.default_rng(seed)
    net = looped(seed)
    act = activity(net, rng, 3)
    counts = price(act, scattered(net, rng, LOIHI2), net, balance(net), LOIHI2).counts
    populations = {p.name: p for p in net.populations}
    words = 0
    for name in net.outputs:
        p = populations[name]
        words += int(act.spikes[name].sum()) if p.spiking else 3 * p.threshold.size
    assert counts.output_bytes == 4 * words
    assert counts.input_bytes == sum(int(act.spikes[s.name].sum()) * -(-s.bits // 8) for s in net.sources)


# what moves the total


@given(SEEDS)
def test_a_driver_is_the_total_with_that_constant_alone_at_its_ends(seed: int) -> None:
    report = random_price(seed)
    found = {d.constant: d for d in report.tornado}
    nothing = []
    tables = {"energy_pj": EnergyCosts, "time_ns": TimeCosts, "power_mw": PowerCosts}
    for key in (f"{table}.{f.name}" for table, kind in tables.items() for f in fields(kind)):
        table, name = key.split(".")
        q = getattr(getattr(report.profile, table), name)
        totals = []
        for value in (q.low, q.high):
            moved = replace(getattr(report.profile, table), **{name: replace(q, value=value, low=value, high=value)})
            profile = replace(report.profile, **{table: moved})
            totals.append(cost(report.counts, profile, report.placement).total_pj.nominal)
        low, high = sorted(totals)
        if key not in found:
            nothing.append(key)
            assert high - low <= 1e-12 * high, key
            continue
        driver = found.pop(key)
        np.testing.assert_allclose((driver.low, driver.high), (low, high), rtol=1e-9, err_msg=key)
        assert driver.quantity == q
    assert not found and "power_mw.chip" in nothing
    spans = [d.high - d.low for d in report.tornado]
    assert spans == sorted(spans, reverse=True) and min(spans) > 0


def test_on_one_chip_the_power_of_one_chip_is_a_driver() -> None:
    names = {d.constant for d in random_loihi(0).tornado}
    assert "power_mw.chip" in names and "power_mw.chip_many" not in names
    none = replace(LOIHI2, power_mw=replace(LOIHI2.power_mw, chip_many=None))
    two = cost(replace(random_loihi(0).counts, chips=2), none)
    assert "power_mw.chip" in {d.constant for d in two.tornado}


# what is said beside the numbers


def test_what_is_not_priced_is_listed() -> None:
    rng = np.random.default_rng(2)
    net = skip_network(rng)
    act = activity(net, rng)
    always = [
        "energy of moving inputs to the chip: not published",
        "energy of reading outputs from the chip: not published",
        "power of the interfaces to the outside: not published",
        "configuration: loading weights and programs onto the chip",
        "time to move inputs and outputs between host and chip",
        "energy of the barrier that ends a time step, but for what the power of the chip holds of it",
        "the host computer, sensors, encoding of the input, power conversion",
        "padding: unused neurons of fixed-size convolution tiles, unless mapped with --partition fixed or --tiling",
    ]
    two = price(act, scattered(net, rng, LOIHI2), net, balance(net), LOIHI2)
    one = price(act, place(net, balance(net), LOIHI2), net, balance(net), LOIHI2)
    assert list(one.unpriced) == always
    assert list(two.unpriced) == ["energy of the links between chips: not published", *always]
    all_known = random_price(0)
    assert list(all_known.unpriced) == always[3:]
    assert not LOIHI2.energy_pj.interchip and not two.energy_pj[:, list(OPS).index("interchip")].any()


def test_the_network_is_described_by_its_sizes() -> None:
    rng = np.random.default_rng(2)
    net = skip_network(rng)
    placement = place(net, balance(net), LOIHI2)
    report = price(activity(net, rng), placement, net, balance(net), LOIHI2)
    synapses = sum(int(e.map.matrix().nnz) for e in net.projections)
    assert report.network == {"neurons": 69, "synapses": synapses, "populations": 3, "projections": 4, "depth": 3}
    assert report.placement is placement and report.profile is LOIHI2
    assert cost(report.counts, LOIHI2).network == {}


def test_the_depth_is_that_of_the_last_output() -> None:
    one = Dense(np.ones((1, 1), np.int8), (1,), (1,))
    names = ("a", "b", "c")
    edges = [QuantProjection(x, y, one, 0) for x, y in zip(("x", "a", "b"), names, strict=True)]
    net: QuantNet = quantnet(
        [QuantSource("x", (1,), 1, 1.0)], [population(n, (1,)) for n in names], edges, 2, ("a", "b")
    )
    report = price(silent(net), place(net, balance(net), LOIHI2), net, balance(net), LOIHI2)
    assert report.network["depth"] == report.counts.depth == 2


def test_counters_are_means_over_the_samples() -> None:
    report = random_loihi(4)
    for name, value in report.counters.items():
        assert value * report.counts.samples == pytest.approx(report.counts.by[name].sum(), rel=1e-12)
    assert set(report.counters) == set(COUNTERS)


def test_intervals_add_and_multiply_end_by_end() -> None:
    a, b = Interval(1, 2, 4), Interval(3, 5, 7)
    assert a + b == Interval(4, 7, 11)
    assert a * b == Interval(3, 10, 28)
    assert a * 2.5 == Interval(2.5, 5, 10)
    assert str(Interval(0.00012345678, 12345.678, 1e20)) == "1.235e+04 (0.0001235..1e+20)"


def broken(report: EnergyReport, kind: str) -> EnergyReport:
    energy = report.energy_pj.copy()
    total, dynamic = report.total_pj, report.dynamic_pj
    if kind == "shape":
        return replace(report, energy_pj=energy[:, :-1])
    if kind == "more cells":
        return replace(report, energy_pj=np.concatenate([energy, energy[:1]]))
    if kind in ("negative", "nan", "infinite"):
        energy[0, 0] = {"negative": -1.0, "nan": np.nan, "infinite": np.inf}[kind]
        return replace(report, energy_pj=energy)
    if kind == "disorder":
        energy[0, 1, 2] = energy[0, 1, 1] / 2
        return replace(report, energy_pj=energy)
    if kind == "slight disorder":
        energy[0, 1] = [0.3, 0.2, 0.4]
        return replace(report, energy_pj=energy)
    if kind == "below zero":
        return replace(report, static_pj=Interval(-0.5, 1.0, 3.0))
    if kind == "interval":
        return replace(report, host_pj=Interval(2.0, 1.0, 3.0))
    if kind == "endless":
        return replace(report, edp_js=Interval(0.0, 1.0, np.inf))
    if kind == "cores":
        return replace(report, energy_pj=energy * (1 + 1e-9))
    if kind == "total":
        return replace(report, total_pj=total + Interval(0.0, 0.0, total.high * 1e-9))
    if kind == "dynamic":
        return replace(report, dynamic_pj=dynamic * (1 + 1e-9))
    if kind == "period":
        return replace(report, period_ns=report.period_ns * (1 + 1e-9))
    if kind == "binding":
        return replace(report, binding=report.binding[1:])
    if kind == "bound":
        return replace(report, bound_by="?")
    nominal = total.nominal
    low, high = {"above": (1.1 * nominal, 2 * nominal), "below": (0.0, nominal / 2)}[kind]
    return replace(report, tornado=(Driver("c", low, high, report.tornado[0].quantity),))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("shape", r"^energy of \(\d+, 6, 3\)$"),
        ("more cells", r"^energy of \(\d+, 7, 3\)$"),
        ("negative", "^an energy is negative or not finite$"),
        ("nan", "^an energy is negative or not finite$"),
        ("infinite", "^an energy is negative or not finite$"),
        ("disorder", "^an energy is outside its interval$"),
        ("slight disorder", "^an energy is outside its interval$"),
        ("below zero", r"^static_pj is 1 \(-0\.5\.\.3\)$"),
        ("interval", r"^host_pj is 1 \(2\.\.3\)$"),
        ("endless", r"^edp_js is 1 \(0\.\.inf\)$"),
        ("cores", "^cores do not add up$"),
        ("dynamic", "^cores do not add up$"),
        ("total", "^the total is not the sum$"),
        ("period", "^steps do not fill the period$"),
        ("binding", "^no step is bound$"),
        ("bound", "^no step is bound$"),
        ("above", "^c moves past nominal$"),
        ("below", "^c moves past nominal$"),
    ],
)
def test_books_that_do_not_balance_are_refused(kind: str, message: str) -> None:
    report = random_price(1)
    verify(report)
    with pytest.raises(AssertionError, match=message):
        verify(broken(report, kind))


def test_layers_that_do_not_add_up_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    report = random_price(1)
    wrong = {name: values * 1.001 for name, values in report.per_layer().items()}
    monkeypatch.setattr(EnergyReport, "per_layer", lambda self: wrong)
    with pytest.raises(AssertionError, match=r"^layers do not add up$"):
        verify(report)


# a measurement


def cells(table: dict[str, list[dict[str, float]]], steps: int = 1, samples: int = 16) -> Counts:
    """Counts of one mean step from counters per core and step; ``samples`` makes them whole."""
    rows = [(name, core) for name, cores in table.items() for core in cores]
    by = {
        c: np.array([[round(samples * row.get(c, 0))] * steps for _, row in rows], np.int64).reshape(-1, steps)
        for c in COUNTERS
    }
    where = tuple(Cell(i, name, round(row["neurons"])) for i, (name, row) in enumerate(rows))
    links = np.zeros(steps, np.int64)
    return Counts(tuple(table), where, by, links, ("none",) * steps, samples, steps, 1, len(rows), 0, 0, 0)


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


@pytest.mark.parametrize("kind", [Interval, Driver, EnergyReport])
def test_prices_cannot_be_changed(kind: Any) -> None:
    assert kind.__dataclass_params__.frozen and kind.__dataclass_params__.eq == (kind is not EnergyReport)
