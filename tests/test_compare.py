import copy
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnergy.deploy.compare import Difference, Pair, Tally, Trains, accuracy
from snnergy.export.quantnet import STATE_LIMIT

Arrays = dict[str, Any]


def arrays(**values: Any) -> Arrays:
    return {name: np.asarray(v, np.float64) for name, v in values.items()}


def compare(a: Trains, b: Trains, order: tuple[str, ...], demand: Any = "exact", chunk: int | None = None) -> Pair:
    tally = Tally("net", "native", order, demand)
    count = len(next(iter((a.spikes | a.membranes).values())))
    for start in range(0, count, chunk or count):
        tally.add(*(cut(trains, slice(start, start + (chunk or count))) for trains in (a, b)))
    return tally.pair()


def cut(trains: Trains, some: slice) -> Trains:
    parts = [
        {name: x[some] for name, x in found.items()} for found in (trains.spikes, trains.membranes, trains.currents)
    ]
    return Trains(*parts, trains.real)


def spikes(**values: Any) -> Trains:
    return Trains(arrays(**values), {})


def readouts(**values: Any) -> Trains:
    return Trains({}, arrays(**values))


def test_the_first_difference_is_by_sample_then_step_then_order() -> None:
    a = arrays(p=np.zeros((2, 3, 2)), q=np.zeros((2, 3, 2)))
    b = copy.deepcopy(a)
    b["q"][1, 0, 1] = b["p"][0, 2, 0] = b["q"][0, 1, 1] = b["q"][0, 1, 0] = b["p"][0, 1, 1] = 1
    left, right = Trains(a, {}), Trains(b, {})
    assert compare(left, right, ("p", "q")).first == Difference(0, 1, "p", (1,), 0.0, 1.0)
    assert compare(left, right, ("q", "p")).first == Difference(0, 1, "q", (0,), 0.0, 1.0)
    assert compare(left, right, ("p", "q")).differing == 5


@given(st.integers(0, 2**32), st.integers(1, 5))
def test_chunks_of_samples_change_nothing(seed: int, chunk: int) -> None:
    rng = np.random.default_rng(seed)

    def trains() -> Trains:
        fired = {name: (rng.random((5, 3, 2)) < 0.3).astype(np.int32) for name in ("p", "q")}
        states = {name: rng.integers(-1, 2, (5, 3, 2)) * STATE_LIMIT for name in ("p", "q", "r")}
        return Trains(fired, states, dict(states), dict.fromkeys(states, 64.0))

    a, b = trains(), trains()
    order = ("q", "r", "p")
    assert compare(a, b, order, chunk=chunk) == compare(a, b, order)


def test_only_float_readouts_may_differ_and_only_by_rounding() -> None:
    one, near, far = (readouts(r=[[[1.0, x]]]) for x in (2.0, 2.0 + 1e-12, 2.0 + 1e-6))
    assert compare(one, near, ("r",)).equal
    assert compare(one, near, ("r",)).output_error == 0
    assert not compare(one, far, ("r",)).equal
    assert compare(one, far, ("r",)).output_error == pytest.approx(1e-6)
    units = {"r": 64.0}
    whole = [Trains({}, {"r": np.array([[[x]]])}, {}, units) for x in (1 << 30, (1 << 30) + 1)]
    assert not compare(whole[0], whole[1], ("r",)).equal


def test_a_readout_that_is_shown_once_stands_for_the_last_step() -> None:
    logits, trace = readouts(r=[[[3.0]]]), readouts(r=[[[1.0], [2.0], [4.0]]])
    pair = compare(logits, trace, ("r",))
    assert (pair.compared, pair.differing, pair.output_error) == (1, 1, 1.0)
    assert pair.first == Difference(0, 2, "r", (0,), 3.0, 4.0, "membrane")


def test_a_readout_that_is_not_a_number_is_not_equal_and_prints_as_json() -> None:
    pair = compare(readouts(r=[[[1.0, 1.0]]]), readouts(r=[[[np.nan, 3.0]]]), ("r",))
    assert not pair.equal and (pair.differing, pair.output_error) == (2, None)
    plain = json.loads(json.dumps(pair.to_dict(), allow_nan=False))
    assert plain["output_error"] is None and plain["first"]["right"] is None and plain["first"]["left"] == 1.0


def test_states_are_compared_where_both_sides_show_them() -> None:
    fired = {"p": np.array([[[0], [1]]])}
    for quantity, k in (("membrane", 1), ("current", 2)):
        sides = [[fired, {"p": np.array([[[5], [0]]])}, {"p": np.array([[[7], [8]]])}, {"p": 64.0}] for _ in range(2)]
        sides[1][k]["p"][0, 1, 0] += 1  # type: ignore[index]
        a, b = (Trains(*side) for side in sides)  # type: ignore[arg-type]
        pair = compare(a, b, ("p",))
        assert pair.first is not None and pair.first.quantity == quantity
        assert (pair.compared, pair.differing, pair.first.step) == (2, 1, 1)
        assert compare(a, b, ("p",), "agreement").equal
        assert compare(a, Trains(fired, {}), ("p",)).equal


def test_agreement_counts_spikes_and_measures_readouts_in_real_units() -> None:
    a = Trains(arrays(p=[[[0, 1], [1, 1]]]), arrays(r=[[[0.5], [0.75]]]))
    b = Trains({"p": np.array([[[0, 1], [1, 0]]])}, {"r": np.array([[[32], [64]]])}, {}, {"p": 64.0, "r": 64.0})
    pair = compare(a, b, ("p", "r"), "agreement")
    assert (pair.compared, pair.differing, pair.output_error) == (4, 1, 0.25)
    assert pair.agreement == 0.75 and pair.ok
    assert [(row.population, row.left_rate, row.right_rate) for row in pair.rows] == [
        ("p", 0.75, 0.5),
        ("r", None, None),
    ]
    assert [row.agreement for row in pair.rows] == [0.75, 1.0]


def test_agreement_fails_below_what_was_asked_for_and_says_so() -> None:
    tally = Tally("net", "native", ("p",), "agreement")
    tally.add(spikes(p=[[[0, 1, 1, 1]]]), spikes(p=[[[0, 1, 1, 0]]]))
    assert tally.pair(at_least=0.75).ok
    pair = tally.pair(at_least=0.8, reason="weights are rounded")
    assert not pair.ok
    assert str(pair) == (
        "Net ~ native: 1 of 4 neuron-steps differ (1 samples, 1 populations): agreement 75.0000%, below 80.0000%; "
        "weights are rounded"
    )


def test_saturation_is_the_share_of_membranes_at_either_end() -> None:
    v = np.array([[[STATE_LIMIT, -STATE_LIMIT, 5, STATE_LIMIT - 1]]])
    trains = Trains({"p": v * 0}, {"p": v}, {"p": v}, {"p": 64.0})
    assert compare(trains, trains, ("p",)).rows[0].saturated == 0.5
    assert compare(spikes(p=v * 0), spikes(p=v * 0), ("p",)).rows[0].saturated is None


def test_a_population_that_only_one_side_knows_is_left_out() -> None:
    pair = compare(spikes(p=[[[1]]]), spikes(p=[[[1]]], q=[[[1]]]), ("p", "q"))
    assert pair.equal and [row.population for row in pair.rows] == ["p"]


def test_sides_that_each_know_something_else_are_our_own_mistake() -> None:
    with pytest.raises(AssertionError, match="show different populations"):
        compare(spikes(p=[[[1]]], r=[[[1]]]), spikes(p=[[[1]]], q=[[[1]]]), ("p", "q"))


def test_accuracy_is_that_of_both_sides_over_all_chunks() -> None:
    tally = Tally("net", "native", ("p",), "agreement", "p")
    tally.add(spikes(p=[[[1, 0], [1, 0]]]), spikes(p=[[[0, 1], [0, 0]]]))
    tally.add(spikes(p=[[[0, 0], [0, 1]]]), spikes(p=[[[0, 1], [0, 0]]]))
    pair = tally.pair(np.array([0, 1]))
    assert pair.accuracy == (1.0, 0.5)
    assert pair.to_dict()["accuracy"] == {"left": 1.0, "right": 0.5, "drop": 0.5}
    assert "; accuracy 100.00% -> 50.00%" in str(pair)


def test_accuracy_gives_a_tie_to_the_lower_class() -> None:
    assert accuracy(np.array([[1, 1], [0, 2], [5, 1]]), np.array([0, 1, 1])) == 2 / 3


def test_a_difference_prints_where_it_is() -> None:
    text = str(Difference(3, 1, "conv", (0, 2, 5), 1.0, 0.0))
    assert text == "sample 3, step 1, population 'conv', neuron [0, 2, 5]: spike 1 against 0"


def test_a_pair_goes_to_json() -> None:
    plain = compare(spikes(p=[[[0.0]]]), spikes(p=[[[1.0]]]), ("p",)).to_dict()
    assert plain["equal"] is plain["ok"] is False
    assert plain["first"]["population"] == "p" and plain["first"]["neuron"] == (0,)
    assert json.loads(json.dumps(plain["populations"])) == [
        {"population": "p", "neurons": 1, "compared": 1, "differing": 1, "left_rate": 0.0, "right_rate": 1.0,
         "saturated": None, "extreme_weights": None, "agreement": 0.0}
    ]  # fmt: skip
