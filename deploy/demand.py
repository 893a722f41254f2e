"""What a box of neurons takes of a core, bounded from its sides, and how busy it keeps it.

Bounds are tight but for weights that are zero; dense maps with many of those, and all where a bound would refuse a
neuron, are counted synapse by synapse.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from math import inf, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnergy.deploy.activity import Activity
from snnergy.deploy.fanout import FanIn, fan_in
from snnergy.deploy.fit import bytes_of_lists, list_bytes, slots, synapse_bytes
from snnergy.deploy.schedule import Schedule
from snnergy.deploy.tiles import Box, Sums, grid, union, whole
from snnergy.export.maps import Conv, Dense, Map, Shape, Sparse
from snnergy.export.net import incoming
from snnergy.export.quantnet import QuantNet, QuantPopulation, QuantProjection
from snnergy.hardware_profiles import CoreLimits, Profile, nominal

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]

ASSUMED_RATE = 0.1
"""Events of every neuron and input in a step, where no run has been measured."""


@dataclass(frozen=True, eq=False)
class Rates:
    """Mean events in a step: name -> float64[n] spikes (of a source, inputs that are not 0), and active updates.

    Rates that are the same everywhere may be one number broadcast: then nothing is kept for every neuron.
    """

    spikes: Mapping[str, F64]
    active: Mapping[str, F64]


def measured(activity: Activity) -> Rates:
    """The rates of a run."""
    per = 1 / (activity.samples * activity.steps)
    return Rates(
        {name: counts.sum(axis=0) * per for name, counts in activity.spikes.items()},
        {name: counts.sum(axis=0) * per for name, counts in activity.active.items()},
    )


def assumed(net: QuantNet, rate: float = ASSUMED_RATE) -> Rates:
    """The same rate everywhere, every update active."""
    spikes = {n.name: np.broadcast_to(rate, prod(n.shape)) for n in (*net.sources, *net.populations)}
    return Rates(spikes, {p.name: np.broadcast_to(1.0, prod(p.shape)) for p in net.populations})


@dataclass(frozen=True)
class Pace:
    """Nanoseconds of a core for each event; 0 where the profile does not say."""

    synop: float
    active: float
    idle: float
    spike: float


def pace(profile: Profile) -> Pace:
    """The nominal times of the profile."""
    time = profile.time_ns
    return Pace(*(nominal(q) for q in (time.synop, time.update_active, time.update_idle, time.spike)))


@dataclass(frozen=True, eq=False)
class Tile:
    """A box of one population and what it takes of a core.

    past:  the whole tile, where it has a fixed size and passes the border of the population; ``box`` is what is inside
    axons: source -> where in it the axons come from, boxes or int64[k] ascending indices
    usage: by LIMITS; synops_ns, updates_ns: of one mean step
    """

    population: str
    box: Box
    usage: dict[str, int]
    axons: dict[str, list[Box | I64]]
    synops_ns: float
    updates_ns: float
    past: Box | None = None


def window(linear: Map, box: Box, before: Shape) -> Box | I64:
    """The inputs that reach the outputs in the box, none of the weights being zero; a box where they have no gaps."""
    if isinstance(linear, Conv) and linear.output_shape == box.shape and linear.input_shape == before:
        c_out, per_group = linear.weight.shape[:2]
        each = c_out // linear.groups
        channels = np.arange(box.low[0] // each * per_group, -(-box.high[0] // each) * per_group)
        sides = [channels, *(_reached(linear, axis, box.low[1 + axis], box.high[1 + axis]) for axis in (0, 1))]
        if all(side.size and side[-1] - side[0] < side.size for side in sides):
            low, high = (int(side[0]) for side in sides), (int(side[-1]) + 1 for side in sides)
            return Box(grid(before), tuple(low), tuple(high))  # type: ignore[arg-type]
        c, y, x = sides
        return ((c[:, None, None] * before[1] + y[:, None]) * before[2] + x).ravel()
    if isinstance(linear, Dense):
        return whole(before) if linear.sources.size == prod(before) else linear.sources
    return fan_in(linear, box).sources


def _reached(conv: Conv, axis: int, low: int, high: int) -> I64:
    """Input rows (axis 0) or columns under the kernels of the outputs low .. high - 1."""
    stride, dilation, taps = conv.stride[axis], conv.dilation[axis], conv.weight.shape[2 + axis]
    first = low * stride - conv.padding[axis]
    last = (high - 1) * stride - conv.padding[axis] + (taps - 1) * dilation
    if dilation == 1 and stride <= taps:  # no gaps
        return np.arange(max(first, 0), min(last + 1, conv.input_shape[1 + axis]))
    start = np.arange(low, high) * stride - conv.padding[axis]
    found = np.unique(start[:, None] + np.arange(taps) * dilation)
    return found[(found >= 0) & (found < conv.input_shape[1 + axis])]


class Demand:
    """What any box of one population takes of a core, given the tiles downstream.

    fan_out: Sums of the tiles that each neuron sends to
    counted: ids of the projections whose synapses are counted, the others' are taken to be there
    """

    def __init__(
        self,
        p: QuantPopulation,
        net: QuantNet,
        schedule: Schedule,
        profile: Profile,
        rates: Rates,
        fan_out: Sums,
        counted: Set[int] = frozenset(),
    ) -> None:
        self.population, self.fan_out, self._counted = p, fan_out, counted
        self._shapes = {n.name: n.shape for n in (*net.sources, *net.populations)}
        self._feeds = incoming(net.projections).get(p.name, [])
        self._slots = slots(1, p.name, net, schedule)
        self._bits, self._core = net.weight_bits, profile.core
        self._lists = {
            id(e): _lists(e.map, net.weight_bits, profile.core) for e in self._feeds if not isinstance(e.map, Sparse)
        }
        self._rates = rates.spikes
        self._times = times = pace(profile)
        load = np.zeros((1, *grid(p.shape)[1:]))
        for e in self._feeds:
            load = load + _load(e.map, rates.spikes[e.source], p.shape)
        active, fires = (_on_grid(rate[p.name], p.shape) for rate in (rates.active, rates.spikes))
        update = active * times.active + (1 - active) * times.idle + fires * times.spike
        self.synops = Sums(load * times.synop)
        self.updates = Sums(update)
        self._both = load * times.synop + update

    def weight(self, neurons: int, most_ns: float) -> Sums:
        """What tiles are to be equal in: their share of a core's neurons and of the time that it may take."""
        busy = self._both if most_ns < inf else np.zeros((1, *self._both.shape[1:]))
        return Sums(busy / most_ns + 1 / neurons)

    def busy(self) -> F64:
        """float64[n], nanoseconds that each neuron takes of a core in a mean step, synapses and update together."""
        return np.broadcast_to(self._both, grid(self.population.shape)).ravel()

    def tile(self, box: Box, past: Box | None = None) -> Tile:
        """Bounds of what the box takes; past: the fixed-size tile that it is the inner part of."""
        axons: dict[str, list[Box | I64]] = {}
        memory = 0
        for e in self._feeds:
            if id(e) in self._counted:
                reach = fan_in(e.map, box)
                where = reach.sources
                memory += held_bytes(e.map, box, reach, self._bits, self._core)
            else:
                where = window(e.map, box, self._shapes[e.source])
                memory += self._memory(e, box, where)
            axons.setdefault(e.source, []).append(where)
        room = box.size if past is None else past.size
        usage = {
            "neurons": room,
            "synapse_bytes": memory,
            "in_axons": sum(map(union, axons.values())),
            "out_axons": round(self.fan_out.of(box)),
            "groups": 1,
            "accumulator_slots": room * self._slots,
        }
        synops, updates = self.synops.of(box), self.updates.of(box)
        if past is not None:
            synops += self._times.synop * sum(phantom_synops(e.map, past, self._rates[e.source]) for e in self._feeds)
            updates += self._times.idle * (room - box.size)
        return Tile(self.population.name, box, usage, axons, synops, updates, past)

    def _memory(self, e: QuantProjection, box: Box, where: Box | I64) -> int:
        if isinstance(e.map, Conv) and e.map.output_shape == box.shape:
            lists = self._lists[id(e)]
            return int(lists[box.high[0]] - lists[box.low[0]])
        if isinstance(e.map, Dense):
            return where.size * int(self._lists[id(e)][box.size])
        return held_bytes(e.map, box, fan_in(e.map, box), self._bits, self._core)


def phantom_synops(linear: Map, tile: Box, rate: NDArray[Any]) -> float:
    """Synaptic events of the slots of a tile that lie past the border and hold no neuron. rate: [n_in], of any time.

    Only a convolution has any: its kernel is applied at every slot, and reads what input it still meets there.
    """
    if not isinstance(linear, Conv) or tile.shape != linear.output_shape:
        return 0.0
    every, held = (fan_in(linear, box) for box in (tile, tile.intersect(whole(linear.output_shape))))
    return (every.synapses @ rate[every.sources] - held.synapses @ rate[held.sources]).item()


def held_bytes(linear: Map, held: Box | I64, reach: FanIn, bits: int, core: CoreLimits) -> int:
    """``synapse_bytes``, without the neurons of a box one by one."""
    if isinstance(linear, Conv) and isinstance(held, Box) and linear.output_shape == held.shape:
        kernels = linear.weight[held.low[0] : held.high[0]]
        return list_bytes(np.count_nonzero(kernels, axis=(1, 2, 3)), bits, core)
    return synapse_bytes(linear, held.neurons if isinstance(held, Box) else held, reach, bits, core)


def _lists(linear: Map, bits: int, core: CoreLimits) -> I64:
    """Of a convolution, bytes of the kernels of the channels before each; else of a list of so many synapses."""
    if isinstance(linear, Conv):
        each = bytes_of_lists(np.count_nonzero(linear.weight, axis=(1, 2, 3)), bits, core)
        return np.concatenate([[0], np.cumsum(each)])
    return bytes_of_lists(np.arange(prod(linear.output_shape) + 1), bits, core)


def _on_grid(values: F64, shape: Shape) -> F64:
    """float64[c, h, w], or [1, h, w] where one number is broadcast."""
    if values.strides == (0,):
        return np.full((1, *grid(shape)[1:]), values[0])
    return values.reshape(grid(shape))


def _load(linear: Map, rate: F64, shape: Shape) -> F64:
    """``events`` on the grid of the target, float64[c, h, w]; [1, h, w] where that says it all."""
    if not isinstance(linear, Conv) or rate.strides != (0,) or linear.output_shape != shape:
        return events(linear, rate).reshape(grid(shape))
    kernels = np.count_nonzero(linear.weight, axis=1).astype(np.float64)  # [c, kh, kw]
    if (kernels == kernels[:1]).all():
        kernels = kernels[:1]
    met = [np.zeros((linear.weight.shape[2 + axis], shape[1 + axis])) for axis in (0, 1)]
    for axis in (0, 1):
        for k, (outputs, _) in enumerate(linear.taps(axis)):
            met[axis][k, outputs] = 1
    return met[0].T @ (kernels @ met[1]) * rate[0]


def events(linear: Map, rate: F64) -> F64:
    """float64[n_out], synaptic events that reach each output in a step; rate: float64[n_in]."""
    if isinstance(linear, Dense):
        return (np.asarray(linear.weight) != 0) @ rate
    if not isinstance(linear, Conv):
        return (linear.matrix() != 0) @ rate
    c_out, per_group = linear.weight.shape[:2]
    _, h_out, w_out = linear.output_shape
    x = rate.reshape(linear.groups, per_group, *linear.input_shape[1:])
    found = np.zeros((linear.groups, c_out // linear.groups, h_out, w_out))
    there = (np.asarray(linear.weight) != 0).reshape(linear.groups, c_out // linear.groups, per_group, -1)
    taps_x = linear.taps(1)
    for ky, (oy, iy) in enumerate(linear.taps(0)):
        for kx, (ox, ix) in enumerate(taps_x):
            if oy.size and ox.size:
                here = x[:, :, iy[0] : iy[-1] + 1 : linear.stride[0], ix[0] : ix[-1] + 1 : linear.stride[1]]
                sums = there[..., ky * len(taps_x) + kx].astype(np.float64) @ here.reshape(*here.shape[:2], -1)
                found[:, :, oy[0] : oy[-1] + 1, ox[0] : ox[-1] + 1] += sums.reshape(*sums.shape[:2], oy.size, ox.size)
    return found.ravel()
