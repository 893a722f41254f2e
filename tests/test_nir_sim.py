"""The independent reading of NIR against closed forms and torch; against ``Net`` it stands in test_lower."""

from typing import Any

import nir
import numpy as np
import pytest
import torch
from builders import DT_S, Odd, chain, graph, lif, threshold
from hypothesis import given
from hypothesis import strategies as st

from snnergy.errors import BadInput, UnsupportedLayer
from snnergy.export import nir_sim

pytestmark = pytest.mark.usefixtures("one_thread")


def run(nir_graph: nir.NIRGraph, x: Any, steps: int = 1) -> dict[str, Any]:
    return nir_sim.run(nir_graph, {"in": np.asarray(x, np.float64)}, steps, DT_S)


def test_lif_is_forward_euler_with_a_reset_in_the_step_of_the_spike() -> None:
    node = lif((1,), tau=4 * DT_S, r=2.0, threshold=0.9, leak=0.2)
    v, expected = 0.0, []
    for _ in range(12):
        v += ((0.2 - v) + 2.0 * 1.0) / 4
        expected.append(float(v > 0.9))
        v = 0.0 if v > 0.9 else v
    assert run(chain((1,), node), [[1.0]], 12)["n0"].ravel().tolist() == expected
    assert 0 < sum(expected) < 12


def test_the_comparison_is_strict() -> None:
    assert run(chain((2,), threshold((2,), 0.5)), [[0.5, 0.6]])["n0"].tolist() == [[[0.0, 1.0]]]


def test_readouts_return_their_membrane() -> None:
    full = np.ones(1)
    assert run(chain((1,), nir.I(full * 3)), [[2.0]], 3)["n0"].ravel().tolist() == [6.0, 12.0, 18.0]
    found = run(chain((1,), nir.LI(full * 2 * DT_S, full, full * 0)), [[1.0]], 3)["n0"].ravel().tolist()
    assert found == [0.5, 0.75, 0.875]


@given(
    st.tuples(st.integers(1, 3), st.integers(1, 4)), st.tuples(st.integers(1, 3), st.integers(1, 2)),
    st.tuples(st.integers(0, 2), st.integers(0, 3)), st.tuples(st.integers(1, 2), st.integers(1, 2)),
    st.integers(1, 3), st.integers(0, 2**32),
)  # fmt: skip
def test_conv2d_is_torchs(kernel: Any, stride: Any, padding: Any, dilation: Any, groups: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight, bias = rng.normal(size=(2 * groups, 2, *kernel)), rng.normal(size=2 * groups)
    x = rng.normal(size=(3, 2 * groups, 7, 8))
    theirs = torch.nn.functional.conv2d(*map(torch.from_numpy, (x, weight, bias)), stride, padding, dilation, groups)
    node = nir.Conv2d((7, 8), weight, stride, padding, dilation, groups, bias)
    found = run(chain(x.shape[1:], node, nir.I(np.ones(theirs.shape[1:]))), x)["n1"][:, 0]
    np.testing.assert_allclose(found, theirs.numpy(), atol=1e-12)


@pytest.mark.parametrize("kernel", [(2, 3), (3, 1)])
def test_pools_are_torchs(kernel: Any) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 6, 7))
    theirs = torch.nn.functional.avg_pool2d(torch.from_numpy(x), kernel, (2, 1), 0).numpy()
    full = nir.I(np.ones(theirs.shape[1:]))
    arguments = (np.array(kernel), np.array((2, 1)), np.array(0))
    average = run(chain((3, 6, 7), nir.AvgPool2d(*arguments), full), x)["n1"][:, 0]
    total = run(chain((3, 6, 7), nir.SumPool2d(*arguments), full), x)["n1"][:, 0]
    np.testing.assert_allclose(average, theirs, atol=1e-12)
    np.testing.assert_allclose(total, theirs * np.prod(kernel), atol=1e-12)


def test_joins_are_sums_and_a_neuron_without_input_gets_none() -> None:
    nodes = {
        "in": nir.Input({"input": np.array([1])}),
        "alone": nir.I(np.ones(1)),
        "sum": nir.I(np.ones(1)),
        "twice": nir.Scale(np.full(1, 2.0)),
        "out": nir.Output({"output": np.array([1])}),
        "out2": nir.Output({"output": np.array([1])}),
    }
    found = run(graph(nodes, ("in", "sum"), ("in", "twice"), ("twice", "sum"), ("sum", "out")), [[1.5]])
    assert found["sum"].item() == 4.5 and found["alone"].item() == 0.0


def test_a_node_without_a_reference_is_refused() -> None:
    with pytest.raises(UnsupportedLayer) as error:
        run(chain((1,), Odd((1,))), [[0.0]])
    assert str(error.value) == "no reference step for a Odd node"


# currents


def test_cuba_lif_steps_its_current_first_and_adds_the_new_one() -> None:
    one = np.ones(1)
    node = nir.CubaLIF(4 * DT_S * one, 2 * DT_S * one, 1.5 * one, 0.2 * one, 0.6 * one, 0 * one, 3.0 * one)
    current = v = 0.0
    expected: list[float] = []
    for _ in range(12):
        current += (3.0 * 0.4 - current) / 4
        v += ((0.2 - v) + 1.5 * current) / 2
        expected.append(float(v > 0.6))
        v = 0.0 if v > 0.6 else v
    assert run(chain((1,), node), [[0.4]], 12)["n0"].ravel().tolist() == expected
    assert 0 < sum(expected) < 12


def test_cuba_li_returns_its_membrane() -> None:
    one = np.ones(1)
    node = nir.CubaLI(2 * DT_S * one, DT_S * one, one, 0 * one, 2 * one)
    assert run(chain((1,), node), [[1.0]], 3)["n0"].ravel().tolist() == [1.0, 1.5, 1.75]


# time


def readout(shape: tuple[int, ...] = (1,)) -> nir.Threshold:
    return threshold(shape, 0.5)


@pytest.mark.parametrize("steps", [0, 1, 2, 20])
def test_a_delay_puts_out_nothing_and_then_what_was_sent(steps: int) -> None:
    found = run(chain((1,), nir.Delay(np.full(1, steps * DT_S)), readout()), [[1.0]], 25)["n1"].ravel()
    assert found.tolist() == [0.0] * steps + [1.0] * (25 - steps)


def test_every_value_has_its_own_delay() -> None:
    found = run(chain((3,), nir.Delay(np.array([2.0, 0.0, 1.0]) * DT_S), readout((3,))), [[1.0, 1.0, 1.0]], 3)["n1"]
    assert found[0].tolist() == [[0, 1, 0], [0, 1, 1], [1, 1, 1]]


@pytest.mark.parametrize("seconds", [0.5 * DT_S, -DT_S])
def test_a_delay_of_no_whole_step_is_refused(seconds: float) -> None:
    with pytest.raises(BadInput) as error:
        run(chain((1,), nir.Delay(np.full(1, seconds)), readout()), [[1.0]])
    assert str(error.value) == f"node 'n0' delays by {seconds:g} s; whole steps of 0.0001 s are needed"


def looped(*edges: tuple[str, str], **nodes: nir.NIRNode) -> nir.NIRGraph:
    ends = {"in": nir.Input({"input": np.array([1])}), "out": nir.Output({"output": np.array([1])})}
    return graph({"in": ends["in"], **nodes, "out": ends["out"]}, *edges)


def count() -> nir.Threshold:
    """Fires from an input of 1 on."""
    return threshold((1,), 0.9)


def test_a_neuron_hears_itself_one_step_later() -> None:
    """+1 always, -1 after a spike: every other step."""
    inhibit = nir.Linear(np.array([[-1.0]]))
    net = looped(("in", "a"), ("a", "back"), ("back", "a"), ("a", "out"), a=count(), back=inhibit)
    assert nir_sim.closing(net, DT_S)[0] == {("back", "a")}
    assert run(net, [[1.0]], 5)["a"].ravel().tolist() == [1, 0, 1, 0, 1]


def test_a_loop_through_a_delay_takes_what_the_delay_says() -> None:
    back = nir.Linear(np.array([[-1.0]]))
    edges = (("in", "a"), ("a", "wait"), ("wait", "back"), ("back", "a"), ("a", "out"))
    net = looped(*edges, a=count(), wait=nir.Delay(np.full(1, 2 * DT_S)), back=back)
    assert nir_sim.closing(net, DT_S)[0] == set()
    assert run(net, [[1.0]], 8)["a"].ravel().tolist() == [1, 1, 0, 0, 1, 1, 0, 0]


def test_a_delay_of_no_step_does_not_open_a_loop() -> None:
    back = nir.Linear(np.array([[-1.0]]))
    edges = (("in", "a"), ("a", "wait"), ("wait", "back"), ("back", "a"), ("a", "out"))
    net = looped(*edges, a=count(), wait=nir.Delay(np.zeros(1)), back=back)
    assert nir_sim.closing(net, DT_S)[0] == {("back", "a")}
    assert run(net, [[1.0]], 4)["a"].ravel().tolist() == [1, 0, 1, 0]


def test_the_files_order_says_which_edge_closes_a_loop() -> None:
    nodes = {"a": count(), "b": count()}
    ring = (("a", "b"), ("b", "a"))
    assert nir_sim.closing(looped(("in", "a"), *ring, **nodes), DT_S)[0] == {("b", "a")}
    assert nir_sim.closing(looped(("in", "b"), *ring, **nodes), DT_S)[0] == {("a", "b")}
    assert nir_sim.closing(looped(*ring, **nodes), DT_S)[0] == {("b", "a")}, "the first node in the file is the root"
    assert nir_sim.closing(looped(*ring, **dict(reversed(nodes.items()))), DT_S)[0] == {("a", "b")}


def test_the_bias_in_a_loop_has_always_been_there() -> None:
    """The edge that closes the loop carries the bias in the first step, before the neuron could fire."""
    always = nir.Affine(np.array([[0.0]]), np.array([1.0]))
    net = looped(("in", "a"), ("a", "back"), ("back", "a"), ("a", "out"), a=count(), back=always)
    assert run(net, [[0.0]], 3)["a"].ravel().tolist() == [1, 1, 1]


def test_the_bias_before_a_delay_has_always_been_there() -> None:
    always = nir.Affine(np.array([[1.0]]), np.array([1.0]))
    found = run(chain((1,), always, nir.Delay(np.full(1, 2 * DT_S)), nir.I(np.ones(1))), [[10.0]], 3)["n2"]
    assert found.ravel().tolist() == [1, 2, 13]


def test_a_loop_without_a_neuron_is_refused() -> None:
    nodes = {"x": nir.Scale(np.ones(1)), "y": nir.Scale(np.ones(1)), "a": count()}
    with pytest.raises(UnsupportedLayer) as error:
        run(looped(("in", "x"), ("x", "y"), ("y", "x"), ("y", "a"), ("a", "out"), **nodes), [[1.0]])
    assert str(error.value) == "the loop y -> x -> y has no neuron in it"
