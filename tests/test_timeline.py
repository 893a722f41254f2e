"""The timeline adds up to the report; a raster shows the spikes, or every so-manieth neuron and says so."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from mapping import SEEDS
from test_energy import random_price

from snnergy.deploy import timeline
from snnergy.deploy.latency import TERMS


@given(SEEDS)
def test_steps_and_cores_add_up_to_the_report(seed: int) -> None:
    report = random_price(seed)
    found = timeline.timeline(report)
    for end in ("low", "nominal", "high"):
        assert sum(found["step_ns"][end]) == pytest.approx(getattr(report.period_ns, end))
    longest = np.array([found["terms_ns"][name] for name in TERMS]).max(axis=0)
    np.testing.assert_allclose(longest, found["step_ns"]["nominal"])
    energy, synops = (np.array(found["cores"][name]) for name in ("energy_pj", "synops"))
    assert energy.shape == synops.shape == (report.counts.cores, report.counts.steps)
    np.testing.assert_allclose(energy.sum(axis=1), report.per_core()[:, :, 1].sum(axis=1), rtol=1e-9)
    assert synops.sum() == pytest.approx(report.counters["synops"])
    assert found["bound_by"] == list(report.binding) and found["left_out"] is None


def test_the_cores_of_a_large_network_are_left_out_and_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    report = random_price(1)
    cells = report.counts.cores * report.counts.steps
    monkeypatch.setattr(timeline, "MOST_CELLS", cells)
    assert timeline.timeline(report)["cores"]
    monkeypatch.setattr(timeline, "MOST_CELLS", cells - 1)
    found = timeline.timeline(report)
    assert found["cores"] is None
    assert found["left_out"] == (
        f"{report.counts.cores} cores x {report.counts.steps} steps: more than {cells - 1:,} numbers"
    )


def test_a_raster_is_the_spikes() -> None:
    a = np.array([[1, 0, 1], [0, 0, 1]], np.uint8)
    found = timeline.raster({"a": a, "b": np.zeros((2, 5), np.uint8)}, {"a": "x stream"}, 2, 3, 7)
    assert {k: found[k] for k in ("sample", "label", "steps")} == {"sample": 3, "label": 7, "steps": 2}
    assert found["populations"] == [
        {"name": "a", "part": "x stream", "neurons": 3, "spikes": 3, "every": 1, "events": [[0, 0], [0, 2], [1, 2]]},
        {"name": "b", "part": "", "neurons": 5, "spikes": 0, "every": 1, "events": []},
    ]
    assert timeline.raster({}, {}, 4, 0, None)["populations"] == []


def test_a_raster_of_too_many_spikes_shows_some_neurons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline, "MOST_EVENTS", 20)
    found = timeline.raster({"a": np.ones((2, 30), np.uint8)}, {}, 2, 0, None)["populations"][0]
    assert found["every"] == 3 and found["spikes"] == 60
    assert found["events"] == [[t, n] for t in range(2) for n in range(0, 30, 3)]
