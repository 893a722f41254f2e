"""The native engine: exact integers, one population at a time over all steps and samples.

A population outside every loop sees the whole train of those before it, so the time loop is innermost; those of a loop
go step by step together. ``schedule`` makes hardware with one step per synapse give the same trains. Results depend
neither on chunks, threads nor the paths taken (``synapses``).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnergy.deploy import kernels, scan
from snnergy.deploy.activity import Activity, Lazy, Run, Trace
from snnergy.deploy.layers import Layers, Space, Tally, arrive, ready
from snnergy.errors import BadInput
from snnergy.export.quantnet import QuantNet

U8 = NDArray[np.uint8]
CHUNK_BYTES = 256 << 20
"""At most about this much is held by a thread at a time."""
CHUNK_WORK = 1 << 21
"""Neuron-steps of a population in a chunk: enough that the calls do not count, few enough for the caches."""
SPARE = 2
"""Sets of counters that are kept for later runs."""


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
    asked = {s.name: _shaped(net, s.name, inputs) for s in net.sources}
    samples = len(next(iter(asked.values())))
    if any(len(x) != samples for x in asked.values()):
        counts = ", ".join(f"'{name}' {len(x)}" for name, x in asked.items())
        raise BadInput(f"the inputs differ in their number of samples: {counts}")
    layers = Layers(net, path) if path else ready(net)
    sizes, threads = layers.sizes, threads or os.cpu_count() or 1
    size = _chunk_size(layers, samples, threads, states, bool(observe))
    chunks = [slice(start, min(start + size, samples)) for start in range(0, samples, size)]

    def empty(names: tuple[str, ...], kind: type, *steps: int) -> dict[str, NDArray[Any]]:
        return {name: np.empty((samples, *steps, sizes[name]), kind) for name in names}

    outputs, recorded = empty(net.outputs, np.int64), empty(record, np.uint8, net.steps)
    membranes, currents = (empty(states, np.int32, net.steps) for _ in range(2))
    counts, observed = _Counts(layers), list[Any]()
    bits = {s.name: s.bits for s in net.sources}
    result = Run(outputs, counts.activity(samples), recorded, membranes, currents, observed)

    def one(chunk: slice) -> Any:
        space = counts.space(chunk.stop - chunk.start)
        for name, x in asked.items():
            if not _fits(x[chunk], bits[name]):
                train(net, name, inputs)  # which says what is wrong, of all samples
        trains = {name: counts.arrived(name, x[chunk], space) for name, x in asked.items()}
        seen = _chunk(layers, trains, chunk, result, space, observe)
        counts.done(space)
        return seen

    def collect(parts: Iterable[Any]) -> None:
        for chunk, part in zip(chunks, parts, strict=True):
            observed.append(part)
            if progress:
                progress(chunk.stop, samples)

    collect(map(one, chunks) if min(len(chunks), threads) == 1 else _pool(threads).map(one, chunks))
    counts.close()
    return result


def _chunk_size(layers: Layers, samples: int, threads: int, states: tuple[str, ...], observed: bool) -> int:
    """How many samples go through the layers together."""
    steps, sizes = layers.steps, layers.sizes
    kept = (1 + observed) * layers.neurons + 4 * layers.together + 8 * sum(sizes[name] for name in states)
    size = min(CHUNK_WORK // (steps * layers.together), CHUNK_BYTES // (steps * kept), scan.LARGEST_CHUNK)
    size = max(1, min(size, -(-samples // threads)))
    rounds = -(-samples // (threads * size))
    return -(-samples // (threads * rounds))  # as many for every thread


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads that wait for the next run: starting them takes as long as many a run."""
    return ThreadPoolExecutor(threads)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # the child has none of them


def _fits(x: NDArray[Any], bits: int) -> bool:
    """Whether a source of so many bits can send these values."""
    if x.dtype == np.uint8 and bits == 8:
        return True
    return not (x.dtype.kind == "i" and x.min() < 0) and bool(x.max() < 1 << bits)


def train(net: QuantNet, name: str, inputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """The checked input of one source: 0 .. 255, [samples, 1 or steps, n]; one step stands for all."""
    x, bits = _shaped(net, name, inputs), next(s.bits for s in net.sources if s.name == name)
    if not _fits(x, bits):
        raise BadInput(f"input '{name}' spans {x.min()} .. {x.max()}; {bits} bits hold 0 .. {(1 << bits) - 1}")
    return x


def _shaped(net: QuantNet, name: str, inputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
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
    return x


class _Counts:
    """What every thread has counted, packed as ``scan`` does until a byte could run over or somebody looks."""

    def __init__(self, layers: Layers) -> None:
        self._layers = layers
        self._sums: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {}
        self._tallies: list[Tally] = []
        self._idle: list[Space] = []
        self._lock = layers.lock

    def space(self, samples: int) -> Space:
        """Arrays for a chunk of so many samples, which no other thread has now."""
        with self._lock:
            idle = self._idle or self._layers.idle
            space = idle.pop() if idle else Space()
            if space.samples + samples > scan.LARGEST_CHUNK:
                self._add(space.tally)
                space.samples = 0
            if not space.tally and self._layers.spare:
                space.tally = self._layers.spare.pop()
        space.anew = space.samples == 0
        space.samples += samples
        return space

    def arrived(self, name: str, x: NDArray[Any], space: Space) -> U8:
        """What a source sends, counted, in the form that the kernels take."""
        own = x
        if x.dtype != np.uint8 or not x.flags.carray:
            own = space.take(x.shape, np.uint8)
            own[...] = x
        tally = space.tally.get(name)
        if tally is None or tally.shape != own.shape[1:]:  # one step stands for all, or not
            tally = space.tally[name] = np.empty(own.shape[1:], np.uint16)
        kernels.tally(own, tally, space.anew)
        return own

    def done(self, space: Space) -> None:
        """The chunk is done."""
        with self._lock:
            self._idle.append(space)

    def close(self) -> None:
        """The run is done: its spaces are for the next one."""
        for space in self._idle:
            self._tallies.append(space.tally)
            space.rest()
        with self._lock:
            self._layers.idle += self._idle

    def __del__(self) -> None:  # nobody can look any more
        self._layers.spare[:] = [*self._layers.spare, *self._tallies][:SPARE]

    def _add(self, tally: Tally) -> None:
        for name, counts in tally.items():
            if name not in self._sums:
                self._sums[name] = _unpacked(counts)
                continue
            for total, more in zip(self._sums[name], _unpacked(counts, np.uint8), strict=True):
                total += more

    def activity(self, samples: int) -> Activity:
        """Of all that is counted until somebody looks."""
        layers = self._layers

        def sent(name: str) -> NDArray[np.int64]:
            found = self._found(name)[0]
            if name in layers.parameters:
                return layers.outside(name, found)
            return np.repeat(found, layers.steps // len(found), axis=0)

        def active(name: str) -> NDArray[np.int64]:
            return layers.outside(name, self._found(name)[1])

        return Activity(samples, layers.steps, Lazy(layers.nodes, sent), Lazy(layers.populations, active))

    def _found(self, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """Spikes and active updates of a node; of a source its inputs, in the shape that they came in."""
        if len(self._tallies) > 1 or self._sums:
            while self._tallies:
                self._add(self._tallies.pop())
        return self._sums[name] if self._sums else _unpacked(self._tallies[0][name])


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
    samples, steps = len(next(iter(trains.values()))), layers.steps
    sent = {name: layers.inside(name, x) for name, x in trains.items()}
    spikes = {name: (x != 0).view(np.uint8) for name, x in trains.items()} if observe else {}
    active: dict[str, U8] = {}
    for k, component in enumerate(layers.parts):
        inner = {p.name for p in component}
        now = {
            p.name: space.neurons(layers, p, samples, steps, p.name in result.membranes, bool(observe))
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
            space.give(neurons.current, neurons.u, neurons.v)
        for name in [name for name in sent if layers.last_use.get(name, k) <= k]:
            out = sent.pop(name)
            if not observe:
                space.give(out)
    space.forget()
    return observe(Trace(spikes, active)) if observe else None
