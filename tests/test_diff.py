"""Two reports: what changed, and whether a budget holds."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from test_report import FACTS, report

from snnergy.deploy.diff import METRICS, budgets, diff
from snnergy.deploy.diff_text import markdown, verdict
from snnergy.deploy.report import document
from snnergy.errors import BadInput


@pytest.fixture(scope="module")
def before() -> dict[str, Any]:
    return document(report("a|b <c>"), FACTS)


def changed(before: dict[str, Any], by: float) -> dict[str, Any]:
    """The same, with all energy multiplied."""
    after = copy.deepcopy(before)
    after["energy"]["total"]["nominal"] *= by
    after["layers"][1]["energy_pj"]["total"] *= by
    return after


def test_a_report_does_not_differ_from_itself(before: dict[str, Any]) -> None:
    found = diff(before, before, {"energy": 0.0})
    assert [row.name for row in found.rows] == list(METRICS)
    assert all(row.change == 0 for row in (*found.rows, *found.layers))
    assert not found.over and found.notes == () and found.to_dict()["within"]
    assert verdict(found) == "energy +0.0%; within budget: energy +0.0%"


@pytest.mark.parametrize(("by", "limit", "over"), [(1.05, 0.05, False), (1.0501, 0.05, True), (0.5, 0.0, False)])
def test_a_budget_is_the_most_that_is_allowed(before: dict[str, Any], by: float, limit: float, over: bool) -> None:
    found = diff(before, changed(before, by), {"energy": limit})
    assert bool(found.over) is over is not found.to_dict()["within"]
    assert found.rows[0].change == pytest.approx(by - 1)
    assert found.layers[0].name == "a|b <c>"


def test_from_nothing_to_something_is_over_every_budget(before: dict[str, Any]) -> None:
    none = copy.deepcopy(before)
    none["latency"]["nominal"] = 0.0
    found = diff(none, before, {"latency": 9.0})
    assert [row.name for row in found.over] == ["latency"]
    assert verdict(found) == "over budget: latency from nothing, allowed +900.0%"


def test_reports_of_other_targets_or_inputs_are_compared_with_a_note(before: dict[str, Any]) -> None:
    after = copy.deepcopy(before)
    after["target"], after["samples"] = "loihi1-sim", 9
    assert diff(before, after, {}).notes == ("targets differ: loihi2-sim and loihi1-sim", "samples differ: 2 and 9")


def test_markdown_is_tables_whose_names_cannot_break_them(before: dict[str, Any]) -> None:
    text = markdown(diff(before, changed(before, 1.2), {"energy": 0.05}))
    assert text.startswith(
        "**over budget: energy +20.0%, allowed +5.0%**\n\n| per inference | before | after | change |"
    )
    assert "| a\\|b &lt;c> |" in text
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.replace("\\|", "").count("|") == 5


def test_budgets_are_read_or_refused_in_one_line() -> None:
    assert budgets(["+5%", "latency: +10 %".replace(": ", ":"), "edp:2.5%"]) == {
        "energy": 0.05, "latency": 0.1, "edp": 0.025
    }  # fmt: skip
    with pytest.raises(BadInput, match=r"^budget '5' is not of the form \+5% or latency:\+5%$"):
        budgets(["5"])
    with pytest.raises(BadInput, match=r"^budget 'joy:5%': no metric 'joy'; known: energy, dynamic, static, host, "):
        budgets(["joy:5%"])
