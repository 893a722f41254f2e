"""The twin of a graph that other tools' readers take: one input, no Threshold, no Scale, no groups, no readout.

No reader known takes two inputs or an ``I``, few take ``Threshold`` or ``Scale``, some refuse groups (docs/nir.md). So:

- Inputs of equal height and width become one, channel after channel; who reads one of them reads the others with 0.
- A Threshold becomes a LIF that forgets: tau = dt (1 + 2**-10), r = 1, its threshold divided by as much. A rest of
  2**-10 of the step before is left, which decides nothing where inputs are whole and thresholds lie between whole
  numbers, as in gates and ORs; anything else is refused.
- A Scale with one factor a channel, and a grouped convolution, become a full convolution with zeros.
- An ``I`` becomes the identity: the output is what reaches it in every step, to be added up by the reader.
"""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from snnergy.errors import UnsupportedLayer
from snnergy.export import convention, net_sim
from snnergy.export.flatten import flat
from snnergy.export.lower import lower
from snnergy.export.nir_values import PADDINGS

F64 = NDArray[np.float64]
INPUT = "input"
REST = 2.0**-10
"""What a gate keeps of the step before; the smallest that no reader takes for a neuron that forgets all at once."""
MOST = 256
"""Largest sum of a gate's inputs for which the rest, at most MOST * REST, stays below the half it must not reach."""


def portable(graph: nir.NIRGraph, dt_s: float) -> nir.NIRGraph:
    """The twin; spikes of every neuron that both have are equal. Raises UnsupportedLayer for what has no such form."""
    graph = flat(graph)
    inputs = [name for name, node in graph.nodes.items() if isinstance(node, nir.Input)]
    offset, total = _fused(graph, inputs)
    nodes: dict[str, Any] = {}
    for name, node in graph.nodes.items():
        feeds = [a for a, b in graph.edges if b == name]
        if isinstance(node, nir.Input):
            continue
        if isinstance(node, nir.Threshold):
            nodes[name] = _gate(name, node, dt_s)
        elif isinstance(node, nir.Scale):
            nodes[name] = _scale(name, node)
        elif isinstance(node, nir.I):
            size = int(np.prod(node.input_type["input"]))
            nodes[name] = nir.Affine(np.eye(size) * np.ravel(node.r)[:, None], np.zeros(size))
        elif isinstance(node, nir.Conv2d):
            nodes[name] = _wide(node, feeds, offset, total)
        else:
            nodes[name] = node
        if any(feed in offset for feed in feeds) and not isinstance(node, nir.Conv2d):
            raise UnsupportedLayer(f"'{name}' reads an input and is a {type(node).__name__}; a Conv2d can be widened")
    first = graph.nodes[inputs[0]].input_type["input"]
    nodes[INPUT] = nir.Input({"input": np.array([total, *np.ravel(first)[1:]])})
    edges = [(INPUT if a in offset else a, b) for a, b in graph.edges]
    return nir.NIRGraph(nodes, edges, metadata={**convention.kept(graph)}, type_check=False)


def fused(graph: nir.NIRGraph, inputs: dict[str, F64]) -> F64:
    """The samples of all inputs as those of the twin's. inputs: name -> float64[samples, c, h, w]"""
    names = [name for name, node in flat(graph).nodes.items() if isinstance(node, nir.Input)]
    return np.concatenate([inputs[name] for name in names], axis=1)


def differing(graph: nir.NIRGraph, twin: nir.NIRGraph, inputs: dict[str, F64], steps: int, dt_s: float) -> int:
    """In how many neuron-steps the graph and its twin differ, the twin's outputs added up, as an ``I`` does.

    inputs: of the graph, as for ``fused``
    """
    nodes, edges = dict(twin.nodes), list(twin.edges)
    for name in [name for name, node in nodes.items() if isinstance(node, nir.Output)]:
        size = int(np.prod(nodes[name].input_type["input"]))
        nodes[f"{name} added up"] = nir.I(np.ones(size))
        edges = [(a, f"{name} added up" if b == name else b) for a, b in edges] + [(f"{name} added up", name)]
    whole = nir.NIRGraph(nodes, edges, metadata=dict(twin.metadata), type_check=False)
    wanted = net_sim.run(lower(graph, dt_s), inputs, steps)
    found = net_sim.run(lower(whole, dt_s), {INPUT: fused(graph, inputs)}, steps)
    spiking = [name for name in wanted if name in found]
    return sum(int((found[name].reshape(wanted[name].shape) != wanted[name]).sum()) for name in spiking)


def _fused(graph: nir.NIRGraph, inputs: list[str]) -> tuple[dict[str, int], int]:
    """Of every input its first channel, and how many there are in all."""
    shapes = {name: [int(n) for n in np.ravel(graph.nodes[name].input_type["input"])] for name in inputs}
    if any(len(shape) != 3 for shape in shapes.values()) or len({tuple(s[1:]) for s in shapes.values()}) > 1:
        listed = ", ".join(f"'{name}' {shape}" for name, shape in shapes.items())
        raise UnsupportedLayer(f"inputs become one only as images of equal size; they are {listed}")
    offset, total = dict[str, int](), 0
    for name, shape in shapes.items():
        offset[name] = total
        total += shape[0]
    return offset, total


def _gate(name: str, node: nir.Threshold, dt_s: float) -> nir.LIF:
    level = np.asarray(node.threshold, np.float64)
    if (level != np.floor(level) + 0.5).any() or level.max() >= MOST:
        raise UnsupportedLayer(
            f"'{name}' has a threshold that is no half number below {MOST}; it has no LIF that equals it"
        )
    one, zero = np.ones(level.shape), np.zeros(level.shape)
    return nir.LIF(tau=dt_s * (1 + REST) * one, r=one, v_leak=zero, v_threshold=level / (1 + REST), v_reset=zero)


def _scale(name: str, node: nir.Scale) -> nir.Conv2d:
    factor = np.asarray(node.scale, np.float64)
    if factor.ndim != 3 or (factor != factor[:, :1, :1]).any():
        raise UnsupportedLayer(f"'{name}' scales every pixel by itself; a Conv2d scales channels")
    weight = np.diag(factor[:, 0, 0])[:, :, None, None]
    return nir.Conv2d(factor.shape[1:], weight, (1, 1), (0, 0), (1, 1), 1, np.zeros(len(weight)))


def _wide(node: nir.Conv2d, feeds: list[str], offset: dict[str, int], total: int) -> nir.Conv2d:
    """Without groups, and with weights of 0 for the inputs that it does not read."""
    weight, groups = np.asarray(node.weight, np.float64), int(node.groups)
    c_out, per_group = weight.shape[:2]
    full = np.zeros((c_out, per_group * groups, *weight.shape[2:]))
    for o in range(c_out):
        first = o // (c_out // groups) * per_group
        full[o, first : first + per_group] = weight[o]
    for feed in feeds:
        if feed in offset:
            wide = np.zeros((c_out, total, *weight.shape[2:]))
            wide[:, offset[feed] : offset[feed] + full.shape[1]] = full
            full = wide
    padding = node.padding if isinstance(node.padding, str) and node.padding in PADDINGS else _pair(node.padding)
    return nir.Conv2d(
        node.input_shape, full, _pair(node.stride), padding, _pair(node.dilation), 1, np.asarray(node.bias, np.float64)
    )


def _pair(value: Any) -> tuple[int, int]:
    low, *rest = (int(v) for v in np.atleast_1d(np.asarray(value)).ravel())
    return low, rest[0] if rest else low
