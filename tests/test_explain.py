import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
from builders import DT_S, chain, lif, population, quantnet, readout
from hypothesis import given, reject
from hypothesis import strategies as st

from snnergy.deploy import engine, shrink, verify
from snnergy.deploy.explain import Explanation
from snnergy.deploy.forms import Subject
from snnergy.deploy.job import Inputs, from_graph
from snnergy.errors import SnnergyError
from snnergy.export.lower import lower
from snnergy.export.maps import Dense
from snnergy.export.quantize import quantize
from snnergy.export.quantnet import QuantNet, QuantProjection, QuantSource
from snnergy.testing.cases import Case
from snnergy.testing.strategies import nir_graphs, quantnets

pytestmark = pytest.mark.usefixtures("one_thread")


def dense(weight: Any) -> Dense:
    w = np.asarray(weight, np.int8)
    return Dense(w, (w.shape[1],), (w.shape[0],))


def small_net() -> QuantNet:
    """in -> a -> b, b reads a now and one step ago, and itself; r sums b."""
    edges = [
        QuantProjection("in", "a", dense([[60, 0], [0, 60], [50, 50]]), 0),
        QuantProjection("a", "b", dense([[40, 40, 40]]), 0),
        QuantProjection("a", "b", dense([[-10, 5, 0]]), 0, 1),
        QuantProjection("b", "b", dense([[7]]), 1, 1),
        QuantProjection("b", "r", dense([[100]]), 0),
    ]
    populations = [
        population("a", (3,), threshold=59, decay=4096),
        population("b", (1,), threshold=79, decay=2048, current_decay=2048, bias_mantissa=33, bias_exponent=1),
        readout("r", (1,)),
    ]
    return quantnet([QuantSource("in", (2,), 1, 1.0)], populations, edges, 4)


SHOWN = {"in": np.array([[1.0, 0.0], [1.0, 1.0]])}


def explained(subject: Subject, pair: tuple[str, str], real: dict[str, Any]) -> Explanation:
    found = verify.verify(subject, Inputs("test", real, None, ""), [pair])[0].explanation
    assert found is not None
    return found


def quant_subject(net: QuantNet) -> Subject:
    return Subject(net.steps, net.dt_s, quant=net)


def test_a_neuron_that_does_not_do_what_its_step_says_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = engine.run

    def wrong(net: QuantNet, inputs: Any, **settings: Any) -> Any:
        low = [replace(p, threshold=p.threshold - 30) if p.name == "b" else p for p in net.populations]
        return honest(replace(net, populations=tuple(low)), inputs, **settings)

    monkeypatch.setattr(engine, "run", wrong)
    found = explained(quant_subject(small_net()), ("quant-torch", "native"), SHOWN)
    assert (found.first.sample, found.first.step, found.first.population) == (0, 1, "b")
    assert (found.left.fired, found.right.fired) == (False, True)
    assert (found.left.fires, found.right.fires) == (False, False)
    assert found.left.membrane == found.right.membrane <= 79 * 64
    assert found.verdict == (
        "all inputs of this neuron in this step are equal; "
        "the difference is in the neuron itself: native did not do what its step says"
    )


def test_the_step_is_done_again_by_hand() -> None:
    """b in step 1: current 2560 / 2 + (40 - 10 + 0) * 64 = 3200, membrane (2560 + 66) / 2 + 3200 + 66 = 4579."""
    net = small_net()
    record = engine.run(net, {"in": SHOWN["in"].astype(int)}, states=("b",))
    assert record.membranes["b"][0, :2, 0].tolist() == [2626, 4579]
    other = replace(net, populations=tuple(replace(p, threshold=p.threshold - 10) for p in net.populations))
    from snnergy.deploy import explain as module
    from snnergy.deploy.compare import Difference
    from snnergy.deploy.forms import FORMS

    native = FORMS["native"].run(quant_subject(net), {"in": SHOWN["in"][:1]})
    first = Difference(0, 1, "b", (0,), 0.0, 1.0)
    side, parts = module._side(quant_subject(other), "native", native, native, first, {"in": SHOWN["in"][:1]}, False)
    assert (side.before, side.current_before, side.bias) == (2626, 2560, 66)
    assert [part.total for part in parts] == [2560, -640, 0]
    assert (side.arrived, side.current, side.membrane) == (1920, 3200, 4579)
    assert (side.threshold, side.after, side.expected) == (69 * 64, 4579, 0)


def test_inputs_that_differ_are_listed_with_their_weights() -> None:
    """In torch the source sends 0.5; on the chip, in one bit, 0."""
    nodes = chain((2,), nir.Linear(np.array([[1.0, 0.25]])), lif((1,), tau=DT_S, threshold=0.4), nir.I(np.ones(1)))
    job = from_graph(Path("x.nir"), nodes, steps=2)
    coarse = replace(job.quant, sources=tuple(replace(s, bits=1, scale=1.0) for s in job.quant.sources))
    subject = Subject(2, DT_S, graph=job.graph, net=job.net, quant=coarse)
    found = explained(subject, ("net", "native"), {"in": np.array([[0.45, 1.0]])})
    assert found.unit == "real units"
    assert (found.left.fired, found.right.fired) == (True, False)
    assert found.left.membrane == pytest.approx(0.7)
    [feed] = found.feeds
    assert (feed.source, feed.inputs, feed.differing) == ("in", 2, 1)
    [one] = feed.listed
    assert (one.neuron, one.left, one.right) == ((0,), 0.45, 0.0)
    assert one.left_weight == 1.0
    assert found.verdict.startswith("inputs of this neuron differ: 1 of 2 from 'in'; ")
    assert found.verdict.endswith("weights, inputs, decays and thresholds are rounded to the chip's integers")


def test_truncation_is_given_as_the_reason() -> None:
    """v = 64 keeps 64 / 4096 in float and 0 on the chip; with 64 more it passes a threshold of 64."""
    edge = QuantProjection("in", "p", dense([[1]]), 0)
    net = quantnet([QuantSource("in", (1,), 1, 1.0)], [population("p", (1,), threshold=1, decay=4095)], [edge], 2)
    subject = quant_subject(net)
    real = {"in": np.ones((1, 1))}
    assert verify.verify(subject, Inputs("", real, None, ""), [("quant-torch", "native")])[0].equal
    found = explained(subject, ("quant-float", "native"), real)
    assert (found.left.membrane, found.right.membrane, found.left.threshold) == (64 + 64 / 4096, 64.0, 64.0)
    assert found.verdict == (
        "all inputs of this neuron in this step are equal; "
        "the chip truncates membranes and currents toward zero and shifted sums down; torch keeps the fractions"
    )
    assert (
        str(found)
        == """\
quant-float and native first differ at sample 0, step 1, population 'p', neuron [0]: spike 1 against 0
  in membrane units, 64 a unit of weight:
                              quant-float            native
    membrane before                    64                64
    synaptic current                   64                64
    bias                                0                 0
    membrane                    64.015625                64
    threshold                          64                64
    fires by definition               yes                no
    fired                             yes                no
    membrane after                      0                64
    from 'in'                          64                64  1 inputs, all equal
  all inputs of this neuron in this step are equal; the chip truncates membranes and currents toward zero and shifted \
sums down; torch keeps the fractions"""
    )


def test_a_graph_against_a_changed_net_shows_both_membranes() -> None:
    nodes = chain((2,), nir.Linear(np.eye(2)), lif((2,)), nir.Linear(np.ones((1, 2))), nir.I(np.ones(1)))
    job = from_graph(Path("x.nir"), nodes, steps=3)
    halved = [replace(p, threshold=p.threshold / 2) if p.name == "n1" else p for p in job.net.populations]
    net = replace(job.net, populations=tuple(halved))
    found = explained(Subject(3, DT_S, graph=job.graph, net=net), ("nir", "net"), {"in": np.array([[0.2, 0.9]])})
    assert (found.first.population, found.first.neuron, found.unit) == ("n1", (1,), "real units")
    assert (found.left.fired, found.right.fired) == (False, True)
    assert found.left.membrane == found.right.membrane == pytest.approx(0.9)
    assert found.verdict.endswith("the difference is in the neuron itself: nir did not do what its step says")


def test_it_goes_to_json_without_what_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    found = explained(*_truncated())
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["left"]["membrane"] == 64.015625 and plain["feeds"][0]["source"] == "in"
    broken = replace(found, left=replace(found.left, membrane=float("nan")))
    assert json.loads(json.dumps(broken.to_dict(), allow_nan=False))["left"]["membrane"] is None


def _truncated() -> tuple[Subject, tuple[str, str], dict[str, Any]]:
    edge = QuantProjection("in", "p", dense([[1]]), 0)
    net = quantnet([QuantSource("in", (1,), 1, 1.0)], [population("p", (1,), threshold=1, decay=4095)], [edge], 2)
    return quant_subject(net), ("quant-float", "native"), {"in": np.ones((1, 1))}


@given(quantnets(), st.sampled_from(["native", "quant-torch"]))
def test_a_form_that_is_right_is_never_blamed(drawn: tuple[QuantNet, dict[str, Any]], right: str) -> None:
    """Loops, delays, currents, wraps and saturation: the definition is what the form did."""
    subject, real = shrink.subject_of(Case(*drawn, {}))
    pair = verify.verify(subject, real, [("quant-float", right)])[0]
    if pair.explanation is not None:
        assert "did not do" not in pair.explanation.verdict
        assert pair.explanation.right.after == pair.explanation.right.expected
        assert json.dumps(pair.to_dict(), allow_nan=False) and str(pair.explanation)


@given(nir_graphs())
def test_every_form_of_a_graph_is_explained(sample: Any) -> None:
    net = lower(sample.graph, sample.dt_s)
    try:
        quant = quantize(net, sample.steps)
    except SnnergyError:
        reject()
    subject = Subject(sample.steps, sample.dt_s, graph=sample.graph, net=net, quant=quant)
    real = Inputs("test", sample.inputs, None, "")
    for pair in verify.verify(subject, real, [("nir", "native"), ("net", "native"), ("net", "quant-float")]):
        if pair.explanation is not None:
            assert "did not do" not in pair.explanation.verdict
            assert pair.explanation.unit == "real units"
