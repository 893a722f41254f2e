"""The independent reading of NIR against closed forms and torch; against ``Net`` it stands in test_lower."""

from typing import Any

import nir
import numpy as np
import pytest
import torch
from builders import DT_S, chain, graph, lif, threshold
from hypothesis import given
from hypothesis import strategies as st

from snnergy.errors import UnsupportedLayer
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
        run(chain((1,), nir.Delay(np.ones(1))), [[0.0]])
    assert str(error.value) == "no reference step for a Delay node"
