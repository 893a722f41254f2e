"""Changes of an integer network after which every old neuron must still do exactly what it did.

A relation takes a network with its inputs and returns a ``Changed``: the new network, its inputs, and where every old
neuron went. It needs no reference: running both and comparing finds what a shared mistake of two engines hides. None
means that the relation has nothing to change here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from snnergy.export.maps import Conv, Dense, Map, Sparse
from snnergy.export.quantnet import (
    DECAY_ONE,
    PER_NEURON,
    THRESHOLD_LIMIT,
    QuantNet,
    QuantPopulation,
    QuantProjection,
    verify,
)
from snnergy.testing.draw import I64, Draw, often, shuffled

Inputs = dict[str, NDArray[np.int64]]


@dataclass(frozen=True, eq=False)
class Piece:
    """Neurons ``old`` of a population are now neurons ``new`` of population ``name``, in this order."""

    name: str
    new: I64
    old: I64


@dataclass(frozen=True, eq=False)
class Changed:
    """where: old population -> its pieces, which together hold every neuron once"""

    net: QuantNet
    inputs: Inputs
    where: dict[str, tuple[Piece, ...]]

    def __post_init__(self) -> None:
        verify(self.net)


Relation = Callable[[QuantNet, Inputs, Draw], Changed | None]


def in_place(net: QuantNet) -> dict[str, tuple[Piece, ...]]:
    """Every population where and as it was."""
    return {p.name: (Piece(p.name, np.arange(len(p.decay)), np.arange(len(p.decay))),) for p in net.populations}


def relabelled(net: QuantNet, inputs: Inputs, draw: Draw) -> Changed | None:
    """The neurons of every population, and the values of every source, in another order."""
    moved: dict[str, I64] = {}
    for node in (*net.sources, *net.populations):
        moved[node.name] = np.array(shuffled(draw, range(prod(node.shape))))
    sources = tuple(replace(s, shape=(prod(s.shape),)) for s in net.sources)
    flat = {
        s.name: inputs[s.name].reshape(*inputs[s.name].shape[: -len(s.shape)], -1)[..., moved[s.name]]
        for s in net.sources
    }
    populations = tuple(p.taken(moved[p.name], (len(p.decay),)) for p in net.populations)
    edges = tuple(replace(e, map=_part(e.map, moved[e.target], moved[e.source])) for e in net.projections)
    where = {p.name: (Piece(p.name, np.arange(len(p.decay)), moved[p.name]),) for p in net.populations}
    return Changed(replace(net, sources=sources, populations=populations, projections=edges), flat, where)


def split(net: QuantNet, inputs: Inputs, draw: Draw) -> Changed | None:
    """One population as two, each with some of the neurons.

    A sender whose sums are shifted right cannot be split: a sum of two shifted sums is another number.
    """
    right = {e.source for e in net.projections if e.exponent < 0}
    able = [p for p in net.populations if len(p.decay) > 1 and p.name not in right]
    if not able:
        return None
    chosen = draw.choice(able)
    order = np.array(shuffled(draw, range(len(chosen.decay))))
    cut = draw.integer(1, len(order) - 1)
    parts = {f"{chosen.name}/a": np.sort(order[:cut]), f"{chosen.name}/b": order[cut:]}
    whole = {n.name: {n.name: np.arange(prod(n.shape))} for n in (*net.sources, *net.populations)}
    pieces = whole | {chosen.name: parts}
    populations = [
        replace(p.taken(neurons, (len(neurons),)), name=name) if p is chosen else p
        for p in net.populations
        for name, neurons in pieces[p.name].items()
    ]
    edges = [
        replace(e, source=source, target=target, map=_part(e.map, rows, columns))
        if chosen.name in (e.source, e.target)
        else e
        for e in net.projections
        for target, rows in pieces[e.target].items()
        for source, columns in pieces[e.source].items()
    ]
    outputs = [name for output in net.outputs for name in pieces[output]]
    where = {
        p.name: tuple(Piece(name, np.arange(len(old)), old) for name, old in pieces[p.name].items())
        for p in net.populations
    }
    changed = replace(net, populations=tuple(populations), projections=tuple(edges), outputs=tuple(outputs))
    return Changed(changed, inputs, where)


def reordered(net: QuantNet, inputs: Inputs, draw: Draw) -> Changed | None:
    """Sources, populations, projections and outputs listed in another order."""
    changed = replace(
        net,
        sources=tuple(shuffled(draw, net.sources)),
        populations=tuple(shuffled(draw, net.populations)),
        projections=tuple(shuffled(draw, net.projections)),
        outputs=tuple(shuffled(draw, net.outputs)),
    )
    return Changed(changed, {name: inputs[name] for name in shuffled(draw, list(inputs))}, in_place(net))


def with_zero_synapses(net: QuantNet, inputs: Inputs, draw: Draw) -> Changed | None:
    """Projections without weight between any two, which also close loops that were none."""
    sizes = {n.name: prod(n.shape) for n in (*net.sources, *net.populations)}
    spiking = [s.name for s in net.sources] + [p.name for p in net.populations if p.spiking]
    extra: list[QuantProjection] = []
    for _ in range(draw.integer(1, 3)):
        source, target = draw.choice(spiking), draw.choice(net.populations).name
        weight = np.zeros((sizes[target], sizes[source]), np.int8)
        nothing: Map = Dense(weight, (sizes[source],), (sizes[target],))
        if often(draw, 50):
            nothing = Sparse(csr_array(weight), nothing.input_shape, nothing.output_shape)
        extra.append(QuantProjection(source, target, nothing, draw.integer(-7, 7), draw.integer(1, 3)))
    return Changed(replace(net, projections=(*net.projections, *extra)), inputs, in_place(net))


def with_silent_neurons(net: QuantNet, inputs: Inputs, draw: Draw) -> Changed | None:
    """Neurons that hear nothing and never fire, between those of one population; their synapses carry nothing."""
    chosen = draw.choice(net.populations)
    n, extra = len(chosen.decay), draw.integer(1, 3)
    total = n + extra
    order = np.array(shuffled(draw, range(total)))
    kept, silent = np.sort(order[:n]), order[n:]
    fields: dict[str, Any] = {}
    for name, value in zip(PER_NEURON, (DECAY_ONE, DECAY_ONE, THRESHOLD_LIMIT, 0, 0), strict=True):
        if (values := getattr(chosen, name)) is not None:
            fields[name] = np.full(total, value, np.int64)
            fields[name][kept] = values
    place: Any = csr_array((np.ones(n, np.int64), (kept, np.arange(n))), shape=(total, n))
    populations = tuple(replace(chosen, shape=(total,), **fields) if p is chosen else p for p in net.populations)
    where = in_place(net) | {chosen.name: (Piece(chosen.name, kept, np.arange(n)),)}

    def wider(e: QuantProjection, weight: int) -> QuantProjection:
        matrix: Any = e.map.matrix().astype(np.int64)
        if e.target == chosen.name:
            matrix = place @ matrix
        if e.source == chosen.name:
            matrix = (matrix @ place.T).toarray()
            matrix[:, silent] = weight
        return replace(e, map=_sparse(matrix))

    def padded(weight: int) -> Changed:
        edges = (wider(e, weight) if chosen.name in (e.source, e.target) else e for e in net.projections)
        return Changed(replace(net, populations=populations, projections=tuple(edges)), inputs, where)

    try:
        return padded(draw.choice((1, -1, 127)))
    except AssertionError:  # sums that could not fit, though they never occur
        return padded(0)


def relayed(net: QuantNet, inputs: Inputs, draw: Draw) -> Changed | None:
    """A population that repeats another's spikes in the same step, between it and one that hears it."""
    spiking = {p.name: len(p.decay) for p in net.populations if p.spiking}
    able = [k for k, e in enumerate(net.projections) if e.source in spiking]
    if not able:
        return None
    k = draw.choice(able)
    edge = net.projections[k]
    n, before, name = spiking[edge.source], draw.integer(0, edge.delay), "relay"
    while name in {n.name for n in (*net.sources, *net.populations)}:
        name += "'"
    fields: dict[str, Any] = {
        field: np.full(n, value) for field, value in zip(PER_NEURON, (DECAY_ONE, DECAY_ONE, 0, 0, 0), strict=True)
    }
    relay = QuantPopulation(name, (n,), bias_exponent=0, spiking=True, scale=1.0, **fields)
    identity = _sparse(np.eye(n))
    edges = list(net.projections)
    edges[k] = replace(edge, source=name, delay=edge.delay - before)
    edges.append(QuantProjection(edge.source, name, identity, 0, before))
    changed = replace(net, populations=(relay, *net.populations), projections=tuple(edges))
    return Changed(changed, inputs, in_place(net))


def in_other_forms(net: QuantNet, inputs: Inputs, draw: Draw) -> Changed | None:
    """Every map stored in a form drawn anew: dense, sparse, or a convolution that does the same."""
    forms = (_dense, lambda e: _sparse(e.map.matrix()), _pointwise, _one_window)
    edges = tuple(replace(e, map=draw.choice(forms)(e)) for e in net.projections)
    return Changed(replace(net, projections=edges), inputs, in_place(net))


def shorter(net: QuantNet, inputs: Inputs, draw: Draw) -> Changed | None:
    """Fewer steps: what happened up to then has happened. Inputs that change are cut, constant ones written out."""
    if net.steps == 1:
        return None
    steps = draw.integer(1, net.steps - 1)
    cut: Inputs = {}
    for s in net.sources:
        x = inputs[s.name]
        constant = x.shape[1:] == s.shape
        cut[s.name] = np.repeat(x[:, None], steps, axis=1) if constant else x[:, :steps]
    return Changed(replace(net, steps=steps), cut, in_place(net))


def resampled(net: QuantNet, inputs: Inputs, draw: Draw) -> tuple[Inputs, I64]:
    """Other batches of the same samples: inputs, and which old sample each new one is."""
    samples = len(next(iter(inputs.values())))
    which = draw.array((draw.integer(1, 5),), 0, samples - 1)
    return {name: x[which] for name, x in inputs.items()}, which


def together(cases: Sequence[tuple[QuantNet, Inputs]]) -> Changed:
    """Networks side by side in one, each with its number before its names; steps and samples must agree.

    A Lava run costs about the same for one network as for fifty. Pieces are listed under the new names.
    """
    sources, populations, edges, outputs, inputs = [], [], [], [], {}
    for k, (net, x) in enumerate(cases):
        sources += [replace(s, name=f"{k}/{s.name}") for s in net.sources]
        populations += [replace(p, name=f"{k}/{p.name}") for p in net.populations]
        edges += [replace(e, source=f"{k}/{e.source}", target=f"{k}/{e.target}") for e in net.projections]
        outputs += [f"{k}/{name}" for name in net.outputs]
        inputs |= {f"{k}/{name}": value for name, value in x.items()}
    union = replace(
        cases[0][0], sources=tuple(sources), populations=tuple(populations), projections=tuple(edges),
        outputs=tuple(outputs),
    )  # fmt: skip
    return Changed(union, inputs, in_place(union))


RELATIONS: Mapping[str, Relation] = {
    "relabel neurons": relabelled,
    "split a population": split,
    "reorder the network": reordered,
    "add zero synapses": with_zero_synapses,
    "pad with silent neurons": with_silent_neurons,
    "insert a relay": relayed,
    "other forms of the maps": in_other_forms,
    "fewer steps": shorter,
}


def _part(linear: Map, rows: I64, columns: I64) -> Sparse:
    matrix: Any = linear.matrix()
    return _sparse(matrix[rows][:, columns])


def _sparse(matrix: Any) -> Sparse:
    listed: Any = csr_array(matrix)
    return Sparse(listed.astype(np.int8), (listed.shape[1],), (listed.shape[0],))


def _dense(e: QuantProjection) -> Map:
    weight: Any = e.map.matrix().toarray()
    return Dense(weight, (weight.shape[1],), (weight.shape[0],))


def _pointwise(e: QuantProjection) -> Map:
    """Every input a channel of one pixel."""
    weight: Any = e.map.matrix().toarray()
    return Conv(weight[:, :, None, None], (weight.shape[1], 1, 1))


def _one_window(e: QuantProjection) -> Map:
    """Every input a pixel of one channel, under one window that covers them all."""
    weight: Any = e.map.matrix().toarray()
    return Conv(weight[:, None, None, :], (1, 1, weight.shape[1]))
