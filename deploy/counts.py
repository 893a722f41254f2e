"""``Counts``: what happened on every core in every step, as exact integers; all that pricing needs to know of a run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]

COUNTERS = (
    "synops",
    "lists",
    "updates_active",
    "updates_idle",
    "spikes",
    "messages",
    "hops_ew",
    "hops_ns",
    "interchip",
    "resets",
)


OUTPUT_BYTES = 4
"""Of a readout's membrane, once a sample, and of a spike that is read: a word (assumed)."""


@dataclass(frozen=True)
class Cell:
    """One population on one core; ``core`` is an index into the placement's cores.

    A source has a cell on every core that it reaches, without neurons: it holds the messages of the input to that core.
    neurons: with the unused slots of fixed-size tiles, which are updated, idle, and reset as neurons are (assumed), and
    receive what a convolution's kernel reads there
    """

    core: int
    node: str
    neurons: int


@dataclass(frozen=True, eq=False)
class Counts:
    """Events summed over samples, by cell and by step of the hardware's period.

    nodes:  sources, then populations, in network order
    by:     counter name -> int64[cells, steps], the names of COUNTERS
    links:  int64[steps], messages over the busiest link of the mesh; link_names: which link that is, at each step
    chips, cores: of the placement, for what flows whatever the network does
    input_bytes: values sent to the chip, whole bytes each; output_bytes: what is read back, OUTPUT_BYTES a neuron
    depth:  steps from the input to the last output
    """

    nodes: tuple[str, ...]
    cells: tuple[Cell, ...]
    by: dict[str, I64]
    links: I64
    link_names: tuple[str, ...]
    samples: int
    steps: int
    chips: int
    cores: int
    input_bytes: int
    output_bytes: int
    depth: int


def verify(counts: Counts) -> None:
    """Raise AssertionError unless the counters could be of a chip: whole, not negative, and consistent.

    A neuron is updated once a step and sample and spikes at most as often; a list holds at least one synapse; a spike
    that stays on its chip crosses none; no link carries more than was sent.
    """
    shape = (len(counts.cells), counts.steps)
    assert set(counts.by) == set(COUNTERS), "counters are missing"
    for name, values in counts.by.items():
        assert values.shape == shape and values.dtype == np.int64, f"{name} is {values.dtype}{values.shape}"
        assert not values.size or values.min() >= 0, f"{name} is negative"
    by, neurons = counts.by, np.array([c.neurons for c in counts.cells], np.int64).reshape(-1, 1)
    seen = neurons * counts.samples
    assert (by["updates_active"] + by["updates_idle"] == seen).all(), "a neuron is not updated once a step"
    assert (by["spikes"] <= seen).all(), "a neuron spikes more than once a step"
    assert ((by["resets"] == 0) | (by["resets"] == seen)).all(), "some neurons of a population are reset"
    assert (by["lists"] <= by["synops"]).all(), "a list holds no synapse"
    assert (by["hops_ew"] + by["hops_ns"] >= by["interchip"]).all(), "a chip is crossed without a hop"
    assert counts.chips > 1 or not by["interchip"].any(), "one chip sends to another"
    assert counts.links.shape == (counts.steps,) and len(counts.link_names) == counts.steps, "links"
    assert ((counts.links >= 0) & (counts.links <= by["messages"].sum(axis=0))).all(), "a link carries what none sent"
    assert counts.input_bytes >= 0 and counts.output_bytes >= 0, "a byte is negative"
    for cell in counts.cells:
        assert 0 <= cell.core < counts.cores and cell.node in counts.nodes, f"no core {cell.core} or node {cell.node}"
