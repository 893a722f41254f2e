"""Saved cases; what the generators reach; the slow reference by hand."""

import importlib
import re
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
from builders import Odd, population, quantnet, readout
from hypothesis import find, given, settings
from hypothesis import strategies as st

from snnergy.deploy.schedule import balance
from snnergy.errors import BadInput, MissingPart
from snnergy.export import nir_sim
from snnergy.export import quantnet as quantnets_module
from snnergy.export.lower import lower
from snnergy.export.maps import Conv, Dense, Sparse, weights
from snnergy.export.quantnet import QuantNet, QuantProjection, QuantSource
from snnergy.testing import cases, graphs, integer, reference
from snnergy.testing.draw import Seeded
from snnergy.testing.strategies import nir_graphs, quantnets

SEEDS = range(400)
PAGE = Path(__file__).parent.parent / "docs" / "testing.md"


def synapses(linear: Any) -> list[list[float]]:
    return linear.matrix().toarray().tolist()


# saved cases


@given(quantnets())
def test_a_saved_integer_network_comes_back_the_same(tmp_path_factory: Any, drawn: Any) -> None:
    net, inputs = drawn
    path = tmp_path_factory.mktemp("cases") / "case.npz"
    cases.save(path, net, inputs, {"seed": 3, "suite": "native"})
    case = cases.load(path)
    found: Any = case.net
    assert case.about == {"seed": 3, "suite": "native"}
    assert (found.sources, found.outputs, found.steps) == (net.sources, net.outputs, net.steps)
    for a, b in zip(net.populations, found.populations, strict=True):
        assert (a.name, a.shape, a.bias_exponent, a.spiking) == (b.name, b.shape, b.bias_exponent, b.spiking)
        for field in ("decay", "current_decay", "threshold", "bias_mantissa"):
            np.testing.assert_array_equal(getattr(a, field), getattr(b, field))
    for a, b in zip(net.projections, found.projections, strict=True):
        assert (a.source, a.target, a.exponent, a.delay) == (b.source, b.target, b.exponent, b.delay)
        assert type(a.map) is type(b.map) and str(a.map) == str(b.map)
        assert weights(a.map).dtype == weights(b.map).dtype and synapses(a.map) == synapses(b.map)
    assert inputs.keys() == case.inputs.keys()
    for name, x in inputs.items():
        np.testing.assert_array_equal(x, case.inputs[name])


@given(nir_graphs())
def test_a_saved_graph_comes_back_the_same(tmp_path_factory: Any, sample: graphs.Sample) -> None:
    path = tmp_path_factory.mktemp("cases") / "case.npz"
    cases.save(path, sample.graph, sample.inputs, {"steps": sample.steps, "dt_s": sample.dt_s})
    case = cases.load(path)
    assert isinstance(case.net, nir.NIRGraph) and case.about == {"steps": sample.steps, "dt_s": sample.dt_s}
    assert list(case.net.nodes) == list(sample.graph.nodes) and case.net.edges == sample.graph.edges
    wanted = nir_sim.run(sample.graph, sample.inputs, sample.steps, sample.dt_s)
    found = nir_sim.run(case.net, case.inputs, sample.steps, sample.dt_s)
    for name, x in wanted.items():
        np.testing.assert_array_equal(x, found[name])


def test_the_same_case_is_the_same_bytes(tmp_path: Path) -> None:
    net, inputs = integer.network(Seeded(0))
    for name in ("a.npz", "b.npz"):
        cases.save(tmp_path / name, net, inputs, {"seed": 0})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_case_holds_only_what_it_knows(tmp_path: Path) -> None:
    net = nir.NIRGraph({"a": Odd((1,))}, [], type_check=False)
    with pytest.raises(BadInput) as error:
        cases.save(tmp_path / "case.npz", net, {}, {})
    assert str(error.value).startswith("a case cannot hold a Odd; it holds QuantNet, QuantSource, ")
    assert not list(tmp_path.iterdir())


def test_a_missing_case_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as error:
        cases.load(tmp_path / "none.npz")
    assert str(error.value) == f"cannot read {tmp_path / 'none.npz'}: No such file or directory"


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nothing", b"\x93NUMPY"])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "case.npz").write_bytes(content)
    with pytest.raises(BadInput, match=r"case\.npz is not a saved case: BadZipFile"):
        cases.load(tmp_path / "case.npz")


def test_a_pickle_in_a_case_is_never_opened(tmp_path: Path) -> None:
    np.savez(tmp_path / "case.npz", case=np.array([{"format": 1}], object))
    with pytest.raises(BadInput, match="is not a saved case: ValueError Object arrays cannot be loaded"):
        cases.load(tmp_path / "case.npz")


def test_a_case_that_unpacks_to_too_much_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases, "LIMIT_BYTES", 1000)
    np.savez_compressed(tmp_path / "case.npz", case=np.zeros(10_000, np.uint8))
    with pytest.raises(BadInput) as error:
        cases.load(tmp_path / "case.npz")
    assert str(error.value) == f"{tmp_path / 'case.npz'} unpacks to 10128 bytes; a case has at most 1000"


def test_a_network_that_does_not_verify_is_refused(tmp_path: Path) -> None:
    net, inputs = integer.network(Seeded(1))
    net.populations[0].threshold[:] = -1
    cases.save(tmp_path / "case.npz", net, inputs, {})
    with pytest.raises(BadInput, match=f"is not a saved case: AssertionError {net.populations[0].name}"):
        cases.load(tmp_path / "case.npz")


@settings(max_examples=60)
@given(st.integers(0, 20), st.data())
def test_a_damaged_case_is_one_error(tmp_path_factory: Any, seed: int, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("cases") / "case.npz"
    cases.save(path, *integer.network(Seeded(seed)), {})
    content = bytearray(path.read_bytes())
    for _ in range(3):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    with suppress(BadInput):  # a damaged number is another network; anything else is this one error
        assert isinstance(cases.load(path).net, QuantNet)


# generators


def test_the_same_seed_is_the_same_network(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        cases.save(tmp_path / name, *integer.network(Seeded(5)), {})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_every_integer_network_is_valid_and_runs_on_hardware_where_it_should() -> None:
    for seed in SEEDS:
        net, _ = integer.network(Seeded(seed))
        quantnets_module.verify(net)
        balance(net)


def test_the_edges_of_the_arithmetic_are_reached() -> None:
    """In so many of 400 networks at least; a generator that drifts to the dull middle fails here."""
    reached: Counter[str] = Counter()
    for seed in SEEDS:
        net, inputs = integer.network(Seeded(seed), hardware=seed % 2 == 0)
        trace = reference.run(net, inputs)
        reached.update(trace.edges.keys())
        reached.update(_features(net, trace))
    least = {
        "wrap": 40, "wrap below": 20, "saturation": 25, "saturation below": 40, "tie": 80, "tie at 0": 100,
        "decay 0": 80, "decay 1": 80, "decay 4095": 80, "decay 4096": 80,
        "current decay 1": 60, "current decay 2": 60, "current decay 4095": 60, "current decay 4096": 80,
        "weight -128": 80, "weight 127": 80, "shift left": 80, "shift right": 80, "no shift": 40,
        "bias at its most": 30, "bias at its least": 30, "no synapse": 40, "one neuron": 80, "one step": 20,
        "readout": 80, "current at its most": 2,
        "loop on itself": 40, "loop of several": 40, "delay": 80, "delay past the end": 40,
        "dense": 80, "sparse": 80, "conv": 80, "grouped conv": 30, "strided conv": 80, "dilated conv": 30,
        "padded conv": 80, "kernel not square": 30, "join": 80, "two edges between the same": 30,
        "graded input": 80, "silent": 30, "fires": 200, "threshold 0": 80, "threshold at its most": 40,
    }  # fmt: skip
    assert {name: reached[name] for name in least if reached[name] < least[name]} == {}


def _features(net: QuantNet, trace: reference.Trace) -> set[str]:
    """Names of what is in a network, each once."""
    found: set[str] = set()
    sources, pairs = {s.name for s in net.sources}, Counter((e.source, e.target) for e in net.projections)
    for p in net.populations:
        found |= {f"decay {d}" for d in p.decay} | {f"current decay {d}" for d in p.current_decay}
        feeds = [e for e in net.projections if e.target == p.name]
        found |= {
            name
            for name, true in (
                ("one neuron", len(p.decay) == 1),
                ("readout", not p.spiking),
                ("join", len(feeds) > 1),
                ("no synapse", not any(e.map.matrix().nnz for e in feeds)),
                ("bias at its most", (p.bias_mantissa == 4095).any()),
                ("bias at its least", (p.bias_mantissa == -4095).any()),
                ("threshold 0", p.spiking and (p.threshold == 0).any()),
                ("threshold at its most", p.spiking and (p.threshold == (1 << 17) - 1).any()),
                ("fires", trace.spikes[p.name].any()),
                ("current at its most", (trace.currents[p.name] == 1 << 23).any()),
            )
            if true
        }
    if not any(x.any() for x in trace.spikes.values()):
        found.add("silent")
    for e in net.projections:
        w, late = weights(e.map), any(e.source == p.name for p in net.populations)
        conv = e.map if isinstance(e.map, Conv) else None
        found.add({Dense: "dense", Sparse: "sparse", Conv: "conv"}[type(e.map)])
        found.add("shift left" if e.exponent > 0 else "shift right" if e.exponent < 0 else "no shift")
        found |= {
            name
            for name, true in (
                ("weight -128", (w == -128).any()),
                ("weight 127", (w == 127).any()),
                ("delay", e.delay > 0),
                ("delay past the end", e.delay >= net.steps),
                ("loop on itself", e.source == e.target),
                ("loop of several", late and e.source != e.target and _hears(net, e.source, e.target)),
                ("two edges between the same", pairs[e.source, e.target] > 1),
                ("graded input", e.source in sources),
                ("one step", net.steps == 1),
                ("grouped conv", conv and conv.groups > 1),
                ("strided conv", conv and conv.stride != (1, 1)),
                ("dilated conv", conv and conv.dilation != (1, 1)),
                ("padded conv", conv and conv.padding != (0, 0)),
                ("kernel not square", conv and conv.weight.shape[2] != conv.weight.shape[3]),
            )
            if true
        }
    return found


def _hears(net: QuantNet, name: str, start: str) -> bool:
    """Whether a path leads from start to name."""
    seen, left = set(), [start]
    while left:
        at = left.pop()
        if at not in seen:
            seen.add(at)
            left += [e.target for e in net.projections if e.source == at]
    return name in seen


def test_every_node_of_nir_is_drawn_and_lowers() -> None:
    seen: Counter[str] = Counter()
    for seed in SEEDS:
        sample = graphs.graph(Seeded(seed))
        lower(sample.graph, sample.dt_s)
        seen.update({type(node).__name__ for node in sample.graph.nodes.values()})
        seen.update({"loop": bool(nir_sim.closing(sample.graph, sample.dt_s)[0])})
    kinds = {"Input", "Output", "loop", *(t.__name__ for t in (*nir_sim.LINEAR, *lower_kinds()))}
    assert {name: seen[name] for name in kinds if seen[name] < 20} == {}


def lower_kinds() -> tuple[type, ...]:
    from snnergy.export.lower import NEURONS

    return (*NEURONS, nir.Delay)


@pytest.mark.slow
def test_a_failure_shrinks_to_one_or_two_small_populations() -> None:
    def delayed(drawn: tuple[QuantNet, Any]) -> bool:
        return any(e.delay > 1 and e.exponent < 0 for e in drawn[0].projections)

    net, inputs = find(quantnets(), delayed, settings=settings(max_examples=500, database=None, derandomize=True))
    assert len(net.populations) <= 2 and sum(len(p.decay) for p in net.populations) <= 16
    assert delayed((net, inputs))


# the reference, by hand


def one_neuron(steps: int, weight: int = 1, exponent: int = 0, delay: int = 0, **changes: Any) -> QuantNet:
    """A source of 7 bits -> one readout or neuron."""
    kind = readout if not changes.pop("spiking", True) else population
    edge = QuantProjection("x", "p", Dense(np.array([[weight]], np.int8), (1,), (1,)), exponent, delay)
    return quantnet([QuantSource("x", (1,), 7, 1.0)], [kind("p", (1,), **changes)], [edge], steps)


def trace(net: QuantNet, x: list[int]) -> reference.Trace:
    return reference.run(net, {"x": np.array(x).reshape(1, len(x), 1)})


def test_the_membrane_decays_toward_zero_from_both_sides() -> None:
    for sign in (1, -1):
        found = trace(one_neuron(3, sign, decay=4095, spiking=False), [127, 0, 0])
        assert found.membranes["p"].ravel().tolist() == [sign * 127 * 64, sign * 1, 0]


def test_the_current_has_a_memory_of_its_own() -> None:
    found = trace(one_neuron(3, decay=4096, current_decay=2048, spiking=False), [3, 0, 1])
    assert found.currents["p"].ravel().tolist() == [192, 96, 48 + 64]
    assert found.membranes["p"].ravel().tolist() == [192, 96, 112]


def test_a_shift_right_rounds_down_and_a_shift_left_multiplies() -> None:
    assert trace(one_neuron(1, -1, -1, spiking=False), [3]).currents["p"].item() == -2 * 64
    assert trace(one_neuron(1, 1, 2, spiking=False), [3]).currents["p"].item() == 12 * 64


@pytest.mark.parametrize("sign", [1, -1])
def test_the_current_wraps_at_24_bits(sign: int) -> None:
    net = one_neuron(1, sign, 11, threshold=(1 << 17) - 1)
    at, past = trace(net, [64]), trace(net, [65])
    assert at.currents["p"].item() == 1 << 23, "2^23 stands for its own negative"
    assert at.edges["wrap"] == 0 and at.edges["wrap below"] == (sign < 0)
    assert past.currents["p"].item() == sign * ((65 << 17) - (1 << 24))
    assert past.edges["wrap" if sign > 0 else "wrap below"] == 1


def test_the_membrane_saturates() -> None:
    net = one_neuron(3, -1, 11, decay=0, current_decay=4096, threshold=(1 << 17) - 1)
    found = trace(net, [63, 63, 0])
    assert found.membranes["p"].ravel().tolist() == [-63 << 17, -(1 << 23) + 1, -(1 << 23) + 1]
    assert found.edges == {"saturation below": 1}


def test_the_comparison_is_strict_and_a_spike_resets_the_membrane_but_not_the_current() -> None:
    net = one_neuron(2, decay=4096, current_decay=1, threshold=5)
    found = trace(net, [5, 1])
    assert found.spikes["p"].ravel().tolist() == [0, 1] and found.edges == {"tie": 1}
    assert found.membranes["p"].ravel().tolist() == [320, 0]
    assert found.currents["p"].ravel().tolist() == [320, 319 + 64]


def test_a_delay_holds_spikes_back_within_the_sample() -> None:
    found = trace(one_neuron(4, decay=4096, delay=2, threshold=0), [1, 0, 1, 1])
    assert found.spikes["p"].ravel().tolist() == [0, 0, 1, 0]
    assert found.sent["x"].ravel().tolist() == [1, 0, 1, 1] and found.active["p"].ravel().tolist() == [0, 0, 1, 0]


def test_a_loop_hears_itself_one_step_later() -> None:
    again = QuantProjection("p", "p", Dense(np.array([[1]], np.int8), (1,), (1,)), 0, 1)
    net = one_neuron(4, decay=4096, threshold=0)
    net = quantnet(net.sources, net.populations, [*net.projections, again], 4)
    assert trace(net, [0, 1, 0, 0]).spikes["p"].ravel().tolist() == [0, 1, 1, 1]


@given(st.integers(0, 2**32))
def test_the_reference_unrolls_a_convolution_as_maps_do(seed: int) -> None:
    draw = Seeded(seed)
    linear = integer._conv(draw, (draw.integer(1, 3), draw.integer(1, 5), draw.integer(1, 5)))
    found = np.zeros(linear.matrix().shape, np.int64)
    for i, row in enumerate(reference.rows(linear)):
        for j, weight in row:
            found[i, j] += weight
    np.testing.assert_array_equal(found, linear.matrix().toarray())


# without Hypothesis


def test_without_hypothesis_the_strategies_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    monkeypatch.delitem(sys.modules, "snnergy.testing.strategies")
    with pytest.raises(MissingPart) as error:
        importlib.import_module("snnergy.testing.strategies")
    assert str(error.value) == "Hypothesis is not installed"
    assert error.value.help == 'pip install "snnergy[test]"' and error.value.exit_code == 3


def test_the_seeded_generators_and_the_reference_need_no_hypothesis() -> None:
    code = (
        "import sys; sys.modules['hypothesis'] = None\n"
        "from snnergy.testing import cases, graphs, integer, metamorphic, reference\n"
        "from snnergy.testing.draw import Seeded\n"
        "net, inputs = integer.network(Seeded(0)); reference.run(net, inputs); graphs.graph(Seeded(0))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL))
def test_the_examples_of_the_page_run(block: str) -> None:
    exec(compile(block, str(PAGE), "exec"), {})
