"""Is a placement legal, and a schedule right? Recounted from the synapses, one by one, apart from the mapper.

``place`` counts without unrolling, shares what it can and fills in ``Core.usage``; nothing of that is believed here.
Every projection is unrolled to its matrix, every limit is counted by its definition, and one event is followed along
every path. That takes memory in proportion to the synapses, so very large networks are placed without a recount: see
``WORTH``.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from snnergy.deploy.placement import Placement, Slice
from snnergy.deploy.schedule import Schedule
from snnergy.deploy.tiles import Box
from snnergy.export.maps import Conv
from snnergy.export.net import count_synapses
from snnergy.export.quantnet import QuantNet, QuantProjection
from snnergy.hardware_profiles import Profile

I64 = NDArray[np.int64]

WORTH = 20_000_000
"""Most synapses for which ``enforce`` recounts: half a second."""
STATE_BITS = 24
"""Width of the membrane and the current that a QuantNet computes with."""


def enforce(net: QuantNet, schedule: Schedule, profile: Profile, placement: Placement) -> bool:
    """Raise AssertionError with every violation; False where the network is too large for a recount."""
    if count_synapses(net.projections) > WORTH:
        return False
    found = violations(net, schedule, profile, placement)
    assert not found, "; ".join(found)
    return True


def violations(net: QuantNet, schedule: Schedule, profile: Profile, placement: Placement) -> list[str]:
    """One line for everything that a chip of this profile could not do; empty where the mapping is legal."""
    return [
        *_network(net, schedule, profile),
        *_timing(net, schedule),
        *_seats(profile, placement),
        *_homes(net, placement),
        *_cores(net, schedule, profile, placement),
    ]


def _network(net: QuantNet, schedule: Schedule, profile: Profile) -> Iterator[str]:
    """Limits that hold wherever a neuron sits."""
    core = profile.core
    if core.weight_bits and net.weight_bits > core.weight_bits.whole:
        yield f"weights have {net.weight_bits} bits, {profile.name} stores {core.weight_bits.whole}"
    if core.state_bits and core.state_bits.whole < STATE_BITS:
        yield f"states have {STATE_BITS} bits, {profile.name} has {core.state_bits.whole}"
    for p in net.populations:
        if p.programmed and not profile.programmable:
            yield f"{p.name} does not reset to 0, as all neurons of {profile.name} do"
    for s in net.sources:
        if core.spike_bits and s.bits > core.spike_bits.whole:
            yield f"{s.name} sends {s.bits} bits, {profile.name} carries {core.spike_bits.whole}"
    for e, delay in zip(net.projections, schedule.delays, strict=True):
        most = core.max_delay.whole if core.max_delay else delay
        if not 0 <= delay <= most:
            yield f"{e.source} -> {e.target} has delay {delay}, {profile.name} has 0 .. {most}"


def _timing(net: QuantNet, schedule: Schedule) -> Iterator[str]:
    """Follow one event along every path: hardware's clock less the network's must be the same on all, and the depth.

    Over an edge hardware's clock goes on by one step and the delay it was given, the network's by the delay it means.
    """
    leaves: dict[str, list[tuple[str, int]]] = {}
    for e, delay in zip(net.projections, schedule.delays, strict=True):
        leaves.setdefault(e.source, []).append((e.target, 1 + delay - e.delay))
    lag: dict[str, int] = {}
    starts = {s.name: 0 for s in net.sources} | {p.name: schedule.depth[p.name] for p in net.populations}
    for name, start in starts.items():  # what no source reaches starts by itself
        todo = [] if name in lag else [name]
        lag.setdefault(name, start)
        while todo:
            here = todo.pop()
            for target, more in leaves.get(here, ()):
                if target not in lag:
                    lag[target] = lag[here] + more
                    todo.append(target)
                elif lag[target] != lag[here] + more:
                    yield f"{target} is reached {lag[target]} steps late on one path, {lag[here] + more} over {here}"
    for name, steps in lag.items():
        if schedule.depth[name] != steps or steps < 0:
            yield f"{name} is reached {steps} steps late, its depth is {schedule.depth[name]}"


def _seats(profile: Profile, placement: Placement) -> Iterator[str]:
    """Cores that do not exist, exist twice, or sit elsewhere: routers are numbered in a snake from (0, 0)."""
    chip = profile.chip
    width, height, each = chip.mesh_width.whole, chip.mesh_height.whole, chip.cores_per_router.whole
    taken: set[tuple[int, int]] = set()
    for c in placement.cores:
        who = f"chip {c.chip} core {c.core}"
        if not (0 <= c.chip < placement.chips and 0 <= c.core < chip.cores.whole):
            yield f"{who} does not exist: chips {placement.chips}, cores {chip.cores.whole} each"
        if (c.chip, c.core) in taken:
            yield f"{who} is used twice"
        taken.add((c.chip, c.core))
        row, column = divmod(c.core // each, width)
        seat = (column if row % 2 == 0 else width - 1 - column, row)
        if (c.x, c.y) != seat or row >= height:
            yield f"{who} sits at ({c.x}, {c.y}), its router is at {seat} of {width} x {height}"


def _homes(net: QuantNet, placement: Placement) -> Iterator[str]:
    """Neurons that sit nowhere, twice, or do not exist."""
    size = {p.name: prod(p.shape) for p in net.populations}
    held = {name: np.zeros(n, np.int64) for name, n in size.items()}
    for c in placement.cores:
        for s in c.slices:
            if s.tile is not None and (wrong := _tile(s)):
                yield f"chip {c.chip} core {c.core} holds a tile of {s.population} {wrong}"
            if s.population not in size or s.neurons.min() < 0 or s.neurons.max() >= size[s.population]:
                yield f"chip {c.chip} core {c.core} holds neurons that {s.population} does not have"
            else:
                np.add.at(held[s.population], s.neurons, 1)
    for name, times in held.items():
        for neuron in np.flatnonzero(times != 1)[:1]:
            yield f"neuron {neuron} of {name} sits on {times[neuron]} cores"


def _tile(s: Slice) -> str:
    """What is wrong with a fixed-size tile: it holds all of it that is in the population, and no neuron elsewhere."""
    if not isinstance(s.held, Box) or s.tile is None:
        return "that is no box"
    ends = zip(s.held.low, s.held.high, s.tile.low, s.tile.high, s.tile.shape, strict=True)
    inside = s.held.shape == s.tile.shape and all(a == c and b == min(d, n) for a, b, c, d, n in ends)
    return "" if inside and s.tile.high[0] <= s.tile.shape[0] else "whose neurons are not those inside it"


def _cores(net: QuantNet, schedule: Schedule, profile: Profile, placement: Placement) -> Iterator[str]:
    """Every limit of every core, and whether the placement says the same."""
    for index, (core, used) in enumerate(zip(placement.cores, usage(net, schedule, profile, placement), strict=True)):
        who = f"chip {core.chip} core {core.core}"
        for name, amount in used.items():
            limit = getattr(profile.core, name)
            if limit is not None and amount > limit.whole:
                yield f"{who} holds {amount} {name.replace('_', ' ')}, allowed {limit.whole}"
            if core.usage.get(name) != amount:
                yield f"{who} says {core.usage.get(name)} {name.replace('_', ' ')}, it is {amount}"
        if not used["neurons"]:
            yield f"{who} (number {index}) is empty"


def usage(net: QuantNet, schedule: Schedule, profile: Profile, placement: Placement) -> list[dict[str, int]]:
    """What every core really holds, by the profile's limits.

    neurons           that sit there, and the slots of fixed-size tiles that hold none
    synapse_bytes     lists of a header and their non-zero weights, in whole words: of a convolution one per output
                      channel on the core, of any other map one per input neuron with a synapse to the core
    in_axons          neurons, of sources too, with a synapse to the core
    out_axons         pairs of a neuron that sits there and a core it has a synapse to
    groups            populations
    accumulator_slots for every neuron one, and one for each step of the longest delay of what feeds it
    """
    cores = len(placement.cores)
    home = _indicators(net, placement)
    sends = {n.name: csr_array((prod(n.shape), cores), dtype=np.int64) for n in (*net.sources, *net.populations)}
    memory = np.zeros(cores, np.int64)
    longest = {p.name: 0 for p in net.populations}
    for e, delay in zip(net.projections, schedule.delays, strict=True):
        joined = csr_array(e.map.matrix() != 0, dtype=np.int64)
        reached = home[e.target] @ joined  # [cores, inputs]: synapses
        sends[e.source] = sends[e.source] + csr_array(reached.T)
        memory += _bytes(e, home[e.target], reached, net.weight_bits, profile)
        longest[e.target] = max(longest[e.target], delay)
    neurons = {name: here.sum(axis=1) for name, here in home.items()}
    for i, core in enumerate(placement.cores):
        for s in core.slices:
            if s.tile is not None and s.population in neurons:
                neurons[s.population][i] += s.tile.size - s.neurons.size
    total = sum(neurons.values(), np.zeros(cores, np.int64))
    axons_in = sum((_ones(pairs).sum(axis=0) for pairs in sends.values()), np.zeros(cores, np.int64))
    axons_out = sum((here @ _ones(sends[name]).sum(axis=1) for name, here in home.items()), np.zeros(cores, np.int64))
    slots = sum((count * (1 + longest[name]) for name, count in neurons.items()), np.zeros(cores, np.int64))
    groups = sum(((count > 0).astype(np.int64) for count in neurons.values()), np.zeros(cores, np.int64))
    return [
        {
            "neurons": int(total[i]),
            "synapse_bytes": int(memory[i]),
            "in_axons": int(axons_in[i]),
            "out_axons": int(axons_out[i]),
            "groups": int(groups[i]),
            "accumulator_slots": int(slots[i]),
        }
        for i in range(cores)
    ]


def _indicators(net: QuantNet, placement: Placement) -> dict[str, csr_array]:
    """Population -> int64[cores, n], 1 where the neuron sits on the core; neurons that do not exist are left out."""
    result: dict[str, csr_array] = {}
    for p in net.populations:
        n = prod(p.shape)
        here = [(i, s.neurons) for i, c in enumerate(placement.cores) for s in c.slices if s.population == p.name]
        rows = np.concatenate([np.full(k.size, i) for i, k in here] or [np.zeros(0, np.int64)])
        columns = np.concatenate([k for _, k in here] or [np.zeros(0, np.int64)])
        real = (columns >= 0) & (columns < n)
        where = (rows[real], columns[real])
        result[p.name] = _ones(csr_array((np.ones(where[0].size, np.int64), where), shape=(len(placement.cores), n)))
    return result


def _ones(pairs: csr_array) -> csr_array:
    """1 wherever an entry is not 0, each once."""
    return csr_array(pairs != 0, dtype=np.int64)


def _bytes(e: QuantProjection, home: csr_array, reached: csr_array, bits: int, profile: Profile) -> I64:
    """int64[cores], bytes of the lists of one projection. A profile without words has bytes, without headers none."""
    core = profile.core
    header = core.synapse_header_bytes.whole if core.synapse_header_bytes else 0
    word = core.synapse_word_bytes.whole if core.synapse_word_bytes else 1
    if isinstance(e.map, Conv):
        channels, pixels = e.map.output_shape[0], prod(e.map.output_shape[1:])
        kernel = [int(np.count_nonzero(e.map.weight[c])) for c in range(channels)]
        here = home.toarray()
        holds = here.reshape(len(here), channels, pixels).any(axis=2)
        lists = csr_array(holds * np.array(kernel))
    else:
        lists = reached
    words = csr_array(
        (-(-(8 * header + lists.data * bits) // (8 * word)) * (lists.data > 0), lists.indices, lists.indptr),
        lists.shape,
    )
    return np.asarray(words.sum(axis=1), np.int64) * word
