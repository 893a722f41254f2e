"""Engines and readings against each other on random networks: a fixed slice of what ``make fuzz`` runs in bulk.

That the suites see a mistake is tested too: every one of them is run on an engine that has been broken.
"""

import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fuzz
import nir
import numpy as np
import pytest
from hypothesis import given, settings
from suites import SUITES, Suite

from snnergy.deploy import kernels, layers, scan, synapses
from snnergy.export import net_sim, nir_sim
from snnergy.testing.cases import Case
from snnergy.testing.strategies import nir_graphs, quantnets

SLICE = 150
LAVA = 100
NAMES = [pytest.param(name, marks=pytest.mark.lava) if name == "lava" else name for name in SUITES]


def differences(suite: Suite, seeds: range) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    for first in range(seeds.start, seeds.stop, suite.together):
        many = [suite.make(seed) for seed in range(first, first + suite.together)]
        results = suite.check(many)
        assert len(results) == len(many)
        found += [(case.about["seed"], r.difference) for case, r in zip(many, results, strict=True) if r.difference]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_both_sides_agree_on_every_network_of_the_slice(name: str) -> None:
    assert differences(SUITES[name], range(LAVA if name == "lava" else SLICE)) == []


@pytest.mark.slow
@pytest.mark.fuzz
@pytest.mark.parametrize("name", NAMES)
def test_both_sides_agree_on_other_networks(name: str) -> None:
    assert differences(SUITES[name], range(10**9, 10**9 + 1000)) == []


@settings(max_examples=60)
@given(quantnets(hardware=False))
def test_the_engine_is_the_reference(drawn: Any) -> None:
    assert SUITES["native"].run(Case(*drawn, {"seed": 0})) is None


@settings(max_examples=60)
@given(nir_graphs())
def test_the_net_is_the_graph(sample: Any) -> None:
    case = Case(sample.graph, sample.inputs, {"steps": sample.steps, "dt_s": sample.dt_s})
    assert SUITES["nir"].run(case) is None


# every suite sees a mistake


def scan_with(change: Callable[..., dict[str, Any]]) -> Callable[..., None]:
    """The engine's scan with some of its arguments changed."""
    names = tuple(inspect.signature(scan._scan).parameters)
    real = scan.scan

    def changed(*arguments: Any) -> None:
        table = dict(zip(names, arguments, strict=True))
        real(*{**table, **change(**table)}.values())

    return changed


def first_neuron(bias: Any, **_: Any) -> dict[str, Any]:
    """A bias that depends on the place of a neuron."""
    return {"bias": np.where(np.arange(len(bias)) == 0, bias + 3200, bias).astype(np.int32)}


def at_equality(ceiling: Any, **_: Any) -> dict[str, Any]:
    """Fires at the threshold, not only above it."""
    return {"ceiling": ceiling - 1}


def by_steps(bias: Any, current: Any, **_: Any) -> dict[str, Any]:
    return {"bias": bias + 64 * current.shape[1]}


def by_samples(bias: Any, current: Any, **_: Any) -> dict[str, Any]:
    return {"bias": bias + 64 * current.shape[0]}


def last_edge_only(projections: Any) -> dict[str, Any]:
    return {e.target: [e] for e in projections}


def twice(node: Any, x: Any) -> Any:
    return x * node.scale * 2


def first_edge_late(graph: nir.NIRGraph, dt_s: float) -> Any:
    late, order = closing(graph, dt_s)
    return {*late, graph.edges[0]}, order


closing = nir_sim.closing
float_scan = net_sim._scan


def float_scan_at_equality(p: Any, x: Any, i: Any, v: Any) -> Any:
    return float_scan(p if not p.spiking else type(p)(**{**vars(p), "threshold": p.threshold - 1e-6}), x, i, v)


BROKEN: dict[str, tuple[Any, str, Any]] = {
    "native": (scan, "scan", scan_with(at_equality)),
    "lava": (scan, "scan", scan_with(at_equality)),
    "nir": (net_sim, "_scan", float_scan_at_equality),
    "quantised": (scan, "scan", scan_with(first_neuron)),
    "relabel neurons": (scan, "scan", scan_with(first_neuron)),
    "split a population": (scan, "scan", scan_with(first_neuron)),
    "reorder the network": (layers, "incoming", last_edge_only),
    "add zero synapses": (layers, "incoming", last_edge_only),
    "pad with silent neurons": (scan, "scan", scan_with(first_neuron)),
    "insert a relay": (scan, "scan", scan_with(first_neuron)),
    "other forms of the maps": (synapses, "order", lambda _: None),
    "fewer steps": (scan, "scan", scan_with(by_steps)),
    "other batches": (scan, "scan", scan_with(by_samples)),
    "chunks and threads": (scan, "scan", scan_with(by_samples)),
    "paths": (kernels, "depthwise", lambda *_: None),
    "one by one": (scan, "scan", scan_with(by_steps)),
    "insert identity maps": (nir_sim.LINEAR, "", twice),
    "reorder the file": (nir_sim, "closing", first_edge_late),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_suite_sees_that_an_engine_is_broken(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, attribute, broken = BROKEN[name]
    if attribute:
        monkeypatch.setattr(where, attribute, broken)
    else:
        monkeypatch.setitem(where, nir.Scale, broken)
    assert len(differences(SUITES[name], range(SUITES[name].together if name == "lava" else 60))) >= 3


# the long run


def test_a_difference_is_saved_named_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "scan", scan_with(at_equality))
    monkeypatch.setattr(fuzz, "RUNS", tmp_path)
    monkeypatch.setattr(fuzz, "BLOCK", 20)
    found = fuzz.work("native", 0)
    assert found["differences"]
    for difference in found["differences"]:
        again = SUITES["native"].run(fuzz.suites.cases.load(tmp_path / difference["case"]))
        assert again == difference["difference"]
    state: dict[str, Any] = {"code": "c", "suites": {}}
    fuzz.record(state, "native", 20, found)
    fuzz.record(state, "native", 0, fuzz.work("native", 20))
    row = fuzz.summary(state)["suites"][0]
    assert row["networks"] == 40 and row["seeds"] == [[0, 40]] and len(row["differences"]) > len(found["differences"])
    assert f"Networks that differ: {len(row['differences'])}." in fuzz.as_markdown(fuzz.summary(state))


def test_a_check_that_raises_is_a_difference_of_the_case_that_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    suite = SUITES["native"]

    def check(many: list[Case]) -> list[Any]:
        if any(case.about["seed"] == 1 for case in many):
            raise ValueError("no")
        return suite.check(many)

    cases = [suite.make(seed) for seed in range(3)]
    found = fuzz._checked(Suite("native", "", suite.make, check, 3), cases)
    assert [f if isinstance(f, str) else f.difference for f in found] == [None, "ValueError: no", None]


def test_seeds_that_other_code_has_passed_do_not_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "state.json"
    path.write_text('{"code": "old", "suites": {"native": {}}}')
    assert fuzz.read_state(path, "old")["suites"] == {"native": {}}
    assert fuzz.read_state(path, "new") == {"code": "new", "suites": {}}
    assert capsys.readouterr().err == "the code has changed since the last run: starting anew\n"
    assert fuzz.read_state(tmp_path / "none.json", "new") == {"code": "new", "suites": {}}


def test_seed_ranges_are_joined() -> None:
    assert fuzz.ranges([0, 200, 100, 500]) == [[0, 300], [500, 600]]


def test_counts_are_whole_blocks() -> None:
    assert fuzz.counts(["native", "lava"], 101, quick=False) == {"native": 200, "lava": 200}
    assert fuzz.counts(["native", "split a population"], None, quick=False) == {
        "native": 50_000, "split a population": 5_000,
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.fuzz
@pytest.mark.lava
def test_the_quick_run_runs() -> None:
    script = Path(__file__).parent.parent / "benchmarks" / "fuzz.py"
    done = subprocess.run([sys.executable, script, "--quick"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("| 100 |") == len(SUITES) and "Networks that differ: 0." in done.stdout


def test_without_lava_the_run_says_so_before_it_starts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fuzz.lava_compat, "installed", lambda: None)
    monkeypatch.setattr(sys, "argv", ["fuzz.py", "--quick", "--suite", "lava"])
    assert fuzz.main() == 3
    assert capsys.readouterr().err.splitlines()[0] == "error: Lava is not installed"


@pytest.mark.parametrize("arguments", [["--seed", "7"], ["--count", "0"], ["--seed", "-100"]])
def test_a_wrong_option_is_exit_code_2(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["fuzz.py", *arguments])
    with pytest.raises(SystemExit) as stop:
        fuzz.main()
    assert stop.value.code == 2
    assert "error: --seed is a multiple of 100, --count at least 1" in capsys.readouterr().err
