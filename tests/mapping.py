"""Small chips, placements that no mapper would make, and activities, for the tests of mapping, counting and pricing."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
from builders import population, quantnet, random_quantnet
from hypothesis import strategies as st
from scipy.sparse import csr_array

from snnergy.deploy.activity import Activity
from snnergy.deploy.count import count
from snnergy.deploy.demand import measured
from snnergy.deploy.mesh import routers
from snnergy.deploy.placement import Core, Placement, Slice
from snnergy.deploy.refine import halve_the_slowest
from snnergy.deploy.schedule import Schedule
from snnergy.export.maps import Conv, Dense, Sparse
from snnergy.export.quantnet import QuantNet, QuantPopulation, QuantProjection, QuantSource
from snnergy.hardware_profiles import Profile, Quantity, load

SEEDS = st.integers(0, 2**32 - 1)


def quantity(low: float, value: float, high: float) -> Quantity:
    return Quantity(value, low, high, "", "", "assumed")


def small(profile: Profile, **limits: int) -> Profile:
    """The profile with other limits of a core, or of the chip where the core has none of that name."""

    def change(part: object) -> dict[str, Quantity]:
        return {n: quantity(0, v, 1e9) for n, v in limits.items() if hasattr(part, n)}

    return replace(
        profile,
        core=replace(profile.core, **change(profile.core)),  # type: ignore[arg-type]
        chip=replace(profile.chip, **change(profile.chip)),  # type: ignore[arg-type]
    )


def priced(name: str = "loihi2", **constants: Quantity | None) -> Profile:
    """The profile with other constants, ``energy_pj__synop=...``."""
    profile = load(name)
    for key, value in constants.items():
        table, _, field = key.partition("__")
        profile = replace(profile, **{table: replace(getattr(profile, table), **{field: value})})  # type: ignore[arg-type]
    return profile


def looped(seed: int) -> QuantNet:
    """A random network, some of whose projections take time, with a loop here and there."""
    rng = np.random.default_rng(seed)
    net, _ = random_quantnet(seed)
    known = {n.name: n for n in (*net.sources, *net.populations)}
    edges = [replace(e, delay=int(rng.integers(0, 3)) * int(rng.random() < 0.3) + e.delay) for e in net.projections]
    for _ in range(int(rng.integers(0, 3))):
        a, b = (str(name) for name in rng.choice([p.name for p in net.populations], 2))
        if a in known and known[a].spiking:
            shape = (prod(known[b].shape), prod(known[a].shape))
            weight = Dense(rng.integers(-3, 4, shape).astype(np.int8), known[a].shape, known[b].shape)
            edges.append(QuantProjection(a, b, weight, 0, len(net.populations) + int(rng.integers(0, 3))))
    return quantnet(net.sources, net.populations, edges, net.steps, net.outputs)


def skip_network(rng: np.random.Generator) -> QuantNet:
    """in -> conv -> sparse -> dense with a skip from conv to dense; steps 5; the sparse population is memoryless."""

    def weight(*shape: int) -> np.ndarray:
        return (rng.integers(-5, 6, shape) * (rng.random(shape) < 0.6)).astype(np.int8)

    conv = Conv(weight(3, 2, 3, 3), (2, 4, 5), padding=(1, 1))
    n = prod(conv.output_shape)
    return quantnet(
        (QuantSource("in", (2, 4, 5), 12, 1.0),),
        (population("a", conv.output_shape), population("b", (4,), decay=4096), population("c", (5,), decay=0)),
        (
            QuantProjection("in", "a", conv, 0),
            QuantProjection("a", "b", Sparse(csr_array(weight(4, n)), conv.output_shape, (4,)), 0),
            QuantProjection("b", "c", Dense(weight(5, 4), (4,), (5,)), 0),
            QuantProjection("a", "c", Dense(weight(5, n), conv.output_shape, (5,)), 0),
        ),
        5,
        ("c",),
    )


def activity(net: QuantNet, rng: np.random.Generator, samples: int = 3) -> Activity:
    """Any counts that an engine could return: a neuron spikes only where it is active, a readout never."""

    def counts(node: QuantSource | QuantPopulation) -> np.ndarray:
        return rng.integers(0, samples + 1, (net.steps, prod(node.shape)))

    active = {p.name: counts(p) for p in net.populations}
    spikes = {s.name: counts(s) for s in net.sources}
    spikes |= {p.name: np.minimum(counts(p), active[p.name]) * p.spiking for p in net.populations}
    return Activity(samples, net.steps, spikes, active)


def silent(net: QuantNet, samples: int = 3) -> Activity:
    """Nothing comes in and no bias is at work."""
    zero = {n.name: np.zeros((net.steps, prod(n.shape)), np.int64) for n in (*net.sources, *net.populations)}
    return Activity(samples, net.steps, zero, {p.name: zero[p.name] for p in net.populations})


def scattered(net: QuantNet, rng: np.random.Generator, profile: Profile, chips: int = 2, cores: int = 5) -> Placement:
    """Neurons thrown at cores at random, cores at seats at random: nothing a mapper would do."""
    where = {p.name: rng.integers(0, cores, prod(p.shape)) for p in net.populations}
    numbers = rng.permutation(chips * profile.chip.cores.whole)[:cores]
    spots = routers(profile.chip)
    placed: list[Core] = []
    for i, number in enumerate(numbers.tolist()):
        here = {name: np.flatnonzero(at == i) for name, at in where.items()}
        slices = tuple(Slice(name, neurons) for name, neurons in here.items() if neurons.size)
        chip, core = divmod(number, profile.chip.cores.whole)
        placed.append(Core(chip, core, int(spots[core][0]), int(spots[core][1]), slices, {}))
    return Placement(profile.name, chips, tuple(placed))


def halve(
    placed: Placement, act: Activity, net: QuantNet, schedule: Schedule, profile: Profile, budget: int
) -> list[tuple[Slice, ...]] | None:
    """The slowest core of this run in two."""
    counts = count(act, placed, net, schedule, profile)
    return halve_the_slowest(placed, counts, measured(act), net, profile, budget)
