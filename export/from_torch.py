"""``nn.Module -> NIRGraph``: the module is traced symbolically and every layer has a row in ``TABLE``, or is refused.

While tracing, a value is what NIR will have: the spikes of some nodes with a gain each (a residual sum is two of them),
or a current, which is a list of weights on such spikes and a bias. A neuron turns a current into nodes. Normalisation,
residual gains and biases are folded in float64, so that the graph computes what the module computes in float64.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import nir
import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn
from torch.fx.node import map_arg
from torch.fx.proxy import TraceError

from snnergy import attention, model, neurons
from snnergy.errors import BadInput, UnsupportedLayer, first_line
from snnergy.export.maps import Conv

F64 = NDArray[np.float64]
Shape = tuple[int, ...]

FUSED_GATE_LIMIT = 63
"""Largest head for the one-population gate: its sub-threshold sums are ones that a 12-bit decay forgets."""


@dataclass(frozen=True)
class Spikes:
    """A weighted sum of spikes: ``sum of gain * spikes of node``. shape: without batch and time."""

    shape: Shape
    terms: tuple[tuple[str, float], ...]


@dataclass(frozen=True, eq=False)
class Current:
    """What a neuron integrates: convolutions of spikes, summed, and a bias. bias: float64[channels]."""

    shape: Shape
    parts: tuple[tuple[str, Conv], ...]
    bias: F64


Value = Spikes | Current | float | int


class _Graph:
    """The NIR graph while it is built."""

    def __init__(self, dt_s: float) -> None:
        self.dt_s = dt_s
        self.nodes: dict[str, nir.NIRNode] = {}
        self.edges: list[tuple[str, str]] = []

    def check_new(self, name: str) -> None:
        if name in self.nodes:
            raise UnsupportedLayer(f"layer '{name}' is used twice; give each use a layer of its own")

    def node(self, name: str, node: nir.NIRNode, *feeds: str) -> str:
        self.check_new(name)
        self.nodes[name] = node
        self.edges += [(feed, name) for feed in feeds]
        return name


def to_nir(module: nn.Module, inputs: dict[str, Shape], dt_s: float, steps: int) -> nir.NIRGraph:
    """The module as a NIR graph of standard primitives; ``nir`` checks its types.

    inputs: argument name -> shape without batch; an argument that the module does not use gets no node
    steps:  time steps of one sample, over which a readout averages
    Raises UnsupportedLayer, naming the layer, for anything without a row in ``TABLE`` or ``FUNCTIONS``.
    """
    graph = _Graph(dt_s)
    module = copy.deepcopy(module).eval().double()
    traced = _trace(module)
    values: dict[fx.Node, Any] = {}
    for node in traced.nodes:
        args = map_arg(node.args, values.__getitem__)
        name = str(node.target).replace(".", "_")
        if node.op == "placeholder":
            if not node.users:
                continue
            shape = tuple(inputs[node.target])
            graph.node(name, nir.Input({"input": np.array(shape)}))
            values[node] = Spikes(shape, ((name, 1.0),))
        elif node.op == "get_attr":
            values[node] = _constant(module, str(node.target))
        elif node.op == "call_module":
            layer = module.get_submodule(str(node.target))
            row = TABLE.get(type(layer))
            if row is None:
                kind = f"{type(layer).__module__}.{type(layer).__name__}"
                raise UnsupportedLayer(
                    f"layer '{node.target}' ({kind}) has no NIR form",
                    "remove it, or add a row to export/from_torch.py:TABLE",
                )
            if node.kwargs:
                raise UnsupportedLayer(f"layer '{node.target}' is called with named arguments; pass them by position")
            values[node] = row(graph, name, layer, steps, *args)
        elif node.op == "call_function" and node.target in FUNCTIONS:
            values[node] = FUNCTIONS[node.target](*args)
        elif node.op == "output":
            for result in args[0] if isinstance(args[0], tuple) else args:
                if not isinstance(result, Spikes) or len(result.terms) != 1 or result.terms[0][1] != 1.0:
                    raise UnsupportedLayer("the module returns a sum or a current; end it with a neuron or a readout")
                source = result.terms[0][0]
                graph.node(f"{source}_output", nir.Output({"output": np.array(result.shape)}), source)
        else:
            called = getattr(node.target, "__name__", node.target)
            raise UnsupportedLayer(f"'{called}' between layers has no NIR form; only '+' and 'parameter *' have")
    return nir.NIRGraph(graph.nodes, graph.edges, metadata={})


def record(module: nn.Module, inputs: dict[str, F64]) -> tuple[dict[str, F64], F64]:
    """The torch model's own spikes in float64, by the population names of ``to_nir``, and its logits.

    inputs: argument name -> float64[samples, *shape];  returns: name -> float64[samples, steps, *shape], [samples, k]
    """
    module = copy.deepcopy(module).eval().double()
    found: dict[str, F64] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
            found[name.replace(".", "_")] = output.transpose(0, 1).contiguous().numpy()

        return hook

    for name, layer in module.named_modules():
        if isinstance(layer, (neurons.Spike, neurons.OrPool, attention.Gate)):
            layer.register_forward_hook(keep(name))
    with torch.no_grad():
        logits = module(**{name: torch.from_numpy(np.asarray(x, np.float64)) for name, x in inputs.items()})
    return found, logits.numpy()


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m) in TABLE or super().is_leaf_module(m, module_qualified_name)


def _trace(module: nn.Module) -> fx.Graph:
    try:
        return _Tracer().trace(module)
    except (TraceError, TypeError, RuntimeError) as error:
        raise UnsupportedLayer(f"{type(module).__name__} cannot be traced: {first_line(error)}") from None


def _constant(module: nn.Module, target: str) -> float:
    path, _, name = target.rpartition(".")
    value = getattr(module.get_submodule(path), name)
    if value.numel() != 1:
        raise UnsupportedLayer(f"'{target}' has {value.numel()} values; a gain between layers must be one number")
    return float(value.detach())


def _add(a: Value, b: Value) -> Value:
    if isinstance(a, Spikes) and isinstance(b, Spikes) and a.shape == b.shape:
        return Spikes(a.shape, a.terms + b.terms)
    if isinstance(a, Current) and isinstance(b, Current) and a.shape == b.shape:
        return Current(a.shape, a.parts + b.parts, a.bias + b.bias)
    raise UnsupportedLayer("'+' between layers must join two spike trains or two currents of one shape")


def _mul(a: Value, b: Value) -> Value:
    gain, x = (a, b) if isinstance(a, (float, int)) else (b, a)
    if isinstance(gain, (float, int)) and isinstance(x, Spikes):
        return Spikes(x.shape, tuple((name, g * gain) for name, g in x.terms))
    if isinstance(gain, (float, int)) and isinstance(x, Current):
        return replace(x, parts=tuple((s, _scaled(c, gain)) for s, c in x.parts), bias=x.bias * gain)
    raise UnsupportedLayer("'*' between layers must be one number times spikes; a product of two activations is not")


def _scaled(conv: Conv, gain: Any) -> Conv:
    return replace(conv, weight=conv.weight * gain)


def _spikes(graph: _Graph, name: str, value: Value) -> Spikes:
    if not isinstance(value, Spikes):
        raise UnsupportedLayer(f"layer '{name}' must be fed by spikes, not by a current")
    if any(isinstance(graph.nodes[source], nir.I) for source, _ in value.terms):
        raise UnsupportedLayer(f"layer '{name}' is fed by a readout; nothing can follow one")
    return value


def _binary(graph: _Graph, name: str, value: Value) -> str:
    spikes = _spikes(graph, name, value)
    if len(spikes.terms) != 1 or spikes.terms[0][1] != 1.0:
        raise UnsupportedLayer(f"layer '{name}' must be fed by one neuron layer; a sum is not binary")
    if isinstance(graph.nodes[spikes.terms[0][0]], nir.Input):
        raise UnsupportedLayer(f"layer '{name}' must be fed by a neuron layer; an input is not binary")
    return spikes.terms[0][0]


def _repeat(_graph: _Graph, _name: str, layer: neurons.Repeat, steps: int, x: Value) -> Value:
    if layer.timesteps != steps:
        raise BadInput(f"the model repeats its input {layer.timesteps} times, not {steps}")
    return x


def _conv(graph: _Graph, name: str, layer: nn.Conv2d, _steps: int, x: Value) -> Value:
    spikes = _spikes(graph, name, x)
    if isinstance(layer.padding, str) or layer.padding_mode != "zeros":
        raise UnsupportedLayer(f"layer '{name}' pads by '{layer.padding_mode}' {layer.padding}; give numbers and zeros")
    weight = layer.weight.detach().numpy()
    if weight.shape[2] != weight.shape[3]:
        kernel = "x".join(map(str, weight.shape[2:]))
        raise UnsupportedLayer(f"layer '{name}' has a {kernel} kernel; nir {nir.version} types square ones only")
    if layer.groups > 1:
        weight = _ungrouped(weight, layer.groups)
    geometry: Any = (layer.stride, layer.padding, layer.dilation)
    conv = Conv(weight, spikes.shape, *geometry)
    bias = np.zeros(len(weight)) if layer.bias is None else layer.bias.detach().numpy()
    return Current(conv.output_shape, tuple((source, _scaled(conv, gain)) for source, gain in spikes.terms), bias)


def _ungrouped(weight: F64, groups: int) -> F64:
    """The same convolution with explicit zeros: nir 1.0.8 cannot type-check a grouped one."""
    out, per_group = len(weight) // groups, weight.shape[1]
    full = np.zeros((len(weight), per_group * groups, *weight.shape[2:]))
    for g in range(groups):
        full[g * out : (g + 1) * out, g * per_group : (g + 1) * per_group] = weight[g * out : (g + 1) * out]
    return full


def _norm(_graph: _Graph, name: str, layer: nn.BatchNorm2d, _steps: int, x: Value) -> Value:
    """``gamma (W s + b - mean) / sqrt(var + eps) + beta``, folded into W and b."""
    if not isinstance(x, Current):
        raise UnsupportedLayer(f"layer '{name}' must follow a convolution; a norm of spikes does not fold")
    if layer.running_var is None or layer.running_mean is None:
        raise UnsupportedLayer(f"layer '{name}' keeps no running statistics; they are needed to fold it")
    gain = (layer.running_var.numpy() + layer.eps) ** -0.5
    shift = np.zeros_like(gain)
    if layer.affine:
        gain = gain * layer.weight.detach().numpy()
        shift = layer.bias.detach().numpy()
    parts = tuple((source, _scaled(conv, gain[:, None, None, None])) for source, conv in x.parts)
    return Current(x.shape, parts, (x.bias - layer.running_mean.numpy()) * gain + shift)


def _spike(graph: _Graph, name: str, layer: neurons.Spike, _steps: int, x: Value) -> Value:
    """With r = 1 the membrane of NIR is (1 - beta) times torch's, and so is the threshold."""
    if not isinstance(x, Current):
        raise UnsupportedLayer(f"neuron '{name}' must be fed by a convolution")
    full = np.ones(x.shape)
    keep = 1.0 - layer.beta
    if keep > 0:
        neuron = nir.LIF(
            tau=full * (graph.dt_s / keep), r=full, v_leak=full * 0, v_threshold=full * layer.threshold * keep,
            v_reset=full * 0,
        )  # fmt: skip
    else:
        neuron = nir.IF(r=full, v_threshold=full * layer.threshold, v_reset=full * 0)
    return _fire(graph, name, neuron, x)


def _fire(graph: _Graph, name: str, neuron: nir.NIRNode, x: Current) -> Spikes:
    """Emit one Conv2d per part and the neuron that sums them; the first carries the bias."""
    graph.check_new(name)
    feeds = [
        graph.node(f"{name}_w{k}", _conv2d(conv, x.bias if k == 0 else x.bias * 0), source)
        for k, (source, conv) in enumerate(x.parts)
    ]
    return Spikes(x.shape, ((graph.node(name, neuron, *feeds), 1.0),))


def _conv2d(conv: Conv, bias: F64) -> nir.Conv2d:
    size: Any = conv.input_shape[1:]
    return nir.Conv2d(size, conv.weight, conv.stride, conv.padding, conv.dilation, 1, bias)


def _threshold(shape: Shape, value: float) -> nir.Threshold:
    return nir.Threshold(np.full(shape, value))


def _or_pool(graph: _Graph, name: str, layer: neurons.OrPool, _steps: int, x: Value) -> Value:
    source, shape = _binary(graph, name, x), _spikes(graph, name, x).shape
    kernel, stride, padding = ((v, v) for v in (layer.kernel, layer.stride, layer.padding))
    out = Conv(np.empty((shape[0], 1, *kernel)), shape, stride, padding).output_shape
    pooled = graph.node(f"{name}_w0", nir.SumPool2d(np.array(kernel), np.array(stride), np.array(padding)), source)
    return Spikes(out, ((graph.node(name, _threshold(out, 0.5), pooled), 1.0),))


def _gate(graph: _Graph, name: str, layer: attention.Gate, _steps: int, query: Value, key: Value) -> Value:
    """Fused: weight d from the key, 1 from each of the head's d queries, fire above d: iff key and some query fired.

    Large heads: an OR population per head, then an AND with the key. Thresholds lie between the integers a sum can
    take, so that readers that compare with >= agree.
    """
    q, k = _binary(graph, name, query), _binary(graph, name, key)
    shape = _spikes(graph, name, key).shape
    size, ones = shape[0] // layer.heads, np.ones(shape)
    none = np.zeros(shape[0])
    if size <= FUSED_GATE_LIMIT:
        block = np.kron(np.eye(layer.heads), np.ones((size, size)))[:, :, None, None]
        heads = graph.node(f"{name}_w0", _conv2d(Conv(block, shape), none), q)
        keys = graph.node(f"{name}_w1", nir.Scale(ones * size), k)
        return Spikes(shape, ((graph.node(name, _threshold(shape, size + 0.5), heads, keys), 1.0),))
    pick = np.kron(np.eye(layer.heads), np.ones((1, size)))[:, :, None, None]
    spread = np.ascontiguousarray(pick.transpose(1, 0, 2, 3))
    some = (layer.heads, *shape[1:])
    heads = graph.node(f"{name}_or_w0", _conv2d(Conv(pick, shape), none[: layer.heads]), q)
    any_query = graph.node(f"{name}_or", _threshold(some, 0.5), heads)
    mask = graph.node(f"{name}_w0", _conv2d(Conv(spread, some), none), any_query)
    keys = graph.node(f"{name}_w1", nir.Scale(ones), k)
    return Spikes(shape, ((graph.node(name, _threshold(shape, 1.5), mask, keys), 1.0),))


def _readout(graph: _Graph, name: str, layer: model.Readout, steps: int, *streams: Value) -> Value:
    """``W mean(spikes) + b`` as an integrator: every step adds 1 / (T tokens) of W for each spike, and b / T."""
    weight, bias = layer.linear.weight.detach().numpy(), layer.linear.bias.detach().numpy()
    feeds: list[str] = []
    column = 0
    for stream in streams:
        spikes = _spikes(graph, name, stream)
        channels, tokens = spikes.shape[0], prod(spikes.shape[1:])
        part = np.repeat(weight[:, column : column + channels], tokens, axis=1) / (steps * tokens)
        column += channels
        for source, gain in spikes.terms:
            flat = graph.node(f"{source}_flat", nir.Flatten({"input": np.array(spikes.shape)}, 0, -1), source)
            constant = bias * 0 if feeds else bias / steps
            feeds.append(graph.node(f"{name}_w{len(feeds)}", nir.Affine(part * gain, constant), flat))
    graph.node(name, nir.I(np.ones(len(bias))), *feeds)
    return Spikes((len(bias),), ((name, 1.0),))


def _pass(_graph: _Graph, _name: str, _layer: nn.Module, _steps: int, x: Value) -> Value:
    return x


TABLE: dict[type[nn.Module], Callable[..., Value]] = {
    neurons.Repeat: _repeat,
    neurons.TimeConv2d: _conv,
    neurons.TimeNorm: _norm,
    neurons.Spike: _spike,
    neurons.OrPool: _or_pool,
    attention.Gate: _gate,
    model.Readout: _readout,
    nn.Dropout: _pass,
    nn.Identity: _pass,
}
"""Every layer that has a NIR form, and how it is written."""

FUNCTIONS: dict[Any, Callable[..., Value]] = {operator.add: _add, operator.mul: _mul}
"""What may stand between layers."""
