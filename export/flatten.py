"""Graphs in graphs become one flat graph: node ``inner`` of subgraph ``sub`` is ``sub.inner``."""

from __future__ import annotations

from typing import Any

import nir

from snnergy.errors import BadInput

MAX_NODES = 1 << 16
Edge = tuple[str, str]


def flat(graph: nir.NIRGraph) -> nir.NIRGraph:
    """The same graph without graphs inside; the graph itself where there is none.

    An Input or Output of a subgraph is a place where edges meet, and goes; an edge into or out of a subgraph goes to
    everything behind its Inputs, or comes from everything before its Outputs. Raises BadInput for a subgraph without
    them, for an edge that names what is not there, and where two ways would have to become one edge twice.
    """
    if not any(isinstance(node, nir.NIRGraph) for node in graph.nodes.values()):
        return graph
    nodes: dict[str, Any] = {}
    edges: list[Edge] = []
    _collect(graph, "", nodes, edges)
    places = [name for name, node in nodes.items() if "." in name and isinstance(node, (nir.Input, nir.Output))]
    for place in places:
        before = [a for a, b in edges if b == place]
        after = [b for a, b in edges if a == place]
        edges = [e for e in edges if place not in e] + [(a, b) for a in before for b in after]
        del nodes[place]
    twice = next((e for k, e in enumerate(edges) if e in edges[:k]), None)
    if twice:
        raise BadInput(f"'{twice[0]}' reaches '{twice[1]}' by two ways through a subgraph", "put a Scale node into one")
    return nir.NIRGraph(nodes, edges, metadata=dict(graph.metadata or {}), type_check=False)


def _collect(graph: nir.NIRGraph, prefix: str, nodes: dict[str, Any], edges: list[Edge]) -> None:
    """Put every node that is no graph into ``nodes``, and the edges between them into ``edges``."""
    ends: dict[str, tuple[list[str], list[str]]] = {}
    for name, node in graph.nodes.items():
        whole = prefix + name
        if isinstance(node, nir.NIRGraph):
            inside = {kind: [f"{whole}.{n}" for n, x in node.nodes.items() if isinstance(x, kind)]
                      for kind in (nir.Input, nir.Output)}  # fmt: skip
            for kind, found in inside.items():
                if len(found) != 1:
                    said = f"subgraph '{whole}' has {len(found)} {kind.__name__} nodes"
                    raise BadInput(f"{said}; an edge to it says nothing unless it has one")
            ends[whole] = inside[nir.Input], inside[nir.Output]
            _collect(node, f"{whole}.", nodes, edges)
        else:
            ends[whole] = [whole], [whole]
            if whole in nodes or len(nodes) >= MAX_NODES:
                raise BadInput(f"two nodes are called '{whole}', or there are more than {MAX_NODES}")
            nodes[whole] = node
    for source, target in graph.edges:
        for end in (source, target):
            if prefix + end not in ends:
                raise BadInput(
                    f"edge '{prefix}{source}' -> '{prefix}{target}' names '{end}', which the graph does not have"
                )
        edges += [(a, b) for a in ends[prefix + source][1] for b in ends[prefix + target][0]]
