"""Targets name chips and boards, a board limits the chips, and what a profile lacks is not priced but listed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mapping import SEEDS, activity, looped, priced, quantity, scattered

from snnergy.cli import cli
from snnergy.console import run
from snnergy.deploy.counts import COUNTERS, Cell, Counts
from snnergy.deploy.distribution import Meter
from snnergy.deploy.energy import OPS, EnergyReport, Interval, cost, unpriced
from snnergy.deploy.latency import UNKNOWN
from snnergy.deploy.price import price
from snnergy.deploy.report import RunFacts, document
from snnergy.deploy.schedule import balance
from snnergy.deploy.targets import TARGETS, boards, find, rows, sheet
from snnergy.errors import BadInput
from snnergy.hardware_profiles import EnergyCosts, PowerCosts, Profile, TimeCosts, load, names

PROFILES = Path(__file__).parents[1] / "hardware_profiles"
BOARDS = {
    "kapoho-bay": 2,
    "wolf-mountain": 4,
    "nahuku-8": 8,
    "nahuku-32": 32,
    "pohoiki-beach": 64,
    "pohoiki-springs": 768,
    "oheo-gulch": 1,
    "kapoho-point": 8,
    "vpx": 16,
    "alia-point": 32,
    "hala-point": 1152,
    "speck2f-devkit": 1,
    "spinnaker2-48": 48,
    "ns1e": 1,
    "ns16e": 16,
}
NO_TIME = "latency, static and host energy, energy-delay product: no time is published for this chip"
NEVER = 5
"""Lines that stand in every report, whatever the profile has."""


# names


def test_the_boards_are_the_systems_that_were_built() -> None:
    assert {name: target.chips for name, target in boards().items()} == BOARDS
    assert not set(boards()) & set(TARGETS)
    assert sum(len(load(name).boards) for name in names()) == len(boards()), "two chips name a board alike"
    assert not any(target.hardware for target in boards().values())


def test_every_chip_is_a_target_and_the_old_names_mean_what_they_did() -> None:
    assert {t.profile for t in TARGETS.values()} == set(names())
    assert {name: (t.profile, t.hardware, t.chips) for name, t in TARGETS.items()} == {
        "loihi2-sim": ("loihi2", False, None),
        "loihi1-sim": ("loihi1", False, None),
        "loihi2": ("loihi2", True, None),
        "spinnaker2-sim": ("spinnaker2", False, None),
        "truenorth-sim": ("truenorth", False, None),
        "speck-sim": ("speck", False, None),
    }
    assert find("loihi2-sim").load() == load("loihi2")


@pytest.mark.parametrize("name", list(BOARDS))
def test_a_board_is_its_chip_with_that_many_chips_at_most(name: str) -> None:
    target = find(name)
    profile, chip = target.load(), load(target.profile)
    assert profile.chip.chips_max.whole == target.chips == BOARDS[name]
    assert replace(profile, chip=replace(profile.chip, chips_max=chip.chip.chips_max)) == chip


def test_a_file_is_a_target_of_its_own() -> None:
    path = str(PROFILES / "loihi1.toml")
    assert find(path).load() == load("loihi1")


def test_an_unknown_target_names_the_nearest_chip_or_board() -> None:
    with pytest.raises(BadInput, match=r"^no target 'kapohopoint'; did you mean 'kapoho-point'\?$"):
        find("kapohopoint")
    with pytest.raises(BadInput, match=r"^no target 'x'; there are: loihi2-sim, loihi1-sim, .*, ns1e, ns16e$"):
        find("x")


# the commands


def said(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert run(cli, ["targets", *args]) == 0
    return capsys.readouterr().out


def test_targets_lists_chips_and_boards_with_their_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(said(capsys, "--json"))
    assert found == rows()
    assert [row["name"] for row in found] == [*TARGETS, *boards()]
    point = next(row for row in found if row["name"] == "kapoho-point")
    assert {key: point[key] for key in ("chip", "chips", "cores", "neurons", "mode", "state")} == {
        "chip": "Intel Loihi 2",
        "chips": 8,
        "cores": 120,
        "neurons": 4096,
        "mode": "simulated",
        "state": "ready",
    }
    assert {row["name"] for row in found if row["mode"] == "hardware"} == {"loihi2"}
    text = said(capsys)
    line = next(line for line in text.splitlines() if "kapoho-point" in line)
    assert line.split() == ["kapoho-point", "Intel", "Loihi", "2", "8", "120", "4,096", "simulated"]
    assert "loihi2 is not here: " in text


@pytest.mark.parametrize("name", [*TARGETS, *BOARDS, str(PROFILES / "speck.toml")])
def test_show_has_every_number_with_its_source(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(said(capsys, "show", name, "--json"))
    assert found == json.loads(said(capsys, "--json", "show", name)) == sheet(name)
    profile = find(name).load()
    assert [row["key"] for row in found["numbers"]] == [key for key, _ in profile.numbers()]
    assert all(row["source"] in profile.sources.values() and row["evidence"] for row in found["numbers"])
    assert found["missing"] == list(profile.missing())
    text = said(capsys, "show", name)
    for row in found["numbers"]:
        assert f" {row['key']} " in text
    flat = "".join(text.split())
    for words in (*profile.sources.values(), profile.note, *found["missing"]):
        assert "".join(words.split()) in flat


def test_a_value_is_shown_with_its_range_unit_and_grade(capsys: pytest.CaptureFixture[str]) -> None:
    line = next(line for line in said(capsys, "show", "truenorth-sim").splitlines() if "energy_pj.synop" in line)
    assert line.split()[:7] == ["energy_pj.synop", "2.297", "2.208", "..", "2.385", "pJ", "derived"]


def test_a_wrong_word_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["targets", "show", "truenorth"]) == 2
    assert capsys.readouterr().err == "error: no target 'truenorth'; did you mean 'truenorth-sim'?\n"
    assert run(cli, ["targets", "shw"]) == 2
    assert capsys.readouterr().err == (
        "error: No such command 'shw'. Did you mean 'show'?\nhelp: snnergy targets --help\n"
    )


# pricing with gaps

KEYS = [
    f"{table}.{name}"
    for table, kind in (("energy_pj", EnergyCosts), ("time_ns", TimeCosts), ("power_mw", PowerCosts))
    for name in kind.__dataclass_fields__
]


TIMES = [key for key in KEYS if key.startswith("time_ns.")]


def random_report(seed: int, gone: set[str]) -> EnergyReport:
    """A random network thrown over two chips, at prices that all differ, but for those that are gone."""
    rng = np.random.default_rng(seed)
    net = looped(seed)
    prices = {key: quantity(*np.sort(rng.uniform(0.1, 9, 3)).tolist()) for key in KEYS}
    profile = priced(**{key.replace(".", "__"): None if key in gone else q for key, q in prices.items()})
    return price(activity(net, rng), scattered(net, rng, profile), net, balance(net), profile)


def ends(value: Interval) -> list[float]:
    return [value.low, value.nominal, value.high]


@given(SEEDS, st.sets(st.sampled_from(KEYS)))
def test_a_total_is_the_sum_of_what_has_a_price(seed: int, gone: set[str]) -> None:
    report = random_report(seed, gone)
    energy = report.profile.energy_pj
    for k, end in enumerate(("low", "value", "high")):
        expected = sum(
            report.counters[counter] * getattr(getattr(energy, name), end)
            for pairs in OPS.values()
            for counter, name in pairs
            if f"energy_pj.{name}" not in gone
        )
        assert ends(report.dynamic_pj)[k] == pytest.approx(expected, rel=1e-12)
    power = report.profile.power_mw
    chip = power.chip_many or power.chip
    for k, end in enumerate(("low", "value", "high")):
        mw = sum(getattr(q, end) * n for q, n in ((chip, 2), (power.core, report.counts.cores)) if q)
        assert ends(report.static_pj)[k] == pytest.approx(mw * ends(report.period_ns)[k], rel=1e-12)
        host = getattr(power.host, end) * 2 if power.host else 0
        assert ends(report.host_pj)[k] == pytest.approx(host * ends(report.period_ns)[k], rel=1e-12)
    counts = report.counts
    for k, end in enumerate(("low", "value", "high")):
        io = getattr(power.io, end) * 2 * ends(report.period_ns)[k] if power.io else 0
        for q, moved in ((energy.input_byte, counts.input_bytes), (energy.output_byte, counts.output_bytes)):
            io += getattr(q, end) * moved / counts.samples if q else 0
        assert ends(report.io_pj)[k] == pytest.approx(io, rel=1e-12)
    assert report.total_pj == report.dynamic_pj + report.static_pj + report.host_pj + report.io_pj
    assert not gone & {d.constant for d in report.tornado}


@given(SEEDS, st.sets(st.sampled_from(KEYS)))
def test_each_gap_is_listed_once(seed: int, gone: set[str]) -> None:
    report = random_report(seed, gone)
    listed = report.unpriced[:-NEVER]
    single = gone - {"power_mw.chip_many"}
    if "power_mw.chip_many" not in gone:  # it stands for the other on two chips
        single -= {"power_mw.chip"}
    whole = 0
    if gone >= {f"energy_pj.{name}" for pairs in OPS.values() for _, name in pairs}:
        single, whole = {key for key in single if not key.startswith("energy_pj.")}, 1
    if gone >= set(TIMES):
        single, whole = {key for key in single if key.startswith("energy_pj.")}, whole + 1
    assert len(listed) == len(set(listed)) == len(single) + whole
    assert [line.endswith(": not published") for line in listed[whole:]] == [True] * len(single)


@given(SEEDS, st.sets(st.sampled_from([key for key in KEYS if key not in TIMES])))
def test_without_any_time_energy_is_dynamic_and_the_rest_is_said_not_to_be_known(seed: int, gone: set[str]) -> None:
    report = random_report(seed, gone | set(TIMES))
    for name in ("step_ns", "period_ns", "latency_ns", "static_pj", "host_pj", "edp_js"):
        assert getattr(report, name) == Interval(0, 0, 0), name
    assert report.total_pj == report.dynamic_pj + report.io_pj
    assert NO_TIME in report.unpriced
    assert report.bound_by == UNKNOWN == "not known: no time of this chip is published"
    assert set(report.binding) == {UNKNOWN}
    assert not any(d.constant.startswith(("time_ns", "power_mw")) for d in report.tornado)
    json.dumps(document(report, RunFacts("native")), allow_nan=False)


def test_the_sentences_of_the_chips_that_ship() -> None:
    held = "updates, spikes, messages, hops and resets by themselves: inside the energy of a synaptic operation"
    truenorth = unpriced(load("truenorth"), 1)
    assert truenorth[:2] == [
        held,
        "energy of moving inputs to the chip: not published",
    ]
    assert "time of synaptic operations: not published" in truenorth and "hops east" not in " ".join(truenorth)
    assert truenorth[-1] == load("truenorth").note
    speck = unpriced(load("speck"), 1)
    assert speck[0] == "dynamic energy: no energy per event is published for this chip"
    assert speck[-3:-1] == [
        "power of the cores in use: not published",
        "power of the interfaces to the outside: not published",
    ]
    spinnaker2 = unpriced(load("spinnaker2"), 2)
    assert NO_TIME in spinnaker2 and "energy of the links between chips: not published" in spinnaker2
    assert not [line for line in spinnaker2 if line.startswith("power")]
    for name in names():
        assert (load(name).note in unpriced(load(name), 1)) == bool(load(name).note)


def test_static_power_is_not_missing_where_it_is_inside_a_synop() -> None:
    bare = {f.removeprefix("power_mw."): None for f in KEYS if f.startswith("power_mw.")}
    profile = replace(load("loihi2"), power_mw=replace(load("loihi2").power_mw, **bare))
    own = {"power of the idle chip: not published", "power of the cores in use: not published"}
    assert own <= set(unpriced(profile, 1)) and own <= set(unpriced(replace(profile, scope="marginal"), 1))
    all_in = unpriced(replace(profile, scope="all-in"), 1)
    assert not own & set(all_in)
    assert all_in[0] == (
        "updates, spikes, messages, hops, resets and static power by themselves: "
        "inside the energy of a synaptic operation"
    )


@pytest.mark.parametrize("name", names())
def test_every_sample_is_priced_as_the_mean_is(name: str) -> None:
    report = cost(ticks(load(name), 1e3), load(name))
    net = SimpleNamespace(
        steps=report.counts.steps, populations=[SimpleNamespace(name="a")], sources=[], projections=[]
    )
    net.outputs = ()
    counter = SimpleNamespace(net=net, each=lambda _: report.counts, cells=report.counts.cells)
    found = Meter(counter, load(name)).measure(None)  # type: ignore[arg-type]
    np.testing.assert_allclose(found.energy_pj, [ends(report.total_pj)], rtol=1e-12)
    np.testing.assert_allclose(found.latency_ns, [ends(report.latency_ns)], rtol=1e-12)


# a published measurement


def ticks(profile: Profile, synops: float, steps: int = 4) -> Counts:
    """All neurons of one chip on one core, and so many synops a step."""
    neurons = profile.chip.cores.whole * profile.core.neurons.whole
    by = {name: np.zeros((1, steps), np.int64) for name in COUNTERS}
    by["synops"][:] = round(synops)
    by["updates_idle"][:] = neurons
    links = np.zeros(steps, np.int64)
    cells = (Cell(0, "a", neurons),)
    return Counts(("a",), cells, by, links, ("none",) * steps, 1, steps, 1, 1, 0, 0, 0)


def truenorth_mw(rate_hz: float) -> float:
    """Power of a whole TrueNorth at this rate and 128 synapses a neuron, as the tool prices it."""
    report = cost(ticks(load("truenorth"), 1_048_576 * 128 * rate_hz * 1e-3), load("truenorth"))
    return report.total_pj.nominal / report.period_ns.nominal


@pytest.mark.parametrize(
    ("rate_hz", "measured_mw", "within"),
    [
        (11.58, 68, 0.001),  # an end of the fit
        (95.93, 94, 0.001),  # the other
        (20.07, 71, 0.006),  # of the same figure, not in the fit
        (20.0, 72, 0.02),  # Merolla 2014 at 0.775 V: 26 pJ a synaptic event, all in
    ],
)
def test_truenorth_draws_what_was_measured(rate_hz: float, measured_mw: float, within: float) -> None:
    assert truenorth_mw(rate_hz) == pytest.approx(measured_mw, rel=within)


def test_the_all_in_energy_of_truenorth_holds_at_its_own_rate_alone() -> None:
    def all_in_pj(rate_hz: float) -> float:
        return truenorth_mw(rate_hz) * 1e9 / (1_048_576 * 128 * rate_hz)

    assert all_in_pj(20) == pytest.approx(26, rel=0.02)
    assert all_in_pj(11.58) > 43 and all_in_pj(95.93) < 7.5


# the page


def test_the_page_names_every_target_and_its_chip_of_your_own_loads(tmp_path: Path) -> None:
    page = (PROFILES.parent / "docs" / "targets.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for name in (*TARGETS, *BOARDS))
    path = tmp_path / "chip.toml"
    path.write_text(page.split("```toml\n")[1].split("```")[0], encoding="utf-8")
    profile = find(str(path)).load()
    assert profile.note == "not modelled of the toy chip: its two clocks"
    assert profile.boards["toyboard"].whole == 4
    assert NO_TIME in unpriced(profile, 1)
