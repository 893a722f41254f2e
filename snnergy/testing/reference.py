"""An integer network, one sample, step, neuron and synapse at a time in Python's own integers: slow and plain.

It is written from the equations in ``export.quantnet`` and shares nothing with an engine, not even the unrolling of a
convolution. It also counts how often the run reached an edge of the arithmetic.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnergy.export.maps import Conv, Dense, Map
from snnergy.export.quantnet import QuantNet, QuantPopulation

Rows = list[list[tuple[int, int]]]
"""Per output: (input, weight) of every synapse."""


@dataclass(frozen=True, eq=False)
class Trace:
    """What every population did, by name; the state is that at the end of each step.

    spikes:    uint8[samples, steps, n]
    membranes: int32[samples, steps, n]
    currents:  int32[samples, steps, n]
    active:    int64[steps, n], updates whose current or bias was not 0, over all samples
    sent:      int64[steps, n], spikes over all samples; for a source its inputs that are not 0
    edges:     how many neuron updates wrapped, saturated, met their threshold exactly ...
    """

    spikes: dict[str, NDArray[np.uint8]]
    membranes: dict[str, NDArray[np.int32]]
    currents: dict[str, NDArray[np.int32]]
    active: dict[str, NDArray[np.int64]]
    sent: dict[str, NDArray[np.int64]]
    edges: Counter[str]

    def outputs(self, net: QuantNet) -> dict[str, NDArray[np.int64]]:
        """As an engine reports them: a readout's last membrane, a spiking population's number of spikes."""
        spiking = {p.name: p.spiking for p in net.populations}
        return {
            name: self.spikes[name].sum(1, np.int64) if spiking[name] else self.membranes[name][:, -1].astype(np.int64)
            for name in net.outputs
        }


def run(net: QuantNet, inputs: Mapping[str, NDArray[Any]]) -> Trace:
    """Every sample from rest for ``net.steps`` steps. inputs: as an engine takes them, source by source."""
    samples = len(next(iter(inputs.values())))
    sizes = {n.name: prod(n.shape) for n in (*net.sources, *net.populations)}
    synapses = [(e, rows(e.map)) for e in net.projections]
    order = _order(net)
    shape = {name: (samples, net.steps, n) for name, n in sizes.items()}
    spikes, membranes, currents = ({p.name: np.zeros(shape[p.name], np.int32) for p in order} for _ in range(3))
    active = {p.name: np.zeros((net.steps, sizes[p.name]), np.int64) for p in order}
    sent = {name: np.zeros((net.steps, n), np.int64) for name, n in sizes.items()}
    edges: Counter[str] = Counter()
    for b in range(samples):
        trains: dict[str, list[list[int]]] = {p.name: [] for p in order}
        for s in net.sources:
            x = np.asarray(inputs[s.name][b])
            shown = [x if x.shape == s.shape else x[t] for t in range(net.steps)]
            trains[s.name] = [[int(value) for value in now.ravel()] for now in shown]
        state = {p.name: [(0, 0)] * sizes[p.name] for p in order}
        for t in range(net.steps):
            for p in order:
                total = [0] * sizes[p.name]
                for e, table in synapses:
                    if e.target == p.name and t >= e.delay:
                        before = trains[e.source][t - e.delay]
                        for i, row in enumerate(table):
                            a = sum(weight * before[j] for j, weight in row)
                            total[i] += a * 2**e.exponent if e.exponent >= 0 else a // 2**-e.exponent
                fired: list[int] = []
                for i, a in enumerate(total):
                    u, v, spike = _update(p, i, a, *state[p.name][i], edges)
                    state[p.name][i] = (u, v)
                    fired.append(spike)
                    spikes[p.name][b, t, i], membranes[p.name][b, t, i], currents[p.name][b, t, i] = spike, v, u
                    if u != 0 or p.bias_mantissa[i] != 0:
                        active[p.name][t, i] += 1
                trains[p.name].append(fired)
            for name in sizes:
                sent[name][t] += [x != 0 for x in trains[name][t]]
    trace = {name: x.astype(np.uint8) for name, x in spikes.items()}
    return Trace(trace, membranes, currents, active, sent, edges)


def _update(p: QuantPopulation, i: int, a: int, u: int, v: int, edges: Counter[str]) -> tuple[int, int, int]:
    """Current, membrane and spike of one neuron after one step."""
    u = _decayed(u, int(p.current_decay[i])) + a * 64
    if u > 2**23:
        u -= 2**24
        edges["wrap"] += 1
    elif u <= -(2**23):
        u += 2**24
        edges["wrap below"] += 1
    v = _decayed(v, int(p.decay[i])) + u + int(p.bias_mantissa[i]) * 2**p.bias_exponent
    limit = 2**23 - 1
    if abs(v) > limit:
        edges["saturation" if v > 0 else "saturation below"] += 1
        v = limit if v > 0 else -limit
    threshold = int(p.threshold[i]) * 64
    if p.spiking and v == threshold:
        edges["tie" if threshold else "tie at 0"] += 1
    if not p.spiking:
        assert v <= threshold, f"readout {p.name} would fire"
        return u, v, 0
    if v <= threshold:
        return u, v, 0
    reset = 0 if p.reset is None else int(p.reset[i])
    if reset:
        edges["threshold taken away" if p.subtract else "reset to a value"] += 1
    return u, v - reset if p.subtract else reset, 1


def _decayed(x: int, decay: int) -> int:
    """``x * (4096 - decay) / 4096``, toward zero."""
    kept = abs(x) * (4096 - decay) // 4096
    return kept if x >= 0 else -kept


def _order(net: QuantNet) -> list[QuantPopulation]:
    """The populations so that whoever is heard within a step comes first."""
    left, done = list(net.populations), {s.name for s in net.sources}
    order: list[QuantPopulation] = []
    while left:
        for p in left:
            if all(e.source in done for e in net.projections if e.target == p.name and e.delay == 0):
                break
        else:
            raise ValueError("a loop without delay")
        left.remove(p)
        done.add(p.name)
        order.append(p)
    return order


def rows(linear: Map) -> Rows:
    """The synapses of every output, from the meaning of each form."""
    if isinstance(linear, Conv):
        return _unrolled(linear)
    if isinstance(linear, Dense):
        return [[(j, int(w)) for j, w in enumerate(row) if w] for row in linear.weight]
    csr, table = linear.weight, []
    for i in range(csr.shape[0]):
        span = range(int(csr.indptr[i]), int(csr.indptr[i + 1]))
        table.append([(int(csr.indices[k]), int(csr.data[k])) for k in span])
    return table


def _unrolled(conv: Conv) -> Rows:
    """Cross-correlation with zero padding, output by output."""
    c_out, per_group, kh, kw = conv.weight.shape
    _, h_in, w_in = conv.input_shape
    (sy, sx), (py, px), (dy, dx) = conv.stride, conv.padding, conv.dilation
    h_out = (h_in + 2 * py - (dy * (kh - 1) + 1)) // sy + 1
    w_out = (w_in + 2 * px - (dx * (kw - 1) + 1)) // sx + 1
    table: Rows = []
    for o in range(c_out):
        first = o // (c_out // conv.groups) * per_group
        for y in range(h_out):
            for x in range(w_out):
                row: list[tuple[int, int]] = []
                for c in range(per_group):
                    for ky in range(kh):
                        for kx in range(kw):
                            iy, ix = y * sy + ky * dy - py, x * sx + kx * dx - px
                            weight = int(conv.weight[o, c, ky, kx])
                            if weight and 0 <= iy < h_in and 0 <= ix < w_in:
                                row.append((((first + c) * h_in + iy) * w_in + ix, weight))
                table.append(row)
    return table
