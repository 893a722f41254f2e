"""A ``QuantNet`` made ready for the native engine: what each population needs, and the synapses that feed it."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from snnergy.deploy import kernels, scan, synapses
from snnergy.export.net import components, incoming, loops
from snnergy.export.quantnet import DECAY_ONE, STATE_SHIFT, QuantNet, QuantPopulation, QuantProjection

U8 = NDArray[np.uint8]
I32 = NDArray[np.int32]
Tally = dict[str, NDArray[np.uint16]]
NEVER = (1 << 31) - 1
"""The ceiling of a readout: beyond every membrane."""
LINE = 64
"""Bytes of a line of the cache."""
SMALL = 1 << 20
"""Neuron-steps of a chunk up to which every population has arrays of its own, and finding them takes no time."""
KEPT_BYTES = 64 << 20
"""A thread's arrays are kept for the next run up to this size."""
AGAIN = 8
"""Chunks that go by the path of the one before them: activity seldom changes from one to the next."""
NOWHERE, UNSEEN = np.empty((0, 0, 0), np.int32), np.empty((0, 0, 0), np.uint8)
"""Where states and updates go that nobody asks for."""


@dataclass(frozen=True, eq=False)
class Synapses:
    """A projection, in every way that this machine can compute it."""

    source: str
    delay: int
    paths: tuple[synapses.Path, ...]
    taken: list[Any] = field(default_factory=lambda: [None, 0, 0])
    """The path that was taken last, for how many rows, and how often it may be taken again without another look."""

    def add(self, x: U8, current: I32, fresh: bool) -> None:
        """Put every row's contribution to ``current`` on the path that costs least for what is in the rows."""
        path, rows, left = self.taken
        if rows != len(x) or not left:
            path, left = self.paths[0], AGAIN
            if len(self.paths) > 1:
                events = int(np.count_nonzero(x))
                path = min(self.paths, key=lambda p: p.cost(len(x), events))
        self.taken[:] = path, len(x), left - 1
        path.add(x, current, fresh)


def ready(net: QuantNet) -> Layers:
    """The network made ready, once as long as it lives."""
    found = _READY.get(net)
    if found is None:
        found = _READY[net] = Layers(net)
    return found


class Layers:
    """The network as the engine walks it.

    parts:    strongly connected components, each after all that feed it; loops: whether it feeds itself
    last_use: name -> number of the last part that reads it
    sizes:    name -> number of its neurons or inputs; cuba: whether the currents of a population have a memory
    subtract: whether its spikes take something away from the membrane, or lead somewhere
    alone:    whether a population is a part by itself
    neurons:  of all populations; together: of the largest part
    shifts:   of a population: every sum of its synapses is to be multiplied by this power of 2
    idle:     spaces of earlier runs, for the next; spare: what they counted in; lock: for who takes one
    """

    def __init__(self, net: QuantNet, path: str | None = None) -> None:
        self.steps = net.steps
        self.populations, self.sources = [p.name for p in net.populations], [s.name for s in net.sources]
        self.nodes = [*self.populations, *self.sources]
        self.parts = components(net.populations, net.projections)
        self.loops = [loops(part, net.projections) for part in self.parts]
        shapes = {n.name: n.shape for n in (*net.sources, *net.populations)}
        self.sizes = {name: prod(shape) for name, shape in shapes.items()}
        self._images = {name: shape for name, shape in shapes.items() if synapses.order(shape) is not None}

        def prepared(e: QuantProjection) -> Synapses:
            found = synapses.paths(e.map, e.exponent - self.shifts[e.target], shapes[e.source], shapes[e.target])
            return Synapses(e.source, e.delay, tuple(p for p in found if p.name == path) or found)

        feeds = incoming(net.projections)
        self.shifts = {
            p.name: max(0, min((e.exponent for e in feeds.get(p.name, ())), default=0)) for p in net.populations
        }
        self.synapses = {p.name: [prepared(e) for e in feeds.get(p.name, ())] for p in net.populations}
        self.parameters = {p.name: self._parameters(p) for p in net.populations}
        self.cuba = {p.name: p.cuba for p in net.populations}
        self.subtract = {p.name: p.subtract for p in net.populations}
        self.idle: list[Space] = []
        self.spare: list[Tally] = []
        self.lock = Lock()
        self.alone = {p.name: len(part) == 1 for part in self.parts for p in part}
        part_of = {p.name: k for k, part in enumerate(self.parts) for p in part}
        self.neurons = sum(self.sizes[p.name] for p in net.populations)
        self.together = max(sum(self.sizes[p.name] for p in part) for part in self.parts)
        self.last_use: dict[str, int] = {}
        for e in net.projections:
            self.last_use[e.source] = max(self.last_use.get(e.source, 0), part_of[e.target])

    def _parameters(self, p: QuantPopulation) -> tuple[I32, ...]:
        """What ``scan`` takes of every neuron: 4096 - decay of current and of membrane, ceiling, bias, reset."""
        ceiling = p.threshold << STATE_SHIFT if p.spiking else np.full_like(p.threshold, NEVER)
        values = (DECAY_ONE - p.current_decay, DECAY_ONE - p.decay, ceiling, p.bias, p.back)
        kept = tuple(lined(x.shape, np.int32) for x in values)
        for place, x in zip(kept, values, strict=True):
            place[:] = self.inside(p.name, x)
        return kept

    def inside(self, name: str, values: NDArray[Any]) -> NDArray[Any]:
        """[..., n] in C order of the node's shape -> in the engine's order, channels last."""
        shape = self._images.get(name)
        return np.ascontiguousarray(values) if shape is None else _turned(values, shape[0])

    def outside(self, name: str, values: NDArray[Any]) -> NDArray[Any]:
        """The way back of ``inside``."""
        shape = self._images.get(name)
        if shape is None:
            return values
        return _turned(values, prod(shape[1:]))


def _turned(values: NDArray[Any], first: int) -> NDArray[Any]:
    """[..., first * second] -> [..., second * first]"""
    rows = np.ascontiguousarray(values).reshape(-1, values.shape[-1])
    out = np.empty_like(rows)
    kernels.turned(rows, first, out)
    return out.reshape(values.shape)


class Space:
    """The arrays of one thread: the next chunk has them again, and the next run, so that memory stays mapped and warm.

    tally: population -> uint16[steps, n], what ``scan`` has counted of so many ``samples``
    anew:  it holds anything yet, and the chunk that begins is the first that counts
    """

    def __init__(self) -> None:
        self.samples = 0
        self.anew = True
        self.tally: Tally = {}
        self._free: list[U8] = []
        self._lent: dict[int, U8] = {}
        self._small: dict[str, Neurons] = {}
        self._input = np.empty(0, np.int32)

    def neurons(
        self, layers: Layers, p: QuantPopulation, samples: int, steps: int, stateful: bool, observed: bool
    ) -> Neurons:
        """At rest; those of a small network that nobody looks into are the same again."""
        found = self._small.get(p.name)
        if stateful or observed or found is None or found.out.shape[:2] != (samples, steps):
            found = Neurons(layers, p, samples, steps, self, stateful, observed)
            if not (stateful or observed) and samples * steps * layers.neurons <= SMALL:
                self._small[p.name] = found
                if layers.alone[p.name]:
                    found.keep(self._shared(found.out.shape))
                self.forget()
        found.begin(self)
        return found

    def _shared(self, shape: tuple[int, ...]) -> I32:
        """The synaptic input of populations that run one after the other: the same memory, which stays in the cache."""
        if self._input.size < prod(shape):
            self._input = lined((prod(shape),), np.int32)
        return self._input[: prod(shape)].reshape(shape)

    def take(self, shape: tuple[int, ...], kind: type) -> NDArray[Any]:
        """An array that holds anything: the smallest free one that is large enough, or a new one."""
        size = prod(shape) * np.dtype(kind).itemsize
        best = None
        for k, free in enumerate(self._free):
            if free.size >= size and (best is None or free.size < self._free[best].size):
                best = k
        whole = lined((size,), np.uint8) if best is None else self._free.pop(best)
        found = whole[:size].view(kind).reshape(shape)
        self._lent[id(found)] = whole
        return found

    def give(self, *arrays: NDArray[Any]) -> None:
        """Take them back; what was not taken here is left alone."""
        for array in arrays:
            if (whole := self._lent.pop(id(array), None)) is not None:
                self._free.append(whole)

    def forget(self) -> None:
        """Everything that is lent stays with those who have it."""
        self._lent.clear()

    def rest(self) -> None:
        """What was counted is somebody else's now, and of the arrays no more is kept than ``KEPT_BYTES``."""
        self.samples, self.tally = 0, {}
        if sum(free.size for free in self._free) > KEPT_BYTES:
            self._free.clear()


def lined(shape: tuple[int, ...], kind: type) -> NDArray[Any]:
    """An array that holds anything and begins with a line of the cache: a vector across two lines takes twice as long,
    and one that was written just before many times."""
    size = prod(shape) * np.dtype(kind).itemsize
    whole = np.empty(size + LINE, np.uint8)
    begin = -whole.ctypes.data % LINE
    return whole[begin : begin + size].view(kind).reshape(shape)


class Neurons:
    """One population of one chunk of samples, on its way through the steps."""

    def __init__(
        self,
        layers: Layers,
        p: QuantPopulation,
        samples: int,
        steps: int,
        space: Space,
        stateful: bool = False,
        observed: bool = False,
    ) -> None:
        n = layers.sizes[p.name]
        self.spiking, self._cuba, self._subtract = p.spiking, layers.cuba[p.name], layers.subtract[p.name]
        self._parameters, self._shift = layers.parameters[p.name], STATE_SHIFT + layers.shifts[p.name]
        self._name = p.name
        self.out = space.take((samples, steps, n), np.uint8)
        self.u, self.v = space.take((samples, n), np.int32), space.take((samples, n), np.int32)
        self.currents = self.membranes = NOWHERE
        if stateful:
            self.currents, self.membranes = (np.empty((samples, steps, n), np.int32) for _ in range(2))
        self.busy = np.empty((samples, steps, n), np.uint8) if observed else UNSEEN
        self._kept = False

    def keep(self, current: I32) -> None:
        """Have this array for the synaptic input for good."""
        self.current, self._kept = current, True

    def begin(self, space: Space) -> None:
        """At rest, and what they do is counted in the tally of the space."""
        if not self._kept:
            self.current = space.take(self.out.shape, np.int32)
        self.fresh = True
        self.u.fill(0)
        self.v.fill(0)
        if self._name not in space.tally:
            space.tally[self._name] = lined(self.out.shape[1:], np.uint16)
        self.counts, self._anew = space.tally[self._name], space.anew

    def step(self, first: int, last: int) -> None:
        """Run these steps, whose synaptic input is complete."""
        if self.fresh:
            self.clear()
        scan.scan(
            first, last, self.current, *self._parameters, self._cuba, self._subtract, self._shift, self.u, self.v,
            self.out, self._anew, self.counts, self.currents, self.membranes, self.busy,
        )  # fmt: skip

    def clear(self) -> None:
        """No synaptic input in any step."""
        self.current.fill(0)
        self.fresh = False

    def output(self) -> NDArray[np.int64]:
        """int64[samples, n]: number of spikes, or the membrane of a readout."""
        if not self.spiking:
            return self.v.astype(np.int64)
        total = np.empty(self.u.shape, np.int64)
        kernels.fired(self.out, total)
        return total


def arrive(s: Synapses, sent: U8, to: Neurons, first: int, last: int) -> None:
    """Add what arrives in the steps first .. last - 1; nothing arrives in the first ``delay`` steps of a sample."""
    samples, steps, n = to.current.shape
    begin = max(first, s.delay)
    whole = begin == 0 and last == steps
    if to.fresh and not whole:
        to.clear()
    if begin >= last:
        return
    if sent.shape[1] == 1 < steps:  # the same at every step
        once = np.empty((samples, n), np.int32)
        s.add(sent[:, 0], once, True)
        if to.fresh:
            to.current[:] = once[:, None]
        else:
            to.current[:, begin:last] += once[:, None]
    elif whole:
        s.add(sent.reshape(samples * steps, -1), to.current.reshape(samples * steps, n), to.fresh)
    else:
        rows = samples * (last - begin)
        x = np.ascontiguousarray(sent[:, begin - s.delay : last - s.delay]).reshape(rows, -1)
        total = np.empty((rows, n), np.int32)
        s.add(x, total, True)
        to.current[:, begin:last] += total.reshape(samples, -1, n)
    to.fresh = False


_READY: WeakKeyDictionary[QuantNet, Layers] = WeakKeyDictionary()
