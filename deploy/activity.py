"""``Activity``: what happened in a run, as exact integers per neuron; the contract between running and pricing.

It knows nothing of cores: one run can be priced on any placement and any chip, and counters of real hardware in the
same form are priced the same way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Activity:
    """Counts summed over samples, kept per time step of the sample and per neuron.

    spikes: name -> int64[steps, n]; for a population the spikes it sent, for a source its non-zero inputs
    active: name -> int64[steps, n]; neuron updates whose input (synaptic current or bias) was not zero
    """

    samples: int
    steps: int
    spikes: dict[str, I64]
    active: dict[str, I64]

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
class Run:
    """What an engine returns.

    outputs:  name -> int64[samples, n], the readout's membrane after the last step (a spiking output: its spike count)
    recorded: name -> uint8[samples, steps, n], the spikes of the populations that were asked for
    """

    outputs: dict[str, I64]
    activity: Activity
    recorded: dict[str, NDArray[np.uint8]]
