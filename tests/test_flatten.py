"""Graphs in graphs mean what the flat graph means."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
import pytest

from snnergy.errors import BadInput
from snnergy.export import nir_file
from snnergy.export.flatten import flat
from snnergy.export.lower import lower
from snnergy.export.net_sim import run as run_net

DT = 1e-4


def lif(n: int) -> nir.LIF:
    one = np.ones(n)
    return nir.LIF(tau=4 * DT * one, r=one * 4, v_leak=0 * one, v_threshold=one, v_reset=0 * one)


def affine(rng: np.random.Generator, out: int, into: int) -> nir.Affine:
    return nir.Affine(rng.normal(size=(out, into)), rng.normal(size=out) * 0.1)


def parts(seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {"fc1": affine(rng, 6, 4), "lif1": lif(6), "fc2": affine(rng, 3, 6), "lif2": lif(3)}


def plain() -> nir.NIRGraph:
    nodes = {"input": nir.Input(np.array([4])), **parts(), "output": nir.Output(np.array([3]))}
    return nir.NIRGraph(
        nodes, [("input", "fc1"), ("fc1", "lif1"), ("lif1", "fc2"), ("fc2", "lif2"), ("lif2", "output")]
    )


def nested(depth: int = 1) -> nir.NIRGraph:
    """The first layer inside ``depth`` graphs."""
    p = parts()
    inner = nir.NIRGraph(
        {"input": nir.Input(np.array([4])), "fc1": p["fc1"], "lif1": p["lif1"], "output": nir.Output(np.array([6]))},
        [("input", "fc1"), ("fc1", "lif1"), ("lif1", "output")],
    )
    for _ in range(depth - 1):
        inner = nir.NIRGraph(
            {"input": nir.Input(np.array([4])), "deep": inner, "output": nir.Output(np.array([6]))},
            [("input", "deep"), ("deep", "output")],
        )
    nodes = {"input": nir.Input(np.array([4])), "sub": inner, "fc2": p["fc2"], "lif2": p["lif2"],
             "output": nir.Output(np.array([3]))}  # fmt: skip
    return nir.NIRGraph(nodes, [("input", "sub"), ("sub", "fc2"), ("fc2", "lif2"), ("lif2", "output")])


@pytest.mark.parametrize("depth", [1, 3])
def test_a_nested_graph_runs_as_the_flat_one(depth: int, tmp_path: Any) -> None:
    x = {"input": np.random.default_rng(1).random((5, 4))}
    wanted = run_net(lower(plain(), DT), x, 20)
    path = tmp_path / "nested.nir"
    nir.write(path, nested(depth))
    found = run_net(lower(nir_file.read(path), DT), x, 20)
    prefix = "sub." + "deep." * (depth - 1)
    np.testing.assert_array_equal(found[f"{prefix}lif1"], wanted["lif1"])
    np.testing.assert_array_equal(found["lif2"], wanted["lif2"])
    assert wanted["lif1"].any() and wanted["lif2"].any()


def test_a_flat_graph_is_left_alone() -> None:
    graph = plain()
    assert flat(graph) is graph


def test_what_a_subgraph_cannot_mean_is_said() -> None:
    graph = nested()
    graph.edges.append(("fc2", "nowhere"))
    with pytest.raises(BadInput, match="names 'nowhere', which the graph does not have"):
        flat(graph)
    graph = nested()
    del graph.nodes["sub"].nodes["output"]
    graph.nodes["sub"].edges = [e for e in graph.nodes["sub"].edges if e[1] != "output"]
    with pytest.raises(BadInput, match="subgraph 'sub' has 0 Output nodes"):
        flat(graph)
    inner = nir.NIRGraph(
        {"input": nir.Input(np.array([4])), "output": nir.Output(np.array([4]))},
        [("input", "output")],
        type_check=False,
    )
    nodes = {"input": nir.Input(np.array([4])), "sub": inner, **parts(), "output": nir.Output(np.array([3]))}
    edges = [("input", "sub"), ("sub", "fc1"), ("input", "fc1"), ("fc1", "lif1"), ("lif1", "fc2"), ("fc2", "lif2")]
    twice = nir.NIRGraph(nodes, [*edges, ("lif2", "output")], type_check=False)
    with pytest.raises(BadInput, match="'input' reaches 'fc1' by two ways"):
        flat(twice)
