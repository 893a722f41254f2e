"""Moves that make a NIR graph smaller; each takes a case and a test and gives a case that still fails."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from snnergy.deploy.ddmin import masked, minimal, reduced, upstream
from snnergy.export import convention, nir_sim
from snnergy.export.lower import NEURONS, READOUTS
from snnergy.testing.cases import Case

Fails = Callable[[Case], bool]
Edge = tuple[str, str]
ALIKE = (*NEURONS, nir.Scale, nir.Delay)
"""Nodes whose outputs are in the places of their inputs."""
WEIGHTS = ("weight", "bias", "scale")
"""Fields whose values can go one by one."""


def _graph(case: Case) -> nir.NIRGraph:
    assert isinstance(case.net, nir.NIRGraph)
    return case.net


def _with(case: Case, nodes: dict[str, nir.NIRNode], edges: Iterable[Edge]) -> Case:
    """The case with this graph, of which only what an Input reaches or an Output needs is kept."""
    edges = [(a, b) for a, b in edges if a in nodes and b in nodes]
    used = {n for edge in edges for n in edge}
    kept = {name: node for name, node in nodes.items() if name in used}
    graph = nir.NIRGraph(kept, edges, metadata=convention.kept(_graph(case)), type_check=False)
    inputs = {name: x for name, x in case.inputs.items() if name in kept}
    return replace(case, net=graph, inputs=inputs)


def _rebuilt(case: Case, nodes: dict[str, nir.NIRNode], inputs: dict[str, NDArray[Any]]) -> Case:
    """The case with other nodes of the same names, joined as before."""
    before = _graph(case)
    graph = nir.NIRGraph(nodes, list(before.edges), metadata=convention.kept(before), type_check=False)
    return replace(case, net=graph, inputs=inputs)


def fewer_steps(case: Case, fails: Fails) -> Case:
    """The fewest steps."""
    steps = int(case.about["steps"])
    for fewer in sorted({*range(1, min(steps, 17)), steps // 4, steps // 2, steps - 1}):
        if 0 < fewer < steps and fails(candidate := replace(case, about={**case.about, "steps": fewer})):
            return candidate
    return case


def ancestors(case: Case, fails: Fails) -> Case:
    """One neuron node, read by one Output, and all that reaches it."""
    graph = _graph(case)
    outputs = {n for n, node in graph.nodes.items() if isinstance(node, nir.Output)}
    for name, node in graph.nodes.items():
        if not isinstance(node, NEURONS):
            continue
        wanted = upstream([name], graph.edges)
        if len(wanted) + 1 >= len(graph.nodes) and len(outputs) == 1:
            continue
        nodes = {n: graph.nodes[n] for n in graph.nodes if n in wanted}
        read = "output" if "output" not in nodes else f"{name}_output"
        nodes[read] = nir.Output({"output": np.array(node.input_type["input"])})
        candidate = _with(case, nodes, [*graph.edges, (name, read)])
        if fails(candidate):
            return candidate
    return case


def shown_instead(case: Case, fails: Fails) -> Case:
    """A node becomes an Input: a neuron one that shows what it sent in one of the steps, a linear one what it makes."""
    for name in list(_graph(case).nodes):
        graph = _graph(case)
        if name not in graph.nodes or any(a == name and isinstance(graph.nodes[b], nir.Output) for a, b in graph.edges):
            continue
        for x in _outputs(case, name):
            nodes = {**graph.nodes, name: nir.Input({"input": np.array(x.shape[1:])})}
            edges = [(a, b) for a, b in graph.edges if b != name]
            candidate = _reachable(replace(case, inputs={**case.inputs, name: x}), nodes, edges)
            if fails(candidate):
                case = candidate
                break
    return case


def _outputs(case: Case, name: str) -> list[NDArray[Any]]:
    """What a node can be taken to put out at every step: [samples, *shape] each."""
    graph = _graph(case)
    node, feeds = graph.nodes[name], [a for a, b in graph.edges if b == name]
    if isinstance(node, NEURONS) and not isinstance(node, READOUTS):
        steps = int(case.about["steps"])
        sent = nir_sim.run(graph, case.inputs, steps, float(case.about["dt_s"]))[name]
        return [sent[:, t] for t in range(min(steps, 4))]
    if type(node) in nir_sim.LINEAR and all(isinstance(graph.nodes[a], nir.Input) for a in feeds):
        return [nir_sim.LINEAR[type(node)](node, sum(case.inputs[a] for a in feeds))]
    return []


def _reachable(case: Case, nodes: dict[str, nir.NIRNode], edges: list[Edge]) -> Case:
    """Without what no Output needs."""
    wanted = upstream((n for n, node in nodes.items() if isinstance(node, nir.Output)), edges)
    return _with(case, {n: node for n, node in nodes.items() if n in wanted}, edges)


def fewer_edges(case: Case, fails: Fails) -> Case:
    """Edges go, with what they alone connect."""
    graph = _graph(case)

    def with_edges(kept: list[Edge]) -> Case:
        return _reachable(case, dict(graph.nodes), kept)

    return reduced(case, list(graph.edges), with_edges, fails)


def shorter_paths(case: Case, fails: Fails) -> Case:
    """A node goes, and what fed it feeds what it fed."""
    for name in list(_graph(case).nodes):
        graph = _graph(case)
        if name not in graph.nodes or isinstance(graph.nodes[name], (nir.Input, nir.Output)):
            continue
        before = [a for a, b in graph.edges if b == name and a != name]
        after = [b for a, b in graph.edges if a == name and b != name]
        joined = [(a, b) for a in before for b in after if (a, b) not in graph.edges]
        edges = [*(edge for edge in graph.edges if name not in edge), *joined]
        nodes = {n: node for n, node in graph.nodes.items() if n != name}
        candidate = _reachable(case, nodes, edges)
        if fails(candidate):
            case = candidate
    return case


def fewer_neurons(case: Case, fails: Fails) -> Case:
    """Places of one axis go in every node that shares it, as far as the next matrix on either side."""
    for name in list(_graph(case).nodes):
        graph = _graph(case)
        side = "out" if isinstance(graph.nodes[name], (nir.Affine, nir.Linear)) else "in"
        shared = _shared(graph, name, side)
        count = _length(graph.nodes[name], side)
        if shared is None or count is None:
            continue

        def keep(kept: list[int], now: Case = case, shared: set[tuple[str, str]] = shared) -> Case:
            return _picked(now, shared, kept)

        kept = minimal(range(count), lambda some: bool(some) and fails(keep(some)))
        if len(kept) < count:
            case = keep(list(kept))
    return case


def vectors(case: Case, fails: Fails) -> Case:
    """Images become vectors in nodes that treat every place alike, so that places can go one by one."""
    for name in list(_graph(case).nodes):
        graph = _graph(case)
        node = graph.nodes[name]
        shared = _shared(graph, name, "in")
        if not isinstance(node, nir.Input) or shared is None or case.inputs[name].ndim == 2:
            continue
        nodes, inputs, n = dict(graph.nodes), dict(case.inputs), case.inputs[name][0].size
        for here, _ in sorted(shared):
            if isinstance(nodes[here], (nir.Input, nir.Output)):
                here_in = isinstance(nodes[here], nir.Input)
                nodes[here] = nir.Input({"input": np.array([n])}) if here_in else nir.Output({"output": np.array([n])})
            else:
                kind: Any = type(nodes[here])
                nodes[here] = kind(**{f: v.ravel() for f, v in _values(nodes[here]).items()})
            if here in inputs:
                inputs[here] = inputs[here].reshape(-1, n)
        candidate = _rebuilt(case, nodes, inputs)
        if fails(candidate):
            case = candidate
    return case


def _length(node: nir.NIRNode, side: str) -> int | None:
    """How many values a node takes or gives, where that is one axis."""
    if isinstance(node, (nir.Affine, nir.Linear)):
        return node.weight.shape[0 if side == "out" else 1] if node.weight.ndim == 2 else None
    if not isinstance(node, (*ALIKE, nir.Input)):
        return None
    shape = np.atleast_1d(node.input_type["input"])
    return int(shape[0]) if len(shape) == 1 else None


def _shared(graph: nir.NIRGraph, name: str, side: str) -> set[tuple[str, str]] | None:
    """Every (node, side) that has the same axis; None where it reaches a node that mixes places otherwise."""
    found: set[tuple[str, str]] = set()
    todo = [(name, side)]
    while todo:
        here, side = todo.pop()
        if (here, side) in found:
            continue
        node = graph.nodes[here]
        matrix = isinstance(node, (nir.Affine, nir.Linear))
        if not matrix and not isinstance(node, (*ALIKE, nir.Input, nir.Output)):
            return None
        found.add((here, side))
        if side == "out" or not matrix:
            todo += [(b, "in") for a, b in graph.edges if a == here]
        if side == "in" or not matrix:
            todo += [(a, "out") for a, b in graph.edges if b == here]
    return {(n, s if isinstance(graph.nodes[n], (nir.Affine, nir.Linear)) else "both") for n, s in found}


def _picked(case: Case, shared: set[tuple[str, str]], kept: list[int]) -> Case:
    nodes, inputs = dict(_graph(case).nodes), dict(case.inputs)
    for name, side in sorted(shared):
        node: Any = copy.copy(nodes[name])
        if isinstance(node, nir.Input):
            node, inputs[name] = nir.Input({"input": np.array([len(kept)])}), inputs[name][:, kept]
        elif isinstance(node, nir.Output):
            node = nir.Output({"output": np.array([len(kept)])})
        elif isinstance(node, (nir.Affine, nir.Linear)):
            weight = node.weight[kept] if side == "out" else node.weight[:, kept]
            if isinstance(node, nir.Affine):
                node = nir.Affine(weight, node.bias[kept] if side == "out" else node.bias)
            else:
                node = nir.Linear(weight)
        else:
            node = type(node)(**{f: v[kept] if np.size(v) > 1 else v for f, v in _values(node).items()})
        nodes[name] = node
    return _rebuilt(case, nodes, inputs)


def _values(node: nir.NIRNode) -> dict[str, NDArray[Any]]:
    """The float parameters of a node."""
    return {f: v for f, v in vars(node).items() if isinstance(v, np.ndarray) and v.dtype.kind == "f"}


def simpler_parameters(case: Case, fails: Fails) -> Case:
    """Every parameter as a whole becomes 0 or 1 where that will do, or its first value everywhere, or whole numbers."""
    for name in list(_graph(case).nodes):
        for field, value in _values(_graph(case).nodes[name]).items():
            first = value.ravel()[0] if value.size else 0.0
            for simple in (value * 0, value * 0 + 1, value * 0 + first, np.rint(value)):
                if _cost(field, simple) < _cost(field, _values(_graph(case).nodes[name])[field]):
                    candidate = _changed(case, name, field, simple)
                    if fails(candidate):
                        case = candidate
                        break
    return case


def _cost(field: str, value: NDArray[Any]) -> tuple[int, ...]:
    """Falls with every change that is made, so that none is undone."""
    used = int(np.count_nonzero(value)) if field in WEIGHTS else 0
    plain = (value == 0) | (value == 1)
    return used, len(np.unique(value)), int((~plain).sum()), int((value != np.rint(value)).sum())


def fewer_values(case: Case, fails: Fails) -> Case:
    """Weights, biases and inputs become 0 one by one."""
    for name in list(_graph(case).nodes):
        for field in WEIGHTS:
            value = _values(_graph(case).nodes[name]).get(field)
            if value is None:
                continue

            def with_only(some: list[int], now: Case = case, at: tuple[str, str] = (name, field)) -> Case:
                return _changed(now, *at, masked(_values(_graph(now).nodes[at[0]])[at[1]], some))

            case = reduced(case, np.flatnonzero(value).tolist(), with_only, fails)
    for name in case.inputs:

        def shown(some: list[int], now: Case = case, name: str = name) -> Case:
            return replace(now, inputs={**now.inputs, name: masked(now.inputs[name], some)})

        case = reduced(case, np.flatnonzero(case.inputs[name]).tolist(), shown, fails)
    return case


def _changed(case: Case, name: str, field: str, value: NDArray[Any]) -> Case:
    node = copy.copy(_graph(case).nodes[name])
    setattr(node, field, value)
    return _rebuilt(case, {**_graph(case).nodes, name: node}, case.inputs)


MOVES = (
    fewer_steps,
    ancestors,
    shown_instead,
    fewer_edges,
    shorter_paths,
    vectors,
    fewer_neurons,
    simpler_parameters,
    fewer_values,
)
"""From the coarse to the fine."""
