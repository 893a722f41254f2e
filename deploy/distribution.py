"""How energy and time differ from one sample to the next; like every number of ``energy``, estimates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from snnergy.deploy.activity import Trace
from snnergy.deploy.count import Counter
from snnergy.deploy.energy import Interval, power_mw, prices, step_ns
from snnergy.deploy.latency import loads
from snnergy.deploy.parts import parts
from snnergy.hardware_profiles import Profile

F64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Distribution:
    """Of every sample, as if it alone were streamed: float64[samples, 3] at ENDS; part_pj: float64[samples, parts].

    The mean of ``dynamic_pj`` is that of the report. The mean of the times is not shorter than the report's at nominal:
    the busiest core of a step differs between samples, and the report takes that of the mean sample. ``part_pj`` is the
    nominal dynamic energy of each part of the network (``parts``), and adds up to ``dynamic_pj``.
    """

    energy_pj: F64
    dynamic_pj: F64
    latency_ns: F64
    part_pj: F64
    parts: tuple[str, ...]


class Meter:
    """Prices every sample while the engine runs, which takes ``measure`` as its observer."""

    def __init__(self, counter: Counter, profile: Profile) -> None:
        self._counter, self._profile = counter, profile
        self._steps = counter.net.steps
        part_of = parts(counter.net)
        self._parts = tuple(dict.fromkeys(part_of.values()))
        self._of = np.array([self._parts.index(part_of[cell.node]) for cell in counter.cells], np.int64)

    def measure(self, trace: Trace) -> Distribution:
        """Energy and time of the samples of one chunk; the formulas are those of ``energy.cost``."""
        counts = self._counter.each(trace)

        def per_sample(values: F64) -> F64:
            return values.reshape(3, -1, self._steps).sum(axis=2)

        total, by_cell = np.zeros((3, counts.steps)), np.zeros((len(counts.cells), counts.steps))
        for _, counter, ends in prices(self._profile):
            total += np.outer(ends, counts.by[counter].sum(axis=0))
            by_cell += ends[1] * counts.by[counter]
        by_part = np.zeros((len(self._parts), counts.steps))
        np.add.at(by_part, self._of, by_cell)
        part_pj = by_part.reshape(len(self._parts), -1, self._steps).sum(axis=2)
        dynamic, period = per_sample(total), per_sample(step_ns(loads(counts), self._profile))
        power = sum(power_mw(counts, self._profile), Interval(0.0, 0.0, 0.0))
        flowing = np.array([[power.low], [power.nominal], [power.high]]) * period
        energy = dynamic + flowing
        costs = self._profile.energy_pj.input_byte, self._profile.energy_pj.output_byte
        for quantity, moved in zip(costs, self._bytes(trace) if any(costs) else ((), ()), strict=True):
            if quantity is not None:
                energy += np.outer((quantity.low, quantity.value, quantity.high), moved)
        latency = period * ((counts.depth + self._steps) / self._steps)
        return Distribution(energy.T, dynamic.T, latency.T, part_pj.T, self._parts)

    def _bytes(self, trace: Trace) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Of every sample, to the chip and back."""
        again = {name: self._steps // x.shape[1] for name, x in trace.spikes.items()}  # one step stands for all
        sent = {name: x.sum(axis=(1, 2), dtype=np.int64) * again[name] for name, x in trace.spikes.items()}
        return self._counter.traffic(sent, 1, len(next(iter(sent.values()))))


def joined(chunks: Sequence[Distribution]) -> Distribution:
    """The samples of all chunks, one after the other."""
    names = ("energy_pj", "dynamic_pj", "latency_ns", "part_pj")
    arrays = {name: np.concatenate([getattr(c, name) for c in chunks]) for name in names}
    return Distribution(**arrays, parts=chunks[0].parts)
