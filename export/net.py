"""``Net``, the binary synapse graph: populations of neurons joined by projections that carry binary spikes."""

from __future__ import annotations

from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from math import prod
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from snnergy.errors import UnsupportedLayer
from snnergy.export.maps import Map, Shape, synapses, weights

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Source:
    """A graded input, presented anew at every time step."""

    name: str
    shape: Shape


@dataclass(frozen=True, eq=False)
class Population:
    """``v[t] = decay * v[t-1] + x[t] + bias``; spike and reset to 0 where ``v[t] > threshold``.

    decay:     float64[n], per time step, in [0, 1]; 0 is a memoryless neuron, 1 an integrator
    threshold: float64[n], in units of x; inf is a readout that never fires
    bias:      float64[n], added at every step
    """

    name: str
    shape: Shape
    decay: F64
    threshold: F64
    bias: F64

    @property
    def spiking(self) -> bool:
        """Whether the neurons can fire; a readout cannot."""
        return not np.isinf(self.threshold).any()


@dataclass(frozen=True, eq=False)
class Projection:
    """Synapses from one source or population to one population."""

    source: str
    target: str
    map: Map


@dataclass(frozen=True, eq=False)
class Net:
    """Sources, populations and projections; ``outputs`` names the populations that are read.

    dt_s: length of one time step in seconds
    """

    sources: tuple[Source, ...]
    populations: tuple[Population, ...]
    projections: tuple[Projection, ...]
    outputs: tuple[str, ...]
    dt_s: float


class _Node(Protocol):
    @property
    def name(self) -> str: ...


class _Edge(Protocol):
    @property
    def source(self) -> str: ...
    @property
    def target(self) -> str: ...


class _Mapped(Protocol):
    @property
    def map(self) -> Map: ...


_N = TypeVar("_N", bound=_Node)
_E = TypeVar("_E", bound=_Edge)


def incoming(projections: tuple[_E, ...]) -> dict[str, list[_E]]:
    """Projections by the population they feed."""
    table: dict[str, list[_E]] = {}
    for projection in projections:
        table.setdefault(projection.target, []).append(projection)
    return table


def order(populations: tuple[_N, ...], projections: tuple[_Edge, ...]) -> tuple[_N, ...]:
    """The populations so that each comes after all that feed it; ties keep the order given.

    Raises UnsupportedLayer where the graph has a cycle.
    """
    by_name = {p.name: p for p in populations}
    sorter = TopologicalSorter({p.name: () for p in populations})
    for e in projections:
        if e.source in by_name:
            sorter.add(e.target, e.source)
    try:
        names = tuple(sorter.static_order())
    except CycleError as cycle:
        path = " -> ".join(cycle.args[1])
        raise UnsupportedLayer(
            f"the network is recurrent ({path}); this version runs feed-forward networks only"
        ) from None
    rank: dict[str, int] = {}
    feeds = incoming(projections)
    for name in names:
        rank[name] = 1 + max((rank.get(e.source, 0) for e in feeds.get(name, ())), default=0)
    return tuple(sorted(populations, key=lambda p: rank[p.name]))


def verify(net: Net) -> None:
    """Raise AssertionError unless names are unique, edges join known nodes, and every shape and length agrees."""
    shapes = {n.name: n.shape for n in (*net.sources, *net.populations)}
    assert len(shapes) == len(net.sources) + len(net.populations), "two nodes share a name"
    for p in net.populations:
        assert p.decay.shape == p.threshold.shape == p.bias.shape == (prod(p.shape),), p.name
        assert ((p.decay >= 0) & (p.decay <= 1)).all(), p.name
        assert np.isfinite(p.bias).all() and not np.isnan(p.threshold).any(), p.name
    known = {p.name for p in net.populations}
    for e in net.projections:
        assert e.target in known and e.source in shapes, f"{e.source} -> {e.target}"
        assert prod(e.map.input_shape) == prod(shapes[e.source]), f"{e.source} -> {e.target}"
        assert prod(e.map.output_shape) == prod(shapes[e.target]), f"{e.source} -> {e.target}"
        assert np.isfinite(weights(e.map)).all(), f"{e.source} -> {e.target}"
    assert set(net.outputs) <= known, "an output is not a population"


def _span(values: NDArray[np.generic]) -> str:
    low, high = values.min(), values.max()
    return f"{low:.6g}" if low == high else f"{low:.6g}..{high:.6g}"


def dump(net: Net) -> str:
    """One line a node: name, shape, parameters, then its inputs."""
    feeds = incoming(net.projections)
    lines = [f"net dt {net.dt_s:g} s"]
    lines += [f"  source {s.name} {list(s.shape)}" for s in net.sources]
    for p in net.populations:
        fires = f"threshold {_span(p.threshold)}" if p.spiking else "readout"
        lines.append(f"  {p.name} {list(p.shape)} decay {_span(p.decay)} {fires} bias {_span(p.bias)}")
        lines += [f"    <- {e.source} {e.map} w {_span(weights(e.map))}" for e in feeds.get(p.name, ())]
    lines.append(f"  outputs {', '.join(net.outputs)}")
    return "\n".join(lines)


def neurons(net: Net) -> int:
    """Number of neurons, readouts included, sources excluded."""
    return sum(prod(p.shape) for p in net.populations)


def count_synapses(projections: tuple[_Mapped, ...]) -> int:
    """Number of non-zero synapses over all projections."""
    return sum(synapses(e.map) for e in projections)
