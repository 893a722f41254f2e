"""A grade says on what at least nine tenths of the energy rest; warnings say what the total hides."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from mapping import SEEDS
from test_energy import random_price

from snnergy.deploy import evidence
from snnergy.deploy.energy import Interval, cost
from snnergy.hardware_profiles import EnergyCosts, PowerCosts, Quantity, TimeCosts


@given(SEEDS)
def test_shares_add_up_to_all_of_the_energy(seed: int) -> None:
    report = random_price(seed)
    assert sum(evidence.shares(report).values()) == pytest.approx(1.0 if report.total_pj.nominal else 0.0)


@pytest.mark.parametrize(
    ("shares", "grade"),
    [
        ({"measured": 0.9, "assumed": 0.1}, "A (measured)"),
        ({"measured": 0.89, "assumed": 0.11}, "F (assumed)"),
        ({"measured": 0.89, "simulated": 0.11}, "B (simulated)"),
        ({"inherited": 1.0}, "E (inherited)"),
        ({"derived": 0.5, "inherited": 0.45, "assumed": 0.05}, "E (inherited)"),
        ({"vendor": 0.6, "derived": 0.35, "assumed": 0.05}, "D (derived)"),
        ({}, "none"),
    ],
)
def test_the_grade_is_that_of_the_worst_tenth(shares: dict[str, float], grade: str) -> None:
    assert evidence.grade({**dict.fromkeys(evidence.ORDER, 0.0), **shares}) == grade


def test_power_times_time_rests_on_the_worse_of_the_two() -> None:
    report = random_price(2)

    def one(kind: str) -> Quantity:
        return Quantity(5.0, 5.0, 5.0, "", "", kind)  # type: ignore[arg-type]

    profile = replace(
        report.profile,
        energy_pj=EnergyCosts(),
        time_ns=TimeCosts(barrier=one("vendor")),
        power_mw=PowerCosts(chip=one("measured"), host=one("assumed")),
    )
    shares = evidence.shares(cost(report.counts, profile))
    assert shares["vendor"] == shares["assumed"] == pytest.approx(0.5)


def test_a_total_that_says_little_comes_with_warnings() -> None:
    report = random_price(4)
    small, large = Interval(1.0, 10.0, 100.0), Interval(20.0, 90.0, 200.0)
    found = replace(report, dynamic_pj=small, static_pj=large, host_pj=Interval(0, 0, 0), total_pj=small + large)
    assert evidence.warnings(found) == (
        "90% of the energy is static and host power: it follows the time of a sample, not the activity, and is shared "
        "by whatever else the chip does",
        "the ranges of the constants leave the total open by a factor of 14.3",
    )
    marginal = replace(report.profile, scope="marginal")
    sure = Interval(9.0, 10.0, 11.0)
    found = replace(
        report, profile=marginal, dynamic_pj=sure, static_pj=Interval(0, 0, 0), host_pj=Interval(0, 0, 0), total_pj=sure
    )
    assert evidence.warnings(found) == (
        "the energy of a synop of this chip is marginal: it cannot be split into terms",
    )
    nothing = replace(found, total_pj=Interval(0, 0, 0))
    assert evidence.warnings(nothing) == ("nothing is priced: the profile has no energy for what was counted",)


def test_shares_are_energies_by_hand() -> None:
    report = random_price(6)
    counts = report.counts

    def one(value: float, kind: str) -> Quantity:
        return Quantity(value, value, value, "", "", kind)  # type: ignore[arg-type]

    profile = replace(
        report.profile,
        energy_pj=EnergyCosts(
            synop=one(3.0, "measured"),
            spike=one(2.0, "simulated"),
            input_byte=one(900.0, "assumed"),
            output_byte=one(500.0, "inherited"),
        ),
        time_ns=TimeCosts(barrier=one(7.0, "measured")),
        power_mw=PowerCosts(chip=one(5.0, "vendor"), core=one(4.0, "derived")),
    )
    period = 7.0 * counts.steps
    wanted = {
        "measured": 3.0 * counts.by["synops"].sum() / counts.samples,
        "simulated": 2.0 * counts.by["spikes"].sum() / counts.samples,
        "vendor": 5.0 * counts.chips * period,
        "derived": 4.0 * counts.cores * period,
        "assumed": 900.0 * counts.input_bytes / counts.samples,
        "inherited": 500.0 * counts.output_bytes / counts.samples,
    }
    assert counts.chips > 1 and counts.cores > 1 and min(wanted.values()) > 0
    found = evidence.shares(cost(counts, profile))
    for kind, energy in wanted.items():
        assert found[kind] == pytest.approx(energy / sum(wanted.values())), kind
