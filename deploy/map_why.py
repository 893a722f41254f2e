"""Why a population sits where it sits: what would happen with a tile less, with whom it shares, to whom it talks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from math import inf, prod

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from snnergy.deploy.demand import Demand, Tile, measured
from snnergy.deploy.fanout import destinations
from snnergy.deploy.fit import LIMITS, layers, limit
from snnergy.deploy.mapped import Mapped
from snnergy.deploy.rules import title
from snnergy.deploy.split import PART
from snnergy.deploy.tiles import Box, Sums, cut, grid
from snnergy.deploy.units import si
from snnergy.export.quantnet import QuantPopulation


class Why:
    """Says of a population why it sits where it sits; of its size, from what would happen with a tile less."""

    def __init__(self, m: Mapped) -> None:
        self._m, self._rates = m, measured(m.activity)
        homes = {p.name: m.homes(p.name) for p in m.net.populations}
        self._at = {name: [index for index, _ in found] for name, found in homes.items()}
        self._slices = {name: [s.neurons for _, s in found] for name, found in homes.items()}
        width = m.profile.chip.mesh_width.whole
        self._xy = np.array([(core.chip * width + core.x, core.y) for core in m.placement.cores])

    def of(self, p: QuantPopulation) -> list[str]:
        """Sentences: how many tiles, with whom, to whom; and of a part of a readout, why it is one."""
        sent = {e.target: self._sent(p, e.target) for e in self._m.net.projections if e.source == p.name}
        reached = csr_array((prod(p.shape), len(self._xy)), dtype=np.int64)
        for to, _, _ in sent.values():
            reached = reached + to
        fan_out = np.diff(csr_array(reached).indptr).reshape(grid(p.shape))
        return [*self._part(p), *self._size(p, fan_out), self._company(p), self._talk(p, sent)]

    def _sent(self, p: QuantPopulation, target: str) -> tuple[csr_array, float, float]:
        """int64[n, cores], where spikes of each neuron go; messages in a mean step, and the hops of them all."""
        net, size = self._m.net, prod(p.shape)
        edges = tuple(e for e in net.projections if (e.source, e.target) == (p.name, target))
        to = destinations(replace(net, projections=edges), p.name, size, self._slices, self._at, len(self._xy))
        home = np.zeros(size, np.int64)
        for index, neurons in zip(self._at[p.name], self._slices[p.name], strict=True):
            home[neurons] = index
        pairs = to.tocoo()
        rate = self._rates.spikes[p.name][pairs.row]
        hops = np.abs(self._xy[home[pairs.row]] - self._xy[pairs.col]).sum(axis=1)
        return to, float(rate.sum()), float(rate @ hops)

    def _size(self, p: QuantPopulation, fan_out: NDArray[np.int64]) -> Iterator[str]:
        m, homes = self._m, [s for _, s in self._m.homes(p.name)]
        boxes = [s.held for s in homes if isinstance(s.held, Box)]
        if len(boxes) < len(homes):
            yield f"Dealt over {len(homes)} cores, so that none is busy while others wait."
            return
        if any(s.tile for s in homes):
            unused = sum(s.slots - s.size for s in homes)
            yield f"{len(homes)} tiles of one size; {unused:,} of their slots hold no neuron."
            return
        demand = Demand(p, m.net, m.schedule, m.profile, self._rates, Sums(fan_out))
        have = {name: most for name in LIMITS if (most := limit(m.profile.core, name))}
        slowest = float(m.busy_ns.max())
        against = f", the slowest core takes {si(slowest, 'ns')}"
        if len(boxes) == 1:
            tile = demand.tile(boxes[0])
            name = max(have, key=lambda name: (name != "groups", tile.usage[name] / have[name]))
            takes = f", it takes {si(_busiest_ns([tile]), 'ns')}{against}" if slowest else ""
            yield f"1 tile: {title(name)} {tile.usage[name]:,} of {have[name]:,}{takes}."
            return
        channels, longest, tiles = _blocks(boxes), 0.0, list[Tile]()
        for most_ns in (inf, slowest or inf):
            weight = demand.weight(have.get("neurons", prod(p.shape)), most_ns)
            tiles = [demand.tile(box) for box in _one_fewer(boxes, channels, weight)]
            longest = _busiest_ns(tiles)
            if over := _over(tiles, have):
                yield f"{len(boxes)} tiles: with {len(tiles)}, {over}."
                break
        else:
            would = " the busiest would take" if longest > slowest else ", which would do, the busiest takes"
            says = f"{would} {si(longest, 'ns')}{against}" if slowest else " no limit would be passed"
            yield f"{len(boxes)} tiles: with {len(tiles)}{says}."
        if len(channels) > 1 and (
            over := _over([demand.tile(_pixel(box)) for box in _merged(boxes[0], channels)], have)
        ):
            yield f"{len(channels)} blocks of channels: with {len(channels) - 1}, one pixel has {over}."

    def _company(self, p: QuantPopulation) -> str:
        mine = set(self._at[p.name])
        shared = {name: mine & set(at) for name, at in self._at.items() if name != p.name and mine & set(at)}
        if not shared:
            return "It shares no core."
        some = len(set().union(*shared.values()))
        cores = f"{some} of its {len(mine)} cores" if some < len(mine) else "its core" if some == 1 else "all its cores"
        return f"It shares {cores} with {_listed(list(shared))}."

    def _talk(self, p: QuantPopulation, sent: dict[str, tuple[csr_array, float, float]]) -> str:
        total = sum(messages for _, messages, _ in sent.values())
        if not total:
            if p.name in self._m.net.outputs and not sent:
                return "The host reads it."
            return "It sends nothing." if sent else "Nobody reads it."
        most = max(sent, key=lambda name: sent[name][1])
        _, messages, hops = sent[most]
        says, of = ("Most", f" of {si(total, '')}") if len(sent) > 1 else ("All its", "")
        return f"{says} messages go to {most}: {si(messages, '')}{of} a step, {hops / messages:.1f} hops each."

    def _part(self, p: QuantPopulation) -> Iterator[str]:
        before, bits, core = self._m.before, self._m.net.weight_bits, self._m.profile.core
        whole_one = p.name.rpartition(PART)[0]
        if p.name in {q.name for q in before.populations} or not whole_one:
            return
        layer = next(found for found in layers(before) if found.name == whole_one)
        need = {"in_axons": layer.inputs, "synapse_bytes": layer.synapse_bytes(bits, core)[0]}
        over = [f"{title(n)} {k:,} > {most:,}" for n, k in need.items() if (most := limit(core, n)) and k > most]
        parts = sum(q.name.startswith(whole_one + PART) for q in self._m.net.populations)
        reason = f": {' and '.join(over)} of a core" if over else ""
        yield f"One of {parts} parts of readout {whole_one}, which the host adds up{reason}."


def _listed(names: list[str]) -> str:
    if len(names) > 4:
        names = [*names[:3], f"{len(names) - 3} more"]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _blocks(boxes: Sequence[Box]) -> list[tuple[int, int]]:
    """The blocks of channels that a population was cut into before its rows and columns were."""
    found = sorted({(box.low[0], box.high[0]) for box in boxes})
    one_after_the_other = all(a[1] == b[0] for a, b in pairwise(found))
    return found if boxes[0].shape[1] * boxes[0].shape[2] > 1 and one_after_the_other else [(0, boxes[0].shape[0])]


def _block(box: Box, low: int, high: int) -> Box:
    """These channels of the population that the box is of."""
    return Box(box.shape, (low, 0, 0), (high, *box.shape[1:]))


def _merged(box: Box, channels: Sequence[tuple[int, int]]) -> list[Box]:
    """One block of channels less, as equal as can be."""
    count, all_of_them = len(channels) - 1, box.shape[0]
    return [_block(box, all_of_them * k // count, all_of_them * (k + 1) // count) for k in range(count)]


def _one_fewer(boxes: Sequence[Box], channels: Sequence[tuple[int, int]], weight: Sums) -> list[Box]:
    """The population as ``Cutter`` would cut it into a tile less, of several blocks of channels in each."""
    if len(channels) == 1:
        return cut(_block(boxes[0], *channels[0]), len(boxes) - 1, weight)
    parts = [sum((box.low[0], box.high[0]) == ends for box in boxes) for ends in channels]
    if max(parts) == 1:
        return _merged(boxes[0], channels)
    every = zip(channels, parts, strict=True)
    return [tile for ends, n in every for tile in cut(_block(boxes[0], *ends), max(n - 1, 1), weight)]


def _pixel(box: Box) -> Box:
    """The one in the middle, with all channels of the box."""
    y, x = box.shape[1] // 2, box.shape[2] // 2
    return Box(box.shape, (box.low[0], y, x), (box.high[0], y + 1, x + 1))


def _busiest_ns(tiles: Sequence[Tile]) -> float:
    return max(max(tile.synops_ns, tile.updates_ns) for tile in tiles)


def _over(tiles: Sequence[Tile], have: dict[str, int]) -> str | None:
    """The limit that a tile passes by most."""
    need = {name: max(tile.usage[name] for tile in tiles) for name in have}
    name = max(have, key=lambda name: need[name] / have[name])
    return f"{title(name)} {need[name]:,} > {have[name]:,} of a core" if need[name] > have[name] else None
