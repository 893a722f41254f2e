"""Which neurons sit on which core: populations cut into tiles, tiles packed into cores, cores spread over the mesh."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from math import ceil, prod
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from snnergy.deploy.fanout import destinations, fan_in
from snnergy.deploy.fit import ADVICE, LIMITS, FitReport, FitRow, check, limit, slots, synapse_bytes
from snnergy.deploy.mesh import routers, seat
from snnergy.deploy.placement import Core, Placement, Slice, verify
from snnergy.deploy.schedule import Schedule
from snnergy.errors import DoesNotFit
from snnergy.export.net import components, incoming, order
from snnergy.export.quantnet import QuantNet, QuantPopulation, QuantProjection
from snnergy.hardware_profiles import Profile

__all__ = ["FitReport", "FitRow", "check", "place"]

I64 = NDArray[np.int64]
_T = TypeVar("_T")


@dataclass(eq=False)
class _Tile:
    """A slice and what it takes of a core. axons: source -> the neurons of it that reach the slice."""

    slice: Slice
    usage: dict[str, int]
    axons: dict[str, I64]


@dataclass(eq=False)
class _Filling:
    """A core while it is being filled."""

    usage: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LIMITS, 0))
    axons: dict[str, I64] = field(default_factory=dict)
    slices: list[Slice] = field(default_factory=list)

    def with_tile(self, tile: _Tile, have: dict[str, int]) -> dict[str, int] | None:
        """The usage with the tile added, or None where a limit forbids it."""
        usage = {name: self.usage[name] + tile.usage[name] for name in LIMITS}
        if any(usage[name] > most for name, most in have.items() if name != "in_axons"):
            return None
        if any(s.population == tile.slice.population for s in self.slices):
            return None  # one slice of a population on a core, so that no kernel is counted twice
        shared = [np.intersect1d(tile.axons[s], self.axons[s]).size for s in tile.axons if s in self.axons]
        usage["in_axons"] -= sum(shared)
        return usage if usage["in_axons"] <= have["in_axons"] else None

    def add(self, tile: _Tile, usage: dict[str, int]) -> None:
        self.usage = usage
        self.slices.append(tile.slice)
        for source, axons in tile.axons.items():
            self.axons[source] = np.union1d(self.axons.get(source, axons), axons)


def place(net: QuantNet, schedule: Schedule, profile: Profile, chips: int | None = None) -> Placement:
    """Every neuron on one core, no limit exceeded, on as few chips as the cores allow (at most ``chips``).

    Populations are cut and packed from the outputs back to the inputs, because the output axons of a neuron are the
    distinct cores that it sends to; for a loop some are set aside, and all is packed again while they are too few. A
    population is cut into the fewest equal tiles that fit: rows, then columns, and channels only where one pixel of all
    channels is too much. A tile goes to the first core that has room for it.

    Raises DoesNotFit, naming the layer, the limit and what to do.
    """
    most = chips or profile.chip.chips_max.whole
    _refuse_walls(check(net, profile, schedule, most), profile)
    have = {name: bound for name in LIMITS if (bound := limit(profile.core, name)) is not None}
    ordered = _outputs_first(net)
    rank = {p.name: k for k, p in enumerate(ordered)}
    late = [e for e in net.projections if rank[e.target] >= rank.get(e.source, rank[e.target] + 1)]
    spread = {e.target: 1 for e in late}
    while True:
        filling, cores, tightest = _pack(net, ordered, schedule, profile, have, late, spread)
        grown = {name: max(n, len(cores[name])) for name, n in spread.items()}
        if grown == spread:
            break
        spread = grown
    per_chip = profile.chip.cores.whole
    if len(filling) > most * per_chip:
        raise DoesNotFit(_too_many(cores, tightest, len(filling), most, profile))
    placement = _seat(net, profile, filling[::-1], max(1, ceil(len(filling) / per_chip)))
    verify(net, placement, profile)
    return placement


def _outputs_first(net: QuantNet) -> tuple[QuantPopulation, ...]:
    """The populations so that each comes after all that it feeds, loops apart; in a loop, after those of its step."""
    part = {p.name: k for k, ps in enumerate(components(net.populations, net.projections)) for p in ps}
    edges = (e if part.get(e.source) == part[e.target] else replace(e, delay=0) for e in net.projections)
    return order(net.populations, tuple(edges))[::-1]


def _pack(
    net: QuantNet,
    ordered: tuple[QuantPopulation, ...],
    schedule: Schedule,
    profile: Profile,
    have: dict[str, int],
    late: list[QuantProjection],
    spread: dict[str, int],
) -> tuple[list[_Filling], dict[str, list[int]], dict[str, str]]:
    """Cut and pack in this order: the filled cores, the cores of every population, and what it is shortest of.

    late: projections of loops, to populations that are packed no earlier; spread: population -> the number of cores
    that is set aside output axons for, in the place of those that are not known yet
    """
    tightest: dict[str, str] = {}
    filling: list[_Filling] = []
    slices: dict[str, list[I64]] = {p.name: [] for p in ordered}
    cores: dict[str, list[int]] = {p.name: [] for p in ordered}
    for p in ordered:
        fan_out = np.diff(destinations(net, p.name, prod(p.shape), slices, cores, len(filling)).indptr)
        for e in late:
            if e.source == p.name:
                reached = fan_in(e.map, np.arange(prod(e.map.output_shape)))
                fan_out[reached.sources] += np.minimum(reached.synapses, spread[e.target])
        tiles = _cut(p, _measure(p, net, schedule, profile, fan_out), have, profile)
        tightest[p.name] = max(have, key=lambda name: max(t.usage[name] for t in tiles) / have[name])
        for tile in tiles:
            index, usage = _first_with_room(filling, tile, have)
            filling[index].add(tile, usage)
            slices[p.name].append(tile.slice.neurons)
            cores[p.name].append(index)
    return filling, cores, tightest


def _first_with_room(filling: list[_Filling], tile: _Tile, have: dict[str, int]) -> tuple[int, dict[str, int]]:
    """The first core that takes the tile, a new one at the end where none does, and its usage then."""
    for index, core in enumerate(filling):
        if usage := core.with_tile(tile, have):
            return index, usage
    filling.append(_Filling())
    return len(filling) - 1, dict(tile.usage)


def _measure(
    p: QuantPopulation, net: QuantNet, schedule: Schedule, profile: Profile, fan_out: NDArray[Any]
) -> Callable[[I64], _Tile]:
    """A function from neurons of ``p`` to the tile they make; fan_out: [n], how many cores each neuron sends to."""
    feeds = incoming(net.projections).get(p.name, [])

    def measure(neurons: I64) -> _Tile:
        axons: dict[str, I64] = {}
        memory = 0
        for e in feeds:
            reach = fan_in(e.map, neurons)
            memory += synapse_bytes(e.map, neurons, reach, net.weight_bits, profile.core)
            axons[e.source] = np.union1d(axons.get(e.source, reach.sources), reach.sources)
        usage = {
            "neurons": neurons.size,
            "synapse_bytes": memory,
            "in_axons": sum(a.size for a in axons.values()),
            "out_axons": int(fan_out[neurons].sum()),
            "groups": 1,
            "accumulator_slots": slots(neurons.size, p.name, net, schedule),
        }
        return _Tile(Slice(p.name, neurons), usage, axons)

    return measure


def _cut(p: QuantPopulation, measure: Callable[[I64], _Tile], have: dict[str, int], profile: Profile) -> list[_Tile]:
    """The fewest equal tiles that each fit a core; a population without rows and columns is all channels."""
    c, h, w = p.shape if len(p.shape) == 3 else (prod(p.shape), 1, 1)

    def fitting(parts: tuple[int, int, int], pixel: bool = False) -> list[_Tile] | None:
        """All tiles of that many parts of channels, rows and columns; None as soon as one of them does not fit."""
        tiles: list[_Tile] = []
        for neurons in _tiles((c, h, w), parts, pixel):
            if neurons.size > have["neurons"]:
                return None
            tiles.append(measure(neurons))
            if any(tiles[-1].usage[name] > most for name, most in have.items()):
                return None
        return tiles

    few = ceil(prod(p.shape) / have["neurons"])
    fewest = _least(1 if h * w > 1 else few, c, lambda k: k if fitting((k, 1, 1), pixel=True) else None)
    for k in range(fewest or c, c + 1):
        tiles = _least(ceil(few / k), h, lambda n: fitting((k, n, 1)))  # noqa: B023
        tiles = tiles or _least(1, w, lambda n: fitting((k, h, n)))  # noqa: B023
        if tiles:
            return tiles
    tile = measure(np.zeros(1, np.int64))
    name = max(have, key=lambda name: tile.usage[name] / max(have[name], 1))
    raise DoesNotFit(_wall(p.name, name, tile.usage[name], have[name], profile))


def _tiles(shape: tuple[int, int, int], parts: tuple[int, int, int], pixel: bool) -> Iterator[I64]:
    """Flat indices of every tile, ascending; ``pixel`` keeps only the middle one of the rows and columns."""
    c, h, w = shape
    row_sets = [np.array([h // 2])] if pixel else np.array_split(np.arange(h), parts[1])
    column_sets = [np.array([w // 2])] if pixel else np.array_split(np.arange(w), parts[2])
    for channels in np.array_split(np.arange(c), parts[0]):
        for rows in row_sets:
            for columns in column_sets:
                yield ((channels[:, None, None] * h + rows[:, None]) * w + columns).ravel()


def _least(low: int, high: int, attempt: Callable[[int], _T | None]) -> _T | None:
    """``attempt(n)`` for the least n in low .. high that succeeds, by doubling and halving; None where high fails."""
    low, step = min(max(low, 1), high), 1
    top = low
    while not (best := attempt(top)):
        if top == high:
            return None
        low, top, step = top + 1, min(top + step, high), 2 * step
    while low < top:
        middle = (low + top) // 2
        if found := attempt(middle):
            best, top = found, middle
        else:
            low = middle + 1
    return best


def _seat(net: QuantNet, profile: Profile, filling: list[_Filling], chips: int) -> Placement:
    """Give the filled cores, in network order, a chip and a seat on its mesh."""
    chip_of = np.sort(np.arange(len(filling)) % chips)
    slices: dict[str, list[I64]] = {p.name: [] for p in net.populations}
    cores: dict[str, list[int]] = {p.name: [] for p in net.populations}
    for index, core in enumerate(filling):
        for s in core.slices:
            slices[s.population].append(s.neurons)
            cores[s.population].append(index)
    traffic, entering = np.zeros((len(filling), len(filling))), np.zeros(len(filling))
    axons = [0] * len(filling)  # to all cores, those set aside for loops replaced by those there are
    for node in (*net.sources, *net.populations):
        sent = destinations(net, node.name, prod(node.shape), slices, cores, len(filling))
        for neurons, index in zip(slices.get(node.name, []), cores.get(node.name, []), strict=True):
            to = sent[neurons].sum(axis=0)
            traffic[index] += to
            axons[index] += int(to.sum())
        if node.name not in slices:
            entering += sent.sum(axis=0)
    numbers = seat(traffic, entering, chip_of, profile.chip)
    spots = routers(profile.chip)[numbers]
    placed = [
        Core(int(chip), int(number), int(x), int(y), tuple(core.slices), {**core.usage, "out_axons": out})
        for core, chip, number, (x, y), out in zip(filling, chip_of, numbers, spots, axons, strict=True)
    ]
    return Placement(profile.name, chips, tuple(placed))


def _refuse_walls(report: FitReport, profile: Profile) -> None:
    """Raise for a limit that no number of cores can mend; cores themselves are counted after cutting."""
    walls = [r for r in report.violations if r.least > r.have]
    if walls:
        more = f"{len(walls) - 1} more limits are exceeded; 'snnergy check' lists them" if len(walls) > 1 else None
        raise DoesNotFit(_wall(walls[0].population, walls[0].limit, walls[0].least, walls[0].have, profile), more)


def _wall(owner: str, name: str, need: int, have: int, profile: Profile) -> str:
    says = {
        "weight_bits": f"the weights take {need} bits, {profile.name} stores {have}",
        "state_bits": f"the membranes take {need} bits, {profile.name} has {have}",
        "spike_bits": f"input '{owner}' sends {need}-bit values, {profile.name} carries {have}-bit spikes",
        "max_delay": f"layer '{owner}' needs a delay of {need} steps, {profile.name} has {have}",
    }
    one = (
        f"one neuron of layer '{owner}' needs {need:,} {name.replace('_', ' ')}, a core of {profile.name} has {have:,}"
    )
    return f"{says.get(name, one)}: {ADVICE[name]}"


def _too_many(cores: dict[str, list[int]], tightest: dict[str, str], need: int, chips: int, profile: Profile) -> str:
    largest = max(cores, key=lambda name: len(cores[name]))
    have = f"{profile.name} has" if chips == 1 else f"{chips} chips of {profile.name} have"
    return (
        f"the network needs {need:,} cores, {have} {chips * profile.chip.cores.whole:,}; the largest is "
        f"layer '{largest}' with {len(cores[largest]):,} cores: {ADVICE[tightest[largest]]}"
    )
