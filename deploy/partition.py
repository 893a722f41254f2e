"""Populations cut into tiles, tiles packed into cores, so that no limit is passed and no core is busier than asked.

What a tile takes is a bound (``demand.py``); ``settle`` counts what the chosen cores hold exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, pairwise
from math import ceil, inf, prod

import numpy as np
from numpy.typing import NDArray

from snnergy.deploy.demand import Demand, Rates, Tile, window
from snnergy.deploy.fanout import fan_in
from snnergy.deploy.fit import LIMITS, limit
from snnergy.deploy.placement import Slice
from snnergy.deploy.schedule import Schedule
from snnergy.deploy.tiles import Box, Sums, cut, grid, least, mask, union, whole
from snnergy.deploy.tiling import fewest_slots, inside
from snnergy.export.maps import Conv, Dense, Map, Shape, Sparse, weights
from snnergy.export.quantnet import QuantNet, QuantPopulation, QuantProjection
from snnergy.hardware_profiles import Profile

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]

PRUNED = 0.1
"""Share of zero weights above which a dense map is counted: its bounds are off by as much."""
EXACT = 8
"""Times that the axons of loops are counted and all is packed again; then they are bounded, which ends sooner."""


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

    def counts(self) -> F64:
        """float64[c, h, w], or [1, h, w] where channels are alike."""
        alike = self._corners.cumsum(1).cumsum(2)[:, :-1, :-1] + self._everyone
        return alike if self._listed is None else alike + self._listed


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


Homes = dict[str, list[tuple[Filling, Tile]]]
"""Population -> its tiles, each with its core."""


class Cutter:
    """Partitions of one network, for any time that a core may take; what stays the same is computed once.

    ordered: the populations, each after all that it feeds, loops apart
    fixed:   tiles of one population have one size (``tiling.py``), not equal work
    """

    def __init__(
        self,
        net: QuantNet,
        ordered: Sequence[QuantPopulation],
        schedule: Schedule,
        profile: Profile,
        rates: Rates,
        fixed: bool = False,
    ) -> None:
        self._net, self._ordered, self._fixed = net, ordered, fixed
        self.have = {name: most for name in LIMITS if (most := limit(profile.core, name)) is not None}
        self._mean = {p.name: float(rates.spikes[p.name].mean()) for p in ordered}
        rank = {p.name: k for k, p in enumerate(ordered)}
        self._late = [e for e in net.projections if rank[e.target] >= rank.get(e.source, rank[e.target] + 1)]
        late = {id(e) for e in self._late}
        self._out: dict[str, list[QuantProjection]] = {p.name: [] for p in ordered}
        for e in net.projections:
            if e.source in self._out and id(e) not in late:
                self._out[e.source].append(e)
        self._shapes = {p.name: p.shape for p in net.populations}
        self._most_late: dict[str, F64] = {}
        for e in self._late:
            synapses = _sent(e.map).reshape(grid(self._shapes[e.source])).astype(np.float64)
            self._most_late[e.source] = self._most_late.get(e.source, 0.0) + synapses
        self._counted = {id(e) for e in net.projections if isinstance(e.map, Dense) and _zeros(e.map) > PRUNED}
        nothing = {p.name: Sums(np.zeros((1, *grid(p.shape)[1:]))) for p in ordered}
        self._demand = {
            p.name: Demand(p, net, schedule, profile, rates, nothing[p.name], self._counted) for p in ordered
        }

    def cut(self, most_ns: float = inf) -> Partition:
        """As few cores as this way of cutting finds, none of them busier than ``most_ns`` where one neuron is not.

        In a loop, where nothing comes last, one output axon is set aside for every neuron that sends back; where that
        turns out to be too few, as many as were needed, and all is packed again. Raises TooLarge.
        """
        aside = {name: np.minimum(synapses, 1.0) for name, synapses in self._most_late.items()}
        for attempt in count():
            found, homes = self._pack(most_ns, aside)
            needed = {name: self._late_axons(name, homes, attempt >= EXACT) for name in aside}
            if all((needed[name] <= aside[name]).all() for name in aside):
                return found
            aside = {name: np.maximum(aside[name], needed[name]) for name in aside}
        raise AssertionError

    def _late_axons(self, name: str, homes: Homes, bound: bool) -> F64:
        """float64[c, h, w], output axons that the loops of a population take; bound: as its targets have tiles."""
        edges = [e for e in self._late if e.source == name]
        if bound:
            axons = np.array(float(sum(len(homes[target]) for target in {e.target for e in edges})))
        else:
            axons = self._reached(edges, homes).counts()
        return np.minimum(axons, self._most_late[name])

    def _pack(self, most_ns: float, aside: Mapping[str, F64]) -> tuple[Partition, Homes]:
        cores: list[Filling] = []
        room = _Room(self.have, most_ns)
        tightest: dict[str, str] = {}
        homes: Homes = {}
        for p in self._ordered:
            demand = self._demand[p.name]
            demand.fan_out = self._fan_out(p, homes, aside)
            try:
                tiles = self._tiles(demand, most_ns)
            except TooLarge:
                if not self._count(p):
                    raise
                demand.fan_out = self._fan_out(p, homes, aside)
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
        return Partition(tuple(cores[::-1]), tightest, of, sum(sent)), homes

    def _count(self, p: QuantPopulation) -> bool:
        """From now on count the synapses to and from this population; whether that is any news."""
        here = (e for e in self._net.projections if p.name in (e.source, e.target))
        more = {id(e) for e in here if not isinstance(e.map, Sparse) and _zeros(e.map)} - self._counted
        self._counted |= more
        return bool(more)

    def _fan_out(self, p: QuantPopulation, homes: Homes, aside: Mapping[str, F64]) -> Sums:
        edges = self._out[p.name]
        counts = self._reached(edges, homes).counts() if edges else np.zeros((1, *grid(p.shape)[1:]))
        return Sums(counts + aside.get(p.name, 0.0))

    def _reached(self, edges: Sequence[QuantProjection], homes: Homes) -> _Reach:
        """The cores that these projections, of one population, go to."""
        into: dict[int, list[Box | I64]] = {}
        shape = self._shapes[edges[0].source]
        for e in edges:
            for core, tile in homes[e.target]:
                counted = id(e) in self._counted
                reached = fan_in(e.map, tile.box).sources if counted else window(e.map, tile.box, shape)
                into.setdefault(id(core), []).append(reached)
        reach = _Reach(shape)
        for places in into.values():
            reach.add(places)
        return reach

    def _tiles(self, demand: Demand, most_ns: float) -> list[Tile]:
        """The fewest tiles that each fit a core, cut out of the fewest blocks of channels that can."""
        p, have = demand.population, self.have
        all_of_it = whole(p.shape)
        channels, rows, columns = all_of_it.sides
        weight = demand.weight(have.get("neurons", all_of_it.size), most_ns)
        busy = max(demand.synops.of(all_of_it), demand.updates.of(all_of_it)) / most_ns
        few = max(0.999 * busy, all_of_it.size / have.get("neurons", all_of_it.size))  # tiles that are needed at least

        refused: list[Tile] = []  # the last neuron that by itself is too much

        def fits(whole_tile: Box) -> Tile | None:
            box = inside(whole_tile)
            if whole_tile.size > have.get("neurons", inf):
                return None
            tile = demand.tile(box, None if box == whole_tile else whole_tile)
            if any(tile.usage[name] > most for name, most in have.items()):
                refused[:] = [tile] if box.size == 1 else refused
                return None
            return None if max(tile.synops_ns, tile.updates_ns) > most_ns and box.size > 1 else tile

        def attempt(blocks: int, parts: int) -> list[Tile] | None:
            tiles: list[Tile] = []
            for block in _blocks(all_of_it, blocks):
                for box in fewest_slots(block, parts) if self._fixed else cut(block, parts, weight):
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
    """int64[n_in], synapses of each input."""
    if isinstance(linear, Conv):
        c_out, per_group, *_ = linear.weight.shape
        groups = (linear.weight != 0).reshape(linear.groups, c_out // linear.groups, *linear.weight.shape[1:])
        kernel = np.count_nonzero(groups, axis=1).reshape(linear.groups * per_group, *linear.weight.shape[2:])
        met = [np.zeros((k, n)) for k, n in zip(linear.weight.shape[2:], linear.input_shape[1:], strict=True)]
        for axis in (0, 1):
            for k, (_, inputs) in enumerate(linear.taps(axis)):
                met[axis][k, inputs] = 1
        return np.rint(met[0].T @ (kernel @ met[1])).astype(np.int64).ravel()
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


def slices_of(partition: Partition) -> list[tuple[Slice, ...]]:
    """Of every core, its tiles as slices of neurons."""
    return [tuple(Slice(tile.population, tile.box, tile.past) for tile in core.tiles) for core in partition.cores]
