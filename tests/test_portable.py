"""The portable twin has what other readers take, and nothing else; its neurons spike as those of the graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
from builders import DT_S, chain, graph, lif, samples, spiking_model, threshold

from snnergy.errors import UnsupportedLayer
from snnergy.export import net_sim, nir_file
from snnergy.export.from_torch import to_nir
from snnergy.export.lower import lower
from snnergy.export.portable import INPUT, differing, fused, portable

TAKEN = (nir.Input, nir.Output, nir.Conv2d, nir.LIF, nir.Affine, nir.Flatten)


@pytest.fixture(scope="module")
def canonical() -> nir.NIRGraph:
    shapes = dict.fromkeys(("audio", "video"), (1, 16, 16))
    return to_nir(spiking_model(), shapes, DT_S, 4)


def test_the_twin_of_a_real_model_has_one_input_and_the_same_spikes(canonical: nir.NIRGraph, tmp_path: Path) -> None:
    kinds = {type(node) for node in canonical.nodes.values()}
    assert {nir.Threshold, nir.Scale, nir.I} <= kinds
    twin = portable(canonical, DT_S)
    assert all(isinstance(node, TAKEN) for node in twin.nodes.values())
    assert [n for n, node in twin.nodes.items() if isinstance(node, nir.Input)] == [INPUT]
    assert all(int(node.groups) == 1 for node in twin.nodes.values() if isinstance(node, nir.Conv2d))
    x = samples(24, 16)
    assert differing(canonical, twin, x, 6, DT_S) == 0
    path = tmp_path / "p.nir"
    nir_file.write(twin, path)
    nir.read(path, type_check=True)
    assert differing(canonical, nir_file.read(path), x, 6, DT_S) == 0


def test_the_comparison_notices_another_network(canonical: nir.NIRGraph) -> None:
    twin = portable(canonical, DT_S)
    name = next(n for n, node in twin.nodes.items() if isinstance(node, nir.Conv2d))
    twin.nodes[name].weight = twin.nodes[name].weight * 1.5
    assert differing(canonical, twin, samples(8, 16), 4, DT_S) > 0


def test_inputs_are_joined_channel_after_channel(canonical: nir.NIRGraph) -> None:
    x = samples(3, 16)
    joined = fused(canonical, x)
    names = [n for n, node in canonical.nodes.items() if isinstance(node, nir.Input)]
    assert joined.shape == (3, 2, 16, 16)
    for k, name in enumerate(names):
        np.testing.assert_array_equal(joined[:, k], x[name][:, 0])


def conv(groups: int = 1, c_in: int = 2) -> nir.Conv2d:
    weight = np.random.default_rng(0).normal(size=(4, c_in // groups, 3, 3))
    return nir.Conv2d((5, 5), weight, 1, 1, 1, groups, np.zeros(4))


def test_groups_become_zeros() -> None:
    grouped = chain((2, 5, 5), conv(groups=2), lif((4, 5, 5), threshold=0.2))
    twin = portable(grouped, DT_S)
    assert twin.nodes["n0"].weight.shape == (4, 2, 3, 3) and np.count_nonzero(twin.nodes["n0"].weight) == 36
    x = np.random.default_rng(1).random((5, 2, 5, 5))
    wanted, found = (net_sim.run(lower(g, DT_S), {name: x}, 8)["n1"] for g, name in ((grouped, "in"), (twin, INPUT)))
    np.testing.assert_array_equal(found, wanted)
    assert 0 < wanted.mean() < 1


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: chain((4,), nir.Linear(np.eye(4)), lif((4,))), "inputs become one only as images of equal size"),
        (lambda: chain((1, 2, 2), lif((1, 2, 2))), "'n0' reads an input and is a LIF; a Conv2d can be widened"),
        (lambda: chain((2, 5, 5), conv(), threshold((4, 5, 5), 1.0)), "'n1' has a threshold that is no half number"),
        (lambda: chain((2, 5, 5), conv(), threshold((4, 5, 5), 300.5)), "'n1' has a threshold that is no half number"),
        (lambda: chain((2, 5, 5), conv(), nir.Scale(np.arange(100.0).reshape(4, 5, 5)), lif((4, 5, 5))),
         "'n1' scales every pixel by itself"),
        (lambda: graph({"a": nir.Input({"input": np.array([1, 4, 4])}), "b": nir.Input({"input": np.array([1, 5, 5])}),
                        "out": nir.Output({"output": np.array([1, 4, 4])})}),
         r"images of equal size; they are 'a' \[1, 4, 4\], 'b' \[1, 5, 5\]"),
    ],
)  # fmt: skip
def test_what_has_no_portable_form_is_said(made: Any, message: str) -> None:
    with pytest.raises(UnsupportedLayer, match=message):
        portable(made(), DT_S)
