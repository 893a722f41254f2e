"""How long a time step takes: the busiest core, the busiest link or the barrier, whichever is slowest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from snnergy.deploy.counts import Counts
from snnergy.hardware_profiles import Quantity, TimeCosts

if TYPE_CHECKING:
    from snnergy.deploy.placement import Placement

F64 = NDArray[np.float64]

TERMS = ("synops", "updates", "link", "barrier")
UNKNOWN = "not known: no time of this chip is published"
"""What sets the pace where nothing has a time."""


@dataclass(frozen=True, eq=False)
class Loads:
    """Mean events of a sample, float64[cores, steps] each (links: float64[steps])."""

    synops: F64
    updates_active: F64
    updates_idle: F64
    spikes: F64
    links: F64


def loads(counts: Counts) -> Loads:
    """Add up the cells of every core and divide by the samples."""
    core = np.array([cell.core for cell in counts.cells], np.int64)

    def by_core(counter: str) -> F64:
        total = np.zeros((counts.cores, counts.steps))
        np.add.at(total, core, counts.by[counter])
        return total / counts.samples

    return Loads(
        synops=by_core("synops"),
        updates_active=by_core("updates_active"),
        updates_idle=by_core("updates_idle"),
        spikes=by_core("spikes"),
        links=counts.links / counts.samples,
    )


def times(costs: TimeCosts) -> dict[str, Quantity]:
    """The constants that are published, by name."""
    found = {f.name: getattr(costs, f.name) for f in fields(costs)}
    return {name: quantity for name, quantity in found.items() if quantity is not None}


def terms(load: Loads, ns: Mapping[str, float]) -> tuple[F64, F64]:
    """Time of each of TERMS at every step, float64[4, steps], and the core that sets it (of links and barrier: 0).

    ns: the constants of the profile's TimeCosts by name, nanoseconds; one that is missing takes no time
    """

    def each(name: str) -> float:
        return ns.get(name, 0.0)

    synops = load.synops * each("synop")
    updates = load.updates_active * each("update_active") + load.updates_idle * each("update_idle")
    updates += load.spikes * each("spike")
    none = np.zeros(load.links.shape)
    longest = [synops.max(axis=0), updates.max(axis=0), load.links * each("link"), none + each("barrier")]
    return np.stack(longest), np.stack([synops.argmax(axis=0), updates.argmax(axis=0), none, none])


def binding(counts: Counts, load: Loads, ns: Mapping[str, float], placement: Placement | None) -> tuple[str, ...]:
    """What sets the pace of every step: the term, and the core with its busiest population, or the link."""
    if not ns:
        return (UNKNOWN,) * counts.steps
    time, core = terms(load, ns)
    result: list[str] = []
    for t, k in enumerate(time.argmax(axis=0)):
        if TERMS[k] == "link":
            result.append(counts.link_names[t])
        elif TERMS[k] == "barrier":
            result.append("barrier")
        else:
            result.append(f"{TERMS[k]} of {core_name(counts, placement, int(core[k, t]), TERMS[k])}")
    return tuple(result)


def core_name(counts: Counts, placement: Placement | None, index: int, term: str) -> str:
    """The core as people call it, and the population on it with most synops or neurons."""
    here = [(i, cell) for i, cell in enumerate(counts.cells) if cell.core == index and cell.neurons]
    _, cell = max(here, key=lambda item: counts.by["synops"][item[0]].sum() if term == "synops" else item[1].neurons)
    if placement is None:
        return f"core {index} ({cell.node})"
    core = placement.cores[index]
    return f"chip {core.chip} core {core.core} ({cell.node})"
