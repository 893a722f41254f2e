"""``QuantNet -> nn.Module``: the quantised network in standard torch layers, in float64.

Weights, decays and thresholds are the chip's integers, which float64 holds exactly, and so is every sum. With the
chip's roundings and registers the module is the chip's arithmetic, spike for spike and membrane for membrane; without
them it is what torch computes with the quantised weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from snnergy.export.maps import Conv, Dense, Map
from snnergy.export.net import order
from snnergy.export.quantnet import DECAY_ONE, STATE_LIMIT, STATE_SHIFT, QuantNet, QuantPopulation

Traces = dict[str, NDArray[np.float64]]


class SparseLinear(nn.Module):
    """``y = W x`` with listed weights. x: float64[batch, n_in]"""

    weight: Tensor

    def __init__(self, linear: Map) -> None:
        super().__init__()
        matrix: Any = linear.matrix().tocoo()
        index = torch.from_numpy(np.stack([x.astype(np.int64) for x in matrix.coords]))
        values = torch.from_numpy(matrix.data.astype(np.float64))
        self.register_buffer("weight", torch.sparse_coo_tensor(index, values, matrix.shape, check_invariants=True))

    def forward(self, x: Tensor) -> Tensor:
        return torch.sparse.mm(self.weight, x.T).T


class Neuron(nn.Module):
    """``quantnet``'s step of one population in float64, in membrane units: 64 a weight unit.

    truncate: round the decayed current and membrane toward zero, wrap the current, let the membrane saturate
    """

    keep: Tensor
    current_keep: Tensor
    threshold: Tensor
    bias: Tensor
    back: Tensor

    def __init__(self, p: QuantPopulation, truncate: bool) -> None:
        super().__init__()
        self.spiking, self.truncate, self.subtract = p.spiking, truncate, p.subtract
        for name, value in (
            ("keep", (DECAY_ONE - p.decay) / DECAY_ONE),
            ("current_keep", (DECAY_ONE - p.current_decay) / DECAY_ONE),
            ("threshold", p.threshold << STATE_SHIFT),
            ("bias", p.bias),
            ("back", p.back),
        ):
            self.register_buffer(name, torch.from_numpy(np.asarray(value, np.float64)))

    def forward(self, a: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Spikes, current and membrane after a step with the input ``a``, in weight units."""
        u, v = u * self.current_keep, v * self.keep
        if self.truncate:
            u, v = u.trunc(), v.trunc()
        u = u + a * (1 << STATE_SHIFT)
        if self.truncate:
            turn = 2.0 * (STATE_LIMIT + 1)
            u = torch.where(u > STATE_LIMIT + 1, u - turn, torch.where(u <= -(STATE_LIMIT + 1), u + turn, u))
        v = v + u + self.bias
        if self.truncate:
            v = v.clamp(-STATE_LIMIT, STATE_LIMIT)
        fired = (v > self.threshold) & self.spiking
        return fired.to(v.dtype), u, torch.where(fired, v - self.back if self.subtract else self.back, v)


class QuantModule(nn.Module):
    """The network; ``synapses`` are in the order of its projections, ``neurons`` in that of its populations.

    forward: integers by source, [samples, *shape] or [samples, steps, *shape] -> spikes, membranes and currents by
    population, float64[samples, steps, n] each, after every step and its reset
    """

    def __init__(self, quant: QuantNet, truncate: bool) -> None:
        super().__init__()
        self.quant, self.truncate = quant, truncate
        self.synapses = nn.ModuleList(_layer(e.map) for e in quant.projections)
        self.neurons = nn.ModuleList(Neuron(p, truncate) for p in quant.populations)
        self._order = order(quant.populations, quant.projections)

    def forward(self, inputs: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
        quant = self.quant
        samples = len(next(iter(inputs.values())))
        shown = {s.name: self._shown(inputs[s.name], s.shape) for s in quant.sources}
        state = {p.name: (torch.zeros(samples, p.decay.size, dtype=torch.float64),) * 2 for p in quant.populations}
        neurons = {p.name: neuron for p, neuron in zip(quant.populations, self.neurons, strict=True)}
        feeds = {p.name: [k for k, e in enumerate(quant.projections) if e.target == p.name] for p in quant.populations}
        spikes, membranes, currents = ({p.name: [] for p in quant.populations} for _ in range(3))
        for t in range(quant.steps):
            for p in self._order:
                a = torch.zeros_like(state[p.name][0])
                for k in feeds[p.name]:
                    e = quant.projections[k]
                    if t >= e.delay:
                        train = shown.get(e.source)
                        x = (
                            spikes[e.source][t - e.delay]
                            if train is None
                            else train[:, min(t - e.delay, train.shape[1] - 1)]
                        )
                        a = a + self._arrived(k, x)
                fired, u, v = neurons[p.name](a, *state[p.name])
                state[p.name] = u, v
                for trace, value in ((spikes, fired), (membranes, v), (currents, u)):
                    trace[p.name].append(value)
        return tuple({n: torch.stack(x, 1) for n, x in trace.items()} for trace in (spikes, membranes, currents))  # type: ignore[return-value]

    def _shown(self, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        """[samples, 1 or steps, n]"""
        return x.double().reshape(len(x), 1 if tuple(x.shape[1:]) == shape else self.quant.steps, -1)

    def _arrived(self, k: int, x: Tensor) -> Tensor:
        e, layer = self.quant.projections[k], self.synapses[k]
        shape = e.map.input_shape if isinstance(layer, nn.Conv2d) else (-1,)
        total = layer(x.reshape(len(x), *shape)).reshape(len(x), -1) * 2.0**e.exponent
        return total.floor() if self.truncate else total


def to_torch(quant: QuantNet, truncate: bool) -> QuantModule:
    """The network as a module of ``nn.Conv2d``, ``nn.Linear``, ``SparseLinear`` and ``Neuron``.

    truncate: with the chip's roundings and registers, and then equal to every engine; or in plain float arithmetic
    """
    return QuantModule(quant, truncate).eval()


def record(module: QuantModule, inputs: Mapping[str, NDArray[Any]]) -> tuple[Traces, Traces, Traces]:
    """Spikes, membranes and currents of the module on the integers that ``QuantNet.encode`` gives."""
    with torch.no_grad():
        traces = module({name: torch.from_numpy(np.asarray(x, np.float64)) for name, x in inputs.items()})
    spikes, membranes, currents = ({name: x.numpy() for name, x in trace.items()} for trace in traces)
    return spikes, membranes, currents


def _layer(linear: Map) -> nn.Module:
    if isinstance(linear, Conv):
        groups, per_group = linear.groups, linear.weight.shape[1]
        layer = nn.Conv2d(
            groups * per_group, linear.weight.shape[0], linear.weight.shape[2:], linear.stride, linear.padding,
            linear.dilation, groups, bias=False, dtype=torch.float64,
        )  # fmt: skip
    elif isinstance(linear, Dense):
        layer = nn.Linear(linear.weight.shape[1], linear.weight.shape[0], bias=False, dtype=torch.float64)
    else:
        return SparseLinear(linear)
    layer.weight = nn.Parameter(torch.from_numpy(linear.weight.astype(np.float64)), requires_grad=False)
    return layer
