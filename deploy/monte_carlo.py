"""What the ranges of a profile's constants leave open, by drawing all of them at once.

The interval of ``energy.cost`` takes every constant low, or every one high, as if they erred together. Here each is
drawn by itself from the triangle over low, value and high, and with it how far the terms of a step overlap: from the
longest alone (the bound of ``latency``) to their sum, most often near the bound (assumed). Every draw lies in the
interval.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from snnergy.deploy.counts import Counts
from snnergy.deploy.energy import flows, priced, traffic
from snnergy.deploy.latency import loads, terms, times
from snnergy.hardware_profiles import Profile, Quantity

F64 = NDArray[np.float64]
DRAWS = 1000


@dataclass(frozen=True, eq=False)
class Draws:
    """float64[draws] each, of one inference, in the units of ``EnergyReport``."""

    seed: int
    total_pj: F64
    dynamic_pj: F64
    latency_ns: F64
    edp_js: F64


def draw(counts: Counts, profile: Profile, draws: int = DRAWS, seed: int = 0) -> Draws:
    """Price the counters with so many draws of the constants; the same seed gives the same draws."""
    rng = np.random.Generator(np.random.PCG64(seed))

    def triangle(low: float, mode: float, high: float) -> F64:
        return rng.triangular(low, mode, high, draws) if low < high else np.full(draws, mode)

    def of(quantity: Quantity) -> F64:
        return triangle(quantity.low, quantity.value, quantity.high)

    dynamic = np.zeros(draws)
    for _, counter, quantity in priced(profile):
        dynamic += counts.by[counter].sum() / counts.samples * of(quantity)
    constants = {name: of(quantity) for name, quantity in times(profile.time_ns).items()}
    overlap = triangle(0.0, 0.0, 1.0)
    load = loads(counts)
    period = np.empty(draws)
    for k in range(draws):
        each = terms(load, {name: values[k] for name, values in constants.items()})[0]
        longest = each.max(axis=0)
        period[k] = (longest + overlap[k] * (each.sum(axis=0) - longest)).sum()
    total = dynamic + sum((of(power) * units for _, power, units in flows(counts, profile)), np.zeros(draws)) * period
    for _, quantity, moved in traffic(counts, profile):
        total += of(quantity) * moved
    latency = period * ((counts.depth + counts.steps) / counts.steps)
    return Draws(seed, total, dynamic, latency, total * latency * 1e-21)
