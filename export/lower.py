"""``NIRGraph -> Net``: neurons become populations, every path of linear nodes between them becomes one projection.

NIR is continuous in time; the graph's ``convention`` says what a step is. By NIR's own, forward Euler with the dt
given, ``tau dv/dt = (v_leak - v) + r x`` gives ``v <- (1 - dt/tau) v + (dt/tau) (v_leak + r x)``; dividing by the gain
``r dt/tau`` leaves the ``Population`` step. A threshold that is taken away a step late, from a membrane that has
decayed by then, is threshold / decay taken away at once; ``>=`` is ``>`` with the next smaller threshold.
``IF`` and ``I`` add ``r x`` at every step, the convention of every exporter that writes ``r = 1``. ``CubaLIF`` steps
its current first and adds the new one to the membrane, as snntorch, Lava and the chip do.

A loop takes time: see ``_late``. Before the first step neurons are silent and inputs 0, while biases have always been
there, also those of linear nodes inside a loop.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from math import prod

import nir
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, eye_array

from snnergy.errors import BadInput, UnsupportedLayer
from snnergy.export import convention, passes
from snnergy.export.flatten import flat
from snnergy.export.maps import Conv, Dense, Map, Shape, Sparse, weights
from snnergy.export.net import F64, Net, Population, Projection, Source, order, verify

NEURONS = (nir.LIF, nir.IF, nir.CubaLIF, nir.LI, nir.I, nir.CubaLI, nir.Threshold)
READOUTS = (nir.LI, nir.I, nir.CubaLI)
LINEAR = (nir.Affine, nir.Linear, nir.Conv1d, nir.Conv2d, nir.Scale, nir.SumPool2d, nir.AvgPool2d, nir.Flatten)
MAX_VALUES = 1 << 24
"""Most values that one node may put out: a shape in a file costs nothing to write."""
MAX_DELAY = 1 << 16
"""Longest delay in steps."""
FLOAT32_ROUNDING = 1e-6
"""A tau of one time step is not shorter than it because some tool stored it in float32."""


def lower(graph: nir.NIRGraph, dt_s: float, rewrites: tuple[passes.Pass, ...] = passes.PASSES) -> Net:
    """Lower the graph and run the passes, checking the result between them.

    dt_s: seconds per step. Raises BadInput for a graph that contradicts itself, UnsupportedLayer for what no Net says.
    """
    net = from_nir(graph, dt_s)
    verify(net)
    for rewrite in rewrites:
        net = rewrite(net)
        verify(net)
    return net


@dataclass(frozen=True)
class _Path:
    """A linear path from a source or population, and its delay in steps; map None is the identity."""

    origin: str
    map: Map | None
    delay: int = 0


@dataclass(frozen=True)
class _Flow:
    """What arrives somewhere: the paths that are summed, and a constant. constant: float64[shape]."""

    shape: Shape
    paths: tuple[_Path, ...]
    constant: F64


def from_nir(graph: nir.NIRGraph, dt_s: float) -> Net:
    """The graph as a Net, without any rewriting."""
    graph = flat(graph)
    feeds = _edges(graph)
    late = _late(graph, dt_s)
    outputs = {name for name, node in graph.nodes.items() if isinstance(node, nir.Output)}
    read = {source for source, target in graph.edges if target in outputs}
    flows: dict[str, _Flow] = {}
    sources: list[Source] = []
    neurons: dict[str, Shape] = {}
    for name, node in graph.nodes.items():
        if not isinstance(node, (nir.Input, *NEURONS)):
            continue
        shape = _shape(name, node.input_type["input"])
        flows[name] = _Flow(shape, (_Path(name, None),), np.zeros(shape))
        if isinstance(node, nir.Input):
            sources.append(Source(name, shape))
        else:
            neurons[name] = shape
    for name in _linear_order(graph, feeds):
        node = graph.nodes[name]
        if isinstance(node, LINEAR):
            flows[name] = _through(name, node, _join(name, feeds[name], flows, late))
        elif isinstance(node, nir.Delay):
            flows[name] = _delayed(name, node, _join(name, feeds[name], flows, late), dt_s)
        elif not isinstance(node, nir.Output):
            raise UnsupportedLayer(
                f"node '{name}' is a {type(node).__name__}, which this version does not lower",
                f"it lowers {', '.join(sorted(k.__name__ for k in (*NEURONS, *LINEAR, nir.Delay)))}",
            )
    for source in sorted(read - neurons.keys()):
        output = next(target for s, target in graph.edges if s == source and target in outputs)
        raise UnsupportedLayer(
            f"output '{output}' reads '{source}', a {type(graph.nodes[source]).__name__}",
            "end the graph with a neuron: I or LI for a readout",
        )
    populations: list[Population] = []
    projections: list[Projection] = []
    how = convention.of(graph)
    for name, shape in neurons.items():
        population, gain = _population(name, graph.nodes[name], shape, dt_s, how)
        if feeds[name]:
            flow = _join(name, feeds[name], flows, late)
            if flow.shape != shape:
                raise BadInput(f"node '{name}' has shape {list(shape)}, its input has {list(flow.shape)}")
            if (gain != 1.0).any():
                flow = _through(name, nir.Scale(gain.reshape(shape)), flow)
            if flow.constant.any() and population.current_decay.any():
                bias = f"{name}.bias"
                while bias in graph.nodes:
                    bias += "_"
                populations.append(_always(bias))
                projections.append(Projection(bias, name, Dense(flow.constant.reshape(-1, 1), (1,), shape)))
            else:
                population = replace(population, bias=population.bias + flow.constant.ravel())
            projections += [Projection(p.origin, name, p.map or _identity(shape), p.delay) for p in flow.paths]
        populations.append(population)
    if not sources:
        raise BadInput("the graph has no Input node")
    if not populations:
        raise BadInput("the graph has no neurons")
    if not read:
        raise BadInput("the graph has no output; join the last population to an Output node")
    outputs_in_order = tuple(p.name for p in populations if p.name in read)
    for e in projections:
        if not np.isfinite(weights(e.map)).all():
            raise BadInput(f"the weights of '{e.target}' overflow when the nodes before it are multiplied")
    ordered = order(tuple(populations), tuple(projections))
    return Net(tuple(sources), ordered, tuple(projections), outputs_in_order, dt_s)


def _always(name: str) -> Population:
    """One neuron that fires at every step: the bias of a current, which the bias register, the membrane's, is not."""
    return Population(name, (1,), np.zeros(1), np.zeros(1), np.full(1, 0.5), np.ones(1))


def _edges(graph: nir.NIRGraph) -> dict[str, list[str]]:
    feeds: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for source, target in graph.edges:
        for end in (source, target):
            if end not in graph.nodes:
                raise BadInput(f"edge '{source}' -> '{target}' names '{end}', which the graph does not have")
        if isinstance(graph.nodes[target], nir.Input) or isinstance(graph.nodes[source], nir.Output):
            raise BadInput(f"edge '{source}' -> '{target}' runs into an Input or out of an Output")
        if isinstance(graph.nodes[source], READOUTS) and not isinstance(graph.nodes[target], nir.Output):
            raise UnsupportedLayer(
                f"'{source}' ({type(graph.nodes[source]).__name__}) feeds '{target}' with a membrane, not with spikes",
                "only an Output node may read an I, LI or CubaLI",
            )
        feeds[target].append(source)
    return feeds


def _late(graph: nir.NIRGraph, dt_s: float) -> frozenset[tuple[str, str]]:
    """The edges that take one step more, so that every loop takes time.

    Forward depth-first search from the Input nodes, then from all others, both in the order of the file: an edge to a
    node that is still open closes a loop. Edges out of a Delay node of a step or more are left out: such a loop takes
    time already.
    """
    targets: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for source, target in graph.edges:
        node = graph.nodes[source]
        if not (isinstance(node, nir.Delay) and _steps(source, node, dt_s).min(initial=1) >= 1):
            targets[source].append(target)
    late: set[tuple[str, str]] = set()
    is_open: dict[str, bool] = {}
    roots = sorted(graph.nodes, key=lambda name: not isinstance(graph.nodes[name], nir.Input))
    for root in roots:
        if root in is_open:
            continue
        is_open[root] = True
        stack = [(root, iter(targets[root]))]
        while stack:
            name, rest = stack[-1]
            target = next(rest, None)
            if target is None:
                is_open[name] = False
                stack.pop()
            elif target not in is_open:
                is_open[target] = True
                stack.append((target, iter(targets[target])))
            elif is_open[target]:
                late.add((name, target))
    return frozenset(late)


def _steps(name: str, node: nir.Delay, dt_s: float) -> NDArray[np.int64]:
    """The delays of a Delay node as whole steps: int64[n]."""
    steps = np.asarray(node.delay, np.float64).ravel() / dt_s
    whole = np.rint(steps)
    if steps.size == 0 or steps.min() < 0 or steps.max() > MAX_DELAY:
        raise BadInput(
            f"node '{name}' delays {_range(steps * dt_s)} s; 0 to {MAX_DELAY} steps of {dt_s:g} s are possible"
        )
    if (abs(steps - whole) > FLOAT32_ROUNDING * np.maximum(steps, 1)).any():
        wrong = steps[abs(steps - whole).argmax()]
        raise UnsupportedLayer(
            f"node '{name}' delays {wrong:g} steps of {dt_s:g} s; only whole steps run", "change --dt"
        )
    return whole.astype(np.int64)


def _range(values: F64) -> str:
    return f"{values.min():g} to {values.max():g}" if values.size else "nothing at"


def _linear_order(graph: nir.NIRGraph, feeds: dict[str, list[str]]) -> list[str]:
    """The nodes that are no neurons and no inputs, each after those of them that feed it."""
    known = (nir.Input, *NEURONS)
    inner = {n: [f for f in feeds[n] if not isinstance(graph.nodes[f], known)] for n in graph.nodes}
    sorter = TopologicalSorter({n: fs for n, fs in inner.items() if not isinstance(graph.nodes[n], known)})
    try:
        return list(sorter.static_order())
    except CycleError as cycle:
        raise UnsupportedLayer(f"the loop {' -> '.join(cycle.args[1])} holds no neuron") from None


def _shape(name: str, value: object) -> Shape:
    return _possible(name, tuple(int(n) for n in np.asarray(value).ravel()))


def _possible(name: str, shape: Shape) -> Shape:
    if min(shape, default=0) < 1 or prod(shape) > MAX_VALUES:
        raise BadInput(f"node '{name}' has shape {list(shape)}; every side must be > 0, the product <= {MAX_VALUES}")
    return shape


def _join(name: str, feeds: list[str], flows: dict[str, _Flow], late: frozenset[tuple[str, str]]) -> _Flow:
    if not feeds:
        raise BadInput(f"node '{name}' has no input")
    parts = [flows[f] for f in feeds]
    shapes = {p.shape for p in parts}
    if len(shapes) > 1:
        listed = ", ".join(f"'{f}' {list(p.shape)}" for f, p in zip(feeds, parts, strict=True))
        raise BadInput(f"the inputs of node '{name}' differ in shape: {listed}")
    paths = tuple(
        replace(path, delay=path.delay + ((f, name) in late))
        for f, p in zip(feeds, parts, strict=True)
        for path in p.paths
    )
    return _Flow(parts[0].shape, paths, np.sum([p.constant for p in parts], axis=0))


def _delayed(name: str, node: nir.Delay, flow: _Flow, dt_s: float) -> _Flow:
    """One path for every distinct delay, each with only the values that it delays."""
    steps = _steps(name, node, dt_s)
    if np.shape(node.delay) not in (flow.shape, (1,), ()):
        raise BadInput(f"node '{name}' delays shape {list(np.shape(node.delay))}, its input has {list(flow.shape)}")
    steps = np.broadcast_to(steps, prod(flow.shape))
    paths: list[_Path] = []
    for delay in dict.fromkeys(steps.tolist()):
        here = (steps == delay).astype(np.float64)
        only = None if here.all() else _diagonal(here, flow.shape)
        paths += [_Path(p.origin, p.map if only is None else _after(p.map, only), p.delay + delay) for p in flow.paths]
    return _Flow(flow.shape, tuple(paths), flow.constant)


def _through(name: str, node: nir.NIRNode, flow: _Flow) -> _Flow:
    """The flow after a linear node: its map composed onto every path, its bias and the mapped constant summed."""
    if isinstance(node, nir.Flatten):
        shape = _flattened(name, node, flow.shape)
        moved = tuple(replace(p, map=_reshaped(p.map, shape) if p.map else None) for p in flow.paths)
        return _Flow(shape, moved, flow.constant.reshape(shape))
    linear = _map(name, node, flow.shape)
    shape = linear.output_shape
    if isinstance(node, nir.Conv1d):  # computed as one of height 1
        shape = (shape[0], shape[2])
    constant = (linear.matrix() @ flow.constant.ravel()).reshape(shape) if flow.constant.any() else np.zeros(shape)
    bias = getattr(node, "bias", None)
    if bias is not None:
        bias = np.asarray(bias, np.float64)
        if bias.size != shape[0]:
            raise BadInput(f"node '{name}' has {bias.size} biases for {shape[0]} outputs")
        constant = constant + bias.reshape(-1, *(1 for _ in shape[1:]))
    return _Flow(shape, tuple(replace(p, map=_after(p.map, linear)) for p in flow.paths), constant)


def _after(first: Map | None, second: Map) -> Map:
    """``second`` after ``first``, as one map: exact where ``first`` is the identity, a sparse product otherwise."""
    if first is None:
        return second
    return Sparse(csr_array(second.matrix() @ first.matrix()), first.input_shape, second.output_shape)


def _reshaped(linear: Map, shape: Shape) -> Map:
    """The same numbers, read as another shape."""
    if isinstance(linear, Conv):
        return Sparse(linear.matrix(), linear.input_shape, shape)
    return replace(linear, output_shape=shape)


def _diagonal(scale: F64, shape: Shape) -> Sparse:
    n = prod(shape)
    return Sparse(csr_array((scale.ravel(), np.arange(n), np.arange(n + 1)), shape=(n, n)), shape, shape)


def _identity(shape: Shape) -> Sparse:
    return Sparse(csr_array(eye_array(prod(shape), format="csr")), shape, shape)


def _flattened(name: str, node: nir.Flatten, shape: Shape) -> Shape:
    axes = len(shape)
    start, end = (int(d) + axes if d < 0 else int(d) for d in (node.start_dim, node.end_dim))
    if not 0 <= start <= end < axes:
        raise BadInput(f"node '{name}' flattens axes {node.start_dim} to {node.end_dim} of a shape {list(shape)}")
    return (*shape[:start], prod(shape[start : end + 1]), *shape[end + 1 :])


def _map(name: str, node: nir.NIRNode, shape: Shape) -> Map:
    if isinstance(node, (nir.Affine, nir.Linear)):
        weight = np.asarray(node.weight, np.float64)
        if weight.ndim != 2 or weight.shape[1] != prod(shape) or len(shape) != 1:
            raise BadInput(f"node '{name}' has weights {list(weight.shape)}, its input has shape {list(shape)}")
        return Dense(weight, shape, (weight.shape[0],))
    if isinstance(node, nir.Scale):
        scale = np.asarray(node.scale, np.float64)
        if scale.shape != shape:
            raise BadInput(f"node '{name}' scales shape {list(scale.shape)}, its input has shape {list(shape)}")
        return _diagonal(scale, shape)
    if isinstance(node, nir.Conv1d):
        if len(shape) != 2:
            raise BadInput(f"node '{name}' works on [channels, x], its input has shape {list(shape)}")
        return _conv(name, _flat_2d(name, node), (shape[0], 1, shape[1]))
    if len(shape) != 3:
        raise BadInput(f"node '{name}' works on [channels, y, x], its input has shape {list(shape)}")
    if isinstance(node, nir.Conv2d):
        return _conv(name, node, shape)
    assert isinstance(node, (nir.SumPool2d, nir.AvgPool2d))
    kernel, stride, padding = (_pair(v) for v in (node.kernel_size, node.stride, node.padding))
    value = 1.0 if isinstance(node, nir.SumPool2d) else 1.0 / max(prod(kernel), 1)
    _check_window(name, kernel, shape, stride, padding, (1, 1))
    return Conv(np.full((shape[0], 1, *kernel), value), shape, stride, padding, groups=shape[0])


def _check_window(name: str, kernel: Shape, shape: Shape, stride: Shape, padding: Shape, dilation: Shape) -> None:
    """Refuse a window that is empty, never fits, or would need more memory than its input has any use for."""
    sides = shape[1:]
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    usable = min(*kernel, *stride, *dilation) >= 1 and min(padding) >= 0
    if not usable or any(k > n + 2 * p or p >= n + k for k, n, p in zip(spans, sides, padding, strict=True)):
        raise BadInput(
            f"node '{name}': a window {list(kernel)} with stride {list(stride)}, padding {list(padding)} and dilation "
            f"{list(dilation)} has no output on {list(sides)}"
        )
    out = ((n + 2 * p - k) // s + 1 for n, p, k, s in zip(sides, padding, spans, stride, strict=True))
    _possible(name, (shape[0], *out))
    _possible(name, (shape[0], *kernel))


def _conv(name: str, node: nir.Conv2d, shape: Shape) -> Conv:
    weight, groups = np.asarray(node.weight, np.float64), int(node.groups)
    if weight.ndim != 4 or groups < 1 or weight.shape[1] * groups != shape[0] or weight.shape[0] % groups:
        raise BadInput(
            f"node '{name}' has weights {list(weight.shape)} in {groups} groups, its input has shape {list(shape)}"
        )
    expected = shape[1:] if node.input_shape is None else tuple(int(n) for n in np.asarray(node.input_shape).ravel())
    if expected != shape[1:]:
        raise BadInput(f"node '{name}' expects {list(expected)} pixels, its input has {list(shape[1:])}")
    stride, dilation = _pair(node.stride), _pair(node.dilation)
    if isinstance(node.padding, str):
        spans = tuple(d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True))
        if node.padding == "same" and (stride != (1, 1) or any(s % 2 for s in spans)):
            raise UnsupportedLayer(
                f"node '{name}' pads 'same' with stride {list(stride)} and spans {list(spans)}; give numbers"
            )
        padding = (spans[0] // 2, spans[1] // 2) if node.padding == "same" else (0, 0)
    else:
        padding = _pair(node.padding)
    _check_window(name, weight.shape[2:], shape, stride, padding, dilation)
    conv = Conv(weight, shape, stride, padding, dilation, groups)
    _possible(name, conv.output_shape)
    return conv


def _flat_2d(name: str, node: nir.Conv1d) -> nir.Conv2d:
    """The same convolution over images of height 1."""
    weight = np.asarray(node.weight)
    if weight.ndim != 3:
        raise BadInput(f"node '{name}' has weights {list(weight.shape)}; [out, in, x] is needed")
    side = None if node.input_shape is None else (1, int(np.ravel(node.input_shape)[0]))
    padding = node.padding if isinstance(node.padding, str) else (0, int(np.ravel(node.padding)[0]))
    stride, dilation = ((1, int(np.ravel(value)[0])) for value in (node.stride, node.dilation))
    return nir.Conv2d(side, weight[:, :, None], stride, padding, dilation, node.groups, node.bias)


def _pair(value: object) -> tuple[int, int]:
    pair = [int(v) for v in np.asarray(value).ravel()]
    return (pair[0], pair[0]) if len(pair) == 1 else (pair[0], pair[1])


def _population(
    name: str, node: nir.NIRNode, shape: Shape, dt_s: float, how: convention.Convention
) -> tuple[Population, F64]:
    """The population, and the gain its input still needs: a neuron folds it into the threshold, a readout does not.

    The membrane of a readout is what is read, so it keeps the unit it has in NIR. gain: float64[n]
    """
    n = prod(shape)

    def value(field: str) -> F64:
        return np.broadcast_to(np.asarray(getattr(node, field), np.float64).ravel(), n)

    def share(field: str) -> F64:
        """What a step forgets: dt / tau, at most 1, or 1 - exp(-dt / tau)."""
        tau = value(field)
        if (tau <= 0).any():
            raise BadInput(f"node '{name}' has {field} {tau.min():g} s; it must be > 0")
        if how.decay == "exact":
            return -np.expm1(-dt_s / tau)
        if (tau < dt_s * (1 - FLOAT32_ROUNDING)).any():
            raise BadInput(
                f"node '{name}' has {field} {tau.min():g} s, shorter than the time step {dt_s:g} s", "lower --dt"
            )
        return np.minimum(dt_s / tau, 1.0)

    none = np.zeros(n)
    if isinstance(node, nir.Threshold):
        return Population(name, shape, none, none, value("threshold").copy(), none), np.ones(n)
    current_decay, weight = none, np.ones(n)
    if isinstance(node, (nir.CubaLIF, nir.CubaLI)):
        into, used = share("tau_mem"), share("tau_syn")
        decay, gain, leak = 1.0 - into, value("r") * into, value("v_leak") * into
        current_decay, weight = 1.0 - used, value("w_in") * used
    elif isinstance(node, (nir.LIF, nir.LI)):
        into = share("tau")
        decay, gain, leak = 1.0 - into, value("r") * into, value("v_leak") * into
        if how.unit:
            gain = np.ones(n)
    else:
        decay, gain, leak = np.ones(n), value("r"), none
        gain = np.where(np.isclose(gain * dt_s, 1.0, rtol=1e-9), 1.0, gain)  # SpikingJelly's r = 1/dt
    if isinstance(node, READOUTS):
        return Population(name, shape, decay, current_decay, np.full(n, np.inf), leak), gain * weight
    if (gain <= 0).any():
        raise UnsupportedLayer(f"node '{name}' has r {value('r').min():g}; an input gain must be > 0")
    if (weight > 0).all():
        gain, weight = gain * weight, np.ones(n)
    with np.errstate(over="ignore"):
        threshold, bias, back = value("v_threshold") / gain, leak / gain, value("v_reset") / gain
    if not (np.isfinite(threshold) & np.isfinite(bias) & np.isfinite(back)).all():
        raise BadInput(f"node '{name}' has r {value('r').min():g}; v_threshold, v_leak, v_reset over r must be finite")
    if how.reset != "value":
        if how.reset == "subtract late" and not decay.all():
            raise UnsupportedLayer(
                f"node '{name}' forgets all in a step, so that nothing can be taken away in the step after a spike",
                "it needs tau > dt with this --convention",
            )
        back = threshold / decay if how.reset == "subtract late" else threshold.copy()
    if how.compare == ">=":
        threshold = np.nextafter(threshold, -np.inf)
    to_0 = how.reset == "value" and not back.any()
    if to_0 or not decay.any():  # what is left after a spike does not matter to who forgets it
        return Population(name, shape, decay, current_decay, threshold, bias), weight
    return Population(name, shape, decay, current_decay, threshold, bias, back, how.reset != "value"), weight
