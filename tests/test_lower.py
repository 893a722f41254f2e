import itertools
from math import prod
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import torch
from builders import DT_S, Odd, chain, graph, lif, nir_graphs, threshold
from hypothesis import given, settings
from hypothesis import strategies as st

from snnergy.errors import BadInput, SnnergyError, UnsupportedLayer
from snnergy.export import net_sim, nir_file, nir_sim
from snnergy.export.lower import from_nir, lower
from snnergy.export.maps import Conv, Dense, Map, Sparse, weights
from snnergy.export.net import Net, dump

pytestmark = pytest.mark.usefixtures("one_thread")
CASES = Path(__file__).resolve().parents[2] / "shared" / "cases" / "nir"


def matrix(linear: Map) -> Any:
    return linear.matrix().toarray()


def torch_matrix(function: Any, shape: tuple[int, ...]) -> Any:
    """The matrix of a linear torch function, one basis vector a column."""
    basis = torch.eye(prod(shape), dtype=torch.float64).reshape(-1, *shape)
    return function(basis).reshape(len(basis), -1).T.numpy()


def both(nir_graph: nir.NIRGraph, inputs: dict[str, Any], steps: int = 6) -> tuple[Any, Any]:
    return nir_sim.run(nir_graph, inputs, steps, DT_S), net_sim.run(lower(nir_graph, DT_S), inputs, steps)


def assert_equal(nir_graph: nir.NIRGraph, inputs: dict[str, Any], steps: int = 6) -> Net:
    net = lower(nir_graph, DT_S)
    left, right = both(nir_graph, inputs, steps)
    assert set(left) == set(right) == {p.name for p in net.populations}
    for p in net.populations:
        x, y = left[p.name].reshape(right[p.name].shape), right[p.name]
        if p.spiking:
            np.testing.assert_array_equal(x, y, err_msg=p.name)
        else:
            np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-12, err_msg=p.name)
    return net


# the meaning is kept


@settings(max_examples=40)
@given(nir_graphs())
def test_without_passes_the_net_is_the_graph_too(drawn: tuple[nir.NIRGraph, dict[str, Any]]) -> None:
    nir_graph, inputs = drawn
    left, right = nir_sim.run(nir_graph, inputs, 4, DT_S), net_sim.run(from_nir(nir_graph, DT_S), inputs, 4)
    for name, x in left.items():
        np.testing.assert_allclose(x.reshape(right[name].shape), right[name], rtol=1e-9, atol=1e-9, err_msg=name)


@settings(max_examples=40)
@given(nir_graphs())
def test_lowering_leaves_the_graph_alone(drawn: tuple[nir.NIRGraph, dict[str, Any]]) -> None:
    nir_graph, _ = drawn
    before = {n: {k: np.array(v) for k, v in vars(node).items() if isinstance(v, np.ndarray)}
              for n, node in nir_graph.nodes.items()}  # fmt: skip
    lower(nir_graph, DT_S)
    for name, fields in before.items():
        for key, value in fields.items():
            np.testing.assert_array_equal(getattr(nir_graph.nodes[name], key), value)


# one rule, one property

sizes = st.tuples(st.integers(1, 3), st.integers(1, 3))
pairs = st.tuples(st.integers(1, 2), st.integers(1, 2))


@given(sizes, pairs, st.tuples(st.integers(0, 2), st.integers(0, 2)), pairs, st.integers(1, 3), st.integers(0, 2**32))
def test_conv2d_becomes_one_projection_and_a_bias(
    kernel: Any, stride: Any, padding: Any, dilation: Any, groups: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    weight, bias = rng.normal(size=(2 * groups, 2, *kernel)), rng.normal(size=2 * groups)
    shape = (2 * groups, 6, 5)
    conv = Conv(weight, shape, stride, padding, dilation, groups)
    node = nir.Conv2d((6, 5), weight, stride, padding, dilation, groups, bias)
    net = lower(chain(shape, node, lif(conv.output_shape)), DT_S)
    (projection,) = net.projections
    assert isinstance(projection.map, Conv) and projection.map.groups == groups
    expected = torch_matrix(
        lambda x: torch.nn.functional.conv2d(x, torch.from_numpy(weight), None, stride, padding, dilation, groups),
        shape,
    )
    np.testing.assert_array_equal(matrix(projection.map), expected)
    np.testing.assert_allclose(net.populations[0].bias, np.repeat(bias, prod(conv.output_shape[1:])))


@pytest.mark.parametrize(("name", "expected"), [("same", (1, 2)), ("valid", (0, 0)), (1, (1, 1))])
def test_named_padding_becomes_numbers(name: Any, expected: tuple[int, int]) -> None:
    node = nir.Conv2d((6, 6), np.ones((1, 1, 3, 5)), 1, name, 1, 1, np.zeros(1))
    out = Conv(node.weight, (1, 6, 6), padding=expected).output_shape
    net = assert_equal(chain((1, 6, 6), node, lif(out)), {"in": np.random.default_rng(0).random((2, 1, 6, 6))})
    assert isinstance(net.projections[0].map, Conv) and net.projections[0].map.padding == expected


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**32))
def test_affine_and_linear_become_dense(n_in: int, n_out: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight, bias = rng.normal(size=(n_out, n_in)), rng.normal(size=n_out)
    for node, constant in ((nir.Affine(weight, bias), bias), (nir.Linear(weight), bias * 0)):
        net = lower(chain((n_in,), node, lif((n_out,))), DT_S)
        assert isinstance(net.projections[0].map, Dense)
        np.testing.assert_array_equal(matrix(net.projections[0].map), weight)
        np.testing.assert_array_equal(net.populations[0].bias, constant)


@given(st.integers(0, 2**32))
def test_scale_becomes_a_diagonal(seed: int) -> None:
    scale = np.random.default_rng(seed).normal(size=(2, 3, 2))
    net = lower(chain((2, 3, 2), nir.Scale(scale), lif((2, 3, 2))), DT_S)
    np.testing.assert_array_equal(matrix(net.projections[0].map), np.diag(scale.ravel()))


def test_a_scale_of_one_value_per_channel_becomes_a_depthwise_convolution() -> None:
    scale = np.broadcast_to(np.array([2.0, -3.0])[:, None, None], (2, 3, 3)).copy()
    net = lower(chain((2, 3, 3), nir.Scale(scale), lif((2, 3, 3))), DT_S)
    assert str(net.projections[0].map) == "conv 1x1 2->2 groups 2"
    np.testing.assert_array_equal(matrix(net.projections[0].map), np.diag(scale.ravel()))


@pytest.mark.parametrize(("kind", "function"), [(nir.SumPool2d, "sum"), (nir.AvgPool2d, "avg")])
@given(sizes, pairs, st.booleans())
def test_pools_are_torchs(kind: Any, function: str, kernel: Any, stride: Any, padded: bool) -> None:
    padding = tuple(k // 2 if padded else 0 for k in kernel)
    out = Conv(np.ones((2, 1, *kernel)), (2, 6, 5), stride, padding).output_shape
    node = kind(np.array(kernel), np.array(stride), np.array(padding))
    net = lower(chain((2, 6, 5), node, lif(out)), DT_S)
    factor = prod(kernel) if function == "sum" else 1
    expected = torch_matrix(lambda x: factor * torch.nn.functional.avg_pool2d(x, kernel, stride, padding), (2, 6, 5))
    np.testing.assert_allclose(matrix(net.projections[0].map), expected)


@pytest.mark.parametrize(
    ("start", "end", "shape"), [(0, -1, (24,)), (1, -1, (2, 12)), (0, 1, (6, 4)), (-2, -1, (2, 12))]
)
def test_flatten_keeps_every_number_in_its_place(start: int, end: int, shape: tuple[int, ...]) -> None:
    net = lower(chain((2, 3, 4), nir.Flatten({"input": np.array([2, 3, 4])}, start, end), lif(shape)), DT_S)
    assert net.populations[0].shape == shape
    np.testing.assert_array_equal(matrix(net.projections[0].map), np.eye(24))


def test_a_linear_chain_becomes_one_projection_with_its_bias_carried_through() -> None:
    rng = np.random.default_rng(3)
    kernel, first, weight, last = rng.normal(size=(2, 1, 3, 3)), rng.normal(size=2), rng.normal(size=(3, 8)), np.ones(3)
    nodes = (
        nir.Conv2d((6, 6), kernel, 1, 0, 1, 1, first),
        nir.AvgPool2d(np.array(2), np.array(2), np.array(0)),
        nir.Scale(np.full((2, 2, 2), 0.5)),
        nir.Flatten({"input": np.array([2, 2, 2])}, 0, -1),
        nir.Affine(weight, last),
        lif((3,), r=2.0),
    )
    net = lower(chain((1, 6, 6), *nodes), DT_S)
    (projection,) = net.projections
    conv = torch_matrix(lambda x: torch.nn.functional.conv2d(x, torch.from_numpy(kernel)), (1, 6, 6))
    pool = torch_matrix(lambda x: torch.nn.functional.avg_pool2d(x, 2), (2, 4, 4))
    np.testing.assert_allclose(matrix(projection.map), weight @ (0.5 * pool) @ conv)
    constant = weight @ (0.5 * np.repeat(first, 4)) + last
    np.testing.assert_allclose(net.populations[0].bias, constant)


def test_a_sum_before_a_neuron_becomes_one_projection_each() -> None:
    nodes = {
        "a": nir.Input({"input": np.array([2])}),
        "b": nir.Input({"input": np.array([2])}),
        "w": nir.Affine(np.ones((2, 2)), np.ones(2)),
        "n": lif((2,)),
        "out": nir.Output({"output": np.array([2])}),
    }
    net = lower(graph(nodes, ("a", "w"), ("b", "n"), ("w", "n"), ("n", "out")), DT_S)
    assert sorted((p.source, p.target) for p in net.projections) == [("a", "n"), ("b", "n")]
    assert [s.name for s in net.sources] == ["a", "b"]


def test_a_sum_before_a_linear_node_goes_through_it_path_by_path() -> None:
    first, second, after = (np.random.default_rng(k).normal(size=(3, 3)) for k in range(3))
    nodes = {
        "a": nir.Input({"input": np.array([3])}),
        "b": nir.Input({"input": np.array([3])}),
        "u": nir.Linear(first),
        "v": nir.Affine(second, np.ones(3)),
        "w": nir.Linear(after),
        "n": lif((3,)),
        "out": nir.Output({"output": np.array([3])}),
    }
    edges = [("a", "u"), ("b", "v"), ("u", "w"), ("v", "w"), ("b", "w"), ("w", "n"), ("n", "out")]
    net = lower(graph(nodes, *edges), DT_S)
    found: dict[str, Any] = {"a": 0.0, "b": 0.0}
    for p in net.projections:
        found[p.source] = found[p.source] + matrix(p.map)
    np.testing.assert_allclose(found["a"], after @ first)
    np.testing.assert_allclose(found["b"], after @ second + after)
    np.testing.assert_allclose(net.populations[0].bias, after @ np.ones(3))


# parameters


@given(st.floats(1.0, 50.0), st.floats(0.01, 100.0), st.floats(0.01, 10.0), st.floats(-3.0, 3.0))
def test_lif_folds_tau_r_and_leak(ratio: float, r: float, v_threshold: float, leak: float) -> None:
    net = lower(chain((1,), lif((1,), ratio * DT_S, r, v_threshold, leak)), DT_S)
    (p,) = net.populations
    gain = r / ratio
    np.testing.assert_allclose(p.decay, 1 - 1 / ratio, atol=1e-12)
    np.testing.assert_allclose(p.threshold, v_threshold / gain)
    np.testing.assert_allclose(p.bias, leak / ratio / gain, atol=1e-12)


@pytest.mark.parametrize(("r", "threshold_seen"), [(1.0, 2.0), (4.0, 0.5), (1 / DT_S, 2.0)])
def test_if_adds_r_times_its_input_and_reads_spikingjellys_r(r: float, threshold_seen: float) -> None:
    node = nir.IF(r=np.full(1, r), v_threshold=np.full(1, 2.0), v_reset=np.zeros(1))
    (p,) = lower(chain((1,), node), DT_S).populations
    assert (p.decay.item(), p.threshold.item(), p.bias.item()) == (1.0, threshold_seen, 0.0)


def test_threshold_is_a_memoryless_neuron() -> None:
    (p,) = lower(chain((1,), threshold((1,), 1.5)), DT_S).populations
    assert (p.decay.item(), p.threshold.item(), p.bias.item()) == (0.0, 1.5, 0.0)


@pytest.mark.parametrize("per_neuron", [False, True])
@pytest.mark.parametrize("kind", ["I", "LI"])
def test_a_readout_keeps_the_unit_of_its_membrane(kind: str, per_neuron: bool) -> None:
    r = np.array([0.5, 3.0, -2.0]) if per_neuron else np.full(3, 2.5)
    full = np.ones(3)
    node = nir.I(r) if kind == "I" else nir.LI(full * 4 * DT_S, r, full * 0.3)
    nir_graph = chain((2,), nir.Affine(np.arange(6.0).reshape(3, 2), full), node)
    net = assert_equal(nir_graph, {"in": np.random.default_rng(0).random((2, 2))})
    assert not net.populations[0].spiking


def test_a_tau_of_one_step_in_float32_is_one_step() -> None:
    node = lif((1,), tau=np.float64(np.float32(DT_S)))
    assert node.tau < DT_S
    (p,) = lower(chain((1,), node), DT_S).populations
    assert p.decay.item() == 0.0


def test_a_neuron_without_input_runs_on_its_leak() -> None:
    nodes = {
        "in": nir.Input({"input": np.array([1])}),
        "alone": lif((1,), leak=1.0, threshold=0.7),
        "n": lif((1,)),
        "out": nir.Output({"output": np.array([1])}),
    }
    inputs = {"in": np.zeros((2, 1))}
    nir_graph = graph(nodes, ("in", "n"), ("alone", "n"), ("n", "out"))
    assert_equal(nir_graph, inputs)
    assert both(nir_graph, inputs)[0]["alone"][0].ravel().tolist() == [0, 1, 0, 1, 0, 1]


# truth tables


@pytest.mark.parametrize("d", [1, 2, 3, 4, 8])
def test_the_fused_gate_is_key_and_any_query(d: int) -> None:
    nodes = {
        "q": nir.Input({"input": np.array([d])}),
        "k": nir.Input({"input": np.array([d])}),
        "heads": nir.Linear(np.ones((d, d))),
        "keys": nir.Scale(np.full(d, float(d))),
        "gate": threshold((d,), d + 0.5),
        "out": nir.Output({"output": np.array([d])}),
    }
    edges = [("q", "heads"), ("k", "keys"), ("heads", "gate"), ("keys", "gate"), ("gate", "out")]
    bits = np.array(list(itertools.product((0.0, 1.0), repeat=d)))
    q, k = np.repeat(bits, len(bits), 0), np.tile(bits, (len(bits), 1))
    expected = k * q.any(1, keepdims=True)
    for found in both(graph(nodes, *edges), {"q": q, "k": k}, 1):
        np.testing.assert_array_equal(found["gate"][:, 0], expected)


# what is refused

RECURRENT = {"a": lif((1,)), "b": lif((1,)), "c": lif((1,))}


def ends(nodes: dict[str, nir.NIRNode]) -> dict[str, nir.NIRNode]:
    return {"in": nir.Input({"input": np.array([1])}), **nodes, "out": nir.Output({"output": np.array([1])})}


def refused(nir_graph: nir.NIRGraph, kind: type[SnnergyError], dt_s: float = DT_S) -> str:
    with pytest.raises(kind) as error:
        lower(nir_graph, dt_s)
    assert type(error.value) is kind and "\n" not in str(error.value)
    return str(error.value)


def test_the_edge_that_closes_a_loop_takes_one_step() -> None:
    loop = graph(ends(RECURRENT), ("in", "a"), ("a", "b"), ("b", "c"), ("c", "a"), ("c", "out"))
    assert {(e.source, e.target): e.delay for e in lower(loop, DT_S).projections} == {
        ("in", "a"): 0, ("a", "b"): 0, ("b", "c"): 0, ("c", "a"): 1,
    }  # fmt: skip


def test_a_neuron_that_feeds_itself_through_weights_takes_one_step() -> None:
    nodes = {"fc": nir.Affine(np.full((1, 1), 3.0), np.full(1, 0.25)), "rec": nir.Linear(np.full((1, 1), -2.0))}
    loop = graph(ends({**nodes, "a": lif((1,))}), ("in", "fc"), ("fc", "a"), ("a", "rec"), ("rec", "fc"), ("a", "out"))
    net = lower(loop, DT_S)
    assert [(e.source, e.delay, weights(e.map).item()) for e in net.projections] == [("in", 0, 3), ("a", 1, -6)]
    assert net.populations[0].bias == 0.25


def test_a_loop_through_a_delay_node_takes_what_the_node_says() -> None:
    nodes = {"a": lif((1,)), "late": nir.Delay(np.full(1, 3 * DT_S))}
    loop = graph(ends(nodes), ("in", "a"), ("a", "late"), ("late", "a"), ("a", "out"))
    assert [e.delay for e in lower(loop, DT_S).projections] == [0, 3]


def test_a_delay_node_with_two_delays_becomes_two_projections() -> None:
    net = lower(chain((3,), nir.Delay(np.array([0.0, 2.0, 0.0]) * DT_S), lif((3,))), DT_S)
    assert [(e.delay, matrix(e.map).diagonal().tolist()) for e in net.projections] == [(0, [1, 0, 1]), (2, [0, 1, 0])]


def test_a_delay_of_half_a_step_is_one_line() -> None:
    message = refused(chain((1,), nir.Delay(np.full(1, 1.5 * DT_S)), lif((1,))), UnsupportedLayer)
    assert message == "node 'n0' delays 1.5 steps of 0.0001 s; only whole steps run"


def test_an_impossible_delay_is_one_line() -> None:
    message = refused(chain((1,), nir.Delay(np.full(1, -DT_S)), lif((1,))), BadInput)
    assert message == "node 'n0' delays -0.0001 to -0.0001 s; 0 to 65536 steps of 0.0001 s are possible"


def test_a_loop_without_a_neuron_is_one_line() -> None:
    scale = {name: nir.Scale(np.ones(1)) for name in "ab"}
    loop = graph(ends({**scale, "n": lif((1,))}), ("in", "a"), ("a", "b"), ("b", "a"), ("b", "n"), ("n", "out"))
    assert refused(loop, UnsupportedLayer) in (
        "the loop a -> b -> a holds no neuron",
        "the loop b -> a -> b holds no neuron",
    )


def cuba(w_in: float, leak: float = 0.0) -> nir.CubaLIF:
    one = np.ones(1)
    return nir.CubaLIF(
        tau_syn=one * 2 * DT_S, tau_mem=one * 4 * DT_S, r=one * 2, v_leak=one * leak, v_threshold=one, v_reset=one * 0,
        w_in=one * w_in,
    )  # fmt: skip


def test_cuba_lif_has_a_current_of_its_own() -> None:
    (p,) = lower(chain((1,), cuba(w_in=4.0, leak=0.5)), DT_S).populations
    assert (p.decay, p.current_decay) == (0.75, 0.5)
    assert p.threshold == 1 / (2 * 0.25 * 4 * 0.5)  # v_threshold over r dt/tau_mem w_in dt/tau_syn
    assert p.bias == 0.5 * 0.25 / (2 * 0.25 * 4 * 0.5)


def test_a_negative_input_weight_of_cuba_lif_stays_in_the_projection() -> None:
    net = lower(chain((1,), cuba(w_in=-4.0)), DT_S)
    assert weights(net.projections[0].map) == -2 and net.populations[0].threshold == 2


def test_the_bias_of_a_current_is_a_neuron_that_always_fires() -> None:
    net = lower(chain((1,), nir.Affine(np.ones((1, 1)), np.full(1, 0.3)), cuba(w_in=1.0)), DT_S)
    assert [p.name for p in net.populations] == ["n1.bias", "n1"]
    assert [(e.source, weights(e.map).item()) for e in net.projections] == [("n1.bias", 0.3), ("in", 1.0)]
    assert net_sim.run(net, {"in": np.zeros((1, 1))}, 3)["n1.bias"].tolist() == [[[1], [1], [1]]]


def pool(kernel: Any, stride: Any = 1, padding: Any = 0) -> nir.SumPool2d:
    return nir.SumPool2d(np.array(kernel), np.array(stride), np.array(padding))


def conv(weight: Any, **changes: Any) -> nir.Conv2d:
    fields = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, **changes}
    return nir.Conv2d(None, np.ones(weight), bias=np.zeros(weight[0]), **fields)


WINDOW = "node 'n0': a window {} with stride {}, padding {} and dilation [1, 1] has no output on [4, 4]"


@pytest.mark.parametrize(
    ("nir_graph", "kind", "message"),
    [
        (chain((1,), lif((1,), r=-2.0)), UnsupportedLayer, "node 'n0' has r -2; an input gain must be > 0"),
        (chain((1,), lif((1,), tau=0.0)), BadInput, "node 'n0' has tau 0 s; it must be > 0"),
        (chain((1,), lif((1,), tau=DT_S / 2)), BadInput,
         "node 'n0' has tau 5e-05 s, shorter than the time step 0.0001 s"),
        (chain((1,), lif((1,), r=1e-320)), BadInput,
         "node 'n0' has r 9.99989e-321; v_threshold, v_leak, v_reset over r must be finite"),
        (chain((2,), Odd((2,)), lif((2,))), UnsupportedLayer,
         "node 'n0' is a Odd, which this version does not lower"),
        (chain((2,), nir.Conv1d(2, np.ones((1, 2, 1)), 1, 0, 1, 1, np.zeros(1)), lif((2,))), BadInput,
         "node 'n0' works on [channels, x], its input has shape [2]"),
        (chain((2, 4), nir.Conv1d(5, np.ones((1, 2, 1)), 1, 0, 1, 1, np.zeros(1)), lif((1, 4))), BadInput,
         "node 'n0' expects [1, 5] pixels, its input has [1, 4]"),
        (chain((2, 4), nir.Conv1d(4, np.ones((1, 2, 5)), 1, 0, 1, 1, np.zeros(1)), lif((1, 4))), BadInput,
         "node 'n0': a window [1, 5] with stride [1, 1], padding [0, 0] and dilation [1, 1] has no output on [1, 4]"),
        (chain((2,), lif((3,))), BadInput, "node 'n0' has shape [3], its input has [2]"),
        (chain((2,), nir.Linear(np.ones((2, 3))), lif((2,))), BadInput,
         "node 'n0' has weights [2, 3], its input has shape [2]"),
        (chain((2,), nir.Affine(np.ones((3, 2)), np.ones(2)), lif((3,))), BadInput,
         "node 'n0' has 2 biases for 3 outputs"),
        (chain((2,), nir.Scale(np.ones(3)), lif((2,))), BadInput,
         "node 'n0' scales shape [3], its input has shape [2]"),
        (chain((2,), pool(2), lif((2,))), BadInput, "node 'n0' works on [channels, y, x], its input has shape [2]"),
        (chain((1, 4, 4), pool(5), lif((1,))), BadInput, WINDOW.format([5, 5], [1, 1], [0, 0])),
        (chain((1, 4, 4), pool(2, 0), lif((1,))), BadInput, WINDOW.format([2, 2], [0, 0], [0, 0])),
        (chain((1, 4, 4), pool(2, 1, -1), lif((1,))), BadInput, WINDOW.format([2, 2], [1, 1], [-1, -1])),
        (chain((1, 4, 4), pool(10**6, 1, 10**6), lif((1,))), BadInput,
         "node 'n0' has shape [1, 1000005, 1000005]; every side must be > 0, the product <= 16777216"),
        (chain((1, 4, 4), pool(2, 1, 10**9), lif((1,))), BadInput, WINDOW.format([2, 2], [1, 1], [10**9] * 2)),
        (chain((1, 4, 4), conv((1, 1, 5, 5)), lif((1,))), BadInput, WINDOW.format([5, 5], [1, 1], [0, 0])),
        (chain((2, 4, 4), conv((3, 1, 1, 1), groups=2), lif((3, 4, 4))), BadInput,
         "node 'n0' has weights [3, 1, 1, 1] in 2 groups, its input has shape [2, 4, 4]"),
        (chain((1, 4, 4), nir.Conv2d((5, 5), np.ones((1, 1, 1, 1)), 1, 0, 1, 1, np.zeros(1)), lif((1, 4, 4))), BadInput,
         "node 'n0' expects [5, 5] pixels, its input has [4, 4]"),
        (chain((1, 4, 4), conv((1, 1, 2, 2), padding="same"), lif((1, 4, 4))), UnsupportedLayer,
         "node 'n0' pads 'same' with stride [1, 1] and spans [1, 1]; give numbers"),
        (chain((2, 2), nir.Flatten({"input": np.array([2, 2])}, 2, -1), lif((4,))), BadInput,
         "node 'n0' flattens axes 2 to -1 of a shape [2, 2]"),
        (chain((10**6, 10**6), lif((2,))), BadInput,
         "node 'in' has shape [1000000, 1000000]; every side must be > 0, the product <= 16777216"),
        (chain((-3,), lif((2,))), BadInput,
         "node 'in' has shape [-3]; every side must be > 0, the product <= 16777216"),
        (chain((2,), nir.Linear(np.ones((2, 2)))), UnsupportedLayer, "output 'out' reads 'n0', a Linear"),
        (chain((1,), nir.Linear(np.full((1, 1), 1e300)), nir.Linear(np.full((1, 1), 1e300)), lif((1,))), BadInput,
         "the weights of 'n2' overflow when the nodes before it are multiplied"),
        (graph(ends({"n": lif((1,))}), ("in", "n"), ("n", "out"), ("ghost", "n")), BadInput,
         "edge 'ghost' -> 'n' names 'ghost', which the graph does not have"),
        (graph(ends({"n": lif((1,))}), ("in", "n"), ("n", "out"), ("n", "in")), BadInput,
         "edge 'n' -> 'in' runs into an Input or out of an Output"),
        (graph(ends({"n": lif((1,))}), ("in", "n"), ("n", "out"), ("out", "n")), BadInput,
         "edge 'out' -> 'n' runs into an Input or out of an Output"),
        (graph(ends({"r": nir.I(np.ones(1)), "n": lif((1,))}), ("in", "r"), ("r", "n"), ("n", "out")), UnsupportedLayer,
         "'r' (I) feeds 'n' with a membrane, not with spikes"),
        (graph(ends({"w": nir.Linear(np.ones((1, 1))), "n": lif((1,))}), ("w", "n"), ("n", "out")), BadInput,
         "node 'w' has no input"),
        (graph(ends({"n": lif((1,))}), ("in", "n")), BadInput,
         "the graph has no output; join the last population to an Output node"),
        (graph(ends({}),), BadInput, "the graph has no neurons"),
        (graph({"n": lif((1,)), "out": nir.Output({"output": np.array([1])})}, ("n", "out")), BadInput,
         "the graph has no Input node"),
        (graph({**ends({"n": lif((2,))}), "in2": nir.Input({"input": np.array([2])})}, ("in", "n"), ("in2", "n"),
               ("n", "out")), BadInput, "the inputs of node 'n' differ in shape: 'in' [1], 'in2' [2]"),
    ],
)  # fmt: skip
def test_what_no_net_can_say_is_one_line(nir_graph: nir.NIRGraph, kind: type[SnnergyError], message: str) -> None:
    with np.errstate(all="ignore"):
        found = refused(nir_graph, kind)
    assert found == message


def test_an_unknown_node_lists_what_is_lowered() -> None:
    with pytest.raises(UnsupportedLayer) as error:
        lower(chain((2,), Odd((2,)), lif((2,))), DT_S)
    linear = "Affine, AvgPool2d, Conv1d, Conv2d, CubaLI, CubaLIF, Delay, Flatten, I, IF, LI, LIF, Linear"
    assert error.value.help == f"it lowers {linear}, Scale, SumPool2d, Threshold"


def test_projections_keep_the_maps_of_identity_edges() -> None:
    net = lower(chain((2, 2), lif((2, 2)), lif((2, 2))), DT_S)
    assert [type(p.map) for p in net.projections] == [Sparse, Sparse]
    assert all(np.array_equal(matrix(p.map), np.eye(4)) for p in net.projections)


# files of other tools


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("lif_norse", "  1 [1] decay 0.96 threshold 2.5 bias 0\n"),
        ("two_lif_neurons", "  lif1 [1] decay 0.99 threshold 100 bias 1.2\n"),
        ("cnn_sinabs", "  6 [8, 8, 8] decay 1 threshold 1 bias 0\n    <- 3 sparse 4096->512"),
        ("braille_noDelay_bias_zero", "<- lif1.lif dense 38->38 w -13.3887..0.795154 delay 1"),
        (
            "braille_noDelay_noBias_subtract",
            "  lif1.lif [40] decay 0.85 current 0.75 threshold 1 bias 0\n    <- lif1.lif dense",
        ),
        ("braille_noDelay_bias_zero_subgraph", "destination node 'lif' which does not exist in the graph"),
    ],
)
def test_a_file_of_another_tool_gives_a_net_or_one_line(name: str, outcome: str) -> None:
    path = CASES / f"{name}.nir"
    if not path.exists():
        pytest.skip(f"the NIR paper's {path.name} is not here")
    try:
        found = dump(lower(nir_file.read(path), DT_S))
    except SnnergyError as error:
        found = str(error)
        assert "\n" not in found
    assert outcome in found
