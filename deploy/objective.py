"""What a mapping is chosen for, and what it is expected to come to before anything is counted exactly.

The slowest core sets the time step, and time costs static energy; then cores, messages and hops.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt

from snnergy.deploy.partition import Partition
from snnergy.deploy.schedule import Schedule
from snnergy.export.quantnet import QuantNet
from snnergy.hardware_profiles import Profile, nominal

OBJECTIVES = ("edp", "energy", "latency", "cores")


@dataclass(frozen=True)
class Estimate:
    """Of one inference in steady streaming, at nominal constants; where a run was measured, with its rates.

    step_ns: the busiest core's, or the barrier; messages: between cores, in a mean step; energy_pj: only what depends
    on the mapping (static, host, messages, hops, lists), so estimates of one network compare
    """

    cores: int
    chips: int
    step_ns: float
    messages: float
    latency_ns: float
    energy_pj: float


def estimate(partition: Partition, net: QuantNet, schedule: Schedule, profile: Profile) -> Estimate:
    """Of a partition: the step is the busiest core's in the mean."""
    step_ns = max(partition.busy_ns, nominal(profile.time_ns.barrier))
    return estimated(len(partition.cores), step_ns, partition.messages, net, schedule, profile)


def estimated(
    cores: int, step: float, messages: float, net: QuantNet, schedule: Schedule, profile: Profile
) -> Estimate:
    """Of so many cores, nanoseconds of a step and messages in a mean step; a message crosses a third of its mesh."""
    chip, energy, power = profile.chip, profile.energy_pj, profile.power_mw
    chips = max(1, ceil(cores / chip.cores.whole))
    period = step * net.steps
    depth = max(schedule.depth[name] for name in net.outputs)
    idle = nominal(power.chip_many if chips > 1 and power.chip_many else power.chip) + nominal(power.host)
    static = (idle * chips + nominal(power.core) * cores) * period
    across = sqrt(min(cores, chip.cores.whole) / nominal(chip.cores_per_router)) / 3
    each = nominal(energy.message_out) + nominal(energy.message_in) + nominal(energy.list_fetch)
    each += across * (nominal(energy.hop_ew) + nominal(energy.hop_ns))
    dynamic = messages * net.steps * each
    return Estimate(cores, chips, step, messages, step * (depth + net.steps), static + dynamic)


def score(objective: str, found: Estimate) -> tuple[float, ...]:
    """Less is better; what comes later decides between equals."""
    both = found.energy_pj * found.latency_ns
    return {
        "edp": (both, found.cores),
        "energy": (found.energy_pj, found.latency_ns),
        "latency": (found.latency_ns, found.energy_pj),
        "cores": (found.cores, both),
    }[objective]
