"""A placement is legal by a checker that shares no code with the mapper, and a refusal says which layer and limit."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
import pytest
from builders import population
from hypothesis import given, settings
from hypothesis import strategies as st
from mapping import SEEDS, looped, small
from scipy.sparse import csr_array

from snnergy.deploy.fanout import fan_in, table
from snnergy.deploy.legality import violations
from snnergy.deploy.mesh import routers, seat
from snnergy.deploy.place import check, place
from snnergy.deploy.schedule import Schedule, balance
from snnergy.errors import DoesNotFit
from snnergy.export.maps import Conv, Dense, Map, Shape, Sparse
from snnergy.export.quantnet import QuantNet, QuantProjection, QuantSource
from snnergy.hardware_profiles import Profile, load


def network(shapes: dict[str, Shape], edges: list[tuple[str, str, Map]], bits: int = 1) -> QuantNet:
    """Sources are the names that nothing feeds."""
    targets = {target for _, target, _ in edges}
    return QuantNet(
        tuple(QuantSource(n, s, bits, 1.0) for n, s in shapes.items() if n not in targets),
        tuple(population(n, s) for n, s in shapes.items() if n in targets),
        tuple(QuantProjection(a, b, m, 0) for a, b, m in edges),
        (list(shapes)[-1],),
        1e-3,
        4,
        8,
        (),
    )


@st.composite
def networks(draw: st.DrawFn) -> QuantNet:
    """in -> conv -> (sparse, skip) -> dense, random weights with many zeros."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def weight(*shape: int) -> np.ndarray:
        return (rng.integers(-5, 6, shape) * (rng.random(shape) < 0.6)).astype(np.int8)

    groups = draw(st.sampled_from([1, 2]))
    shape = (2, draw(st.integers(3, 7)), draw(st.integers(3, 7)))
    conv = Conv(
        weight(4, 2 // groups, 3, draw(st.sampled_from([1, 3]))),
        shape,
        stride=(draw(st.integers(1, 2)), 1),
        padding=(draw(st.integers(0, 1)), 1),
        groups=groups,
    )
    n, m = prod(conv.output_shape), draw(st.integers(1, 6))
    edges: list[tuple[str, str, Map]] = [
        ("in", "a", conv),
        ("a", "b", Sparse(csr_array(weight(m, n)), conv.output_shape, (m,))),
        ("b", "c", Dense(weight(5, m), (m,), (5,))),
        ("a", "c", Dense(weight(5, n), conv.output_shape, (5,))),
    ]
    return network({"in": shape, "a": conv.output_shape, "b": (m,), "c": (5,)}, edges)


@settings(max_examples=60, deadline=None)
@given(net=networks(), neurons=st.integers(3, 200), axons=st.integers(60, 300), memory=st.integers(300, 3000))
def test_every_placement_is_legal_by_an_independent_count(net: QuantNet, neurons: int, axons: int, memory: int) -> None:
    profile = small(load("loihi2"), neurons=neurons, in_axons=axons, out_axons=axons, synapse_bytes=memory, groups=3)
    profile = small(profile, accumulator_slots=2 * neurons, chips_max=64)
    schedule = balance(net)
    try:
        placement = place(net, schedule, profile)
    except DoesNotFit:
        return
    report = check(net, profile, schedule)
    assert report.ok and report.cores <= len(placement.cores)
    assert violations(net, schedule, profile, placement) == []


@settings(max_examples=60, deadline=None)
@given(net=networks(), seed=st.integers(0, 2**32 - 1))
def test_fan_in_of_any_slice_is_that_of_the_unrolled_matrix(net: QuantNet, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for e in net.projections:
        matrix = e.map.matrix().toarray() != 0
        some = np.flatnonzero(rng.random(matrix.shape[0]) < 0.5)
        reach = fan_in(e.map, some)
        assert np.array_equal(np.bincount(reach.sources, reach.synapses, matrix.shape[1]), matrix[some].sum(axis=0))
        cut = np.array_split(np.arange(matrix.shape[0]), 3)
        cut = [c for c in cut if c.size]
        assert np.array_equal(table(e.map, cut).toarray().T, [matrix[c].sum(axis=0) for c in cut])


def test_placing_twice_gives_the_same_cores() -> None:
    net = chain(64, 300, 10)
    profile = small(load("loihi2"), neurons=20)
    a, b = (place(net, balance(net), profile) for _ in range(2))
    assert [(c.chip, c.core, c.x, c.y) for c in a.cores] == [(c.chip, c.core, c.x, c.y) for c in b.cores]


def test_seats_start_at_the_entry_and_neighbours_in_a_chain_touch() -> None:
    profile = load("loihi2")
    k = 24
    traffic = np.diag(np.full(k - 1, 10.0), 1)
    entering = np.zeros(k)
    entering[0] = 10
    _, slots = seat(traffic, entering, 1, profile)
    assert len(set(slots.tolist())) == k
    xy = routers(profile.chip)[slots]
    assert tuple(xy[0]) == (0, 0)
    assert np.abs(np.diff(xy, axis=0)).sum(axis=1).max() <= 1


def chain(*sizes: int, bits: int = 1) -> QuantNet:
    names = ["in", *(f"fc{i}" for i in range(1, len(sizes)))]
    edges: list[tuple[str, str, Map]] = [
        (names[i], names[i + 1], Dense(np.ones((sizes[i + 1], sizes[i]), np.int8), (sizes[i],), (sizes[i + 1],)))
        for i in range(len(sizes) - 1)
    ]
    return network({n: (s,) for n, s in zip(names, sizes, strict=True)}, edges, bits)


def refusal(net: QuantNet, profile: Profile, chips: int | None = None, schedule: Schedule | None = None) -> str:
    with pytest.raises(DoesNotFit) as error:
        place(net, schedule or balance(net), profile, chips)
    assert error.value.exit_code == 1
    return str(error.value)


def test_too_many_cores_names_the_largest_layer_and_its_limit() -> None:
    toy = small(load("loihi2"), neurons=10, cores=2, chips_max=1)
    assert refusal(chain(4, 50, 3), toy) == (
        "the network needs 6 cores, loihi2 has 2; the largest is layer 'fc1' with 5 cores: "
        "make it smaller, or allow more chips"
    )
    toy = small(load("loihi2"), synapse_bytes=800, cores=1)
    assert refusal(chain(100, 20), toy, chips=2) == (
        "the network needs 4 cores, 2 chips of loihi2 have 2; the largest is layer 'fc1' with 4 cores: "
        "prune it or lower --weight-bits"
    )


def test_a_wall_names_what_one_neuron_needs() -> None:
    assert refusal(chain(5000, 3), load("loihi1")) == (
        "one neuron of layer 'fc1' needs 5,000 in axons, a core of loihi1 has 4,096: "
        "lower its fan-in (smaller kernel, fewer input channels) or prune it"
    )
    assert refusal(chain(4, 3, bits=8), load("loihi1")) == (
        "input 'in' sends 8-bit values, loihi1 carries 1-bit spikes: encode this input as spikes; "
        "--input-bits 1 says that it is"
    )
    assert refusal(chain(4, 3), small(load("loihi1"), weight_bits=4)) == (
        "the weights take 8 bits, loihi1 stores 4: lower --weight-bits"
    )
    late = Schedule({"in": 0, "fc1": 71}, (70,))
    assert refusal(chain(4, 3), load("loihi2"), schedule=late) == (
        "layer 'fc1' needs a delay of 70 steps, loihi2 has 62: shorten the skip connections that end in it"
    )


def test_check_lists_every_violation_at_once() -> None:
    report = check(chain(5000, 3, bits=8), load("loihi1"))
    assert not report.ok
    assert [(v.population, v.limit) for v in report.violations] == [("in", "spike_bits"), ("fc1", "in_axons")]
    assert all(v.advice for v in report.violations)
    rows = {(r.population, r.limit): r for r in report.rows}
    assert rows["fc1", "neurons"].need == 3 and rows["fc1", "neurons"].have == 1024
    assert rows["fc1", "in_axons"].need == 5000 and rows["fc1", "in_axons"].cores == 2


def test_a_network_too_large_for_one_chip_takes_the_fewest() -> None:
    toy = small(load("loihi2"), neurons=10, cores=4)
    net = chain(4, 50, 30)
    placement = place(net, balance(net), toy)
    assert placement.chips == 2 and len(placement.cores) == 8
    assert violations(net, balance(net), toy, placement) == []


def test_a_shared_kernel_is_stored_once_and_channels_split_only_when_they_must() -> None:
    conv = Conv(np.ones((8, 4, 3, 3), np.int8), (4, 16, 16), padding=(1, 1))
    net = network({"in": (4, 16, 16), "a": conv.output_shape}, [("in", "a", conv)])
    rows = place(net, balance(net), small(load("loihi2"), neurons=512))
    assert [c.slices[0].neurons.size for c in rows.cores] == [512] * 4
    assert {c.usage["synapse_bytes"] for c in rows.cores} == {8 * 40}
    channels = place(net, balance(net), small(load("loihi2"), synapse_bytes=4 * 40))
    assert [c.usage["synapse_bytes"] for c in channels.cores] == [160, 160]


def test_a_large_convolution_is_placed_without_being_unrolled(monkeypatch: pytest.MonkeyPatch) -> None:
    conv = Conv(np.ones((16, 8, 3, 3), np.int8), (8, 64, 64), padding=(1, 1))
    net = network({"in": (8, 64, 64), "a": conv.output_shape}, [("in", "a", conv)])

    def unrolled(self: Conv) -> csr_array:
        raise AssertionError("unrolled")

    monkeypatch.setattr(Conv, "matrix", unrolled)
    assert len(place(net, balance(net), load("loihi2")).cores) == 16


def test_a_loop_sets_aside_the_axons_that_it_then_needs() -> None:
    """One population that feeds itself all to all: cut in k, each neuron sends to k cores."""
    n = 12
    ring = Dense(np.ones((n, n), np.int8), (n,), (n,))
    net = network({"in": (1,), "a": (n,)}, [("in", "a", Dense(np.ones((n, 1), np.int8), (1,), (n,)))])
    net = replace(net, projections=(*net.projections, QuantProjection("a", "a", ring, 0, 1)))
    schedule = balance(net)
    for neurons, cores in ((12, 1), (6, 2), (5, 3), (3, 4)):
        profile = small(load("loihi2"), neurons=neurons, out_axons=neurons * cores)
        placement = place(net, schedule, profile)
        assert [c.usage["out_axons"] for c in placement.cores] == [c.usage["neurons"] * cores for c in placement.cores]
        assert len(placement.cores) == cores
        assert violations(net, schedule, profile, placement) == []
    assert refusal(net, small(load("loihi2"), neurons=6, out_axons=11), schedule=schedule) == (
        "cut as it must be, one neuron of layer 'a' sends to 12 cores, which needs 12 out axons, a core of loihi2 has "
        "11: lower its fan-out or prune the layers it feeds"
    )


@given(SEEDS)
def test_placing_a_network_with_loops_uses_no_core_for_nothing(seed: int) -> None:
    net = looped(seed)
    placement = place(net, balance(net), load("loihi2"))
    assert len(placement.cores) <= len(net.populations)
    assert violations(net, balance(net), load("loihi2"), placement) == []
