"""The native engine: exact integers, one population at a time over all steps and samples.

A population outside every loop sees the whole train of those before it, so the time loop is innermost; those of a loop
go step by step together. ``schedule`` makes hardware with one step per synapse give the same trains. Results do not
depend on chunks or threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce
from math import prod
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnergy.deploy import kernels
from snnergy.deploy.activity import Activity, Run
from snnergy.errors import BadInput
from snnergy.export.maps import Conv, Dense, Map
from snnergy.export.net import components, incoming, loops
from snnergy.export.quantnet import DECAY_ONE, STATE_SHIFT, QuantNet, QuantPopulation

U8 = NDArray[np.uint8]
CHUNK_BYTES = 64 << 20
"""About how much one thread holds at a time: samples are run in chunks of this size."""


@dataclass(frozen=True, eq=False)
class _Synapses:
    """A projection made ready: ``add(x, current)`` adds its contribution to every row."""

    source: str
    delay: int
    add: Callable[[U8, NDArray[np.int32]], None]


def run(
    net: QuantNet,
    inputs: Mapping[str, NDArray[Any]],
    *,
    record: tuple[str, ...] = (),
    states: tuple[str, ...] = (),
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Run:
    """Run every sample from rest for ``net.steps`` steps.

    inputs:   source name -> integers [samples, *shape], presented at every step, or [samples, steps, *shape]
    record:   populations whose spikes are wanted one by one
    states:   populations whose currents and membranes are wanted after each step
    progress: called with (samples done, samples)
    Raises BadInput for an input of the wrong shape or range.
    """
    trains = {s.name: train(net, s.name, inputs) for s in net.sources}
    samples = len(next(iter(trains.values())))
    if any(len(x) != samples for x in trains.values()):
        counts = ", ".join(f"'{name}' {len(x)}" for name, x in trains.items())
        raise BadInput(f"the inputs differ in their number of samples: {counts}")
    synapses = {
        name: [_Synapses(e.source, e.delay, _kernel(e.map, e.exponent)) for e in edges]
        for name, edges in incoming(net.projections).items()
    }
    parts = components(net.populations, net.projections)
    sizes = {p.name: prod(p.shape) for p in net.populations}
    together = max(sum(sizes[p.name] for p in part) for part in parts)
    width = net.steps * (sum(sizes.values()) + 4 * together + 8 * sum(sizes[name] for name in states))
    threads = threads or os.cpu_count() or 1
    size = max(1, min(CHUNK_BYTES // width, -(-samples // threads)))
    chunks = [slice(start, min(start + size, samples)) for start in range(0, samples, size)]

    def one(chunk: slice) -> Run:
        return _chunk(net, parts, synapses, {name: x[chunk] for name, x in trains.items()}, record, states)

    runs: list[Run] = []
    with ThreadPoolExecutor(threads) as pool:
        for chunk, part in zip(chunks, pool.map(one, chunks), strict=True):
            runs.append(part)
            if progress:
                progress(chunk.stop, samples)
    return Run(
        {name: np.concatenate([r.outputs[name] for r in runs]) for name in net.outputs},
        reduce(add, (r.activity for r in runs)),
        {name: np.concatenate([r.recorded[name] for r in runs]) for name in record},
        {name: np.concatenate([r.membranes[name] for r in runs]) for name in states},
        {name: np.concatenate([r.currents[name] for r in runs]) for name in states},
    )


def train(net: QuantNet, name: str, inputs: Mapping[str, NDArray[Any]]) -> U8:
    """The checked input of one source: uint8[samples, 1 or steps, n]; one step stands for all."""
    source = next(s for s in net.sources if s.name == name)
    if name not in inputs:
        raise BadInput(f"no input for source '{name}'; the network reads {', '.join(s.name for s in net.sources)}")
    x = np.asarray(inputs[name])
    n = prod(source.shape)
    if x.shape[1:] == source.shape:
        x = x.reshape(len(x), 1, n)
    elif x.ndim > 1 and x.shape[1:] == (net.steps, *source.shape):
        x = x.reshape(len(x), net.steps, n)
    else:
        raise BadInput(
            f"input '{name}' has shape {list(x.shape)}; [samples, {', '.join(map(str, source.shape))}] is needed"
        )
    if len(x) == 0:
        raise BadInput(f"input '{name}' has no samples")
    if x.dtype.kind not in "biu":
        raise BadInput(f"input '{name}' is {x.dtype}; the chip takes integers, as QuantNet.encode makes them")
    if x.min() < 0 or x.max() >= 1 << source.bits:
        raise BadInput(
            f"input '{name}' spans {x.min()} .. {x.max()}; {source.bits} bits hold 0 .. {(1 << source.bits) - 1}"
        )
    return x.astype(np.uint8)


def _kernel(linear: Map, exponent: int) -> Callable[[U8, NDArray[np.int32]], None]:
    if isinstance(linear, Dense):
        weight = np.ascontiguousarray(linear.weight.T, np.int8)
        return lambda x, current: kernels.dense(x, weight, exponent, current)
    if isinstance(linear, Conv):
        c_out, per_group, kh, kw = linear.weight.shape
        groups = linear.groups
        grouped = np.asarray(linear.weight, np.int8).reshape(groups, c_out // groups, per_group, kh, kw)
        weight = np.ascontiguousarray(grouped.transpose(0, 2, 3, 4, 1)).reshape(-1, kh, kw, c_out // groups)
        sizes = (per_group, *linear.input_shape[1:], *linear.output_shape[1:])
        geometry = np.array([*sizes, *linear.stride, *linear.padding, *linear.dilation], np.int64)
        return lambda x, current: kernels.conv(x, weight, geometry, exponent, current)
    by_source: Any = linear.weight.tocsc()
    indptr, target = by_source.indptr.astype(np.int64), by_source.indices.astype(np.int64)
    weight = by_source.data.astype(np.int8)
    return lambda x, current: kernels.sparse(x, indptr, target, weight, exponent, current)


def _chunk(
    net: QuantNet,
    parts: tuple[tuple[QuantPopulation, ...], ...],
    synapses: dict[str, list[_Synapses]],
    trains: dict[str, U8],
    record: tuple[str, ...],
    states: tuple[str, ...],
) -> Run:
    samples, steps = len(next(iter(trains.values()))), net.steps
    sent: dict[str, U8] = dict(trains)
    spikes = {name: np.repeat((x != 0).sum(0), steps // x.shape[1], axis=0) for name, x in trains.items()}
    last_use = {s.source: k for k, part in enumerate(parts) for p in part for s in synapses.get(p.name, ())}
    done: dict[str, _Neurons] = {}
    for k, part in enumerate(parts):
        inner = {p.name for p in part}
        now = {p.name: _Neurons(p, samples, steps, p.name in states) for p in part}
        sent |= {name: neurons.out for name, neurons in now.items()}
        for name, neurons in now.items():
            for s in synapses.get(name, ()):
                if s.source not in inner:
                    _arrive(s, sent[s.source], neurons.current, range(steps))
        if loops(part, net.projections):
            for t in range(steps):
                for name, neurons in now.items():
                    for s in synapses.get(name, ()):
                        if s.source in inner:
                            _arrive(s, sent[s.source], neurons.current, range(t, t + 1))
                    neurons.step(t, t + 1)
        else:
            for neurons in now.values():
                neurons.step(0, steps)
        for name, neurons in now.items():
            done[name] = neurons.finished(keep=name in record or name in net.outputs)
        for name in [name for name in sent if last_use.get(name, k) <= k]:
            del sent[name]
    return Run(
        {name: done[name].output() for name in net.outputs},
        Activity(
            samples, steps, spikes | {n: d.spikes for n, d in done.items()}, {n: d.active for n, d in done.items()}
        ),
        {name: done[name].out for name in record},
        {name: done[name].membranes for name in states},
        {name: done[name].currents for name in states},
    )


class _Neurons:
    """One population of one chunk, on its way through the steps."""

    def __init__(self, p: QuantPopulation, samples: int, steps: int, stateful: bool) -> None:
        n, kept = prod(p.shape), steps if stateful else 0
        self._p, self._ceiling, self._cuba = p, p.threshold << STATE_SHIFT, p.cuba
        self.current = np.zeros((samples, steps, n), np.int32)
        self.out = np.zeros((samples, steps, n), np.uint8)
        self.spikes, self.active = np.zeros((steps, n), np.int64), np.zeros((steps, n), np.int64)
        self.currents, self.membranes = (np.zeros((samples, kept, n), np.int32) for _ in range(2))
        self._u, self._v = (np.zeros((samples, n), np.int32) for _ in range(2))

    def step(self, first: int, last: int) -> None:
        """Run these steps, whose synaptic input is complete."""
        p = self._p
        kernels.scan(
            first, last, self.current, DECAY_ONE - p.current_decay, DECAY_ONE - p.decay, self._ceiling, p.bias,
            p.spiking, self._cuba, self._u, self._v, self.out, self.spikes, self.active, self.currents, self.membranes,
        )  # fmt: skip

    def finished(self, keep: bool) -> _Neurons:
        """Let go of what only the run itself needs."""
        self.current = np.empty(0, np.int32)
        if not keep:
            self.out = np.empty(0, np.uint8)
        return self

    def output(self) -> NDArray[np.int64]:
        """int64[samples, n]: number of spikes, or the membrane of a readout."""
        return self.out.sum(1, dtype=np.int64) if self._p.spiking else self._v.astype(np.int64)


def _arrive(s: _Synapses, sent: U8, current: NDArray[np.int32], when: range) -> None:
    """Add what arrives in these steps; nothing arrives in the first ``delay`` steps of a sample."""
    samples, steps, n = current.shape
    first, last = max(when.start, s.delay), when.stop
    if first >= last:
        return
    if sent.shape[1] == 1 < steps:  # the same at every step
        once = np.zeros((samples, n), np.int32)
        s.add(sent[:, 0], once)
        current[:, first:last] += once[:, None]
        return
    rows = samples * (last - first)
    x = np.ascontiguousarray(sent[:, first - s.delay : last - s.delay]).reshape(rows, -1)
    here = current[:, first:last]
    flat = np.ascontiguousarray(here).reshape(rows, n)
    s.add(x, flat)
    if not np.shares_memory(flat, current):
        here[:] = flat.reshape(here.shape)
