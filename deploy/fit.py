"""What a slice of neurons takes of a core, and whether a network can fit a chip: one row a population and limit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, prod

import numpy as np
from numpy.typing import NDArray

from snnergy.deploy.fanout import FanIn, fan_in
from snnergy.deploy.schedule import Schedule
from snnergy.export.maps import Conv, Dense, Map
from snnergy.export.net import Net, Population, Projection, incoming
from snnergy.export.quantnet import DECAY_ONE, STATE_LIMIT, QuantNet, QuantPopulation, QuantProjection
from snnergy.hardware_profiles import CoreLimits, Profile

I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

LIMITS = ("neurons", "synapse_bytes", "in_axons", "out_axons", "groups", "accumulator_slots")
"""What a core runs out of, in the order in which it is reported; each is a field of the profile's CoreLimits."""
STATE_BITS = STATE_LIMIT.bit_length() + 1
"""Width of the membranes that every network is quantised to."""
ADVICE = {
    "neurons": "make it smaller, or allow more chips",
    "synapse_bytes": "prune it or lower --weight-bits",
    "in_axons": "lower its fan-in (smaller kernel, fewer input channels) or prune it",
    "out_axons": "lower its fan-out or prune the layers it feeds",
    "groups": "allow more chips",
    "accumulator_slots": "shorten the skip connections that end in it",
    "weight_bits": "lower --weight-bits",
    "state_bits": "choose a chip with wider state",
    "spike_bits": "encode this input as spikes; --input-bits 1 says that it is",
    "max_delay": "shorten the skip connections that end in it",
    "cores": "make the network smaller, or allow more chips",
}


def limit(core: CoreLimits, name: str) -> int | None:
    """The profile's limit of that name; None where it states none, or where profiles have no such limit yet."""
    quantity = getattr(core, name, None)
    return None if quantity is None else quantity.whole


def synapse_bytes(linear: Map, neurons: I64, reach: FanIn, weight_bits: int, core: CoreLimits) -> int:
    """Bytes of synaptic memory that ``neurons`` (outputs of the map, of fan-in ``reach``) take on their core.

    A list is a header and its non-zero weights, rounded up to whole words. Dense and sparse maps store one list per
    input that reaches the core. A convolution stores its kernel once per core, one list per output channel held:
    weight sharing as in Loihi 2's convolutional connectivity (Intel's Loihi 2 technology brief) and in NxTF
    (Rueckauer et al. 2021, arXiv:2101.04261). Not counted: microcode, neuron state, routing tables.
    """
    if isinstance(linear, Conv):
        channels = np.unique(neurons // prod(linear.output_shape[1:]))
        return list_bytes(np.count_nonzero(linear.weight[channels], axis=(1, 2, 3)), weight_bits, core)
    return list_bytes(reach.synapses, weight_bits, core)


def bytes_of_lists(synapses: NDArray[np.integer], weight_bits: int, core: CoreLimits) -> I64:
    """int64, bytes of each list of so many synapses: whole words, an empty list none. Without words, whole bytes."""
    word = 8 * (limit(core, "synapse_word_bytes") or 1)
    bits = 8 * (limit(core, "synapse_header_bytes") or 0) + synapses * weight_bits
    return np.where(synapses > 0, -(-bits // word) * (word // 8), 0)


def list_bytes(synapses: NDArray[np.integer], weight_bits: int, core: CoreLimits) -> int:
    """Bytes of all these lists together."""
    return int(bytes_of_lists(synapses, weight_bits, core).sum())


def slots(neurons: int, population: str, net: QuantNet, schedule: Schedule | None) -> int:
    """Dendrite accumulator slots: ``neurons * (1 + longest delay of a projection that ends here)``."""
    delays = schedule.delays if schedule else (0,) * len(net.projections)
    here = (d for e, d in zip(net.projections, delays, strict=True) if e.target == population)
    return neurons * (1 + max(here, default=0))


@dataclass(frozen=True, eq=False)
class Feed:
    """One projection into a population. lists: int64[k], synapses of each list stored; one: what its one neuron has."""

    source: str
    map: Map
    lists: I64
    one: FanIn

    @property
    def one_lists(self) -> I64:
        """int64[k], synapses of each list that the one neuron needs: of a convolution its channel's kernel."""
        return np.array([self.one.synapses.sum()]) if isinstance(self.map, Conv) else self.one.synapses


@dataclass(frozen=True, eq=False)
class Layer:
    """What one population takes of any chip, counted from its non-zero weights; *the one* has most synapses of all.

    neurons: how many; sending: how many of them reach anybody; inputs: distinct sources that reach any of them
    splits:  a readout in parts (``split``): no two inputs of a neuron need the same core
    """

    name: str
    neurons: int
    sending: int
    inputs: int
    feeds: tuple[Feed, ...]
    splits: bool = False

    @property
    def inputs_of_one(self) -> int:
        """Distinct sources that must reach the one on one core."""
        if self.splits:
            return min(self.inputs, 1)
        sources: dict[str, list[I64]] = {}
        for feed in self.feeds:
            sources.setdefault(feed.source, []).append(feed.one.sources)
        return sum(np.unique(np.concatenate(found)).size for found in sources.values())

    @property
    def fan_in(self) -> int:
        """Synapses of the one."""
        return sum(int(feed.one.synapses.sum()) for feed in self.feeds)

    def synapse_bytes(self, weight_bits: int, core: CoreLimits, percent: int = 100) -> tuple[int, int]:
        """Bytes of all its lists, each stored once, and of those that the one needs; ``percent`` of the weights left.

        Pruned are the weights of a list, or where one neuron has a list an input, whole lists.
        """
        whole = one = 0
        for feed in self.feeds:
            whole += list_bytes(-(-feed.lists * percent // 100), weight_bits, core)
            if isinstance(feed.map, Conv):
                left = -(-feed.one_lists * percent // 100)
            else:
                left = feed.one_lists[: -(-feed.one_lists.size * percent // 100)]
            needs = list_bytes(left[:1] if self.splits else left, weight_bits, core)
            one = max(one, needs) if self.splits else one + needs
        return whole, one


def adds_up(p: Population | QuantPopulation, net: Net | QuantNet) -> bool:
    """Whether a population only sums its inputs up for the host, so that parts of it add up to the same."""
    keeps, holds = (0, DECAY_ONE) if isinstance(p, QuantPopulation) else (1.0, 0.0)
    sums = not p.spiking and bool((p.decay == keeps).all() and (p.current_decay == holds).all())
    return sums and p.name in net.outputs and all(e.source != p.name for e in net.projections)


def layers(net: Net | QuantNet) -> tuple[Layer, ...]:
    """Count every population, convolutions from their kernels, without unrolling them.

    Of a population that a convolution feeds, the one is looked for in the middle of every channel.
    """
    shapes = {n.name: n.shape for n in (*net.sources, *net.populations)}
    sends = {name: np.zeros(prod(shape), np.bool_) for name, shape in shapes.items()}
    reached: dict[str, int] = {}
    lists: dict[int, I64] = {}
    feeds: dict[str, list[Projection | QuantProjection]] = incoming(net.projections)
    for target, edges in feeds.items():
        inputs: dict[str, Bools] = {}
        for e in edges:
            lists[id(e)], reach = _lists(e.map)
            sends[e.source] |= reach
            inputs[e.source] = inputs[e.source] | reach if e.source in inputs else reach
        reached[target] = sum(int(np.count_nonzero(reach)) for reach in inputs.values())
    found: list[Layer] = []
    for p in net.populations:
        edges = feeds.get(p.name, [])
        one = _one([e.map for e in edges], [lists[id(e)] for e in edges])
        counted = (Feed(e.source, e.map, lists[id(e)], fan_in(e.map, np.array([one]))) for e in edges)
        sending = int(np.count_nonzero(sends[p.name]))
        found.append(Layer(p.name, prod(p.shape), sending, reached.get(p.name, 0), tuple(counted), adds_up(p, net)))
    return tuple(found)


def _lists(linear: Map) -> tuple[I64, Bools]:
    """Synapses of each list that is stored, one per output channel or input; and bool[n_in], the inputs that reach."""
    if isinstance(linear, Conv):
        used = linear.weight != 0
        return np.count_nonzero(used, axis=(1, 2, 3)), _window(linear, used)
    if isinstance(linear, Dense):
        counts = np.count_nonzero(linear.weight, axis=0)
    else:
        counts = np.bincount(linear.weight.indices[linear.weight.data != 0], minlength=linear.weight.shape[1])
    return counts, counts > 0


def _window(conv: Conv, used: Bools) -> Bools:
    """bool[n_in], the inputs that any output reads: a product of the kernel's pattern with the taps of either axis."""
    c_out, per_group, k_h, k_w = used.shape
    kernel = used.reshape(conv.groups, c_out // conv.groups, per_group, k_h * k_w).any(axis=1).reshape(-1, k_h * k_w)
    patterns, which = np.unique(kernel, axis=0, return_inverse=True)
    read = [np.zeros((k, n), np.float32) for k, n in zip((k_h, k_w), conv.input_shape[1:], strict=True)]
    for axis in (0, 1):
        for k, (_, inputs) in enumerate(conv.taps(axis)):
            read[axis][k, inputs] = 1
    seen = read[0].T @ (patterns.reshape(-1, k_h, k_w).astype(np.float32) @ read[1])
    return (seen > 0)[which.ravel()].ravel()


def _one(maps: Sequence[Map], lists: Sequence[I64]) -> int:
    """The neuron with most synapses, over all maps that end in the population."""
    if not maps:
        return 0
    shape = next((m.output_shape for m in maps if isinstance(m, Conv)), None)
    if shape is None:
        return int(np.sum([_synapses(m) for m in maps], axis=0).argmax())
    area = prod(shape[1:])
    middles = np.arange(shape[0]) * area + shape[1] // 2 * shape[2] + shape[2] // 2
    total = np.zeros(shape[0], np.int64)
    for m, counts in zip(maps, lists, strict=True):
        total += counts if isinstance(m, Conv) else _synapses(m)[middles]
    return int(middles[total.argmax()])


def _synapses(linear: Map) -> I64:
    """int64[n_out], synapses into every neuron."""
    if isinstance(linear, Dense):
        return np.count_nonzero(linear.weight, axis=1)
    return np.diff(linear.matrix().indptr).astype(np.int64)


@dataclass(frozen=True)
class FitRow:
    """One population against one limit.

    need:    what the whole population takes; least: what its smallest piece (one neuron) takes
    have:    what one core offers; cores: the fewest cores by this limit alone; percent: of one chip
    advice:  what to do, where the row is violated
    """

    population: str
    limit: str
    need: int
    least: int
    have: int
    cores: int
    percent: float
    ok: bool

    @property
    def advice(self) -> str:
        """What to do about a violated row."""
        return "" if self.ok else ADVICE[self.limit]


@dataclass(frozen=True)
class FitReport:
    """Every row, fitting or not. ``cores`` is a lower bound: a placement can need more, never fewer."""

    profile: str
    rows: tuple[FitRow, ...]
    cores: int

    @property
    def violations(self) -> tuple[FitRow, ...]:
        """The rows that no placement can satisfy."""
        return tuple(r for r in self.rows if not r.ok)

    @property
    def ok(self) -> bool:
        """False means that the network cannot be placed; True that no single limit forbids it."""
        return not self.violations


def check(net: QuantNet, profile: Profile, schedule: Schedule | None = None, chips: int | None = None) -> FitReport:
    """Hold every population against every limit, without placing; all violations at once.

    Splitting a population repeats input axons and shared kernels, so ``cores`` is what the limits demand at least.
    ``rules.py`` says more, of a network that is not quantised; this is what the mapper asks before it begins.
    """
    core, chip = profile.core, profile.chip
    most = (chips or chip.chips_max.whole) * chip.cores.whole
    rows = [*_network_rows(net, profile, schedule)]
    totals = dict.fromkeys(("neurons", "synapse_bytes"), 0)
    for layer in layers(net):
        for name, (whole, least) in _need(layer, net, schedule, core).items():
            have = limit(core, name)
            if have is None:
                continue
            cores = ceil(whole / have)
            percent = 100 * whole / (have * chip.cores.whole)
            rows.append(FitRow(layer.name, name, whole, least, have, cores, percent, least <= have and cores <= most))
            if name in totals:
                totals[name] += whole
    fewest = max((ceil(totals[name] / (limit(core, name) or 1)) for name in totals if limit(core, name)), default=0)
    percent = 100 * fewest / chip.cores.whole
    rows.append(FitRow("network", "cores", fewest, min(fewest, 1), most, fewest, percent, fewest <= most))
    return FitReport(profile.name, tuple(rows), fewest)


def _need(layer: Layer, net: QuantNet, schedule: Schedule | None, core: CoreLimits) -> dict[str, tuple[int, int]]:
    """For each limit: what the whole population takes, and what one neuron takes (the neuron with most synapses)."""
    each = slots(1, layer.name, net, schedule)
    return {
        "neurons": (layer.neurons, 1),
        "synapse_bytes": layer.synapse_bytes(net.weight_bits, core),
        "in_axons": (layer.inputs, layer.inputs_of_one),
        "out_axons": (layer.sending, min(layer.sending, 1)),
        "groups": (1, 1),
        "accumulator_slots": (layer.neurons * each, each),
    }


def _network_rows(net: QuantNet, profile: Profile, schedule: Schedule | None) -> Iterator[FitRow]:
    """Limits that hold for the whole network or for its inputs, and that no number of cores can mend."""
    wanted = [("network", "weight_bits", net.weight_bits), ("network", "state_bits", STATE_BITS)]
    wanted += [(s.name, "spike_bits", s.bits) for s in net.sources]
    if schedule:
        longest: dict[str, int] = {}
        for e, delay in zip(net.projections, schedule.delays, strict=True):
            longest[e.target] = max(longest.get(e.target, 0), delay)
        wanted += [(name, "max_delay", delay) for name, delay in longest.items()]
    for owner, name, need in wanted:
        have = limit(profile.core, name)
        if have is not None:
            yield FitRow(owner, name, need, need, have, 0, 100 * need / max(have, 1), need <= have)
