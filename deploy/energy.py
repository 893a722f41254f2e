"""Counters times constants: energy, latency and their intervals. Every number here is an estimate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from snnergy.deploy.counts import Counts
from snnergy.deploy.latency import Loads, binding, loads, terms, times
from snnergy.hardware_profiles import BESIDE_SYNOP, Profile, Quantity

if TYPE_CHECKING:  # pricing what was counted needs nothing of these
    from snnergy.deploy.placement import Placement

F64 = NDArray[np.float64]

STATEMENT = "estimate: no hardware was used"
OPS: dict[str, tuple[tuple[str, str], ...]] = {
    "synops": (("synops", "synop"), ("lists", "list_fetch")),
    "updates": (("updates_active", "update_active"), ("updates_idle", "update_idle")),
    "spikes": (("spikes", "spike"),),
    "messages": (("messages", "message_out"), ("messages", "message_in")),
    "hops": (("hops_ew", "hop_ew"), ("hops_ns", "hop_ns")),
    "interchip": (("interchip", "interchip"),),
    "resets": (("resets", "reset"),),
}
"""Kind of operation -> the counters it adds up and the constant that prices each."""
ENDS = ("low", "nominal", "high")
_WHAT = {
    "energy_pj.synop": "energy of synaptic operations",
    "energy_pj.list_fetch": "energy of fetching lists of synapses",
    "energy_pj.update_active": "energy of updating active neurons",
    "energy_pj.update_idle": "energy of updating idle neurons",
    "energy_pj.spike": "energy of neurons that fire",
    "energy_pj.message_out": "energy of sending messages",
    "energy_pj.message_in": "energy of receiving messages",
    "energy_pj.hop_ew": "energy of hops east and west",
    "energy_pj.hop_ns": "energy of hops north and south",
    "energy_pj.reset": "energy of resets between samples",
    "energy_pj.interchip": "energy of the links between chips",
    "energy_pj.input_byte": "energy of moving inputs to the chip",
    "energy_pj.output_byte": "energy of reading outputs from the chip",
    "time_ns.synop": "time of synaptic operations",
    "time_ns.update_active": "time of updating active neurons",
    "time_ns.update_idle": "time of updating idle neurons",
    "time_ns.spike": "time of neurons that fire",
    "time_ns.link": "time of messages on a link",
    "time_ns.barrier": "time of the barrier that ends a time step",
    "power_mw.chip": "power of the idle chip",
    "power_mw.core": "power of the cores in use",
    "power_mw.host": "power of the embedded host processors",
    "power_mw.io": "power of the interfaces to the outside",
}
"""What a report lacks, where the profile lacks the constant."""
_NO_ENERGY = "dynamic energy: no energy per event is published for this chip"
_NO_TIME = "latency, static and host energy, energy-delay product: no time is published for this chip"
_HELD = {
    "marginal": "updates, spikes, messages, hops and resets by themselves: inside the energy of a synaptic operation",
    "all-in": "updates, spikes, messages, hops, resets and static power by themselves: inside the energy of a synaptic "
    "operation",
}
_NEVER_PRICED = (
    "configuration: loading weights and programs onto the chip",
    "time to move inputs and outputs between host and chip",
    "energy of the barrier that ends a time step, but for what the power of the chip holds of it",
    "the host computer, sensors, encoding of the input, power conversion",
    "padding: unused neurons of fixed-size convolution tiles, unless mapped with --partition fixed or --tiling",
)


@dataclass(frozen=True)
class Interval:
    """A number with what the sources allow; low <= nominal <= high."""

    low: float
    nominal: float
    high: float

    def __add__(self, other: Interval) -> Interval:
        return Interval(self.low + other.low, self.nominal + other.nominal, self.high + other.high)

    def __mul__(self, other: Interval | float) -> Interval:
        """Product of two intervals, neither of them negative."""
        by = other if isinstance(other, Interval) else Interval(other, other, other)
        return Interval(self.low * by.low, self.nominal * by.nominal, self.high * by.high)

    def __str__(self) -> str:
        return f"{self.nominal:.4g} ({self.low:.4g}..{self.high:.4g})"


@dataclass(frozen=True)
class Driver:
    """What the total energy becomes when one constant alone moves to the ends of its range, in pJ per inference."""

    constant: str
    low: float
    high: float
    quantity: Quantity


@dataclass(frozen=True, eq=False)
class EnergyReport:
    """Energy and time of one inference in steady streaming. Start any use of it with STATEMENT.

    energy_pj:  float64[cells, ops, 3], dynamic energy per inference of every cell of ``counts`` (OPS, ENDS)
    step_ns:    one time step, mean over the period; latency_ns: input to last output; period_ns: between two inferences
    bound_by:   the term and the core or link that set the pace of most steps; binding: the same for every step
    tornado:    the constants by how far each moves the total; unpriced: what the total leaves out
    network:    neurons, synapses, populations, projections, depth; parts: source or population -> ``parts``
    """

    profile: Profile
    counts: Counts
    placement: Placement | None
    network: Mapping[str, int]
    energy_pj: F64
    dynamic_pj: Interval
    static_pj: Interval
    host_pj: Interval
    io_pj: Interval
    total_pj: Interval
    step_ns: Interval
    latency_ns: Interval
    period_ns: Interval
    edp_js: Interval
    bound_by: str
    binding: tuple[str, ...]
    tornado: tuple[Driver, ...]
    unpriced: tuple[str, ...]
    parts: Mapping[str, str]

    def per_core(self) -> F64:
        """float64[cores, ops, 3], dynamic energy of every core."""
        total = np.zeros((self.counts.cores, len(OPS), 3))
        np.add.at(total, [cell.core for cell in self.counts.cells], self.energy_pj)
        return total

    def per_layer(self) -> dict[str, F64]:
        """Source or population, in network order -> float64[ops, 3], its dynamic energy over all cores."""
        total = {name: np.zeros((len(OPS), 3)) for name in self.counts.nodes}
        for cell, energy in zip(self.counts.cells, self.energy_pj, strict=True):
            total[cell.node] += energy
        return total

    @property
    def counters(self) -> dict[str, float]:
        """Every counter, per inference, over all cores."""
        return {name: float(values.sum()) / self.counts.samples for name, values in self.counts.by.items()}


def cost(
    counts: Counts,
    profile: Profile,
    placement: Placement | None = None,
    network: Mapping[str, int] | None = None,
    part_of: Mapping[str, str] | None = None,
) -> EnergyReport:
    """Price counters, whoever counted them.

    E_dynamic = sum over cells of synops * e_synop + lists * e_list + active * e_active + idle * e_idle
                + spikes * e_spike + messages * (e_out + e_in) + hops_ew * e_ew + hops_ns * e_ns + resets * e_reset
    E_static  = (P_chip * chips + P_core * cores) * period;  E_host = P_host * chips * period
    E_io      = bytes in * e_input + bytes out * e_output + P_io * chips * period
    t_step    = max(synops, updates + spikes of the busiest core; busiest link; barrier)     low and nominal
              = the sum of those four maxima                                                  high
    period    = sum of t_step over the steps of a sample; latency = (depth + steps) * mean t_step

    Low, nominal and high take the low, value and high of every constant together. The max form is the runtime bound of
    Timcheck et al. 2026 (arXiv:2601.10035); the sum says what holds if nothing overlaps. A constant that the profile
    lacks adds nothing, and ``unpriced`` names it; where it has no time at all, latency, static energy and EDP are 0.
    """
    energy = np.zeros((len(counts.cells), len(OPS), 3))
    for k, counter, ends in prices(profile):
        energy[:, k] += np.outer(counts.by[counter].sum(axis=1) / counts.samples, ends)
    dynamic = Interval(*(float(v) for v in energy.sum(axis=(0, 1))))
    load = loads(counts)
    step = step_ns(load, profile)
    pace = binding(counts, load, {name: q.value for name, q in times(profile.time_ns).items()}, placement)
    period = Interval(*(float(v) for v in step.sum(axis=1)))
    mean_step = period * (1 / counts.steps)
    static, host, io = (power * period for power in power_mw(counts, profile))
    for _, quantity, moved in traffic(counts, profile):
        io += Interval(*_ends(quantity)) * moved
    total = dynamic + static + host + io
    latency = mean_step * float(counts.depth + counts.steps)
    report = EnergyReport(
        profile=profile,
        counts=counts,
        placement=placement,
        network=dict(network or {}),
        energy_pj=energy,
        dynamic_pj=dynamic,
        static_pj=static,
        host_pj=host,
        io_pj=io,
        total_pj=total,
        step_ns=mean_step,
        latency_ns=latency,
        period_ns=period,
        edp_js=total * latency * 1e-21,
        bound_by=max(dict.fromkeys(pace), key=pace.count),
        binding=pace,
        tornado=_tornado(counts, profile, total.nominal),
        unpriced=(*unpriced(profile, counts.chips), *_NEVER_PRICED),
        parts=dict(part_of or {}),
    )
    verify(report)
    return report


def verify(report: EnergyReport) -> None:
    """Raise AssertionError unless the books balance.

    Every number is finite, not negative and inside its interval; cores, layers and operations each add up to the
    dynamic energy, which with static, host and I/O energy is the total; each constant alone moves it around nominal.
    """
    counts, energy = report.counts, report.energy_pj
    assert energy.shape == (len(counts.cells), len(OPS), 3), f"energy of {energy.shape}"
    assert np.isfinite(energy).all() and (energy >= 0).all(), "an energy is negative or not finite"
    assert (np.diff(energy, axis=2) >= 0).all(), "an energy is outside its interval"
    for name in (
        "dynamic_pj",
        "static_pj",
        "host_pj",
        "io_pj",
        "total_pj",
        "step_ns",
        "latency_ns",
        "period_ns",
        "edp_js",
    ):
        value: Interval = getattr(report, name)
        assert 0 <= value.low <= value.nominal <= value.high < np.inf, f"{name} is {value}"
    dynamic = _ends(report.dynamic_pj)
    assert _same(report.per_core().sum(axis=(0, 1)), dynamic), "cores do not add up"
    assert _same(sum(report.per_layer().values(), np.zeros((len(OPS), 3))).sum(axis=0), dynamic), "layers do not add up"
    parts = report.dynamic_pj + report.static_pj + report.host_pj + report.io_pj
    assert report.total_pj == parts, "the total is not the sum"
    assert _same(_ends(report.step_ns * float(counts.steps)), _ends(report.period_ns)), "steps do not fill the period"
    assert len(report.binding) == counts.steps and report.bound_by in report.binding, "no step is bound"
    nominal = report.total_pj.nominal
    for d in report.tornado:
        assert d.low <= nominal * (1 + 1e-9) and d.high >= nominal * (1 - 1e-9), f"{d.constant} moves past nominal"


def _same(a: ArrayLike, b: ArrayLike) -> bool:
    return bool(np.allclose(a, b, rtol=1e-12, atol=0))


def _ends(number: Quantity | Interval) -> tuple[float, float, float]:
    return number.low, number.nominal if isinstance(number, Interval) else number.value, number.high


def prices(profile: Profile) -> Iterator[tuple[int, str, tuple[float, float, float]]]:
    """Every counter that has a price: index into OPS, name, pJ of an event at each of ENDS."""
    for k, counter, quantity in priced(profile):
        yield k, counter, _ends(quantity)


def priced(profile: Profile) -> Iterator[tuple[int, str, Quantity]]:
    """Every counter that has a price: index into OPS, name, and the constant."""
    for k, pairs in enumerate(OPS.values()):
        for counter, constant in pairs:
            quantity: Quantity | None = getattr(profile.energy_pj, constant)
            if quantity is not None:
                yield k, counter, quantity


def step_ns(load: Loads, profile: Profile) -> F64:
    """float64[3, steps], how long each step takes at each of ENDS."""
    known = times(profile.time_ns).items()
    low, nominal, high = ({name: _ends(q)[i] for name, q in known} for i in range(3))
    slow = terms(load, high)[0].sum(axis=0)
    return np.stack([terms(load, low)[0].max(axis=0), terms(load, nominal)[0].max(axis=0), slow])


def power_mw(counts: Counts, profile: Profile) -> tuple[Interval, Interval, Interval]:
    """What flows whatever happens: chips and their powered cores; embedded host processors; interfaces."""
    found = dict.fromkeys(("static", "host", "io"), Interval(0.0, 0.0, 0.0))
    for name, quantity, units in flows(counts, profile):
        found[name if name in found else "static"] += Interval(*_ends(quantity)) * float(units)
    return found["static"], found["host"], found["io"]


def traffic(counts: Counts, profile: Profile) -> list[tuple[str, Quantity, float]]:
    """The published energies of a byte, by their names in the profile, and how many bytes an inference moves."""
    moved = {"input_byte": counts.input_bytes, "output_byte": counts.output_bytes}
    prices = ((name, getattr(profile.energy_pj, name), n / counts.samples) for name, n in moved.items())
    return [(name, quantity, n) for name, quantity, n in prices if quantity is not None]


def flows(counts: Counts, profile: Profile) -> list[tuple[str, Quantity, int]]:
    """The powers that are published, by their names in the profile, and of how many units each is drawn."""
    power = profile.power_mw
    chip = "chip_many" if counts.chips > 1 and power.chip_many else "chip"
    units = {chip: counts.chips, "core": counts.cores, "host": counts.chips, "io": counts.chips}
    return [(name, q, n) for name, n in units.items() if (q := getattr(power, name)) is not None]


def unpriced(profile: Profile, chips: int) -> list[str]:
    """What a report on so many chips lacks because the profile lacks it, a sentence each; last what is not modelled."""
    energies = [key for key in profile.missing() if key.startswith("energy_pj.")]
    rest = [key for key in profile.missing() if key in _WHAT and key not in energies]
    lines: list[str] = []
    if profile.scope != "per-term":
        lines.append(_HELD[profile.scope])
        energies = [key for key in energies if key.removeprefix("energy_pj.") in BESIDE_SYNOP]
        rest = [key for key in rest if profile.scope != "all-in" or key not in ("power_mw.chip", "power_mw.core")]
    elif not any(prices(profile)):
        lines.append(_NO_ENERGY)
        energies = []
    if not times(profile.time_ns):
        lines.append(_NO_TIME)
        rest = []
    many = chips > 1 and profile.power_mw.chip_many is not None
    skip = {"energy_pj.interchip": chips == 1, "power_mw.chip": many}
    lines += [f"{_WHAT[key]}: not published" for key in (*energies, *rest) if not skip.get(key)]
    return lines + ([profile.note] if profile.note else [])


def _tornado(counts: Counts, profile: Profile, nominal: float) -> tuple[Driver, ...]:
    """Move one constant at a time over its range, the others nominal; widest first, those without effect left out."""
    load = loads(counts)
    mw = sum(power.nominal for power in power_mw(counts, profile))
    ns = {name: q.value for name, q in times(profile.time_ns).items()}
    period = float(terms(load, ns)[0].max(axis=0).sum())
    drivers: list[Driver] = []

    def add(name: str, quantity: Quantity, total: Callable[[float], float]) -> None:
        low, high = sorted((total(quantity.low), total(quantity.high)))
        if high > low:
            drivers.append(Driver(name, low, high, quantity))

    for counter, constant in (pair for pairs in OPS.values() for pair in pairs):
        if (price_pj := getattr(profile.energy_pj, constant)) is not None:
            events = float(counts.by[counter].sum()) / counts.samples
            add(f"energy_pj.{constant}", price_pj, lambda v, n=events, q=price_pj: nominal + n * (v - q.value))
    for name in ns:

        def slower(value: float, name: str = name) -> float:
            return nominal + mw * (float(terms(load, {**ns, name: value})[0].max(axis=0).sum()) - period)

        add(f"time_ns.{name}", getattr(profile.time_ns, name), slower)
    for name, quantity, moved in traffic(counts, profile):
        add(f"energy_pj.{name}", quantity, lambda v, n=moved, q=quantity: nominal + n * (v - q.value))
    for name, power, units in flows(counts, profile):
        add(f"power_mw.{name}", power, lambda v, n=units, q=power: nominal + n * (v - q.value) * period)
    return tuple(sorted(drivers, key=lambda d: d.low - d.high))
