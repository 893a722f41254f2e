"""The design rules of a chip, a small function each, in ``RULES``: what is needed, what there is, what would fit.

A rule yields a Finding for everything that it holds against its limit, kept or not. Nothing is placed, quantised or
run: the counts are of the file's own weights, so one that quantisation rounds to zero still takes its place. A limit
that the profile does not state is shown and never violated. What a population takes can be spread over cores, what one
neuron takes cannot: a limit is violated where one neuron takes more than a core has, or all more than all cores have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil

from snnergy.deploy import fixes
from snnergy.deploy.fit import STATE_BITS, Layer, limit
from snnergy.deploy.loops import fast_loops
from snnergy.deploy.schedule import Schedule
from snnergy.export.net import Net
from snnergy.export.quantize import INPUT_BITS
from snnergy.hardware_profiles import Profile

NETWORK = "network"
"""The owner of what belongs to no population alone."""


@dataclass(frozen=True)
class Trouble:
    """A node that cannot be lowered: which, why, and what to do."""

    node: str
    why: str
    help: str | None = None


@dataclass(frozen=True, eq=False)
class Case:
    """A network beside a chip.

    net:      what of the network could be lowered, layers: counted from it; None and () where nothing could
    schedule: None where a loop is too fast to have one
    input_bits: of the values that inputs send; 1 is spikes
    steps:    of a sample, None where nobody says; chips: ``--chips``, None is as many as the chip's systems have
    """

    net: Net | None
    layers: tuple[Layer, ...]
    schedule: Schedule | None
    troubles: tuple[Trouble, ...]
    steps: int | None
    weight_bits: int
    profile: Profile
    chips: int | None = None
    input_bits: int = INPUT_BITS

    @property
    def most(self) -> int:
        """Cores of the chip's largest system."""
        return self.profile.chip.chips_max.whole * self.profile.chip.cores.whole

    def chips_for(self, cores: int) -> int:
        """The fewest chips that have so many cores."""
        return max(1, ceil(cores / self.profile.chip.cores.whole))

    @cached_property
    def delays(self) -> dict[str, list[tuple[int, str]]]:
        """Population -> every delay on the chip that ends there, and where it comes from, the longest first."""
        found: dict[str, list[tuple[int, str]]] = {}
        if self.net and self.schedule:
            for e, delay in zip(self.net.projections, self.schedule.delays, strict=True):
                found.setdefault(e.target, []).append((delay, e.source))
        return {name: sorted(delays, reverse=True) for name, delays in found.items()}

    @cached_property
    def counted(self) -> dict[str, tuple[Finding, ...]]:
        """The findings of COUNTED, by rule."""
        return {rule.__name__: tuple(rule(self)) for rule in COUNTED}

    @cached_property
    def bound(self) -> Bound:
        """The fewest cores that any placement can take."""
        best = Bound(0, "", "", 0.0)
        for name, findings in self.counted.items():
            rows = [f for f in findings if f.have]
            if rows:
                have, largest = rows[0].have or 1, max(rows, key=lambda f: f.need)
                total = largest.need if name == "in_axons" else sum(f.need for f in rows)  # cores may share inputs
                if (cores := ceil(total / have)) > best.cores:
                    best = Bound(cores, name, largest.population, 100 * largest.need / total)
        return best


@dataclass(frozen=True)
class Bound:
    """So many cores at least, because of this limit; ``percent`` of it is taken by the largest population."""

    cores: int
    limit: str
    largest: str
    percent: float


@dataclass(frozen=True)
class Finding:
    """One population, input, node or the network against one limit.

    need:  of the whole; least: of one neuron, or the same; have: of one core, or what there is; None: not stated
    cores: the fewest by this limit alone, 0 where cores do not matter
    core_percent, chip_percent: the whole, of one core and of all cores of a chip
    over:  what the limit is passed by, as a factor; at most 1 where it is kept
    says:  the violation, as "input axons 5,184 > 4,096"; fix: every smallest change that would fit by itself
    """

    rule: str
    population: str
    need: int
    least: int
    have: int | None = None
    cores: int = 0
    ok: bool = True
    core_percent: float | None = None
    chip_percent: float | None = None
    over: float | None = None
    says: str = ""
    fix: tuple[str, ...] = ()

    def __str__(self) -> str:
        """``conv2: input axons 5,184 > 4,096 (1.27x): a kernel of at most 3x3, or pruning to 79 %``"""
        over = self.over or 0.0
        times = f" ({over:,.0f}x)" if over >= 100 else f" ({over:.3g}x)" if over else ""
        return f"{self.population}: {self.says}{times}" + (f": {listed(self.fix)}" if self.fix else "")


Rule = Callable[[Case], Iterator[Finding]]
Fix = Callable[[int], Iterable[str]]


def listed(ways: Sequence[str]) -> str:
    """``a, b, or c``"""
    return ways[0] if len(ways) == 1 else f"{', '.join(ways[:-1])}, or {ways[-1]}"


def title(rule: str) -> str:
    """The rule's name in words: what stands before the colon of its docstring."""
    return next(((r.__doc__ or rule).partition(":")[0].lower() for r in RULES if r.__name__ == rule), rule)


def examine(case: Case) -> tuple[Finding, ...]:
    """Every finding of every rule, in the order of RULES."""
    return tuple(finding for rule in RULES for finding in case.counted.get(rule.__name__) or rule(case))


# what populations take of cores


def neurons(case: Case) -> Iterator[Finding]:
    """Neurons: how many a core holds."""
    for layer in case.layers:
        yield _counted(case, "neurons", layer.name, layer.neurons, 1, whole=lambda most: [f"at most {most:,} neurons"])


def synapse_bytes(case: Case) -> Iterator[Finding]:
    """Synaptic memory: bytes of weights on a core. Dense and sparse weights are one list an input; a convolution
    stores its kernel once a core, one list an output channel."""
    for layer in case.layers:
        whole, one = layer.synapse_bytes(case.weight_bits, case.profile.core)

        def fix(_: int, layer: Layer = layer) -> Iterator[str]:
            return fixes.lighter(layer, case.weight_bits, case.profile, case.most)

        yield _counted(case, "synapse_bytes", layer.name, whole, one, one=fix, whole=fix)


def in_axons(case: Case) -> Iterator[Finding]:
    """Input axons: distinct inputs that reach a core, one axon each, however many of its neurons they feed."""
    for layer in case.layers:
        sizes = [feed.one.sources.size for feed in layer.feeds]
        yield _counted(case, "in_axons", layer.name, layer.inputs, layer.inputs_of_one,
                       one=lambda have, layer=layer, sizes=sizes: fixes.fewer(layer, sizes, layer.inputs_of_one, have),
                       whole=lambda most: [f"at most {most:,} inputs"])  # fmt: skip


def out_axons(case: Case) -> Iterator[Finding]:
    """Output axons: neurons of a core that send to anybody, one axon for every core that they send to."""
    for layer in case.layers:
        yield _counted(case, "out_axons", layer.name, layer.sending, min(layer.sending, 1),
                       whole=lambda most: [f"at most {most:,} neurons that send"])  # fmt: skip


def fan_in(case: Case) -> Iterator[Finding]:
    """Fan-in: synapses of one neuron."""
    for layer in case.layers:
        sizes = [int(feed.one.synapses.sum()) for feed in layer.feeds]
        yield _plain(case, "fan_in", layer.name, layer.fan_in,
                     lambda have, layer=layer, sizes=sizes: fixes.fewer(layer, sizes, layer.fan_in, have))  # fmt: skip


def groups(case: Case) -> Iterator[Finding]:
    """Populations: how many a core can hold parts of."""
    count = len(case.layers)
    if count:
        yield _counted(case, "groups", NETWORK, count, 1, whole=lambda most: [f"at most {most:,} populations"])


def accumulator_slots(case: Case) -> Iterator[Finding]:
    """Delay slots: a neuron buffers what is under way, in one slot and one more a step of its longest delay."""
    for layer in case.layers:
        delays = case.delays.get(layer.name, [(0, "")])
        each = 1 + delays[0][0]
        yield _counted(
            case, "accumulator_slots", layer.name, layer.neurons * each, each,
            one=lambda have, delays=delays: fixes.relays(delays, have - 1),
            whole=lambda most, n=layer.neurons: fixes.slower(n, most),
        )  # fmt: skip


# what no number of cores mends


def weight_bits(case: Case) -> Iterator[Finding]:
    """Weight bits: width of a weight, the sign included."""

    def fix(have: int) -> list[str]:
        return [f"--weight-bits {have}"] * (have >= 2) + fixes.chips_with("weight_bits", case.weight_bits)

    yield _plain(case, "weight_bits", NETWORK, case.weight_bits, fix)


def state_bits(case: Case) -> Iterator[Finding]:
    """State bits: width of a membrane; every network is quantised to 24."""
    yield _plain(case, "state_bits", NETWORK, STATE_BITS, lambda _: fixes.chips_with("state_bits", STATE_BITS))


def spike_bits(case: Case) -> Iterator[Finding]:
    """Payload bits: width of the values that an input sends; between neurons there are spikes of one bit."""

    def fix(have: int) -> list[str]:
        say = f"--input-bits {have}"
        way = (
            f"encoding it as spikes ({say} says that it is)" if have == 1 else f"values of at most {have} bits ({say})"
        )
        return [way, *fixes.chips_with("spike_bits", case.input_bits)]

    for source in case.net.sources if case.net else ():
        yield _plain(case, "spike_bits", source.name, case.input_bits, fix)


def max_delay(case: Case) -> Iterator[Finding]:
    """Longest delay: steps that a spike waits beyond the one of its synapse, so that paths of unequal length meet."""
    for name, delays in case.delays.items():
        yield _plain(case, "max_delay", name, delays[0][0], lambda have, delays=delays: fixes.relays(delays, have))


def reset_steps(case: Case) -> Iterator[Finding]:
    """Reset interval: steps of a sample, between two resets; nothing is said where neither file nor --steps do."""
    if case.steps is not None:
        yield _plain(case, "reset_steps", NETWORK, case.steps, lambda have: [f"--steps {have}"])


def loops(case: Case) -> Iterator[Finding]:
    """Fast loop: a chip takes a step a synapse, so a loop must have at least as many steps of delay as synapses."""
    for loop in fast_loops(case.net) if case.net else ():
        need, have = len(loop), sum(e.delay for e in loop)
        path = " -> ".join([loop[0].source, *(e.target for e in loop)])
        steps = need - have
        yield Finding("loops", loop[0].source, need, need, have, ok=False, over=need / have if have else None,
                      says=f"the loop {path} takes a chip {fixes.steps(need)} and has {fixes.steps(have)} of delay",
                      fix=(f"a Delay of {fixes.steps(steps)} more in it", "the native engine alone"))  # fmt: skip


def programs(case: Case) -> Iterator[Finding]:
    """Neuron program: neurons that do not reset to 0 after a spike need one of their own, which few chips run."""
    for p in case.net.populations if case.net and not case.profile.programmable else ():
        if p.spiking and p.reset is not None:
            does = "takes the threshold away" if p.subtract else "leads elsewhere than to 0"
            says = f"a spike {does}, and all neurons of {case.profile.name} reset to 0"
            fix = ("training with a reset to 0", "--target loihi2-sim, whose neurons are programs")
            yield Finding("programs", p.name, 1, 1, 0, ok=False, says=says, fix=fix)


def unsupported(case: Case) -> Iterator[Finding]:
    """Unsupported node: one that has no form on any chip here; what comes after it is not checked."""
    for trouble in case.troubles:
        fix = (trouble.help,) if trouble.help else ()
        yield Finding("unsupported", trouble.node, 1, 1, 0, ok=False, says=trouble.why, fix=fix)


# what all of it takes


def cores(case: Case) -> Iterator[Finding]:
    """Cores: that all populations take together, at least, of those of the chip's largest system. Nothing is said
    where one population alone takes too many."""
    if not case.layers or any(f.cores > case.most for found in case.counted.values() for f in found):
        return
    bound, most = case.bound, case.most

    def fix() -> Iterator[str]:
        largest = f"{bound.percent:.0f} % of it is {bound.largest}"
        yield f"{100 * most // bound.cores} % of its {title(bound.limit)} ({largest})"
        yield from fixes.boards(case.profile, bound.cores)

    per_chip = 100 * bound.cores / case.profile.chip.cores.whole
    yield _found("cores", NETWORK, bound.cores, most, lambda _: fix(), cores=bound.cores, chip_percent=per_chip)


def chips(case: Case) -> Iterator[Finding]:
    """Chips: that have so many cores, at least, of those that --chips allows."""
    need = case.chips_for(case.bound.cores)
    boards = need > case.profile.chip.chips_max.whole

    def fix(_: int) -> Iterable[str]:
        return fixes.boards(case.profile, case.bound.cores) if boards else (f"--chips {need}, at least",)

    if case.layers:
        yield _found("chips", NETWORK, need, case.chips, fix, cores=case.bound.cores)


COUNTED: tuple[Rule, ...] = (neurons, synapse_bytes, in_axons, out_axons, groups, accumulator_slots)
RULES: tuple[Rule, ...] = (
    *(neurons, synapse_bytes, in_axons, out_axons, fan_in, groups, accumulator_slots),
    *(weight_bits, state_bits, spike_bits, max_delay, reset_steps, loops, programs, unsupported),
    *(cores, chips),
)


def _none(_: int) -> Iterable[str]:
    return ()


def _counted(
    case: Case, rule: str, owner: str, need: int, least: int, *, one: Fix = _none, whole: Fix = _none
) -> Finding:
    """Against what a core has. one: how one neuron would fit it; whole: how all would fit what all cores have."""
    have = limit(case.profile.core, rule)
    if have is None:
        return Finding(rule, owner, need, least)
    total = have * case.most
    over = least / have if least > have else max(least / have, need / total)
    says, fix = "", ()
    if least > have:
        says, fix = f"{title(rule)} of one neuron {least:,} > {have:,}", tuple(one(have))
    elif need > total:
        all_of_them = "the one core" if case.most == 1 else f"all {case.most:,} cores"
        says = f"{title(rule)} {need:,} > {total:,} of {all_of_them}"
        fix = (*whole(total), *fixes.boards(case.profile, ceil(need / have)))
    percent = 100 * need / have
    per_chip = percent / case.profile.chip.cores.whole
    return Finding(rule, owner, need, least, have, ceil(need / have), not says, percent, per_chip, over, says, fix)


def _plain(case: Case, rule: str, owner: str, need: int, fix: Fix) -> Finding:
    """Against a limit of the profile that cores do not share out."""
    return _found(rule, owner, need, limit(case.profile.core, rule), fix)


def _found(
    rule: str, owner: str, need: int, have: int | None, fix: Fix, cores: int = 0, chip_percent: float | None = None
) -> Finding:
    """Against a limit that has only one number."""
    if have is None:
        return Finding(rule, owner, need, need, None, cores)
    over = need / max(have, 1)
    says, ways = ("", ()) if need <= have else (f"{title(rule)} {need:,} > {have:,}", tuple(fix(have)))
    return Finding(rule, owner, need, need, have, cores, not says, 100 * over, chip_percent, over, says, ways)
