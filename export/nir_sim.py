"""A NIR graph in float64, node by node and step by step, straight from NIR's equations.

It shares no code with ``lower`` or with any engine: it is the independent reading that ``verify`` compares both with.
What a node puts out in a step is asked for when it is needed, and from then on remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from snnergy.errors import BadInput, UnsupportedLayer
from snnergy.export import convention
from snnergy.export.flatten import flat

F64 = NDArray[np.float64]

CURRENT_BASED = (nir.CubaLIF, nir.CubaLI)
READOUTS = (nir.LI, nir.I, nir.CubaLI)
OTHERS = (nir.Input, nir.Output, nir.Delay)
WHOLE = 1e-6
"""How far a delay may be from a whole number of time steps, relative to it: the rounding of float32."""


def run(graph: nir.NIRGraph, inputs: dict[str, F64], steps: int, dt_s: float) -> dict[str, F64]:
    """Spikes of every neuron node, membranes of every readout: name -> float64[samples, steps, *shape].

    inputs: name -> float64[samples, *shape], presented at every step

    NIR does not say when a recurrent connection acts. Here an edge that closes a loop takes one time step, and which
    edge that is depends on the file's order alone (``closing``). Before the first step neurons are silent and inputs
    0; linear nodes then put out what their biases make of that.
    """
    graph = flat(graph)
    reading = _Reading(graph, inputs, dt_s)
    neurons = [n for n, node in graph.nodes.items() if type(node) not in LINEAR and not isinstance(node, OTHERS)]
    trace: dict[str, list[F64]] = {name: [] for name in neurons}
    for t in range(steps):
        for name in reading.order:
            reading.sent(name, t)
        for name in neurons:
            trace[name].append(reading.sent(name, t))
        reading.forget(t)
    return {name: np.stack(values, axis=1) for name, values in trace.items()}


def closing(graph: nir.NIRGraph, dt_s: float) -> tuple[set[tuple[str, str]], list[str]]:
    """The edges that take one time step, since they close a loop; and the nodes, each after those it hears at once.

    Depth first from the Input nodes in file order, then from all others in file order, along edges in file order: an
    edge to a node whose own search is not finished closes a loop. The search stops at a Delay of at least one step
    everywhere, which needs nothing of the present.
    """
    targets: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for source, target in graph.edges:
        targets[source].append(target)
    for name, node in graph.nodes.items():
        if isinstance(node, nir.Delay) and (_whole_steps(name, node, dt_s) >= 1).all():
            targets[name] = []
    inputs = [name for name, node in graph.nodes.items() if isinstance(node, nir.Input)]
    late: set[tuple[str, str]] = set()
    unfinished: list[str] = []
    finished: list[str] = []
    for root in (*inputs, *graph.nodes):
        if root in finished:
            continue
        unfinished.append(root)
        ways = [iter(targets[root])]
        while ways:
            target = next(ways[-1], None)
            if target is None:
                ways.pop()
                finished.append(unfinished.pop())
            elif target in unfinished:
                late.add((unfinished[-1], target))
            elif target not in finished:
                unfinished.append(target)
                ways.append(iter(targets[target]))
    return late, finished[::-1]


class _Reading:
    """What every node puts out, step after step; only as many steps are kept as the longest delay looks back."""

    def __init__(self, graph: nir.NIRGraph, inputs: Mapping[str, F64], dt_s: float) -> None:
        self._how = convention.of(graph)
        self._nodes, self._inputs, self._dt_s = graph.nodes, inputs, dt_s
        self._late, self.order = closing(graph, dt_s)
        self._feeds: dict[str, list[str]] = {name: [] for name in graph.nodes}
        for source, target in graph.edges:
            self._feeds[target].append(source)
        self._samples = len(next(iter(inputs.values())))
        delays = [_whole_steps(n, node, dt_s).max() for n, node in graph.nodes.items() if isinstance(node, nir.Delay)]
        self._longest = int(max(delays, default=0)) + 1
        self._sent: dict[tuple[str, int], F64] = {}
        self._state: dict[str, tuple[Any, Any, Any]] = {}
        self._resting: list[str] = []

    def sent(self, name: str, t: int) -> F64:
        """What the node puts out in step t; every step before the first is step -1."""
        key = name, max(t, -1)
        if key not in self._sent:
            self._sent[key] = self._rest(name) if t < 0 else self._output(name, t)
        return self._sent[key]

    def forget(self, t: int) -> None:
        """Drop what no later step than t asks for."""
        for name in self._nodes:
            if t >= self._longest:
                self._sent.pop((name, t - self._longest), None)

    def _output(self, name: str, t: int) -> F64:
        node = self._nodes[name]
        if isinstance(node, nir.Input):
            return np.asarray(self._inputs[name], np.float64)
        if isinstance(node, nir.Output):
            return np.zeros(0)
        if isinstance(node, nir.Delay):
            steps = _whole_steps(name, node, self._dt_s)
            parts = [np.where(steps == d, self._heard(name, t - d), 0.0) for d in set(steps.ravel().tolist())]
            return np.sum(parts, axis=0)
        linear = LINEAR.get(type(node))
        if linear is not None:
            return linear(node, self._heard(name, t))
        v, fired = self._update(name, t)
        return v if isinstance(node, READOUTS) else fired

    def _rest(self, name: str) -> F64:
        """The output while inputs are 0 and neurons silent."""
        node = self._nodes[name]
        if isinstance(node, nir.Input):
            return np.zeros((self._samples, *np.shape(self._inputs[name])[1:]))
        linear = LINEAR.get(type(node))
        if linear is None and not isinstance(node, nir.Delay):
            return np.zeros((self._samples, *node.output_type["output"]))
        if name in self._resting:
            loop = " -> ".join([*self._resting[self._resting.index(name) :], name])
            raise UnsupportedLayer(f"the loop {loop} has no neuron in it")
        self._resting.append(name)
        heard = self._heard(name, -1)
        self._resting.pop()
        return heard if linear is None else linear(node, heard)

    def _heard(self, name: str, t: int) -> F64:
        """The sum of what the node's inputs carry in step t."""
        if not self._feeds[name]:
            return np.zeros((self._samples, *self._nodes[name].input_type["input"]))
        parts = [self.sent(source, t - ((source, name) in self._late)) for source in self._feeds[name]]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total

    def _update(self, name: str, t: int) -> tuple[F64, F64]:
        """The membrane before the reset, and the spikes; membrane and current are kept for the next step."""
        node: Any = self._nodes[name]
        v, current, before = self._state.get(name, (0.0, 0.0, 0.0))
        x = self._heard(name, t)
        if isinstance(node, CURRENT_BASED):
            current = current + self._share(node.tau_syn) * (node.w_in * x - current)
            x = current
        v = self._step(node, v, x)
        if isinstance(node, nir.Threshold):
            return v, (v > node.threshold).astype(np.float64)
        if isinstance(node, READOUTS):
            self._state[name] = v, current, before
            return v, v
        if self._how.reset == "subtract late":
            v = v - node.v_threshold * before
        fired = v >= node.v_threshold if self._how.compare == ">=" else v > node.v_threshold
        kept = v
        if self._how.reset == "value":
            back: Any = node.v_reset
            kept = np.where(fired, back, v)
        elif self._how.reset == "subtract":
            kept = np.where(fired, v - node.v_threshold, v)
        self._state[name] = kept, current, fired
        return v, fired.astype(np.float64)

    def _share(self, tau: Any) -> Any:
        """How far a state goes in a step to where it is driven."""
        return 1.0 - np.exp(-self._dt_s / tau) if self._how.decay == "exact" else self._dt_s / tau

    def _step(self, node: Any, v: Any, x: F64) -> F64:
        """The membrane after one step, before the comparison."""
        if isinstance(node, nir.Threshold):
            return x
        if isinstance(node, (nir.LIF, nir.LI)):
            share = self._share(node.tau)
            return v + share * (node.v_leak - v) + x if self._how.unit else v + share * ((node.v_leak - v) + node.r * x)
        if isinstance(node, CURRENT_BASED):
            return v + self._share(node.tau_mem) * ((node.v_leak - v) + node.r * x)
        if isinstance(node, (nir.IF, nir.I)):
            return v + np.where(np.isclose(node.r * self._dt_s, 1.0, rtol=1e-9), 1.0, node.r) * x
        raise UnsupportedLayer(f"no reference step for a {type(node).__name__} node")


def _whole_steps(name: str, node: nir.Delay, dt_s: float) -> NDArray[np.int64]:
    """The delays in time steps."""
    exact = np.asarray(node.delay, np.float64) / dt_s
    steps = np.rint(exact)
    if (steps < 0).any() or (abs(exact - steps) > WHOLE * np.maximum(steps, 1)).any():
        raise BadInput(f"node '{name}' delays by {np.ravel(node.delay)[0]:g} s; whole steps of {dt_s:g} s are needed")
    return steps.astype(np.int64)


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


def _conv1d(node: nir.Conv1d, x: F64) -> F64:
    """x: float64[samples, channels, length]; every output is the sum of a window by the kernel."""
    (stride,), (dilation,) = np.atleast_1d(node.stride).tolist(), np.atleast_1d(node.dilation).tolist()
    taps, reach = node.weight.shape[2], dilation * (node.weight.shape[2] - 1)
    if isinstance(node.padding, str):
        padding = reach // 2 if node.padding == "same" else 0
    else:
        (padding,) = np.atleast_1d(node.padding).tolist()
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding)))
    starts = range(0, padded.shape[2] - reach, stride)
    out_per, in_per = node.weight.shape[0] // node.groups, x.shape[1] // node.groups
    out = np.zeros((len(x), node.weight.shape[0], len(starts)))
    for o in range(node.weight.shape[0]):
        first = o // out_per * in_per
        for k, start in enumerate(starts):
            window = padded[:, first : first + in_per, start : start + reach + 1 : dilation]
            out[:, o, k] = (window * node.weight[o].reshape(1, in_per, taps)).sum((1, 2)) + node.bias[o]
    return out


def _flatten(node: nir.Flatten, x: F64) -> F64:
    axes = x.ndim - 1
    start, end = node.start_dim % axes, node.end_dim % axes
    return x.reshape(*x.shape[: 1 + start], -1, *x.shape[2 + end :])


LINEAR: dict[type, Callable[..., F64]] = {
    nir.Affine: lambda node, x: x @ np.asarray(node.weight, np.float64).T + node.bias,
    nir.Linear: lambda node, x: x @ np.asarray(node.weight, np.float64).T,
    nir.Scale: lambda node, x: x * node.scale,
    nir.Conv1d: _conv1d,
    nir.Conv2d: _conv2d,
    nir.SumPool2d: lambda node, x: _windows(x, _pair(node.kernel_size), node.stride, node.padding).sum((4, 5)),
    nir.AvgPool2d: lambda node, x: _windows(x, _pair(node.kernel_size), node.stride, node.padding).mean((4, 5)),
    nir.Flatten: _flatten,
}
