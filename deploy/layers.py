"""A ``QuantNet`` made ready for the native engine: what each population needs, and the synapses that feed it."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from snnergy.deploy import kernels, synapses
from snnergy.export.net import components, incoming, loops
from snnergy.export.quantnet import DECAY_ONE, STATE_SHIFT, QuantNet, QuantPopulation, QuantProjection

U8 = NDArray[np.uint8]
I32 = NDArray[np.int32]
NEVER = (1 << 31) - 1
"""The ceiling of a readout: beyond every membrane."""


@dataclass(frozen=True, eq=False)
class Synapses:
    """A projection, in every way that this machine can compute it."""

    source: str
    delay: int
    paths: tuple[synapses.Path, ...]

    def add(self, x: U8, current: I32, fresh: bool) -> None:
        """Put every row's contribution to ``current`` on the path that costs least for what is in the rows."""
        path = self.paths[0]
        if len(self.paths) > 1:
            events = int(np.count_nonzero(x))
            path = min(self.paths, key=lambda p: p.cost(len(x), events))
        path.add(x, current, fresh)


def ready(net: QuantNet) -> Layers:
    """The network made ready, once as long as it lives."""
    if net not in _READY:
        _READY[net] = Layers(net)
    return _READY[net]


class Layers:
    """The network as the engine walks it.

    parts:    strongly connected components, each after all that feed it; loops: whether it feeds itself
    last_use: name -> number of the last part that reads it
    """

    def __init__(self, net: QuantNet, path: str | None = None) -> None:
        self.net = net
        self.parts = components(net.populations, net.projections)
        self.loops = [loops(part, net.projections) for part in self.parts]
        shapes = {n.name: n.shape for n in (*net.sources, *net.populations)}
        self._images = {name: shape for name, shape in shapes.items() if synapses.order(shape) is not None}

        def prepared(e: QuantProjection) -> Synapses:
            found = synapses.paths(e.map, e.exponent, shapes[e.source], shapes[e.target])
            return Synapses(e.source, e.delay, tuple(p for p in found if p.name == path) or found)

        feeds = incoming(net.projections)
        self.synapses = {p.name: [prepared(e) for e in feeds.get(p.name, ())] for p in net.populations}
        self.parameters = {p.name: self._parameters(p) for p in net.populations}
        part_of = {p.name: k for k, part in enumerate(self.parts) for p in part}
        self.last_use: dict[str, int] = {}
        for e in net.projections:
            self.last_use[e.source] = max(self.last_use.get(e.source, 0), part_of[e.target])

    def _parameters(self, p: QuantPopulation) -> tuple[I32, ...]:
        """What ``scan`` takes of every neuron: 4096 - decay of current and of membrane, ceiling, bias."""
        ceiling = p.threshold << STATE_SHIFT if p.spiking else np.full_like(p.threshold, NEVER)
        values = (DECAY_ONE - p.current_decay, DECAY_ONE - p.decay, ceiling, p.bias)
        return tuple(self.inside(p.name, x.astype(np.int32)) for x in values)

    def inside(self, name: str, values: NDArray[Any]) -> NDArray[Any]:
        """[..., n] in C order of the node's shape -> in the engine's order, channels last."""
        shape = self._images.get(name)
        if shape is None:
            return np.ascontiguousarray(values)
        return np.moveaxis(values.reshape(*values.shape[:-1], *shape), -3, -1).reshape(values.shape)

    def outside(self, name: str, values: NDArray[Any]) -> NDArray[Any]:
        """The way back of ``inside``."""
        shape = self._images.get(name)
        if shape is None:
            return values
        return np.moveaxis(values.reshape(*values.shape[:-1], *shape[1:], shape[0]), -1, -3).reshape(values.shape)


class Space:
    """The arrays of one thread: the next chunk has them again, so that memory stays mapped and warm.

    tally: population -> uint16[steps, n], what ``scan`` has counted of so many ``samples``
    """

    def __init__(self) -> None:
        self.samples = 0
        self.tally: dict[str, NDArray[np.uint16]] = {}
        self._free: list[U8] = []
        self._lent: dict[int, U8] = {}

    def take(self, shape: tuple[int, ...], kind: type) -> NDArray[Any]:
        """An array that holds anything: the smallest free one that is large enough, or a new one."""
        size = prod(shape) * np.dtype(kind).itemsize
        fitting = [k for k, free in enumerate(self._free) if free.size >= size]
        best = min(fitting, key=lambda k: self._free[k].size, default=None)
        whole = np.empty(size, np.uint8) if best is None else self._free.pop(best)
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
        n, kept = prod(p.shape), steps if stateful else 0
        self.spiking, self._cuba = p.spiking, p.cuba
        self._parameters = layers.parameters[p.name]
        self.current = space.take((samples, steps, n), np.int32)
        self.fresh = True
        self.out = space.take((samples, steps, n), np.uint8)
        if p.name not in space.tally:
            space.tally[p.name] = np.zeros((steps, n), np.uint16)
        self.counts = space.tally[p.name]
        self.currents, self.membranes = (np.empty((samples, kept, n), np.int32) for _ in range(2))
        self.busy = np.empty((samples, steps if observed else 0, n), np.uint8)
        self.u, self.v = (np.zeros((samples, n), np.int32) for _ in range(2))

    def step(self, first: int, last: int) -> None:
        """Run these steps, whose synaptic input is complete."""
        if self.fresh:
            self.clear()
        kernels.scan(
            first, last, self.current, *self._parameters, self._cuba, self.u, self.v, self.out, self.counts,
            self.currents, self.membranes, self.busy,
        )  # fmt: skip

    def clear(self) -> None:
        """No synaptic input in any step."""
        self.current.fill(0)
        self.fresh = False

    def output(self) -> NDArray[np.int64]:
        """int64[samples, n]: number of spikes, or the membrane of a readout."""
        return self.out.sum(1, dtype=np.int64) if self.spiking else self.v.astype(np.int64)


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
