import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import nir
import numpy as np
import pytest
from builders import DT_S, chain, lif
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from snnergy.deploy import engine, kernels, scan, shrink, verify
from snnergy.deploy.ddmin import minimal
from snnergy.deploy.job import Inputs
from snnergy.errors import BadInput
from snnergy.export import net_sim
from snnergy.export.maps import with_weights
from snnergy.export.quantnet import QuantNet
from snnergy.testing import cases, graphs, integer, reference
from snnergy.testing.cases import Case
from snnergy.testing.draw import Seeded

pytestmark = pytest.mark.usefixtures("one_thread")

TIE = ("advance", "y > ceiling[first + i]", "y >= ceiling[first + i]")
FLIPPED = ("conv", "oy = y + py - ky * dy", "oy = y + py - (kh - 1 - ky) * dy")
UPWARD = ("dense", "put(total, exponent", "put(total + ((1 << max(-exponent, 0)) - 1), exponent")
FORGETFUL = ("advance", "c = int32(c + kept(u[own + i], keep_u[first + i]))", "c = int32(c + 0)")


def break_kernel(monkeypatch: pytest.MonkeyPatch, name: str, right: str, wrong: str) -> None:
    """A real engine with a real fault: one expression of a kernel changed."""
    source = inspect.getsource(getattr(kernels, f"_{name}"))
    assert right in source
    space = dict(vars(kernels))
    exec(source.replace(right, wrong), space)
    broken = njit(nogil=True)(space[f"_{name}"])
    if name != "advance":
        monkeypatch.setattr(kernels, name, broken)
        return
    space = dict(vars(scan)) | {"advance": broken}
    exec(inspect.getsource(scan._scan), space)
    monkeypatch.setattr(scan, "scan", njit(nogil=True)(space["_scan"]))


def native_is_wrong(case: Case) -> bool:
    """The engine against plain Python integers."""
    assert isinstance(case.net, QuantNet)
    names = tuple(p.name for p in case.net.populations)
    found, wanted = engine.run(case.net, case.inputs, states=names), reference.run(case.net, case.inputs)
    return any(
        not np.array_equal(getattr(found, state)[n], getattr(wanted, state)[n])
        for state in ("membranes", "currents")
        for n in names
    )


def first_failure(fails: Callable[[Case], bool]) -> Case:
    for seed in range(300):
        net, inputs = integer.network(Seeded(seed))
        case = Case(net, inputs, {"pair": "quant-torch:native"})
        if fails(case):
            return case
    raise AssertionError("no network shows the fault")


def synapses(case: Case) -> int:
    return sum(e.map.matrix().nnz for e in case.net.projections)


def neurons(case: Case) -> int:
    return sum(p.decay.size for p in case.net.populations)


@pytest.mark.parametrize("fault", [TIE, FLIPPED, UPWARD, FORGETFUL], ids=["tie", "flip", "upward", "forgetful"])
def test_a_fault_of_the_engine_shrinks_to_a_few_neurons(fault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    break_kernel(monkeypatch, *fault)
    case = first_failure(native_is_wrong)
    small = shrink.shrink(case, native_is_wrong)
    assert native_is_wrong(small)
    assert neurons(small) <= 4 and synapses(small) <= 4 and len(small.net.populations) <= 2
    assert len(next(iter(small.inputs.values()))) == 1
    assert neurons(small) < neurons(case) and small.net.steps <= min(case.net.steps, 3)


def test_the_same_case_shrinks_to_the_same_case(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    break_kernel(monkeypatch, *TIE)
    case = first_failure(native_is_wrong)
    files = []
    for name in ("a.npz", "b.npz"):
        small = shrink.shrink(case, native_is_wrong)
        cases.save(tmp_path / name, small.net, small.inputs, small.about)
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1]


def test_the_input_is_not_touched(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    break_kernel(monkeypatch, *TIE)
    case = first_failure(native_is_wrong)
    cases.save(tmp_path / "before.npz", case.net, case.inputs, case.about)
    shrink.shrink(case, native_is_wrong)
    cases.save(tmp_path / "after.npz", case.net, case.inputs, case.about)
    assert (tmp_path / "before.npz").read_bytes() == (tmp_path / "after.npz").read_bytes()


def test_no_more_candidates_are_tested_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    break_kernel(monkeypatch, *TIE)
    case = first_failure(native_is_wrong)
    asked: list[Case] = []
    reported: list[tuple[int, int]] = []

    def fails(candidate: Case) -> bool:
        asked.append(candidate)
        return native_is_wrong(candidate)

    small = shrink.shrink(case, fails, checks=7, progress=lambda done, of: reported.append((done, of)))
    assert native_is_wrong(small) and len(asked) <= 7 and reported == [(k + 1, 7) for k in range(7)]


def test_a_case_that_does_not_fail_is_refused() -> None:
    net, inputs = integer.network(Seeded(0))
    with pytest.raises(BadInput) as error:
        shrink.shrink(Case(net, inputs, {}), native_is_wrong)
    assert str(error.value) == "there is nothing to shrink: the two forms do not differ on this case"


def test_a_pair_that_differs_becomes_a_file_that_replays(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    with monkeypatch.context() as broken:
        break_kernel(broken, *TIE)
        case = first_failure(shrink.differ("quant-torch", "native"))
        subject, inputs = shrink.subject_of(case)
        pairs = verify.verify(subject, inputs, [("quant-torch", "native")])
        path = tmp_path / "tie.npz"
        said = shrink.shrink_pairs(subject, inputs, pairs, str(path))
        assert said.startswith(f"wrote {path}: 1 populations, 1 neurons, ")
        assert said.endswith(f"replay it: snnergy verify --case {path}")
        assert not replay(path)[0].equal
    [pair] = replay(path)
    assert pair.name == "quant-torch:native" and pair.equal
    assert cases.load(path).about["suite"] == "native"


def replay(path: Any) -> list[Any]:
    subject, inputs, settings = verify.open_either(None, path, verify.Settings())
    return list(verify.walk(subject, inputs, settings, progress=None, say=lambda _: None))


def test_nothing_is_written_where_nothing_differs(tmp_path: Any) -> None:
    net, inputs = integer.network(Seeded(0))
    subject, real = shrink.subject_of(Case(net, inputs, {}))
    pairs = verify.verify(subject, real, [("quant-torch", "native")])
    said = shrink.shrink_pairs(subject, real, pairs, str(tmp_path / "x.npz"))
    assert said == "nothing to shrink: no pair that has to be exact differs"
    assert list(tmp_path.iterdir()) == []


def wrong_scan(p: Any, x: Any, i: Any, v: Any, honest: Any = net_sim._scan) -> Any:
    """Forgets the current of current-based neurons."""
    return honest(replace(p, current_decay=p.current_decay * 0), x, i, v)


def failing_graphs(count: int) -> list[Case]:
    fails = shrink.differ("nir", "net")
    found: list[Case] = []
    for seed in range(300):
        sample = graphs.graph(Seeded(seed))
        case = Case(sample.graph, sample.inputs, {"pair": "nir:net", "steps": sample.steps, "dt_s": sample.dt_s})
        if fails(case):
            found.append(case)
            if len(found) == count:
                return found
    raise AssertionError("too few graphs show the fault")


def test_a_fault_of_the_net_shrinks_to_a_graph_of_three_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(net_sim, "_scan", wrong_scan)
    fails = shrink.differ("nir", "net")
    for case in failing_graphs(3):
        small = shrink.shrink(case, fails)
        assert fails(small)
        kinds = {type(node) for node in small.net.nodes.values()}
        assert len(small.net.nodes) == 3 and kinds & {nir.CubaLIF, nir.CubaLI}
        assert int(small.about["steps"]) <= 3


def test_a_graph_that_differs_becomes_a_file_that_replays(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    path = tmp_path / "graph.npz"
    with monkeypatch.context() as broken:
        broken.setattr(net_sim, "_scan", wrong_scan)
        subject, inputs = shrink.subject_of(failing_graphs(1)[0])
        pairs = verify.verify(subject, inputs, [("nir", "net")])
        said = shrink.shrink_pairs(subject, inputs, pairs, str(path))
        assert said.startswith(f"wrote {path}: 3 nodes, 2 edges, ")
        assert not replay(path)[0].equal
    assert replay(path)[0].equal
    assert cases.load(path).about["suite"] == "nir"


def test_torchs_own_model_is_not_shrunk() -> None:
    nodes = chain((2,), nir.Linear(np.eye(2)), lif((2,)))
    subject, inputs = shrink.subject_of(Case(nodes, {"in": np.ones((1, 2))}, {"steps": 2, "dt_s": DT_S}))
    with pytest.raises(BadInput) as error:
        shrink.case_of(subject, inputs, "torch", "nir")
    assert str(error.value) == "torch:nir cannot be shrunk; pairs of nir and net, or of two integer forms, can"


def test_a_graph_needs_its_steps_and_time_step() -> None:
    nodes = chain((2,), nir.Linear(np.eye(2)), lif((2,)))
    with pytest.raises(BadInput) as error:
        shrink.subject_of(Case(nodes, {"in": np.ones((1, 2))}, {"steps": 2}))
    assert str(error.value) == "the case does not say 'steps' and 'dt_s'"


def test_integers_come_back_from_real_units() -> None:
    net, inputs = integer.network(Seeded(3))
    net = replace(net, sources=tuple(replace(s, scale=255 / 0.7) for s in net.sources))
    subject, found = shrink.subject_of(Case(net, inputs, {}))
    assert subject.quant is net and isinstance(found, Inputs)
    for name, x in net.encode(found.real).items():
        np.testing.assert_array_equal(x, inputs[name])


@given(st.sets(st.integers(0, 40), max_size=6), st.integers(1, 41))
def test_ddmin_keeps_exactly_what_the_failure_needs(needed: set[int], count: int) -> None:
    items = list(range(max(count, *needed, 0) + 1))
    assert minimal(items, lambda some: needed <= set(some)) == sorted(needed)


def test_ddmin_leaves_no_single_item_that_can_go() -> None:
    def fails(some: list[int]) -> bool:
        return sum(some) >= 20

    kept = minimal(range(12), fails)
    assert fails(kept)
    assert not any(fails([x for x in kept if x != gone]) for gone in kept)


def test_matrices_shrink_to_the_one_weight_that_is_read_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    """One weight of -0.5 among many becomes 0.5 in lowering: one input, one weight and one neuron are left."""
    rng = np.random.default_rng(0)
    first, second = rng.uniform(0.1, 0.4, (5, 6)), rng.uniform(0.1, 0.4, (4, 5))
    second[2, 3] = -0.5
    bias = np.zeros(4)
    nodes = chain((6,), nir.Linear(first), lif((5,)), nir.Affine(second, bias + 0.01), lif((4,), threshold=0.3))
    case = Case(nodes, {"in": rng.random((3, 6))}, {"steps": 5, "dt_s": DT_S})
    honest = shrink.lower

    def wrong(graph: Any, dt_s: float) -> Any:
        net = honest(graph, dt_s)
        edges = (replace(e, map=with_weights(e.map, lambda w: np.where(w == -0.5, 0.5, w))) for e in net.projections)
        return replace(net, projections=tuple(edges))

    monkeypatch.setattr(shrink, "lower", wrong)
    fails = shrink.differ("nir", "net")
    small = shrink.shrink(case, fails)
    assert fails(small)
    matrices = [node for node in small.net.nodes.values() if isinstance(node, (nir.Linear, nir.Affine))]
    assert [node.weight.tolist() for node in matrices] == [[[-0.5]]]
    assert len(small.net.nodes) <= 4 and sum(x.size for x in small.inputs.values()) == 1


def test_only_what_is_as_long_as_needed_is_kept_of_a_long_run() -> None:
    """The case fails from step 20 on: no fewer than 20 steps will do."""
    net, inputs = integer.network(Seeded(1), steps=40)
    small = shrink.shrink(Case(net, inputs, {}), lambda case: case.net.steps >= 20)
    assert small.net.steps == 20
    assert neurons(small) == len(small.net.populations) == 1


def test_a_source_with_inputs_of_its_own_for_every_step_loses_steps_at_both_ends() -> None:
    net, _ = integer.network(Seeded(1), steps=8, samples=1)
    train = {s.name: np.zeros((1, 8, *s.shape), np.int64) for s in net.sources}
    name = net.sources[0].name
    train[name][0, 5] = 1

    def fails(case: Case) -> bool:
        return name in case.inputs and bool(case.inputs[name].any())

    small = shrink.shrink(Case(net, train, {}), fails)
    assert small.net.steps == 1 and small.inputs[name].tolist() == np.ones_like(small.inputs[name]).tolist()
