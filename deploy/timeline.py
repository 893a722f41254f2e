"""A sample step by step: how long each step takes and why, what every core does in it, and who fires."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnergy.deploy.energy import EnergyReport, prices, step_ns
from snnergy.deploy.latency import TERMS, loads, terms, times

MOST_CELLS = 200_000
"""Cores x steps of a report beyond which the cores are left out."""
MOST_EVENTS = 20_000
"""Spikes of a raster; populations are thinned, neuron by neuron, until they fit."""


def timeline(report: EnergyReport) -> dict[str, Any]:
    """Mean of the samples: time of every step at each end, the terms it is the longest of, and every core's work."""
    counts, profile = report.counts, report.profile
    load = loads(counts)
    ends = step_ns(load, profile)
    each = terms(load, {name: q.value for name, q in times(profile.time_ns).items()})[0]
    fits = counts.cores * counts.steps <= MOST_CELLS
    return {
        "steps": counts.steps,
        "step_ns": {name: ends[k].tolist() for k, name in enumerate(("low", "nominal", "high"))},
        "terms_ns": {name: each[k].tolist() for k, name in enumerate(TERMS)},
        "bound_by": list(report.binding),
        "cores": {"synops": load.synops.tolist(), "energy_pj": core_energy(report).tolist()} if fits else None,
        "left_out": None
        if fits
        else f"{counts.cores:,} cores x {counts.steps} steps: more than {MOST_CELLS:,} numbers",
    }


def core_energy(report: EnergyReport) -> NDArray[np.float64]:
    """float64[cores, steps], nominal dynamic energy in pJ of every core in every step, mean of the samples."""
    counts = report.counts
    by_cell = np.zeros((len(counts.cells), counts.steps))
    for _, counter, ends in prices(report.profile):
        by_cell += ends[1] / counts.samples * counts.by[counter]
    total = np.zeros((counts.cores, counts.steps))
    np.add.at(total, [cell.core for cell in counts.cells], by_cell)
    return total


def raster(
    spikes: Mapping[str, NDArray[np.uint8]], parts: Mapping[str, str], steps: int, sample: int, label: int | None
) -> dict[str, Any]:
    """The spikes of one sample. spikes: population -> uint8[steps, n]

    Where there are more than MOST_EVENTS in all, every population shows one neuron of so many, and says so.
    """
    total = sum(int(np.count_nonzero(x)) for x in spikes.values())
    each = max(1, -(-total // MOST_EVENTS))
    rows: list[dict[str, Any]] = []
    for name, x in spikes.items():
        step, neuron = np.nonzero(x[:, ::each])
        rows.append(
            {
                "name": name,
                "part": parts.get(name, ""),
                "neurons": x.shape[1],
                "spikes": int(np.count_nonzero(x)),
                "every": each,
                "events": np.column_stack([step, neuron * each]).tolist(),
            }
        )
    return {"sample": sample, "label": label, "steps": steps, "populations": rows}
