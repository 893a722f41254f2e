"""The trace has what the Trace Event Format asks of every event, and the report's numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from test_report import FACTS, report

from snnergy.deploy import perfetto, timeline
from snnergy.deploy.report import document

NEEDED = {
    "X": {"ts", "dur", "pid", "tid"},
    "C": {"ts", "pid", "args"},
    "i": {"ts", "pid", "tid", "s"},
    "M": {"pid", "args"},
}
"""By the Trace Event Format."""


@pytest.fixture(scope="module")
def doc() -> dict[str, Any]:
    spikes = (np.random.default_rng(0).random((4, 30)) < 0.3).astype(np.uint8)
    return document(report(), replace(FACTS, raster=timeline.raster({"a": spikes}, {}, 4, 0, None)))


def test_every_event_is_complete_and_in_order(doc: dict[str, Any]) -> None:
    found = json.loads(json.dumps(perfetto.document(doc), allow_nan=False))
    assert found["otherData"]["statement"] == "estimate: no hardware was used"
    for event in found["traceEvents"]:
        assert NEEDED[event["ph"]] | {"name"} <= event.keys()
        assert event.get("ts", 0) >= 0 and event.get("dur", 1) > 0


def test_steps_energy_and_spikes_are_those_of_the_report(doc: dict[str, Any]) -> None:
    events = perfetto.document(doc)["traceEvents"]
    steps = [e for e in events if e["ph"] == "X"]
    assert [e["dur"] * 1e3 for e in steps] == pytest.approx(doc["timeline"]["step_ns"]["nominal"])
    assert [e["ts"] for e in steps[1:]] == pytest.approx([e["ts"] + e["dur"] for e in steps[:-1]])
    energy = sum(e["args"]["pJ"] for e in events if e["ph"] == "C")
    assert energy == pytest.approx(doc["energy"]["dynamic"]["nominal"])
    spikes = [e for e in events if e["ph"] == "i"]
    assert len(spikes) == doc["raster"]["populations"][0]["spikes"]


def test_of_many_cores_the_busiest_have_a_track(doc: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perfetto, "TRACKS", 2)
    names = {e["name"] for e in perfetto.document(doc)["traceEvents"] if e["ph"] == "C"}
    top = sorted(doc["cores"], key=lambda c: -c["energy_pj"]["total"])[:2]
    assert names == {f"chip {c['chip']} core {c['core']}" for c in top}
