"""``Mapped``: a placement beside what was counted on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from snnergy.deploy.activity import Activity
from snnergy.deploy.counts import Counts
from snnergy.deploy.energy import EnergyReport
from snnergy.deploy.placement import Placement, Slice
from snnergy.deploy.schedule import Schedule
from snnergy.export.quantnet import QuantNet
from snnergy.hardware_profiles import Profile

F64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Mapped:
    """A placement and what was counted on it.

    before: the network as it was quantised; net: with its readouts split; busy_ns: float64[cores], of a mean step
    """

    before: QuantNet
    net: QuantNet
    schedule: Schedule
    profile: Profile
    placement: Placement
    activity: Activity
    report: EnergyReport
    busy_ns: F64

    @property
    def counts(self) -> Counts:
        """The events on every core."""
        return self.report.counts

    def per_step(self, counter: str) -> F64:
        """float64[cells], events of a mean step."""
        return self.counts.by[counter].sum(axis=1) / (self.counts.samples * self.counts.steps)

    def homes(self, population: str) -> list[tuple[int, Slice]]:
        """The tiles of a population, each with the index of its core."""
        cores = enumerate(self.placement.cores)
        return [(index, s) for index, core in cores for s in core.slices if s.population == population]
