"""What a slice of neurons takes of a core, and whether a network can fit a chip: one row a population and limit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, prod

import numpy as np
from numpy.typing import NDArray

from snnergy.deploy.fanout import FanIn, fan_in
from snnergy.deploy.schedule import Schedule
from snnergy.export.maps import Conv, Map
from snnergy.export.net import incoming
from snnergy.export.quantnet import QuantNet, QuantPopulation, QuantProjection
from snnergy.hardware_profiles import CoreLimits, Profile

I64 = NDArray[np.int64]

LIMITS = ("neurons", "synapse_bytes", "in_axons", "out_axons", "groups", "accumulator_slots")
"""What a core runs out of, in the order in which it is reported; each is a field of the profile's CoreLimits."""
ADVICE = {
    "neurons": "make it smaller, or allow more chips",
    "synapse_bytes": "prune it or lower --weight-bits",
    "in_axons": "lower its fan-in (smaller kernel, fewer input channels) or prune it",
    "out_axons": "lower its fan-out or prune the layers it feeds",
    "groups": "allow more chips",
    "accumulator_slots": "shorten the skip connections that end in it",
    "weight_bits": "lower --weight-bits",
    "state_bits": "choose a chip with wider state",
    "spike_bits": "encode this input as spikes",
    "max_delay": "shorten the skip connections that end in it",
    "cores": "make the network smaller, or allow more chips",
}


def limit(core: CoreLimits, name: str) -> int | None:
    """The profile's limit of that name; None where there is none."""
    quantity = getattr(core, name)
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
        counts = np.count_nonzero(linear.weight[channels], axis=(1, 2, 3))
    else:
        counts = reach.synapses
    word = 8 * core.synapse_word_bytes.whole
    bits = 8 * core.synapse_header_bytes.whole + counts[counts > 0] * weight_bits
    return int((-(-bits // word)).sum()) * core.synapse_word_bytes.whole


def slots(neurons: int, population: str, net: QuantNet, schedule: Schedule | None) -> int:
    """Dendrite accumulator slots: ``neurons * (1 + longest delay of a projection that ends here)``."""
    delays = schedule.delays if schedule else (0,) * len(net.projections)
    here = (d for e, d in zip(net.projections, delays, strict=True) if e.target == population)
    return neurons * (1 + max(here, default=0))


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
    """
    core, chip = profile.core, profile.chip
    most = (chips or chip.chips_max.whole) * chip.cores.whole
    rows = [*_network_rows(net, profile, schedule)]
    feeds = incoming(net.projections)
    totals = dict.fromkeys(("neurons", "synapse_bytes"), 0)
    for p in net.populations:
        outgoing = [e for e in net.projections if e.source == p.name]
        need = _need(p, feeds.get(p.name, []), outgoing, net, schedule, core)
        for name, (whole, least) in need.items():
            have = limit(core, name)
            if have is None:
                continue
            cores = ceil(whole / have)
            percent = 100 * whole / (have * chip.cores.whole)
            rows.append(FitRow(p.name, name, whole, least, have, cores, percent, least <= have and cores <= most))
            if name in totals:
                totals[name] += whole
    fewest = max((ceil(totals[name] / (limit(core, name) or 1)) for name in totals), default=0)
    percent = 100 * fewest / chip.cores.whole
    rows.append(FitRow("network", "cores", fewest, min(fewest, 1), most, fewest, percent, fewest <= most))
    return FitReport(profile.name, tuple(rows), fewest)


def _need(
    p: QuantPopulation,
    feeds: list[QuantProjection],
    outgoing: list[QuantProjection],
    net: QuantNet,
    schedule: Schedule | None,
    core: CoreLimits,
) -> dict[str, tuple[int, int]]:
    """For each limit: what the whole population takes, and what one neuron takes (the neuron with most inputs)."""
    n = prod(p.shape)
    everyone = np.arange(n)
    sources: dict[str, list[I64]] = {}
    whole_bytes = least_bytes = least_axons = 0
    for e in feeds:
        all_in = fan_in(e.map, everyone)
        sources.setdefault(e.source, []).append(all_in.sources)
        whole_bytes += synapse_bytes(e.map, everyone, all_in, net.weight_bits, core)
        one = np.array([_busiest(e.map)])
        one_in = fan_in(e.map, one)
        least_bytes = max(least_bytes, synapse_bytes(e.map, one, one_in, net.weight_bits, core))
        least_axons = max(least_axons, one_in.sources.size)
    reached = [fan_in(e.map, np.arange(prod(e.map.output_shape))).sources for e in outgoing]
    sending = np.unique(np.concatenate(reached)).size if reached else 0
    slots_each = slots(1, p.name, net, schedule)
    return {
        "neurons": (n, 1),
        "synapse_bytes": (whole_bytes, least_bytes),
        "in_axons": (sum(np.unique(np.concatenate(s)).size for s in sources.values()), least_axons),
        "out_axons": (sending, min(sending, 1)),
        "groups": (1, 1),
        "accumulator_slots": (n * slots_each, slots_each),
    }


def _busiest(linear: Map) -> int:
    """An output with the most inputs: for a convolution the middle of the channel with most weights."""
    if isinstance(linear, Conv):
        channel = int(np.count_nonzero(linear.weight, axis=(1, 2, 3)).argmax())
        _, h, w = linear.output_shape
        return (channel * h + h // 2) * w + w // 2
    if hasattr(linear.weight, "indptr"):
        return int(np.diff(linear.matrix().indptr).argmax())
    return int(np.count_nonzero(np.asarray(linear.weight), axis=1).argmax())


def _network_rows(net: QuantNet, profile: Profile, schedule: Schedule | None) -> Iterator[FitRow]:
    """Limits that hold for the whole network or for its inputs, and that no number of cores can mend."""
    wanted = [("network", "weight_bits", net.weight_bits), ("network", "state_bits", 24)]
    wanted += [(s.name, "spike_bits", s.bits) for s in net.sources]
    if schedule:
        longest: dict[str, int] = {}
        for e, delay in zip(net.projections, schedule.delays, strict=True):
            longest[e.target] = max(longest.get(e.target, 0), delay)
        wanted += [(name, "max_delay", delay) for name, delay in longest.items()]
    for owner, name, need in wanted:
        have = limit(profile.core, name)
        assert have is not None
        yield FitRow(owner, name, need, need, have, 0, 100 * need / max(have, 1), need <= have)
