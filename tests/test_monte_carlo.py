"""Draws of the constants stay in the interval, are the same for the same seed, and move with the ranges."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mapping import SEEDS
from test_energy import random_price

from snnergy.deploy.monte_carlo import draw
from snnergy.hardware_profiles import EnergyCosts, PowerCosts, Quantity, TimeCosts


@given(SEEDS, st.integers(0, 9))
def test_no_draw_leaves_the_interval(seed: int, draws_seed: int) -> None:
    report = random_price(seed)
    found = draw(report.counts, report.profile, 40, draws_seed)
    for values, interval in (
        (found.dynamic_pj, report.dynamic_pj),
        (found.total_pj, report.total_pj),
        (found.latency_ns, report.latency_ns),
        (found.edp_js, report.edp_js),
    ):
        assert values.shape == (40,)
        assert (values >= interval.low * (1 - 1e-12)).all() and (values <= interval.high * (1 + 1e-12)).all()


def test_the_same_seed_gives_the_same_draws_and_another_gives_others() -> None:
    report = random_price(3)
    one, again, other = (draw(report.counts, report.profile, 50, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.total_pj, again.total_pj)
    assert (one.total_pj != other.total_pj).any()


def exactly(kind: type) -> object:
    fixed = Quantity(2.0, 2.0, 2.0, "", "", "assumed")
    return kind(**dict.fromkeys(kind.__dataclass_fields__, fixed))


def test_constants_without_a_range_leave_the_energy_of_events_as_it_is() -> None:
    report = random_price(5)
    profile = replace(
        report.profile,
        energy_pj=exactly(EnergyCosts),  # type: ignore[arg-type]
        time_ns=exactly(TimeCosts),  # type: ignore[arg-type]
        power_mw=exactly(PowerCosts),  # type: ignore[arg-type]
    )
    found = draw(report.counts, profile, 30)
    np.testing.assert_allclose(found.dynamic_pj, found.dynamic_pj[0], rtol=1e-12)
    assert found.latency_ns.std() > 0  # how far the terms of a step overlap is not known


def test_the_triangle_is_centred_where_its_value_is() -> None:
    report = random_price(7)
    wide = Quantity(10.0, 0.0, 20.0, "pJ", "", "assumed")
    energy = EnergyCosts(synop=wide)
    found = draw(report.counts, replace(report.profile, energy_pj=energy), 20_000)
    synops = report.counts.by["synops"].sum() / report.counts.samples
    assert found.dynamic_pj.mean() == pytest.approx(10 * synops, rel=0.02)
    assert found.dynamic_pj.std() == pytest.approx(synops * 20 / np.sqrt(24), rel=0.02)
