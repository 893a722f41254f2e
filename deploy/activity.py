"""``Activity``: what happened in a run, as exact integers per neuron; the contract between running and pricing.

It knows nothing of cores: one run can be priced on any placement and any chip, and counters of real hardware in the
same form are priced the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnergy.export.quantnet import QuantNet

I64 = NDArray[np.int64]


class Lazy(Mapping[str, I64]):
    """Arrays that are made when they are first looked at: most callers look at few."""

    def __init__(self, names: Sequence[str], make: Callable[[str], I64]) -> None:
        self._names, self._make, self._made = names, make, dict[str, I64]()

    def __getitem__(self, name: str) -> I64:
        if name not in self._made:
            if name not in self._names:
                raise KeyError(name)
            self._made[name] = self._make(name)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclass(frozen=True, eq=False)
class Activity:
    """Counts summed over samples, kept per time step of the sample and per neuron.

    spikes: name -> int64[steps, n]; for a population the spikes it sent, for a source its non-zero inputs
    active: name -> int64[steps, n]; neuron updates whose input (synaptic current or bias) was not zero
    """

    samples: int
    steps: int
    spikes: Mapping[str, I64]
    active: Mapping[str, I64]

    def __add__(self, other: Activity) -> Activity:
        """The activity of both runs together; order does not matter."""
        assert self.steps == other.steps
        return Activity(
            self.samples + other.samples,
            self.steps,
            {name: counts + other.spikes[name] for name, counts in self.spikes.items()},
            {name: counts + other.active[name] for name, counts in self.active.items()},
        )


@dataclass(frozen=True, eq=False)
class Trace:
    """What every sample of a chunk did; uint8, 0 or 1.

    spikes: name -> [samples, steps, n]; of a source [samples, 1 or steps, n], where one step stands for all
    active: population -> [samples, steps, n]; both as in ``Activity``
    """

    spikes: Mapping[str, NDArray[np.uint8]]
    active: Mapping[str, NDArray[np.uint8]]


@dataclass(frozen=True, eq=False)
class Run:
    """What an engine returns.

    outputs:  name -> int64[samples, n], the readout's membrane after the last step (a spiking output: its spike count)
    recorded: name -> uint8[samples, steps, n], the spikes of the populations that were asked for
    membranes, currents: name -> int32[samples, steps, n], the state after each step and its reset, likewise
    observed: what the observer returned, chunk by chunk
    """

    outputs: dict[str, I64]
    activity: Activity
    recorded: dict[str, NDArray[np.uint8]]
    membranes: dict[str, NDArray[np.int32]] = field(default_factory=dict)
    currents: dict[str, NDArray[np.int32]] = field(default_factory=dict)
    observed: list[Any] = field(default_factory=list)


def verify(net: QuantNet, activity: Activity) -> None:
    """Raise AssertionError unless these counts could be of this network: every neuron is there, and none too busy.

    A neuron is updated once a step and sample, so it is active at most as often as there are samples; it fires only
    where something drives it, so it spikes at most as often as it is active, unless a neuron program leaves it above
    its threshold; a readout never does.
    """
    assert activity.samples > 0 and activity.steps == net.steps, f"{activity.samples} samples, {activity.steps} steps"
    size = {n.name: prod(n.shape) for n in (*net.sources, *net.populations)}
    assert activity.spikes.keys() == size.keys(), "spikes of other nodes"
    assert activity.active.keys() == {p.name for p in net.populations}, "updates of other nodes"
    for counts in (activity.spikes, activity.active):
        for name, values in counts.items():
            assert values.shape == (net.steps, size[name]) and values.dtype == np.int64, (
                f"{name} has {values.dtype}{values.shape}"
            )
            assert ((values >= 0) & (values <= activity.samples)).all(), (
                f"{name} counts past {activity.samples} samples"
            )
    for p in net.populations:
        caused = p.programmed or bool((activity.spikes[p.name] <= activity.active[p.name]).all())
        assert caused, f"{p.name} spikes without cause"
        assert p.spiking or not activity.spikes[p.name].any(), f"{p.name} is a readout and spikes"
