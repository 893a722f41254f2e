"""The native engine: exact integers, one population at a time over all steps and samples.

Without delays every population sees the whole train of those before it, so the time loop is innermost; ``schedule``
makes hardware with one step per synapse give the same trains. Results do not depend on chunks or threads.
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
from snnergy.export.net import incoming, order
from snnergy.export.quantnet import DECAY_ONE, STATE_SHIFT, QuantNet, QuantPopulation

U8 = NDArray[np.uint8]
CHUNK_BYTES = 64 << 20
"""About how much one thread holds at a time: samples are run in chunks of this size."""


@dataclass(frozen=True, eq=False)
class _Synapses:
    """A projection made ready: ``add(x, current)`` adds its contribution to every row."""

    source: str
    add: Callable[[U8, NDArray[np.int32]], None]


def run(
    net: QuantNet,
    inputs: Mapping[str, NDArray[Any]],
    *,
    record: tuple[str, ...] = (),
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Run:
    """Run every sample from rest for ``net.steps`` steps.

    inputs:   source name -> integers [samples, *shape], presented at every step, or [samples, steps, *shape]
    record:   populations whose spikes are wanted one by one
    progress: called with (samples done, samples)
    Raises BadInput for an input of the wrong shape or range.
    """
    trains = {s.name: train(net, s.name, inputs) for s in net.sources}
    samples = len(next(iter(trains.values())))
    if any(len(x) != samples for x in trains.values()):
        counts = ", ".join(f"'{name}' {len(x)}" for name, x in trains.items())
        raise BadInput(f"the inputs differ in their number of samples: {counts}")
    synapses = {
        name: [_Synapses(e.source, _kernel(e.map, e.exponent)) for e in edges]
        for name, edges in incoming(net.projections).items()
    }
    ordered = order(net.populations, net.projections)
    width = net.steps * sum(prod(p.shape) for p in ordered) + 4 * net.steps * max(prod(p.shape) for p in ordered)
    threads = threads or os.cpu_count() or 1
    size = max(1, min(CHUNK_BYTES // width, -(-samples // threads)))
    chunks = [slice(start, min(start + size, samples)) for start in range(0, samples, size)]

    def one(chunk: slice) -> Run:
        return _chunk(net, ordered, synapses, {name: x[chunk] for name, x in trains.items()}, record)

    parts: list[Run] = []
    with ThreadPoolExecutor(threads) as pool:
        for chunk, part in zip(chunks, pool.map(one, chunks), strict=True):
            parts.append(part)
            if progress:
                progress(chunk.stop, samples)
    return Run(
        {name: np.concatenate([p.outputs[name] for p in parts]) for name in net.outputs},
        reduce(add, (p.activity for p in parts)),
        {name: np.concatenate([p.recorded[name] for p in parts]) for name in record},
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
    ordered: tuple[QuantPopulation, ...],
    synapses: dict[str, list[_Synapses]],
    trains: dict[str, U8],
    record: tuple[str, ...],
) -> Run:
    samples, steps = len(next(iter(trains.values()))), net.steps
    sent: dict[str, U8] = dict(trains)
    last_use = {s.source: p.name for p in ordered for s in synapses.get(p.name, ())}
    outputs: dict[str, NDArray[np.int64]] = {}
    recorded: dict[str, U8] = {}
    spikes = {name: np.repeat((x != 0).sum(0), steps // x.shape[1], axis=0) for name, x in trains.items()}
    active: dict[str, NDArray[np.int64]] = {}
    for p in ordered:
        n = prod(p.shape)
        current = np.zeros((samples, steps, n), np.int32)
        for s in synapses.get(p.name, ()):
            x = sent[s.source]
            if x.shape[1] == steps:
                s.add(x.reshape(samples * steps, -1), current.reshape(samples * steps, n))
            else:
                once = np.zeros((samples, n), np.int32)
                s.add(x[:, 0], once)
                current += once[:, None]
        out = np.zeros((samples, steps, n), np.uint8)
        final = np.zeros((samples, n), np.int64)
        spikes[p.name], active[p.name] = np.zeros((steps, n), np.int64), np.zeros((steps, n), np.int64)
        ceiling = p.threshold << STATE_SHIFT
        kernels.scan(
            current, DECAY_ONE - p.decay, ceiling, p.bias, p.spiking, out, final, spikes[p.name], active[p.name]
        )
        sent[p.name] = out
        if p.name in net.outputs:
            outputs[p.name] = final
        if p.name in record:
            recorded[p.name] = out
        for name in [name for name, user in last_use.items() if user == p.name]:
            sent.pop(name, None)
    return Run(outputs, Activity(samples, steps, spikes, active), recorded)
