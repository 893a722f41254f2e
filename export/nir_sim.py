"""A NIR graph in float64, node by node and step by step, straight from NIR's equations.

It shares no code with ``lower`` or with any engine: it is the independent reading that ``verify`` compares both with.
"""

from __future__ import annotations

from collections.abc import Callable
from graphlib import TopologicalSorter
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from snnergy.errors import UnsupportedLayer

F64 = NDArray[np.float64]


def run(graph: nir.NIRGraph, inputs: dict[str, F64], steps: int, dt_s: float) -> dict[str, F64]:
    """Spikes of every neuron node, membranes of every readout: name -> float64[samples, steps, *shape].

    inputs: name -> float64[samples, *shape], presented at every step. Feed-forward graphs only.
    """
    feeds: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for source, target in graph.edges:
        feeds[target].append(source)
    names = list(TopologicalSorter(feeds).static_order())
    samples = len(next(iter(inputs.values())))
    membrane: dict[str, F64] = {}
    trace: dict[str, list[F64]] = {}
    for _ in range(steps):
        now: dict[str, F64] = {}
        for name in names:
            node = graph.nodes[name]
            if isinstance(node, nir.Input):
                now[name] = np.asarray(inputs[name], np.float64)
                continue
            if isinstance(node, nir.Output):
                continue
            if feeds[name]:
                x = now[feeds[name][0]]
                for other in feeds[name][1:]:
                    x = x + now[other]
            else:
                x = np.zeros((samples, *node.input_type["input"]))
            linear = LINEAR.get(type(node))
            if linear is not None:
                now[name] = linear(node, x)
                continue
            v = _step(node, membrane.get(name, np.zeros(())), x, dt_s)
            if isinstance(node, (nir.LI, nir.I)):
                membrane[name] = now[name] = v
            else:
                threshold: Any = node.threshold if isinstance(node, nir.Threshold) else node.v_threshold  # type: ignore[attr-defined]
                fired = v > threshold
                membrane[name] = np.where(fired, getattr(node, "v_reset", 0.0), v)
                now[name] = fired.astype(np.float64)
            trace.setdefault(name, []).append(now[name])
    return {name: np.stack(values, axis=1) for name, values in trace.items()}


def _step(node: nir.NIRNode, v: F64, x: F64, dt_s: float) -> F64:
    """The membrane after one step of forward Euler, before the comparison."""
    if isinstance(node, nir.Threshold):
        return x
    if isinstance(node, (nir.LIF, nir.LI)):
        return v + (dt_s / node.tau) * ((node.v_leak - v) + node.r * x)
    if isinstance(node, (nir.IF, nir.I)):
        return v + np.where(np.isclose(node.r * dt_s, 1.0, rtol=1e-9), 1.0, node.r) * x
    raise UnsupportedLayer(f"no reference step for a {type(node).__name__} node")


def _pair(value: object) -> tuple[int, int]:
    low, *rest = (int(v) for v in np.atleast_1d(np.asarray(value)).ravel())
    return low, rest[0] if rest else low


def _windows(x: F64, kernel: tuple[int, int], stride: object, padding: object, dilation: object = 1) -> F64:
    """float64[samples, channels, h_out, w_out, kh, kw]: every window of the zero-padded input."""
    (sy, sx), (py, px), (dy, dx) = _pair(stride), _pair(padding), _pair(dilation)
    padded = np.pad(x, ((0, 0), (0, 0), (py, py), (px, px)))
    span = (dy * (kernel[0] - 1) + 1, dx * (kernel[1] - 1) + 1)
    view = np.lib.stride_tricks.sliding_window_view(padded, span, axis=(2, 3))
    return view[:, :, ::sy, ::sx, ::dy, ::dx]


def _conv2d(node: nir.Conv2d, x: F64) -> F64:
    kernel = node.weight.shape[2:]
    padding = node.padding
    if isinstance(padding, str):
        spans = [d * (k - 1) // 2 for d, k in zip(_pair(node.dilation), kernel, strict=True)]
        padding = spans if padding == "same" else (0, 0)
    view = _windows(x, kernel, node.stride, padding, node.dilation)
    per_group = node.weight.shape[0] // node.groups, x.shape[1] // node.groups
    out = [
        np.tensordot(
            view[:, g * per_group[1] : (g + 1) * per_group[1]],
            node.weight[g * per_group[0] : (g + 1) * per_group[0]].astype(np.float64),
            axes=((1, 4, 5), (1, 2, 3)),
        )
        for g in range(node.groups)
    ]
    return np.moveaxis(np.concatenate(out, axis=-1) + node.bias, -1, 1)


def _flatten(node: nir.Flatten, x: F64) -> F64:
    axes = x.ndim - 1
    start, end = node.start_dim % axes, node.end_dim % axes
    return x.reshape(*x.shape[: 1 + start], -1, *x.shape[2 + end :])


LINEAR: dict[type, Callable[..., F64]] = {
    nir.Affine: lambda node, x: x @ np.asarray(node.weight, np.float64).T + node.bias,
    nir.Linear: lambda node, x: x @ np.asarray(node.weight, np.float64).T,
    nir.Scale: lambda node, x: x * node.scale,
    nir.Conv2d: _conv2d,
    nir.SumPool2d: lambda node, x: _windows(x, _pair(node.kernel_size), node.stride, node.padding).sum((4, 5)),
    nir.AvgPool2d: lambda node, x: _windows(x, _pair(node.kernel_size), node.stride, node.padding).mean((4, 5)),
    nir.Flatten: _flatten,
}
