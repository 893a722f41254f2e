"""The native engine: exact integers, one population at a time over all steps and samples.

A population outside every loop sees the whole train of those before it, so the time loop is innermost; those of a loop
go step by step together. ``schedule`` makes hardware with one step per synapse give the same trains. Results depend
neither on chunks, threads nor the paths taken (``synapses``).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import prod
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnergy.deploy import kernels
from snnergy.deploy.activity import Activity, Lazy, Run, Trace
from snnergy.deploy.layers import Layers, Neurons, Space, arrive, ready
from snnergy.errors import BadInput
from snnergy.export.quantnet import QuantNet

U8 = NDArray[np.uint8]
CHUNK_BYTES = 256 << 20
"""At most about this much is held by a thread at a time."""
CHUNK_WORK = 1 << 20
"""Neuron-steps of a chunk: enough that the calls do not count, few enough for the caches."""


def run(
    net: QuantNet,
    inputs: Mapping[str, NDArray[Any]],
    *,
    record: tuple[str, ...] = (),
    states: tuple[str, ...] = (),
    threads: int | None = None,
    path: str | None = None,
    observe: Callable[[Trace], Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Run:
    """Run every sample from rest for ``net.steps`` steps.

    inputs:   source name -> integers [samples, *shape], presented at every step, or [samples, steps, *shape]
    record:   populations whose spikes are wanted one by one
    states:   populations whose currents and membranes are wanted after each step
    threads:  default one a core; path: only this way to compute a projection, where it has it, for tests
    observe:  called by several threads with what the samples of each chunk did; ``Run.observed`` keeps what it returns
    progress: called with (samples done, samples)
    Raises BadInput for an input of the wrong shape or range.
    """
    trains = {s.name: train(net, s.name, inputs) for s in net.sources}
    samples = len(next(iter(trains.values())))
    if any(len(x) != samples for x in trains.values()):
        counts = ", ".join(f"'{name}' {len(x)}" for name, x in trains.items())
        raise BadInput(f"the inputs differ in their number of samples: {counts}")
    layers = Layers(net, path) if path else ready(net)
    sizes = {p.name: prod(p.shape) for p in net.populations}
    together = max(sum(sizes[p.name] for p in part) for part in layers.parts)
    kept = 1 + bool(observe)
    width = net.steps * (kept * sum(sizes.values()) + 4 * together + 8 * sum(sizes[name] for name in states))
    threads = threads or os.cpu_count() or 1
    size = min(CHUNK_WORK // (net.steps * sum(sizes.values())), CHUNK_BYTES // width, kernels.LARGEST_CHUNK)
    size = max(1, min(size, -(-samples // threads)))
    chunks = [slice(start, min(start + size, samples)) for start in range(0, samples, size)]

    def empty(names: tuple[str, ...], kind: type, *steps: int) -> dict[str, NDArray[Any]]:
        return {name: np.empty((samples, *steps, sizes[name]), kind) for name in names}

    outputs, recorded = empty(net.outputs, np.int64), empty(record, np.uint8, net.steps)
    membranes, currents = (empty(states, np.int32, net.steps) for _ in range(2))
    counts, observed = _Counts(layers), list[Any]()
    result = Run(outputs, counts.activity(samples, trains), recorded, membranes, currents, observed)

    def one(chunk: slice) -> Any:
        space = counts.space(chunk.stop - chunk.start)
        seen = _chunk(layers, {name: x[chunk] for name, x in trains.items()}, chunk, result, space, observe)
        counts.done(space)
        return seen

    with ThreadPoolExecutor(threads) as pool:
        parts = pool.map(one, chunks) if len(chunks) > 1 else map(one, chunks)
        for chunk, part in zip(chunks, parts, strict=True):
            observed.append(part)
            if progress:
                progress(chunk.stop, samples)
    return result


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


class _Counts:
    """What every thread has counted, packed as ``scan`` does until a byte could run over or somebody looks."""

    def __init__(self, layers: Layers) -> None:
        self._layers = layers
        self._sums: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {}
        self._idle: list[Space] = []
        self._lock = Lock()

    def space(self, samples: int) -> Space:
        """Arrays for a chunk of so many samples, which no other thread has now."""
        with self._lock:
            space = self._idle.pop() if self._idle else Space()
        if space.samples + samples > kernels.LARGEST_CHUNK:
            self._empty(space)
        space.samples += samples
        return space

    def done(self, space: Space) -> None:
        """The chunk is done."""
        with self._lock:
            self._idle.append(space)

    def _empty(self, space: Space) -> None:
        with self._lock:
            for name, counts in space.tally.items():
                if name not in self._sums:
                    self._sums[name] = _unpacked(counts)
                    continue
                for total, more in zip(self._sums[name], _unpacked(counts, np.uint8), strict=True):
                    total += more
        space.samples, space.tally = 0, {}

    def activity(self, samples: int, trains: dict[str, U8]) -> Activity:
        """Of all that is counted until somebody looks."""
        net = self._layers.net

        def sent(x: U8) -> NDArray[np.int64]:
            return np.repeat((x != 0).sum(0), net.steps // x.shape[1], axis=0)

        def counted(name: str, which: int) -> NDArray[np.int64]:
            if len(self._idle) > 1 or self._sums:
                for space in self._idle:
                    self._empty(space)
            found = self._sums[name] if self._sums else _unpacked(self._idle[0].tally[name])
            return self._layers.outside(name, found[which])

        names = [p.name for p in net.populations]
        spikes: dict[str, Callable[[], NDArray[np.int64]]] = {n: partial(counted, n, 0) for n in names}
        spikes |= {name: partial(sent, x) for name, x in trains.items()}
        return Activity(samples, net.steps, Lazy(spikes), Lazy({n: partial(counted, n, 1) for n in names}))


def _unpacked(counts: NDArray[np.uint16], kind: type = np.int64) -> tuple[NDArray[Any], NDArray[Any]]:
    """Spikes and active updates."""
    return (counts & 255).astype(kind), (counts >> 8).astype(kind)


def _chunk(
    layers: Layers,
    trains: dict[str, U8],
    chunk: slice,
    result: Run,
    space: Space,
    observe: Callable[[Trace], Any] | None,
) -> Any:
    """Run these samples into their places of the result; what the observer says of them."""
    samples, steps = len(next(iter(trains.values()))), layers.net.steps
    sent = {name: layers.inside(name, x) for name, x in trains.items()}
    spikes = {name: (x != 0).view(np.uint8) for name, x in trains.items()} if observe else {}
    active: dict[str, U8] = {}
    for k, component in enumerate(layers.parts):
        inner = {p.name for p in component}
        now = {
            p.name: Neurons(layers, p, samples, steps, space, p.name in result.membranes, bool(observe))
            for p in component
        }
        for name, neurons in now.items():
            for s in layers.synapses[name]:
                if s.source not in inner:
                    arrive(s, sent[s.source], neurons, 0, steps)
        sent |= {name: neurons.out for name, neurons in now.items()}
        if layers.loops[k]:
            for t in range(steps):
                for name, neurons in now.items():
                    for s in layers.synapses[name]:
                        if s.source in inner:
                            arrive(s, sent[s.source], neurons, t, t + 1)
                    neurons.step(t, t + 1)
        else:
            for neurons in now.values():
                neurons.step(0, steps)
        for name, neurons in now.items():
            space.give(neurons.current)
            if name in result.outputs:
                result.outputs[name][chunk] = layers.outside(name, neurons.output())
            if name in result.recorded:
                result.recorded[name][chunk] = layers.outside(name, neurons.out)
            if name in result.membranes:
                result.membranes[name][chunk] = layers.outside(name, neurons.membranes)
                result.currents[name][chunk] = layers.outside(name, neurons.currents)
            if observe:
                spikes[name] = layers.outside(name, neurons.out)
                active[name] = layers.outside(name, neurons.busy)
        for name in [name for name in sent if layers.last_use.get(name, k) <= k]:
            out = sent.pop(name)
            if not observe:
                space.give(out)
    space.forget()
    return observe(Trace(spikes, active)) if observe else None
