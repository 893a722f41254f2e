"""A report as a trace for Perfetto and chrome://tracing: steps, energy of the busiest cores, spikes of one sample.

The format is Chrome's Trace Event Format, times in microseconds. Steps last as long as the report says at nominal; a
spike stands in the step of its sample in which its population fires, at the beginning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any

STEPS, CORES, SPIKES = 1, 2, 3
"""Processes of the trace."""
TRACKS = 64
"""So many cores have a counter, those that take most energy."""
LEAST_US = 1e-3
"""What a step lasts where its time is not known."""


def document(doc: Mapping[str, Any]) -> dict[str, Any]:
    """The trace, as JSON types."""
    return {
        "displayTimeUnit": "ns",
        "otherData": {"statement": doc["statement"], "target": doc["target"], "tool": doc["tool"]},
        "traceEvents": list(_events(doc)),
    }


def _events(doc: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    timeline = doc["timeline"]
    lasts = [max(ns * 1e-3, LEAST_US) for ns in timeline["step_ns"]["nominal"]]
    begins = [0.0, *accumulate(lasts)]
    for pid, name in ((STEPS, "time steps"), (CORES, "dynamic energy of cores, pJ"), (SPIKES, "spikes")):
        yield _named(pid, 0, "process_name", name)
    for t, us in enumerate(lasts):
        terms = {name: values[t] for name, values in timeline["terms_ns"].items()}
        yield {"name": timeline["bound_by"][t], "cat": "step", "ph": "X", "ts": begins[t], "dur": us, "pid": STEPS,
               "tid": 0, "args": {"step": t, **{f"{name}_ns": ns for name, ns in terms.items()}}}  # fmt: skip
    if timeline["cores"]:
        energy = timeline["cores"]["energy_pj"]
        hottest = sorted(range(len(energy)), key=lambda k: -sum(energy[k]))[:TRACKS]
        for k in hottest:
            core = doc["cores"][k]
            for t, value in enumerate(energy[k]):
                yield {"name": f"chip {core['chip']} core {core['core']}", "ph": "C", "ts": begins[t], "pid": CORES,
                       "args": {"pJ": value}}  # fmt: skip
    populations: list[Any] = doc["raster"]["populations"] if doc["raster"] else []
    for row, population in enumerate(populations):
        yield _named(SPIKES, row, "thread_name", population["name"])
        for t, neuron in population["events"]:
            yield {"name": f"neuron {neuron}", "cat": "spike", "ph": "i", "s": "t", "ts": begins[t], "pid": SPIKES,
                   "tid": row, "args": {"neuron": neuron, "step": t}}  # fmt: skip


def _named(pid: int, tid: int, kind: str, name: str) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "pid": pid, "tid": tid, "args": {"name": name}}
