"""Which neurons sit on which core: populations cut into tiles, tiles packed into cores, cores spread over the mesh."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import ceil

from snnergy.deploy import hypergraph
from snnergy.deploy.activity import Activity
from snnergy.deploy.counts import Counts
from snnergy.deploy.demand import Rates, assumed, measured
from snnergy.deploy.fit import ADVICE, FitReport, FitRow, check, limit
from snnergy.deploy.mesh import routers, seat
from snnergy.deploy.objective import OBJECTIVES, Estimate, estimate, score
from snnergy.deploy.partition import Cutter, Partition, TooLarge, slices_of
from snnergy.deploy.placement import Core, Placement, Slice, verify
from snnergy.deploy.price import price
from snnergy.deploy.refine import halve_the_slowest
from snnergy.deploy.schedule import Schedule
from snnergy.deploy.settle import settle
from snnergy.deploy.tiling import cores_of
from snnergy.errors import BadInput, DoesNotFit
from snnergy.export.net import components, order
from snnergy.export.quantnet import QuantNet, QuantPopulation
from snnergy.hardware_profiles import Profile, nominal

__all__ = ["OBJECTIVES", "PARTITIONS", "FitReport", "FitRow", "check", "place"]

PARTITIONS = ("free", "fixed", "hypergraph")
"""Tiles of equal work, or dealt where cores are plentiful; tiles of one size a population; Mt-KaHyPar's."""

QUICKER = 0.8
"""From one partition to the next, what the busiest core may take."""
HALVINGS = 3
"""Between the last that fits the cores and the first that does not."""
COMPARED = 3
"""Partitions that are seated and priced, of the best by estimate."""


def place(
    net: QuantNet,
    schedule: Schedule,
    profile: Profile,
    chips: int | None = None,
    *,
    objective: str = "cores",
    partition: str = "free",
    tiling: Mapping[str, tuple[int, ...]] | None = None,
    activity: Activity | None = None,
    iterations: int = 0,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Placement:
    """Every neuron on one core, no limit exceeded, on as few chips as the cores allow (at most ``chips``).

    partition:  one of PARTITIONS; tiling: instead, the sides of the tiles of every population, a tile a core
    objective:  one of OBJECTIVES; all but "cores" use more cores than they must where that lowers the slowest one
    activity:   of a run: tiles share out what was measured, and mappings are compared by their price; without, every
                neuron is taken to be as busy as every other
    iterations: at most so many times the core that sets the pace is halved, where that is better; needs ``activity``
    seed:       of the annealing that seats cores on the mesh; progress: called with what begins

    Populations are cut and packed from the outputs back to the inputs, because the output axons of a neuron are the
    distinct cores that it sends to. Raises DoesNotFit, naming the layer, the limit and what to do.
    """
    most = chips or profile.chip.chips_max.whole
    tell = progress or (lambda _: None)
    _refuse_walls(check(net, profile, schedule, most), profile)
    rates = measured(activity) if activity else assumed(net)
    tell("partition")
    if iterations and (partition == "fixed" or tiling is not None):
        raise BadInput(f"--iterations {iterations} halves cores; tiles of one size stay as they are, with 0 iterations")
    if tiling is not None:
        return _as_told(net, schedule, profile, cores_of(net, tiling), most, rates, seed)
    if partition == "hypergraph":
        hypergraph.require(net)
    cutter = Cutter(net, _outputs_first(net), schedule, profile, rates, fixed=partition == "fixed")
    try:
        fewest = cutter.cut()
    except TooLarge as found:
        have = cutter.have[found.limit]
        raise DoesNotFit(_wall(found.population, found.limit, found.need, have, profile)) from None
    per_chip = profile.chip.cores.whole
    if len(fewest.cores) > most * per_chip:
        raise DoesNotFit(_too_many(fewest.of, fewest.tightest, len(fewest.cores), most, profile))
    least_chips = max(1, ceil(len(fewest.cores) / per_chip))
    budget = (most if chips else least_chips) * per_chip

    def seated(cores: list[tuple[Slice, ...]]) -> Placement:
        return _seat(net, schedule, profile, cores, max(1, ceil(len(cores) / per_chip)), rates, seed)

    found = [fewest]
    if objective != "cores":
        found = _by_estimate(cutter, fewest, budget, objective, net, schedule, profile)
    candidates = [slices_of(one) for one in found[:COMPARED]]
    if partition == "hypergraph":
        tell("Mt-KaHyPar")
        candidates = _by_hypergraph((*found[:COMPARED], fewest), net, schedule, profile, rates, budget, seed)
    elif partition == "free" and activity and objective != "cores" and 2 * len(fewest.cores) <= budget:
        from snnergy.deploy import deal  # numba, which ``check`` can do without

        if found[0].busy_ns > nominal(profile.time_ns.barrier) and deal.worth(net):
            tell("deal tiles")
            dealt = deal.Dealer(net, schedule, profile, activity).deal(objective, budget)
            if dealt and (dealt := hypergraph.repaired(dealt, net, schedule, profile, rates, budget)):
                candidates.append(dealt)
    tell("placement")
    if activity is None:
        best = seated(candidates[0])
        verify(net, best, profile)
        return best

    def priced(cores: list[tuple[Slice, ...]]) -> tuple[tuple[float, ...], Placement, Counts]:
        placement = seated(cores)
        report = price(activity, placement, net, schedule, profile)
        found = Estimate(len(cores), placement.chips, 0, 0, report.latency_ns.nominal, report.total_pj.nominal)
        return score(objective, found), placement, report.counts

    value, best, counts = min((priced(cores) for cores in candidates), key=lambda one: one[0])
    for k in range(iterations):
        tell(f"iteration {k + 1} of {iterations}")
        halved = halve_the_slowest(best, counts, rates, net, profile, budget)
        after = priced(halved) if halved else None
        if after is None or not _fits(after[1], profile) or after[0] >= value:
            break
        value, best, counts = after
    verify(net, best, profile)
    return best


def _by_estimate(
    cutter: Cutter,
    fewest: Partition,
    budget: int,
    objective: str,
    net: QuantNet,
    schedule: Schedule,
    profile: Profile,
) -> list[Partition]:
    """Partitions within so many cores whose busiest core takes ever less time, the best by ``estimate`` first."""
    barrier = nominal(profile.time_ns.barrier)
    found, high, low = [fewest], fewest.busy_ns, 0.0

    def within(most_ns: float) -> Partition | None:
        try:
            partition = cutter.cut(most_ns)
        except TooLarge:  # finer tiles downstream are more axons of a neuron that has none left
            return None
        return partition if len(partition.cores) <= budget else None

    while high > barrier:
        partition = within(high * QUICKER)
        if partition is None or partition.busy_ns > high:
            low = high * QUICKER
            break
        found.append(partition)
        high *= QUICKER
    for _ in range(HALVINGS if low else 0):
        middle = (low * high) ** 0.5
        if partition := within(middle):
            found.append(partition)
            high = middle
        else:
            low = middle
    return sorted(found, key=lambda partition: score(objective, estimate(partition, net, schedule, profile)))


def _by_hypergraph(
    found: Sequence[Partition],
    net: QuantNet,
    schedule: Schedule,
    profile: Profile,
    rates: Rates,
    budget: int,
    seed: int,
) -> list[list[tuple[Slice, ...]]]:
    """On as many cores as each of these has, and more where limits ask for it. Raises DoesNotFit."""
    sizes = dict.fromkeys(len(one.cores) for one in found)
    tried = (hypergraph.cores_of(net, schedule, profile, rates, size, budget, seed) for size in sizes)
    if legal := [cores for cores in tried if cores]:
        return legal
    raise DoesNotFit(
        f"Mt-KaHyPar's parts pass a limit of {profile.name} on {budget:,} cores, halved as often as may be: "
        "use --partition free"
    )


def _as_told(
    net: QuantNet,
    schedule: Schedule,
    profile: Profile,
    cores: list[tuple[Slice, ...]],
    most: int,
    rates: Rates,
    seed: int,
) -> Placement:
    """The cores of a tiling that is given, seated. Raises DoesNotFit."""
    per_chip = profile.chip.cores.whole
    if len(cores) > most * per_chip:
        have = f"{most:,} chips of {profile.name} have" if most > 1 else f"{profile.name} has"
        raise DoesNotFit(f"the tiling has {len(cores):,} tiles, {have} {most * per_chip:,} cores: use larger tiles")
    placed = _seat(net, schedule, profile, cores, max(1, ceil(len(cores) / per_chip)), rates, seed)
    for core in placed.cores:
        for name, used in core.usage.items():
            if (have := limit(profile.core, name)) is not None and used > have:
                raise DoesNotFit(
                    f"a tile of '{core.slices[0].population}' takes {used:,} {name.replace('_', ' ')}, a core of "
                    f"{profile.name} has {have:,}: give it a smaller tile"
                )
    verify(net, placed, profile)
    return placed


def _outputs_first(net: QuantNet) -> tuple[QuantPopulation, ...]:
    """The populations so that each comes after all that it feeds, loops apart; in a loop, after those of its step."""
    part = {p.name: k for k, ps in enumerate(components(net.populations, net.projections)) for p in ps}
    edges = (e if part.get(e.source) == part[e.target] else replace(e, delay=0) for e in net.projections)
    return order(net.populations, tuple(edges))[::-1]


def _seat(
    net: QuantNet,
    schedule: Schedule,
    profile: Profile,
    cores: list[tuple[Slice, ...]],
    chips: int,
    rates: Rates,
    seed: int,
) -> Placement:
    """Give the filled cores, in network order, a chip and a seat on its mesh."""
    settled = settle(net, schedule, profile, cores, rates)
    chip_of, numbers = seat(settled.traffic, settled.entering, chips, profile, seed)
    spots = routers(profile.chip)[numbers]
    placed = [
        Core(int(chip), int(number), int(x), int(y), slices, usage)
        for slices, usage, chip, number, (x, y) in zip(cores, settled.usage, chip_of, numbers, spots, strict=True)
    ]
    return Placement(profile.name, chips, tuple(placed))


def _fits(placement: Placement, profile: Profile) -> bool:
    """Whether no core passes a limit."""
    return all(
        (most := limit(profile.core, name)) is None or used <= most
        for core in placement.cores
        for name, used in core.usage.items()
    )


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
        "out_axons": f"cut as it must be, one neuron of layer '{owner}' sends to {need:,} cores, which needs {need:,} "
        f"out axons, a core of {profile.name} has {have:,}",
        "max_delay": f"layer '{owner}' needs a delay of {need} steps, {profile.name} has {have}",
    }
    one = (
        f"one neuron of layer '{owner}' needs {need:,} {name.replace('_', ' ')}, a core of {profile.name} has {have:,}"
    )
    return f"{says.get(name, one)}: {ADVICE[name]}"


def _too_many(cores: dict[str, int], tightest: dict[str, str], need: int, chips: int, profile: Profile) -> str:
    largest = max(cores, key=lambda name: cores[name])
    have = f"{profile.name} has" if chips == 1 else f"{chips} chips of {profile.name} have"
    return (
        f"the network needs {need:,} cores, {have} {chips * profile.chip.cores.whole:,}; the largest is "
        f"layer '{largest}' with {cores[largest]:,} cores: {ADVICE[tightest[largest]]}"
    )
