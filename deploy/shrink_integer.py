"""Moves that make an integer network smaller; each takes a case and a test and gives a case that still fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from snnergy.deploy import engine
from snnergy.deploy.ddmin import masked, minimal, reduced, upstream
from snnergy.export.maps import Conv, Dense, Map, Sparse, weights, with_weights
from snnergy.export.quantnet import DECAY_ONE, THRESHOLD_LIMIT, QuantNet, QuantPopulation, QuantProjection, QuantSource
from snnergy.testing.cases import Case

Fails = Callable[[Case], bool]


def _net(case: Case) -> QuantNet:
    assert isinstance(case.net, QuantNet)
    return case.net


def fewer_steps(case: Case, fails: Fails) -> Case:
    """The fewest first steps, then without steps at the beginning."""
    net = _net(case)
    for steps in _shorter(net.steps):
        candidate = _cut(case, 0, steps)
        if fails(candidate):
            case = candidate
            break
    while _net(case).steps > 1:
        candidate = _cut(case, 1, _net(case).steps)
        if not fails(candidate):
            break
        case = candidate
    return case


def _shorter(steps: int) -> Iterator[int]:
    yield from range(1, min(steps, 17))
    yield from (n for n in (steps // 8, steps // 4, steps // 2, steps * 3 // 4, steps - 1) if 16 < n < steps)


def _cut(case: Case, first: int, last: int) -> Case:
    net = _net(case)
    shapes = {s.name: s.shape for s in net.sources}
    inputs = {n: x if x.shape[1:] == shapes[n] else x[:, first:last] for n, x in case.inputs.items()}
    return replace(case, net=replace(net, steps=last - first), inputs=inputs)


def ancestors(case: Case, fails: Fails) -> Case:
    """One population and all that reaches it: the first, from the input, that fails."""
    net = _net(case)
    for p in net.populations:
        wanted = upstream([p.name], ((e.source, e.target) for e in net.projections))
        if {q.name for q in net.populations} <= wanted and net.outputs == (p.name,):
            continue
        candidate = _only(case, wanted, (p.name,))
        if fails(candidate):
            return candidate
    return case


def _only(case: Case, wanted: set[str], outputs: tuple[str, ...]) -> Case:
    """The network of these nodes; where it loses every source, the first stays."""
    net = _net(case)
    sources = tuple(s for s in net.sources if s.name in wanted) or net.sources[:1]
    populations = tuple(p for p in net.populations if p.name in wanted)
    edges = tuple(e for e in net.projections if {e.source, e.target} <= wanted)
    small = replace(net, sources=sources, populations=populations, projections=edges, outputs=outputs)
    return replace(case, net=small, inputs={s.name: case.inputs[s.name] for s in sources})


def spikes_as_inputs(case: Case, fails: Fails) -> Case:
    """Populations become sources that send what they sent, so that what feeds them can go."""
    net = _net(case)
    inner = [p.name for p in net.populations if p.spiking and p.name not in net.outputs]
    if not inner:
        return case
    run = engine.run(net, case.inputs, record=tuple(inner))

    def with_populations(kept: list[str]) -> Case:
        cut = {name for name in inner if name not in kept}
        new = tuple(QuantSource(p.name, p.shape, 1, 1.0) for p in net.populations if p.name in cut)
        small = replace(
            net,
            sources=(*net.sources, *new),
            populations=tuple(p for p in net.populations if p.name not in cut),
            projections=tuple(e for e in net.projections if e.target not in cut),
        )
        trains = {s.name: run.recorded[s.name].reshape(*run.recorded[s.name].shape[:2], *s.shape) for s in new}
        used = {e.source for e in small.projections} | {p.name for p in small.populations}
        return _only(replace(case, net=small, inputs={**case.inputs, **trains}), used, net.outputs)

    return reduced(case, inner, with_populations, fails)


def fewer_projections(case: Case, fails: Fails) -> Case:
    """Projections go, and sources that feed nothing."""
    net = _net(case)
    edges = net.projections

    def with_edges(kept: list[int]) -> Case:
        small = replace(net, projections=tuple(edges[k] for k in kept))
        used = {edges[k].source for k in kept} | {p.name for p in net.populations}
        return _only(replace(case, net=small), used, net.outputs)

    return reduced(case, range(len(edges)), with_edges, fails)


def listed_synapses(case: Case, fails: Fails) -> Case:
    """Convolutions and dense maps become listed synapses, whose ends can then go one by one."""
    for k, e in enumerate(_net(case).projections):
        if not isinstance(e.map, Sparse):
            listed = Sparse(e.map.matrix(), e.map.input_shape, e.map.output_shape)
            candidate = _with_edge(case, k, map=listed)
            if fails(candidate):
                case = candidate
    return case


def fewer_neurons(case: Case, fails: Fails) -> Case:
    """Neurons and inputs go one by one; where a convolution is at either end, channels, rows and columns."""
    for name in [n.name for n in (*_net(case).sources, *_net(case).populations)]:
        axes = _axes(_net(case), name)
        for axis in axes:
            now, count = case, _node(_net(case), name).shape[axis]
            kept = minimal(range(count), lambda some: bool(some) and _fails_with(now, name, axis, some, fails))  # noqa: B023
            if len(kept) < count:
                found = _keep(now, name, axis, list(kept))
                case = case if found is None else found
    return case


def _fails_with(case: Case, name: str, axis: int, kept: list[int], fails: Fails) -> bool:
    candidate = _keep(case, name, axis, kept)
    return candidate is not None and fails(candidate)


def _node(net: QuantNet, name: str) -> QuantSource | QuantPopulation:
    return next(n for n in (*net.sources, *net.populations) if n.name == name)


def _axes(net: QuantNet, name: str) -> tuple[int, ...]:
    return tuple(range(len(_node(net, name).shape)))


def _keep(case: Case, name: str, axis: int, kept: list[int]) -> Case | None:
    """The case with only these places of one axis of a node; None where a map does not allow it."""
    net = _net(case)
    node = _node(net, name)
    shape = (*node.shape[:axis], len(kept), *node.shape[axis + 1 :])
    flat = np.arange(prod(node.shape)).reshape(node.shape).take(kept, axis).ravel()
    edges: list[QuantProjection] = []
    for e in net.projections:
        linear: Map | None = e.map
        if e.target == name:
            linear = _rows(linear, axis, kept, flat, shape)
        if e.source == name and linear is not None:
            linear = _columns(linear, axis, kept, flat, shape)
        if linear is None:
            return None
        edges.append(replace(e, map=linear))
    inputs = dict(case.inputs)
    if name in inputs:
        inputs[name] = inputs[name].take(kept, axis=inputs[name].ndim - len(node.shape) + axis)
    small = replace(
        net,
        sources=tuple(replace(s, shape=shape) if s.name == name else s for s in net.sources),
        populations=tuple(p.taken(flat, shape) if p.name == name else p for p in net.populations),
        projections=tuple(edges),
    )
    return replace(case, net=small, inputs=inputs)


def _rows(linear: Map, axis: int, kept: list[int], flat: NDArray[np.intp], shape: tuple[int, ...]) -> Map | None:
    if not isinstance(linear, Conv):
        return replace(linear, weight=linear.weight[flat], output_shape=shape)
    if axis == 0 and linear.groups == 1:
        return replace(linear, weight=linear.weight[kept])
    return None


def _columns(linear: Map, axis: int, kept: list[int], flat: NDArray[np.intp], shape: tuple[int, ...]) -> Map | None:
    if isinstance(linear, Dense):
        return replace(linear, weight=linear.weight[:, flat], input_shape=shape)
    if isinstance(linear, Sparse):
        return replace(linear, weight=csr_array(linear.weight[:, flat]), input_shape=shape)
    if axis == 0 and linear.groups == 1:
        return replace(linear, weight=linear.weight[:, kept], input_shape=shape)
    return None


def smaller_images(case: Case, fails: Fails) -> Case:
    """The last rows and columns of a source that one convolution reads, with what they feed."""
    for s in _net(case).sources:
        for axis in (1, 2) if len(s.shape) == 3 else ():
            while (candidate := _cropped(case, s.name, axis)) is not None and fails(candidate):
                case = candidate
    return case


def _cropped(case: Case, name: str, axis: int) -> Case | None:
    net = _net(case)
    node = _node(net, name)
    edges = [k for k, e in enumerate(net.projections) if e.source == name]
    if len(edges) != 1 or not isinstance(net.projections[edges[0]].map, Conv) or node.shape[axis] == 1:
        return None
    e = net.projections[edges[0]]
    shape = (*node.shape[:axis], node.shape[axis] - 1, *node.shape[axis + 1 :])
    conv: Any = replace(e.map, input_shape=shape)
    if min(conv.output_shape) < 1:
        return None
    cropped = tuple(replace(s, shape=shape) if s.name == name else s for s in net.sources)
    inputs = {**case.inputs, name: np.delete(case.inputs[name], -1, axis - 3)}
    without = replace(net, sources=cropped, projections=tuple(f for f in net.projections if f is not e))
    small: Case | None = replace(case, net=without, inputs=inputs)
    lost = e.map.output_shape[axis] - conv.output_shape[axis]
    if lost and small is not None:
        small = _keep(small, e.target, axis, list(range(conv.output_shape[axis])))
    if small is None:
        return None
    rest = _net(small).projections
    projections = (*rest[: edges[0]], replace(e, map=conv), *rest[edges[0] :])
    return replace(small, net=replace(_net(small), projections=projections))


def fewer_weights(case: Case, fails: Fails) -> Case:
    """Weights become 0, then 1 or -1 where that will do, then half as large."""
    for k in range(len(_net(case).projections)):

        def with_only(some: list[int], now: Case = case, k: int = k) -> Case:
            return _with_edge(now, k, map=_masked(_net(now).projections[k].map, some))

        used = np.flatnonzero(weights(_net(case).projections[k].map)).tolist()
        case = _simpler_weights(reduced(case, used, with_only, fails), k, fails)
    return case


def _masked(linear: Map, kept: list[int]) -> Map:
    found = with_weights(linear, lambda w: masked(w, kept))
    return replace(found, weight=found.matrix()) if isinstance(found, Sparse) else found


def _simpler_weights(case: Case, k: int, fails: Fails) -> Case:
    flat = weights(_net(case).projections[k].map).ravel()
    for place in np.flatnonzero(flat)[:16].tolist():
        value = int(weights(_net(case).projections[k].map).ravel()[place])
        for simpler in _simpler(value):
            candidate = _with_edge(case, k, map=_set(_net(case).projections[k].map, place, simpler))
            if fails(candidate):
                case = candidate
                break
    return case


def _set(linear: Map, place: int, value: int) -> Map:
    def change(w: NDArray[Any]) -> NDArray[Any]:
        result = w.copy()
        result.ravel()[place] = value
        return result

    return with_weights(linear, change)


def _simpler(value: int) -> tuple[int, ...]:
    """Numbers to try instead, the simplest first."""
    sign, size = (1, value) if value > 0 else (-1, -value)
    found = dict.fromkeys((1, 2, size // 8, size // 4, size // 2, size - 1))
    return tuple(sign * n for n in found if 0 < n < size)


def fewer_inputs(case: Case, fails: Fails) -> Case:
    """Inputs become 0, then smaller."""
    for name in case.inputs:

        def with_only(some: list[int], now: Case = case, name: str = name) -> Case:
            return replace(now, inputs={**now.inputs, name: masked(now.inputs[name], some)})

        case = reduced(case, np.flatnonzero(case.inputs[name]).tolist(), with_only, fails)
        for place in np.flatnonzero(case.inputs[name])[:16].tolist():
            for simpler in _simpler(int(case.inputs[name].ravel()[place])):
                changed = case.inputs[name].copy()
                changed.ravel()[place] = simpler
                candidate = replace(case, inputs={**case.inputs, name: changed})
                if fails(candidate):
                    case = candidate
                    break
    return case


def simpler_parameters(case: Case, fails: Fails) -> Case:
    """No bias, no memory, small thresholds, no shift, no delay: each where it will do."""
    for k, p in enumerate(_net(case).populations):
        none = np.zeros_like(p.decay)
        trials: list[dict[str, Any]] = [
            {"bias_mantissa": none, "bias_exponent": 0},
            {"bias_exponent": 0},
            {"current_decay": none + DECAY_ONE},
            {"decay": none + DECAY_ONE},
            {"decay": none},
            {"scale": 1.0},
            {"reset": None, "subtract": False},
        ]
        if p.spiking:
            trials += [{"threshold": none + n} for n in (0, 1)]
            trials += [{"threshold": p.threshold // n} for n in (16, 4, 2)]
        else:
            trials += [{"threshold": none + THRESHOLD_LIMIT}]
        for trial in trials:
            if all(np.array_equal(getattr(_net(case).populations[k], field), value) for field, value in trial.items()):
                continue
            if any(_as_simple(field, _net(case).populations[k], value) for field, value in trial.items()):
                continue
            changed = replace(_net(case).populations[k], **trial)
            populations = tuple(changed if j == k else q for j, q in enumerate(_net(case).populations))
            candidate = replace(case, net=replace(_net(case), populations=populations))
            if fails(candidate):
                case = candidate
    for k, e in enumerate(_net(case).projections):
        for trial in ({"exponent": 0}, {"exponent": e.exponent // 2}, {"delay": 0}, {"delay": 1}):
            ((field, value),) = trial.items()
            if abs(getattr(_net(case).projections[k], field)) <= abs(value):
                continue
            candidate = _with_edge(case, k, **trial)
            if fails(candidate):
                case = candidate
    return case


def _as_simple(field: str, p: QuantPopulation, value: Any) -> bool:
    """Whether a field is at least as simple already, so that no trial undoes another."""
    now = getattr(p, field)
    if field in ("decay", "current_decay"):
        return bool((now == DECAY_ONE).all())
    if field == "threshold" and p.spiking:
        return bool(now.sum() <= np.sum(value))
    return False


def _with_edge(case: Case, k: int, **changes: Any) -> Case:
    edges = _net(case).projections
    changed = tuple(replace(e, **changes) if j == k else e for j, e in enumerate(edges))
    return replace(case, net=replace(_net(case), projections=changed))


MOVES = (
    fewer_steps,
    ancestors,
    spikes_as_inputs,
    fewer_projections,
    smaller_images,
    listed_synapses,
    fewer_neurons,
    fewer_weights,
    fewer_inputs,
    simpler_parameters,
)
"""From the coarse to the fine."""
