"""Populations cut into tiles, tiles packed into cores, so that no limit is passed and no core is busier than asked.

Tiles are boxes, and what a box takes of a core follows from its sides: the window of inputs under a convolution, the
lists of synapses, the tiles downstream that it sends to. These are bounds, tight but for weights that are zero; dense
maps with many of those, and all where a bound would refuse a neuron, are counted synapse by synapse. ``settle`` counts
what the chosen cores hold exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil, inf, prod

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from snnergy.deploy.activity import Activity
from snnergy.deploy.fanout import FanIn, fan_in
from snnergy.deploy.fit import LIMITS, bytes_of_lists, limit, list_bytes, slots, synapse_bytes
from snnergy.deploy.placement import Slice
from snnergy.deploy.schedule import Schedule
from snnergy.deploy.tiles import Box, Sums, cut, grid, least, mask, union, whole
from snnergy.export.maps import Conv, Dense, Map, Shape, Sparse, weights
from snnergy.export.net import incoming
from snnergy.export.quantnet import QuantNet, QuantPopulation, QuantProjection
from snnergy.hardware_profiles import CoreLimits, Profile, nominal

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]

ASSUMED_RATE = 0.1
"""Events of every neuron and input in a step, where no run has been measured."""
PRUNED = 0.1
"""Share of zero weights above which a dense map is counted: its bounds are off by as much."""


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

    axons: source -> where in it the axons come from, boxes or int64[k] ascending indices
    usage: by LIMITS; synops_ns, updates_ns: of one mean step
    """

    population: str
    box: Box
    usage: dict[str, int]
    axons: dict[str, list[Box | I64]]
    synops_ns: float
    updates_ns: float


@dataclass(eq=False)
class Filling:
    """A core while it is being filled."""

    tiles: list[Tile] = field(default_factory=list)
    usage: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LIMITS, 0))
    axons: dict[str, list[Box | I64]] = field(default_factory=dict)
    synops_ns: float = 0.0
    updates_ns: float = 0.0

    @property
    def busy_ns(self) -> float:
        """Of one mean step: synapses and neurons are served side by side."""
        return max(self.synops_ns, self.updates_ns)

    def with_tile(self, tile: Tile, have: dict[str, int], most_ns: float) -> dict[str, int] | None:
        """The usage with the tile added, or None where it does not fit."""
        if max(self.synops_ns + tile.synops_ns, self.updates_ns + tile.updates_ns) > most_ns:
            return None
        if any(t.population == tile.population for t in self.tiles):
            return None  # one tile of a population on a core, so that no kernel is counted twice
        usage = {name: self.usage[name] + tile.usage[name] for name in LIMITS}
        for name, places in tile.axons.items():
            if name in self.axons:
                together = union([*self.axons[name], *places])
                usage["in_axons"] += together - union(self.axons[name]) - union(places)
        return None if any(usage[name] > most for name, most in have.items()) else usage

    def add(self, tile: Tile, usage: dict[str, int]) -> None:
        """Take the tile; usage: of ``with_tile``."""
        self.tiles.append(tile)
        self.usage = usage
        self.synops_ns += tile.synops_ns
        self.updates_ns += tile.updates_ns
        for name, where in tile.axons.items():
            self.axons.setdefault(name, []).extend(where)


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
        times = pace(profile)
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

    def tile(self, box: Box) -> Tile:
        """Bounds of what the box takes."""
        axons: dict[str, list[Box | I64]] = {}
        memory = 0
        for e in self._feeds:
            if id(e) in self._counted:
                reach = fan_in(e.map, box)
                where = reach.sources
                memory += _memory(e.map, box, reach, self._bits, self._core)
            else:
                where = window(e.map, box, self._shapes[e.source])
                memory += self._memory(e, box, where)
            axons.setdefault(e.source, []).append(where)
        usage = {
            "neurons": box.size,
            "synapse_bytes": memory,
            "in_axons": sum(map(union, axons.values())),
            "out_axons": round(self.fan_out.of(box)),
            "groups": 1,
            "accumulator_slots": box.size * self._slots,
        }
        return Tile(self.population.name, box, usage, axons, self.synops.of(box), self.updates.of(box))

    def _memory(self, e: QuantProjection, box: Box, where: Box | I64) -> int:
        if isinstance(e.map, Conv) and e.map.output_shape == box.shape:
            lists = self._lists[id(e)]
            return int(lists[box.high[0]] - lists[box.low[0]])
        if isinstance(e.map, Dense):
            return where.size * int(self._lists[id(e)][box.size])
        return _memory(e.map, box, fan_in(e.map, box), self._bits, self._core)


def _memory(linear: Map, held: Box | I64, reach: FanIn, bits: int, core: CoreLimits) -> int:
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


class _Reach:
    """How many cores downstream each neuron of a population sends to, as boxes add up."""

    def __init__(self, shape: Shape) -> None:
        self._shape = grid(shape)
        self._everyone = 0
        self._corners = np.zeros((1, self._shape[1] + 1, self._shape[2] + 1))
        self._listed: F64 | None = None

    def add(self, places: Sequence[Box | I64]) -> None:
        """One core, with the neurons that reach the tiles on it."""
        boxes = [where for where in places if isinstance(where, Box) and where.size]
        if any(box.size == prod(self._shape) for box in boxes):
            self._everyone += 1
        elif len(boxes) == len(places) == 1 and boxes[0].sides[0] == self._shape[0]:
            (_, y0, x0), (_, y1, x1) = boxes[0].low, boxes[0].high
            self._corners[0, y0, x0] += 1
            self._corners[0, y1, x0] -= 1
            self._corners[0, y0, x1] -= 1
            self._corners[0, y1, x1] += 1
        elif places:
            if self._listed is None:
                self._listed = np.zeros(self._shape)
            if len(boxes) < len(places):
                listed = np.concatenate([where.neurons if isinstance(where, Box) else where for where in places])
                self._listed.reshape(-1)[np.unique(listed)] += 1
            elif boxes:
                found, where = mask(boxes)
                self._listed[where] += found

    def sums(self, more: float | F64) -> Sums:
        """more: tiles that every neuron reaches besides, one number or float64[c, h, w]."""
        alike = self._corners.cumsum(1).cumsum(2)[:, :-1, :-1] + self._everyone + more
        return Sums(alike if self._listed is None else alike + self._listed)


@dataclass(frozen=True, eq=False)
class Partition:
    """Tiles on cores, in network order.

    tightest: population -> the limit it is shortest of; of: population -> its cores; messages: in a mean step, at most
    """

    cores: tuple[Filling, ...]
    tightest: dict[str, str]
    of: dict[str, int]
    messages: float

    @property
    def busy_ns(self) -> float:
        """The busiest core's time in a mean step."""
        return max((core.busy_ns for core in self.cores), default=0.0)


class TooLarge(Exception):
    """One neuron of ``population`` needs more of ``limit`` than a core has."""

    def __init__(self, population: str, limit: str, need: int) -> None:
        super().__init__(population)
        self.population, self.limit, self.need = population, limit, need


class _Room:
    """What is left in every core, side by side, so that cores without room are passed over at once."""

    def __init__(self, have: dict[str, int], most_ns: float) -> None:
        self._names = [name for name in have if name != "in_axons"]
        self._most = np.array([*(have[name] for name in self._names), most_ns, most_ns])
        self._left = np.zeros((self._most.size, 64))
        self._count = 0
        self._taken = np.zeros(64, np.bool_)

    def next_population(self) -> None:
        """From now on tiles are of another population than those before; no two of one go on one core."""
        self._taken[:] = False

    def candidates(self, tile: Tile) -> list[int]:
        """Cores that have room by all but input axons, which tiles may share."""
        need = np.array([*(tile.usage[name] for name in self._names), tile.synops_ns, tile.updates_ns])
        left = self._left[:, : self._count]
        some = np.flatnonzero((left[0] >= need[0]) & ~self._taken[: self._count])
        return some[(left[:, some] >= need[:, None]).all(axis=0)].tolist()

    def changed(self, index: int, core: Filling) -> None:
        """The core at this index, or the next new one, holds something else now."""
        if index == self._taken.size:
            self._left = np.concatenate([self._left, np.zeros_like(self._left)], axis=1)
            self._taken = np.concatenate([self._taken, np.zeros_like(self._taken)])
        self._count = max(self._count, index + 1)
        used = np.array([*(core.usage[name] for name in self._names), core.synops_ns, core.updates_ns])
        self._left[:, index] = self._most - used
        self._taken[index] = True


class Cutter:
    """Partitions of one network, for any time that a core may take; what stays the same is computed once.

    ordered: the populations, each after all that it feeds, loops apart
    """

    def __init__(
        self, net: QuantNet, ordered: Sequence[QuantPopulation], schedule: Schedule, profile: Profile, rates: Rates
    ) -> None:
        self._net, self._ordered = net, ordered
        self.have = {name: most for name in LIMITS if (most := limit(profile.core, name)) is not None}
        self._mean = {p.name: float(rates.spikes[p.name].mean()) for p in ordered}
        rank = {p.name: k for k, p in enumerate(ordered)}
        self._late = [e for e in net.projections if rank[e.target] >= rank.get(e.source, rank[e.target] + 1)]
        late = {id(e) for e in self._late}
        self._out: dict[str, list[QuantProjection]] = {p.name: [] for p in ordered}
        for e in net.projections:
            if e.source in self._out and id(e) not in late:
                self._out[e.source].append(e)
        self._counted = {id(e) for e in net.projections if isinstance(e.map, Dense) and _zeros(e.map) > PRUNED}
        nothing = {p.name: Sums(np.zeros((1, *grid(p.shape)[1:]))) for p in ordered}
        self._demand = {
            p.name: Demand(p, net, schedule, profile, rates, nothing[p.name], self._counted) for p in ordered
        }

    def cut(self, most_ns: float = inf) -> Partition:
        """As few cores as this way of cutting finds, none of them busier than ``most_ns`` where one neuron is not.

        Output axons of a loop are set aside, and all is packed again while they are too few. Raises TooLarge.
        """
        spread = {e.target: 1 for e in self._late}
        while True:
            found = self._pack(most_ns, spread)
            grown = {name: max(n, found.of[name]) for name, n in spread.items()}
            if grown == spread:
                return found
            spread = grown

    def _pack(self, most_ns: float, spread: dict[str, int]) -> Partition:
        cores: list[Filling] = []
        room = _Room(self.have, most_ns)
        tightest: dict[str, str] = {}
        homes: dict[str, list[tuple[Filling, Tile]]] = {}
        for p in self._ordered:
            demand = self._demand[p.name]
            demand.fan_out = self._fan_out(p, homes, spread)
            try:
                tiles = self._tiles(demand, most_ns)
            except TooLarge:
                if not self._count(p):
                    raise
                demand.fan_out = self._fan_out(p, homes, spread)
                tiles = self._tiles(demand, most_ns)
            tightest[p.name] = max(self.have, key=lambda name: max(t.usage[name] for t in tiles) / self.have[name])
            homes[p.name] = []
            room.next_population()
            for tile in tiles:
                for index in room.candidates(tile):
                    core = cores[index]
                    if usage := core.with_tile(tile, self.have, most_ns):
                        break
                else:
                    index, core, usage = len(cores), Filling(), dict(tile.usage)
                    cores.append(core)
                core.add(tile, usage)
                homes[p.name].append((core, tile))
                room.changed(index, core)
        of = {name: len(found) for name, found in homes.items()}
        sent = (self._mean[name] * t.usage["out_axons"] for name, found in homes.items() for _, t in found)
        return Partition(tuple(cores[::-1]), tightest, of, sum(sent))

    def _count(self, p: QuantPopulation) -> bool:
        """From now on count the synapses to and from this population; whether that is any news."""
        here = (e for e in self._net.projections if p.name in (e.source, e.target))
        more = {id(e) for e in here if not isinstance(e.map, Sparse) and _zeros(e.map)} - self._counted
        self._counted |= more
        return bool(more)

    def _fan_out(
        self, p: QuantPopulation, homes: dict[str, list[tuple[Filling, Tile]]], spread: dict[str, int]
    ) -> Sums:
        into: dict[int, list[Box | I64]] = {}
        for e in self._out[p.name]:
            for core, tile in homes[e.target]:
                counted = id(e) in self._counted
                reached = fan_in(e.map, tile.box).sources if counted else window(e.map, tile.box, p.shape)
                into.setdefault(id(core), []).append(reached)
        reach = _Reach(p.shape)
        for places in into.values():
            reach.add(places)
        return reach.sums(self._set_aside(p, spread))

    def _set_aside(self, p: QuantPopulation, spread: dict[str, int]) -> float | F64:
        """Output axons of a loop: so many as its targets have tiles, and no more than a neuron has synapses to them."""
        more: float | F64 = 0.0
        for target in {e.target: None for e in self._late if e.source == p.name}:
            edges = [e.map for e in self._late if (e.source, e.target) == (p.name, target)]
            most: float | F64 = float(spread[target])
            if not any(isinstance(linear, Conv) for linear in edges):
                synapses = np.sum([_sent(linear) for linear in edges], axis=0)
                most = most if synapses.min() >= most else np.minimum(synapses, most).reshape(grid(p.shape))
            more = more + most
        return more

    def _tiles(self, demand: Demand, most_ns: float) -> list[Tile]:
        """The fewest tiles that each fit a core, cut out of the fewest blocks of channels that can."""
        p, have = demand.population, self.have
        all_of_it = whole(p.shape)
        channels, rows, columns = all_of_it.sides
        weight = demand.weight(have.get("neurons", all_of_it.size), most_ns)
        busy = max(demand.synops.of(all_of_it), demand.updates.of(all_of_it)) / most_ns
        few = max(0.999 * busy, all_of_it.size / have.get("neurons", all_of_it.size))  # tiles that are needed at least

        refused: list[Tile] = []  # the last neuron that by itself is too much

        def fits(box: Box) -> Tile | None:
            if box.size > have.get("neurons", inf):
                return None
            tile = demand.tile(box)
            if any(tile.usage[name] > most for name, most in have.items()):
                refused[:] = [tile] if box.size == 1 else refused
                return None
            return None if max(tile.synops_ns, tile.updates_ns) > most_ns and box.size > 1 else tile

        def attempt(blocks: int, parts: int) -> list[Tile] | None:
            tiles: list[Tile] = []
            for block in _blocks(all_of_it, blocks):
                for box in cut(block, parts, weight):
                    if (tile := fits(box)) is None:
                        return None
                    tiles.append(tile)
            return tiles

        if rows * columns == 1:
            if found := least(ceil(few), channels, lambda n: attempt(1, n)):
                return found
        else:

            def pixel(blocks: int) -> bool:
                y, x = rows // 2, columns // 2
                boxes = (Box(b.shape, (b.low[0], y, x), (b.high[0], y + 1, x + 1)) for b in _blocks(all_of_it, blocks))
                return all(fits(box) for box in boxes)

            fewest = least(1, channels, lambda n: n if pixel(n) else None)
            for blocks in range(fewest or channels, channels + 1):
                parts = ceil(few / blocks)
                if parts > rows * columns and blocks < channels:
                    continue  # where channels are all apart, tiles are neurons: as quick as can be
                if found := least(parts, rows * columns, lambda n: attempt(blocks, n)):  # noqa: B023
                    return found
        (tile,) = refused
        name = max(have, key=lambda name: tile.usage[name] / have[name])
        raise TooLarge(p.name, name, tile.usage[name])


def _sent(linear: Map) -> I64:
    """int64[n_in], synapses of each input; of a dense or sparse map."""
    if isinstance(linear, Dense):
        return np.count_nonzero(linear.weight, axis=0)
    return np.bincount(linear.matrix().indices, minlength=prod(linear.input_shape))


def _zeros(linear: Map) -> float:
    """Share of the stored weights that are zero."""
    w = weights(linear)
    return 1 - np.count_nonzero(w) / max(w.size, 1)


def _blocks(box: Box, count: int) -> list[Box]:
    """The box in so many blocks of channels, as equal as can be."""
    ends = [box.sides[0] * k // count for k in range(count + 1)]
    return [
        Box(box.shape, (a, *box.low[1:]), (b, *box.high[1:]))  # type: ignore[arg-type]
        for a, b in pairwise(ends)
    ]


@dataclass(frozen=True, eq=False)
class Settled:
    """What the cores hold, counted exactly.

    usage: of each core by LIMITS; traffic: float64[cores, cores] messages in a mean step; entering: float64[cores]
    """

    usage: tuple[dict[str, int], ...]
    traffic: csr_array
    entering: F64


def settle(
    net: QuantNet, schedule: Schedule, profile: Profile, cores: Sequence[Sequence[Slice]], rates: Rates
) -> Settled:
    """Count what the slices of every core take and send, synapse by synapse where weights are zero."""
    count = len(cores)
    usage: list[dict[str, int]] = [dict.fromkeys(LIMITS, 0) for _ in cores]
    home = {p.name: np.zeros(prod(p.shape), np.int64) for p in net.populations}
    held: dict[str, list[tuple[int, Slice]]] = {p.name: [] for p in net.populations}
    for index, slices in enumerate(cores):
        for s in slices:
            home[s.population][s.neurons] = index
            held[s.population].append((index, s))
            usage[index]["neurons"] += s.size
            usage[index]["groups"] += 1
            usage[index]["accumulator_slots"] += slots(s.size, s.population, net, schedule)
    traffic, entering = csr_array((count, count)), np.zeros(count)
    for node in (*net.sources, *net.populations):
        into: dict[int, list[I64]] = {}
        for e in net.projections:
            if e.source == node.name:
                for index, s in held[e.target]:
                    reach = fan_in(e.map, s.held)
                    usage[index]["synapse_bytes"] += _memory(e.map, s.held, reach, net.weight_bits, profile.core)
                    into.setdefault(index, []).append(reach.sources)
        sources = [_merged(places) for places in into.values()]
        for index, source in zip(into, sources, strict=True):
            usage[index]["in_axons"] += source.size
        source = np.concatenate([np.zeros(0, np.int64), *sources])
        to = np.repeat(np.array(list(into), np.int64), [s.size for s in sources])
        rate = rates.spikes[node.name][source]
        if node.name in home:
            start = home[node.name][source]
            for index, axons in enumerate(np.bincount(start, minlength=count)):
                usage[index]["out_axons"] += int(axons)
            traffic = traffic + csr_array((rate, (start, to)), shape=(count, count))
        else:
            entering += np.bincount(to, rate, count)
    return Settled(tuple(usage), csr_array(traffic), entering)


def _merged(places: list[I64]) -> I64:
    """All indices once, ascending; each of ``places`` is."""
    if len(places) == 1:
        return places[0]
    every = np.sort(np.concatenate(places), kind="stable")
    return every[np.diff(every, prepend=-1) > 0]


def slices_of(partition: Partition) -> list[tuple[Slice, ...]]:
    """Of every core, its tiles as slices of neurons."""
    return [tuple(Slice(tile.population, tile.box) for tile in core.tiles) for core in partition.cores]
