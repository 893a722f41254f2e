"""The checker counts as one would by hand, accepts what the mapper makes, and catches every way of breaking it."""

from __future__ import annotations

from dataclasses import replace
from math import ceil, prod
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
from builders import chain, lif, population, quantnet
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mapping import SEEDS, looped, scattered, skip_network, small

from snnergy.deploy import check_model, deploy_model, legality, placement, targets
from snnergy.deploy.fit import LIMITS
from snnergy.deploy.job import prepare
from snnergy.deploy.legality import enforce, usage, violations
from snnergy.deploy.place import place
from snnergy.deploy.placement import Core, Placement, Slice
from snnergy.deploy.schedule import Schedule, balance
from snnergy.errors import DoesNotFit
from snnergy.export import nir_file
from snnergy.export.maps import Conv, Dense
from snnergy.export.quantnet import QuantNet, QuantProjection, QuantSource
from snnergy.hardware_profiles import Profile, load

LOIHI2 = load("loihi2")


def by_hand(net: QuantNet, schedule: Schedule, profile: Profile, placed: Placement) -> list[dict[str, int]]:
    """Every limit by its definition, one neuron and synapse at a time."""
    home = {(s.population, n): i for i, c in enumerate(placed.cores) for s in c.slices for n in s.neurons.tolist()}
    word, header = profile.core.synapse_word_bytes.whole, profile.core.synapse_header_bytes.whole
    result: list[dict[str, int]] = []
    for index in range(len(placed.cores)):
        mine = [key for key, core in home.items() if core == index]
        inputs: set[tuple[str, int]] = set()
        outputs: set[tuple[str, int, int]] = set()
        memory = 0
        longest = dict.fromkeys((p.name for p in net.populations), 0)
        for e, delay in zip(net.projections, schedule.delays, strict=True):
            longest[e.target] = max(longest[e.target], delay)
            matrix, lists = e.map.matrix().toarray(), {}
            for j, i in zip(*(k.tolist() for k in np.nonzero(matrix)), strict=True):
                if home.get((e.target, j)) == index:
                    inputs.add((e.source, i))
                    lists[i] = lists.get(i, 0) + 1
                if home.get((e.source, i)) == index and (e.target, j) in home:
                    outputs.add((e.source, i, home[e.target, j]))
            if isinstance(e.map, Conv):
                area = prod(e.map.output_shape[1:])
                held = {n // area for name, n in mine if name == e.target}
                lists = {c: int(np.count_nonzero(e.map.weight[c])) for c in held}
            memory += sum(word * ceil((header + k * net.weight_bits / 8) / word) for k in lists.values() if k)
        result.append(
            {
                "neurons": len(mine),
                "synapse_bytes": memory,
                "in_axons": len(inputs),
                "out_axons": len(outputs),
                "groups": len({name for name, _ in mine}),
                "accumulator_slots": sum(1 + longest[name] for name, _ in mine),
            }
        )
    return result


@settings(max_examples=40)
@given(SEEDS)
def test_usage_is_what_a_count_by_hand_says(seed: int) -> None:
    net = looped(seed)
    schedule, placed = balance(net), scattered(net, np.random.default_rng(seed), LOIHI2, cores=4)
    assert usage(net, schedule, LOIHI2, placed) == by_hand(net, schedule, LOIHI2, placed)


@settings(max_examples=60)
@given(SEEDS, st.integers(3, 60), st.integers(20, 200), st.integers(200, 3000), st.integers(1, 4))
def test_every_mapping_that_place_makes_is_legal(seed: int, neurons: int, axons: int, memory: int, groups: int) -> None:
    net = looped(seed)
    profile = small(LOIHI2, neurons=neurons, in_axons=axons, out_axons=axons, synapse_bytes=memory, groups=groups)
    profile = small(profile, accumulator_slots=8 * neurons, cores=9, mesh_width=3, mesh_height=1)
    schedule = balance(net)
    try:
        placed = place(net, schedule, profile)
    except DoesNotFit:
        assume(False)
        return
    assert violations(net, schedule, profile, placed) == []
    assert [c.usage for c in placed.cores] == usage(net, schedule, profile, placed)


def mapped(seed: int = 3) -> tuple[QuantNet, Schedule, Profile, Placement]:
    """A skip network over several cores of a small chip."""
    net = skip_network(np.random.default_rng(seed))
    profile = small(LOIHI2, neurons=20, groups=2)
    schedule = balance(net)
    placed = place(net, schedule, profile)
    assert len(placed.cores) > 2 and violations(net, schedule, profile, placed) == []
    return net, schedule, profile, placed


def swapped(placed: Placement, index: int, **changes: object) -> Placement:
    cores = list(placed.cores)
    cores[index] = replace(cores[index], **changes)
    return replace(placed, cores=tuple(cores))


def moved(placed: Placement, population: str, neurons: np.ndarray, to: int) -> Placement:
    """These neurons on another core, the usage as it was."""
    cores: list[Core] = []
    for i, core in enumerate(placed.cores):
        held = {
            s.population: np.setdiff1d(s.neurons, neurons) if s.population == population else s.neurons
            for s in core.slices
        }
        if i == to:
            held[population] = np.union1d(held[population], neurons)
        cores.append(replace(core, slices=tuple(Slice(n, k) for n, k in held.items() if k.size)))
    return replace(placed, cores=tuple(cores))


@given(st.integers(0, 59), st.integers(1, 20), st.integers(0, 2))
def test_neurons_moved_to_another_core_are_noticed(first: int, count: int, to: int) -> None:
    net, schedule, profile, placed = mapped()
    neurons = np.arange(first, min(first + count, 60))
    again = moved(placed, "a", neurons, to)
    if all(np.isin(neurons, s.neurons).all() for s in placed.cores[to].slices if s.population == "a") and any(
        s.population == "a" for s in placed.cores[to].slices
    ):
        return  # they were there already
    found = violations(net, schedule, profile, again)
    assert any(" neurons, it is " in line for line in found)
    crowded = [c for c in usage(net, schedule, profile, again) if c["neurons"] > 20]
    assert len(crowded) == sum(" neurons, allowed 20" in line for line in found)


def test_a_neuron_twice_or_nowhere_is_named() -> None:
    net, schedule, profile, placed = mapped()
    (index,) = [i for i, c in enumerate(placed.cores) if any(s.population == "b" for s in c.slices)]
    core = placed.cores[index]
    others = tuple(s for s in core.slices if s.population != "b")
    other = next(i for i in range(len(placed.cores)) if i != index)
    twice = swapped(placed, other, slices=(*placed.cores[other].slices, Slice("b", np.array([2]))))
    assert "neuron 2 of b sits on 2 cores" in violations(net, schedule, profile, twice)
    nowhere = swapped(placed, index, slices=(*others, Slice("b", np.array([0, 1, 2]))))
    assert "neuron 3 of b sits on 0 cores" in violations(net, schedule, profile, nowhere)
    double = swapped(placed, index, slices=(*core.slices, Slice("b", np.array([1]))))
    assert "neuron 1 of b sits on 2 cores" in violations(net, schedule, profile, double)
    for wrong in (4, -1):
        alien = swapped(placed, index, slices=(*core.slices, Slice("b", np.array([wrong]))))
        line = f"chip 0 core {core.core} holds neurons that b does not have"
        assert line in violations(net, schedule, profile, alien)
        with pytest.raises(AssertionError, match="b has no such neuron"):
            placement.verify(net, alien, profile)
    for broken, message in (
        (twice, "b has a neuron on 2 cores"),
        (nowhere, "b has a neuron on 0 cores"),
        (double, "b has a neuron on 2 cores"),
    ):
        with pytest.raises(AssertionError, match=message):
            placement.verify(net, broken, profile)


def test_a_core_used_twice_or_not_there_is_named() -> None:
    net, schedule, profile, placed = mapped()
    a, b = placed.cores[:2]
    cases: list[tuple[Placement, str, str]] = [
        (swapped(placed, 1, core=a.core, x=a.x, y=a.y), f"chip 0 core {a.core} is used twice", "two cores share"),
        (swapped(placed, 1, chip=1), f"chip 1 core {b.core} does not exist: chips 1, cores 120 each", "no chip 1"),
        (swapped(placed, 1, chip=-1), f"chip -1 core {b.core} does not exist: chips 1, cores 120 each", "no chip -1"),
        (swapped(placed, 1, core=120), "chip 0 core 120 does not exist: chips 1, cores 120 each", "no chip 0 core 120"),
        (swapped(placed, 1, core=-1), "chip 0 core -1 does not exist: chips 1, cores 120 each", "no chip 0 core -1"),
        (swapped(placed, 1, x=9), f"chip 0 core {b.core} sits at (9, {b.y})", r"\(9, "),
        (swapped(placed, 1, y=-1), f"chip 0 core {b.core} sits at ({b.x}, -1)", r", -1\)"),
    ]
    for broken, line, message in cases:
        assert any(found.startswith(line) for found in violations(net, schedule, profile, broken)), line
        with pytest.raises(AssertionError, match=message):
            placement.verify(net, broken, profile)


def test_routers_are_numbered_in_a_snake() -> None:
    one = population("n", (1,))
    alone = quantnet([QuantSource("x", (1,), 1, 1.0)], [one], [], 2)
    used = {"neurons": 1, "synapse_bytes": 0, "in_axons": 0, "out_axons": 0, "groups": 1, "accumulator_slots": 1}
    for number, x, y in ((0, 0, 0), (3, 0, 0), (4, 1, 0), (31, 7, 0), (32, 7, 1), (63, 0, 1), (64, 0, 2), (119, 2, 3)):
        core = Core(0, number, x, y, (Slice("n", np.zeros(1, np.int64)),), used)
        assert violations(alone, balance(alone), LOIHI2, Placement("loihi2", 1, (core,))) == []
        wrong = replace(core, x=x ^ 1)
        assert violations(alone, balance(alone), LOIHI2, Placement("loihi2", 1, (wrong,))) == [
            f"chip 0 core {number} sits at ({x ^ 1}, {y}), its router is at ({x}, {y}) of 8 x 4"
        ]


@pytest.mark.parametrize("name", [name for name in LIMITS if name != "groups"])
def test_a_limit_one_below_the_fullest_core_is_reported(name: str) -> None:
    net, schedule, profile, placed = mapped()
    most = max(c.usage[name] for c in placed.cores)
    fullest = [c for c in placed.cores if c.usage[name] == most]
    less = small(profile, **{name: most - 1})
    assert violations(net, schedule, less, placed) == [
        f"chip 0 core {c.core} holds {most} {name.replace('_', ' ')}, allowed {most - 1}" for c in fullest
    ]
    with pytest.raises(AssertionError, match=f"holds {most} {name}"):
        placement.verify(net, placed, less)


def test_too_many_populations_on_a_core_are_reported() -> None:
    net, schedule, profile, _ = mapped()
    everything = tuple(Slice(p.name, np.arange(prod(p.shape))) for p in net.populations)
    core = Core(0, 0, 0, 0, everything, {})
    (used,) = usage(net, schedule, profile, Placement("loihi2", 1, (core,)))
    placed = Placement("loihi2", 1, (replace(core, usage=used),))
    assert used["groups"] == 3 and used["neurons"] == 69
    assert violations(net, schedule, small(LOIHI2, groups=2), placed) == ["chip 0 core 0 holds 3 groups, allowed 2"]


def test_a_core_that_lies_about_its_usage_or_holds_nothing_is_named() -> None:
    net, schedule, profile, placed = mapped()
    first = placed.cores[0]
    lies = swapped(placed, 0, usage={**first.usage, "out_axons": 1})
    assert violations(net, schedule, profile, lies) == [
        f"chip 0 core {first.core} says 1 out axons, it is {first.usage['out_axons']}"
    ]
    nothing = dict.fromkeys(first.usage, 0)
    spare = next(n for n in range(4, 8) if n not in {c.core for c in placed.cores})
    empty = replace(placed, cores=(*placed.cores, Core(0, spare, 1, 0, (), nothing)))
    assert violations(net, schedule, profile, empty) == [f"chip 0 core {spare} (number {len(placed.cores)}) is empty"]
    with pytest.raises(AssertionError, match=f"chip 0 core {spare} is empty"):
        placement.verify(net, empty, profile)


def test_slices_in_disorder_are_refused_between_stages() -> None:
    net, _, profile, placed = mapped()
    index, s = next((i, s) for i, c in enumerate(placed.cores) for s in c.slices if s.neurons.size > 1)
    others = tuple(o for o in placed.cores[index].slices if o is not s)
    for neurons in (s.neurons[::-1], np.zeros(0, np.int64)):
        with pytest.raises(AssertionError, match=f"a slice of {s.population} is not ascending"):
            placement.verify(net, swapped(placed, index, slices=(*others, Slice(s.population, neurons))), profile)


# schedules


@given(SEEDS)
def test_every_schedule_of_balance_is_right(seed: int) -> None:
    net = looped(seed)
    schedule = balance(net)
    assert list(legality._timing(net, schedule)) == []


@given(SEEDS, st.integers(0, 100), st.sampled_from([-1, 1, 3]))
def test_any_other_delay_of_one_edge_is_noticed(seed: int, which: int, by: int) -> None:
    net = looped(seed)
    schedule = balance(net)
    k = which % len(net.projections)
    delays = (*schedule.delays[:k], schedule.delays[k] + by, *schedule.delays[k + 1 :])
    assert list(legality._timing(net, replace(schedule, delays=delays)))


@given(SEEDS, st.integers(0, 100), st.sampled_from([-1, 1]))
def test_any_other_depth_of_one_fed_node_is_noticed(seed: int, which: int, by: int) -> None:
    net = looped(seed)
    schedule = balance(net)
    joined = sorted({e.target for e in net.projections} | {e.source for e in net.projections})
    name = joined[which % len(joined)]
    depth = {**schedule.depth, name: schedule.depth[name] + by}
    assert list(legality._timing(net, replace(schedule, depth=depth)))


def two_paths(loop: int = 4) -> QuantNet:
    """x -> a -> b -> c and x -> c, where c feeds a again after ``loop`` steps."""
    one = Dense(np.ones((1, 1), np.int8), (1,), (1,))
    edges = [("x", "a", 0), ("a", "b", 0), ("b", "c", 0), ("x", "c", 0), ("c", "a", loop)]
    return quantnet(
        [QuantSource("x", (1,), 1, 1.0)],
        [population(n, (1,)) for n in "abc"],
        [QuantProjection(a, b, one, 0, d) for a, b, d in edges],
        5,
    )


def test_a_late_path_and_a_wrong_depth_are_named() -> None:
    net = two_paths()
    depth = {"x": 0, "a": 1, "b": 2, "c": 3}
    assert list(legality._timing(net, Schedule(depth, (0, 0, 0, 2, 1)))) == []
    assert list(legality._timing(net, Schedule({**depth, "b": 1}, (0, 0, 0, 2, 1)))) == [
        "b is reached 2 steps late, its depth is 1"
    ]
    assert any("c is reached " in line for line in legality._timing(net, Schedule(depth, (0, 0, 0, 1, 1))))
    assert any("a is reached " in line for line in legality._timing(net, Schedule(depth, (0, 0, 0, 2, 0))))
    assert list(legality._timing(net, Schedule({**depth, "x": 1}, (0, 0, 0, 2, 1)))) == [
        "x is reached 0 steps late, its depth is 1"
    ]


def test_what_no_input_reaches_must_agree_with_itself() -> None:
    one = Dense(np.ones((1, 1), np.int8), (1,), (1,))
    net = quantnet(
        [QuantSource("x", (1,), 1, 1.0)],
        [population("a", (1,), bias_mantissa=900), population("b", (1,))],
        [QuantProjection("a", "b", one, 0)],
        3,
    )
    assert list(legality._timing(net, Schedule({"x": 0, "a": 2, "b": 3}, (0,)))) == []
    assert list(legality._timing(net, Schedule({"x": 0, "a": 2, "b": 4}, (0,)))) == [
        "b is reached 3 steps late, its depth is 4"
    ]
    assert list(legality._timing(net, Schedule({"x": 0, "a": -1, "b": 0}, (0,)))) == [
        "a is reached -1 steps late, its depth is -1"
    ]


@pytest.mark.parametrize(
    ("limits", "line"),
    [
        ({"weight_bits": 7}, "weights have 8 bits, loihi2 stores 7"),
        ({"state_bits": 23}, "states have 24 bits, loihi2 has 23"),
        ({"spike_bits": 11}, "in sends 12 bits, loihi2 carries 11"),
        ({"max_delay": 0}, "a -> c has delay 1, loihi2 has 0 .. 0"),
    ],
)
def test_what_no_core_can_mend_is_named(limits: dict[str, int], line: str) -> None:
    net, schedule, profile, placed = mapped()
    assert violations(net, schedule, small(profile, **limits), placed) == [line]


def test_a_negative_delay_is_named() -> None:
    net, schedule, profile, placed = mapped()
    found = violations(net, replace(schedule, delays=(-1, *schedule.delays[1:])), profile, placed)
    assert "in -> a has delay -1, loihi2 has 0 .. 62" in found


def test_enforce_raises_with_every_line_and_skips_what_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    net, schedule, profile, placed = mapped()
    assert enforce(net, schedule, profile, placed)
    less = small(profile, weight_bits=7, state_bits=23)
    with pytest.raises(AssertionError) as error:
        enforce(net, schedule, less, placed)
    assert str(error.value) == "weights have 8 bits, loihi2 stores 7; states have 24 bits, loihi2 has 23"
    monkeypatch.setattr(legality, "WORTH", 10)
    assert not enforce(net, schedule, less, placed)


def test_the_checker_shares_no_code_with_the_mapper() -> None:
    text = Path(legality.__file__).read_text(encoding="utf-8")
    for module in ("place", "fit", "fanout", "mesh"):
        assert f"snnergy.deploy.{module} " not in text and f"import {module}\n" not in text


# where it is used


def nir_path(folder: Path) -> Path:
    full = np.array([[2.0, -1.0], [0.5, 1.5], [1.0, 1.0]])
    found = chain((2,), nir.Affine(full, np.zeros(3)), lif((3,)), nir.Linear(np.ones((1, 3))), lif((1,)))
    nir_file.write(found, folder / "a.nir")
    return folder / "a.nir"


@pytest.mark.parametrize(
    ("module", "command"),
    [
        (check_model, lambda path: check_model.check_model(path, ["loihi2"], None, steps=3, dt_s=1e-4, placing=True)),
        (deploy_model, lambda path: deploy_model.deploy(path, "loihi2-sim", spec="random", steps=3, dt_s=1e-4)),
    ],
)
def test_a_mapper_that_overfills_a_core_is_caught_before_anything_runs(
    module: Any, command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real mapper, told of larger cores than the chip has."""
    path = nir_path(tmp_path)
    job = prepare(path, steps=3, dt_s=1e-4)
    for owner in (module, targets):
        monkeypatch.setattr(owner, "load", lambda name: small(load(name), neurons=2), raising=False)
    monkeypatch.setattr(module, "place", lambda net, schedule, *_, **__: place(net, schedule, LOIHI2))
    assert len(place(job.quant, job.schedule, LOIHI2).cores) == 1
    with pytest.raises(AssertionError, match=r"^chip 0 core 0 holds 4 neurons, allowed 2$"):
        command(path)
