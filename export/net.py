"""``Net``, the binary synapse graph: populations of neurons joined by projections that carry binary spikes."""

from __future__ import annotations

from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from math import prod
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

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
    """A neuron with a membrane ``v`` and a synaptic current ``i``; for one step::

        i[t] = current_decay * i[t-1] + x[t]
        v[t] = decay * v[t-1] + i[t] + bias
        spike where v[t] > threshold, strictly; then v[t] = reset, or v[t] = v[t] - reset if ``subtract``

    decay:         float64[n], per time step, in [0, 1]; 0 is a memoryless neuron, 1 an integrator
    current_decay: float64[n], the same of the current; 0 is a current without memory
    threshold:     float64[n], in units of x; inf is a readout that never fires
    bias:          float64[n], added at every step
    reset:         float64[n], None is 0; subtract: whether it is what a spike takes away, not where it leads
    """

    name: str
    shape: Shape
    decay: F64
    current_decay: F64
    threshold: F64
    bias: F64
    reset: F64 | None = None
    subtract: bool = False

    @property
    def spiking(self) -> bool:
        """Whether the neurons can fire; a readout cannot."""
        return not np.isinf(self.threshold).any()


@dataclass(frozen=True, eq=False)
class Projection:
    """Synapses from one source or population to one population.

    delay: what is sent in step t acts in step t + delay; a loop takes at least one step. Before the first step of a
    sample nothing is under way.
    """

    source: str
    target: str
    map: Map
    delay: int = 0


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
    @property
    def delay(self) -> int: ...


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
    """The populations so that each comes after all that feed it in the same step; ties keep the order given.

    Raises UnsupportedLayer where a loop has no delay.
    """
    known = {p.name for p in populations}
    at_once = [e for e in projections if e.source in known and e.delay == 0]
    sorter = TopologicalSorter({p.name: () for p in populations})
    for e in at_once:
        sorter.add(e.target, e.source)
    try:
        names = tuple(sorter.static_order())
    except CycleError as cycle:
        loop = " -> ".join(cycle.args[1])
        raise UnsupportedLayer(f"the loop {loop} has no delay", "give one of its projections a step of delay") from None
    feeds: dict[str, list[str]] = {}
    for e in at_once:
        feeds.setdefault(e.target, []).append(e.source)
    rank: dict[str, int] = {}
    for name in names:
        rank[name] = 1 + max((rank[source] for source in feeds.get(name, ())), default=0)
    return tuple(sorted(populations, key=lambda p: rank[p.name]))


def components(populations: tuple[_N, ...], projections: tuple[_Edge, ...]) -> tuple[tuple[_N, ...], ...]:
    """The strongly connected components, each after all that feed it; within one, the order of a time step.

    A population outside every loop is a component of its own. Raises UnsupportedLayer where a loop has no delay.
    """
    ordered = order(populations, projections)
    index = {p.name: k for k, p in enumerate(ordered)}
    edges = [(index[e.source], index[e.target]) for e in projections if e.source in index]
    rows, columns = zip(*edges, strict=True) if edges else ((), ())
    graph = coo_array((np.ones(len(edges)), (rows, columns)), shape=(len(ordered),) * 2).tocsr()
    _, label = connected_components(graph, directed=True, connection="strong")
    sorter = TopologicalSorter({int(k): () for k in dict.fromkeys(label)})
    for source, target in edges:
        if label[source] != label[target]:
            sorter.add(int(label[target]), int(label[source]))
    members: dict[int, list[_N]] = {}
    for k, p in zip(label, ordered, strict=True):
        members.setdefault(int(k), []).append(p)
    return tuple(tuple(members[k]) for k in sorter.static_order())


def loops(component: tuple[_Node, ...], projections: tuple[_Edge, ...]) -> bool:
    """Whether the component feeds itself, so that it must run step by step."""
    names = {p.name for p in component}
    return any(e.source in names and e.target in names for e in projections)


def verify(net: Net) -> None:
    """Raise AssertionError unless names are unique, edges join known nodes, and every shape and length agrees.

    Raises UnsupportedLayer for a loop without delay.
    """
    shapes = {n.name: n.shape for n in (*net.sources, *net.populations)}
    assert len(shapes) == len(net.sources) + len(net.populations), "two nodes share a name"
    for p in net.populations:
        for values in (p.decay, p.current_decay, p.threshold, p.bias):
            assert values.shape == (prod(p.shape),), p.name
        for kept in (p.decay, p.current_decay):
            assert ((kept >= 0) & (kept <= 1)).all(), p.name
        assert np.isfinite(p.bias).all() and not np.isnan(p.threshold).any(), p.name
        assert p.reset is None or (p.reset.shape == p.bias.shape and np.isfinite(p.reset).all()), p.name
    known = {p.name for p in net.populations}
    for e in net.projections:
        assert e.target in known and e.source in shapes and e.delay >= 0, f"{e.source} -> {e.target}"
        assert prod(e.map.input_shape) == prod(shapes[e.source]), f"{e.source} -> {e.target}"
        assert prod(e.map.output_shape) == prod(shapes[e.target]), f"{e.source} -> {e.target}"
        assert np.isfinite(weights(e.map)).all(), f"{e.source} -> {e.target}"
    assert set(net.outputs) <= known, "an output is not a population"
    components(net.populations, net.projections)


def late(e: _Edge) -> str:
    """How a printed projection names its delay."""
    return f" delay {e.delay}" if e.delay else ""


def reset_text(p: Population) -> str:
    """How a printed population names a reset other than that to 0."""
    if p.reset is None:
        return ""
    return f" {'subtracts' if p.subtract else 'resets to'} {span(p.reset)}"


def span(values: NDArray[np.generic]) -> str:
    """The range of some values, as printed."""
    if values.size == 0:  # a sparse map without synapses
        return "none"
    low, high = values.min(), values.max()
    return f"{low:.6g}" if low == high else f"{low:.6g}..{high:.6g}"


def dump(net: Net) -> str:
    """One line a node: name, shape, parameters, then its inputs."""
    feeds = incoming(net.projections)
    lines = [f"net dt {net.dt_s:g} s"]
    lines += [f"  source {s.name} {list(s.shape)}" for s in net.sources]
    for p in net.populations:
        fires = f"threshold {span(p.threshold)}" if p.spiking else "readout"
        current = f"current {span(p.current_decay)} " if p.current_decay.any() else ""
        lines.append(
            f"  {p.name} {list(p.shape)} decay {span(p.decay)} {current}{fires} bias {span(p.bias)}{reset_text(p)}"
        )
        lines += [f"    <- {e.source} {e.map} w {span(weights(e.map))}{late(e)}" for e in feeds.get(p.name, ())]
    lines.append(f"  outputs {', '.join(net.outputs)}")
    return "\n".join(lines)


def neurons(net: Net) -> int:
    """Number of neurons, readouts included, sources excluded."""
    return sum(prod(p.shape) for p in net.populations)


def count_synapses(projections: tuple[_Mapped, ...]) -> int:
    """Number of non-zero synapses over all projections."""
    return sum(synapses(e.map) for e in projections)
