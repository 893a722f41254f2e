"""The relations themselves: each changes the network, keeps every old neuron once, and what it keeps is exact."""

from typing import Any

import numpy as np
import pytest
from builders import population, quantnet, readout
from hypothesis import given, settings
from hypothesis import strategies as st
from suites import SUITES

from snnergy.deploy import engine
from snnergy.export.maps import Dense
from snnergy.export.quantnet import QuantNet, QuantProjection, QuantSource, dump, verify
from snnergy.testing import integer, metamorphic
from snnergy.testing.cases import Case
from snnergy.testing.draw import Seeded
from snnergy.testing.metamorphic import RELATIONS, Changed, Relation
from snnergy.testing.strategies import quantnets

SEEDS = range(60)


def every(relation: Relation) -> list[tuple[QuantNet, Any, Changed]]:
    found: list[tuple[QuantNet, Any, Changed]] = []
    for seed in SEEDS:
        net, inputs = integer.network(Seeded(seed), hardware=False)
        changed = relation(net, inputs, Seeded(seed))
        if changed is not None:
            found.append((net, inputs, changed))
    return found


def text(net: QuantNet) -> str:
    """Everything that a relation may change, as text: the printed form and every number."""
    arrays = [e.map.matrix().toarray() for e in net.projections] + [p.threshold for p in net.populations]
    forms = [type(e.map).__name__ for e in net.projections]
    return dump(net) + str(forms) + "".join(str(x.tolist()) for x in arrays)


@pytest.mark.parametrize("title", RELATIONS)
def test_a_relation_changes_most_networks_and_leaves_its_input_alone(title: str) -> None:
    relation, differ = RELATIONS[title], 0
    for seed in SEEDS:
        net, inputs = integer.network(Seeded(seed), hardware=False)
        before, kept = text(net), {name: x.copy() for name, x in inputs.items()}
        changed = relation(net, inputs, Seeded(seed))
        assert text(net) == before and inputs.keys() == kept.keys()
        assert all((inputs[name] == x).all() for name, x in kept.items())
        differ += changed is not None and (text(changed.net) != before or changed.inputs.keys() != kept.keys())
    assert differ >= 25


@pytest.mark.parametrize("title", RELATIONS)
def test_every_old_neuron_is_in_the_new_network_once(title: str) -> None:
    for net, _, changed in every(RELATIONS[title]):
        verify(changed.net)
        assert changed.where.keys() == {p.name for p in net.populations}
        taken: set[tuple[str, int]] = set()
        for p in net.populations:
            pieces = changed.where[p.name]
            assert sorted(np.concatenate([piece.old for piece in pieces]).tolist()) == list(range(len(p.decay)))
            new = [(piece.name, k) for piece in pieces for k in piece.new.tolist()]
            assert len(set(new)) == len(new) and not taken & set(new)
            taken |= set(new)


@pytest.mark.parametrize("title", RELATIONS)
def test_what_a_relation_draws_is_its_seeds(title: str) -> None:
    net, inputs = integer.network(Seeded(4), hardware=False)
    left, right = (RELATIONS[title](net, inputs, Seeded(9)) for _ in range(2))
    assert (left is None) == (right is None)
    if left is not None and right is not None:
        assert text(left.net) == text(right.net)


@settings(max_examples=40)
@given(quantnets(hardware=False), st.integers(0, 2**32), st.sampled_from(sorted(RELATIONS)))
def test_relations_follow_one_another(drawn: Any, seed: int, title: str) -> None:
    """What one relation made is a network like any other: the next keeps its spikes too."""
    net, inputs = drawn
    for relation in (metamorphic.reordered, metamorphic.relayed, metamorphic.in_other_forms):
        changed = relation(net, inputs, Seeded(seed))
        if changed is not None:
            net, inputs = changed.net, changed.inputs
    if RELATIONS[title](net, inputs, Seeded(seed)) is not None:
        assert SUITES[title].run(Case(net, inputs, {"seed": seed})) is None


def shifting(exponent: int) -> QuantNet:
    """Two neurons that fire, and a readout that hears both through one shift."""
    to_two = Dense(np.array([[1], [1]], np.int8), (1,), (2,))
    to_one = Dense(np.array([[1, 1]], np.int8), (2,), (1,))
    edges = [QuantProjection("x", "a", to_two, 0), QuantProjection("a", "r", to_one, exponent)]
    return quantnet(
        [QuantSource("x", (1,), 1, 1.0)], [population("a", (2,), threshold=0), readout("r", (1,))], edges, 1
    )


def test_a_sender_behind_a_shift_right_is_never_split() -> None:
    """1 + 1 shifted right once is 1, each alone is 0."""
    inputs = {"x": np.ones((1, 1), int)}
    assert metamorphic.split(shifting(-1), inputs, Seeded(0)) is None
    changed = metamorphic.split(shifting(0), inputs, Seeded(0))
    assert changed is not None and sorted(p.name for p in changed.net.populations) == ["a/a", "a/b", "r"]
    assert engine.run(changed.net, inputs).outputs["r"].item() == engine.run(shifting(0), inputs).outputs["r"].item()


def test_padded_neurons_stay_silent_though_their_synapses_have_weight() -> None:
    inputs = {"x": np.ones((1, 1), int)}
    weighted = 0
    for seed in range(20):
        changed = metamorphic.with_silent_neurons(shifting(0), inputs, Seeded(seed))
        assert changed is not None
        padded = next(p for p in changed.net.populations if p.name == "a")
        if len(padded.decay) > 2:
            (piece,) = changed.where["a"]
            silent = np.setdiff1d(np.arange(len(padded.decay)), piece.new)
            spikes = engine.run(changed.net, inputs, record=("a",)).recorded["a"]
            assert not spikes[:, :, silent].any() and spikes[:, :, piece.new].all()
            matrix = next(e for e in changed.net.projections if e.source == "a").map.matrix().toarray()
            weighted += bool(matrix[:, silent].any())
    assert weighted >= 3


def test_networks_side_by_side_run_as_each_alone() -> None:
    cases = [integer.network(Seeded(seed), steps=4, samples=2) for seed in range(8)]
    union = metamorphic.together(cases)
    names = tuple(p.name for p in union.net.populations)
    assert len(names) == sum(len(net.populations) for net, _ in cases)
    both = engine.run(union.net, union.inputs, record=names, states=names)
    for k, (net, inputs) in enumerate(cases):
        record = tuple(p.name for p in net.populations)
        alone = engine.run(net, inputs, record=record, states=record)
        for name in record:
            np.testing.assert_array_equal(alone.recorded[name], both.recorded[f"{k}/{name}"])
            np.testing.assert_array_equal(alone.membranes[name], both.membranes[f"{k}/{name}"])
            np.testing.assert_array_equal(alone.currents[name], both.currents[f"{k}/{name}"])
        for name in net.outputs:
            np.testing.assert_array_equal(alone.outputs[name], both.outputs[f"{k}/{name}"])
