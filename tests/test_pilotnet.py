"""The PilotNet benchmark: phantom slots from their definition, and the shared case where it is there."""

import json
import sys
from importlib import util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from snnergy.deploy.tiles import Box, whole
from snnergy.export import lava_dl
from snnergy.export.maps import Conv, Dense
from snnergy.export.quantnet import QuantNet
from snnergy.hardware_profiles import load


def _loaded() -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks/mapping/pilotnet.py"
    spec = util.spec_from_file_location("mapping_pilotnet", path)
    assert spec and spec.loader
    module = util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


pilotnet: Any = _loaded()

needs_case = pytest.mark.skipif(
    not (pilotnet.CASE / "case.json").exists(),
    reason="the shared case pilotnet-lif-loihi2 is not beside the repository",
)


@pytest.fixture(scope="module")
def net() -> QuantNet:
    return lava_dl.read(pilotnet.CASE / "network.net", 16)


@pytest.mark.parametrize("seed", range(6))
def test_phantom_synops_are_those_of_the_outputs_that_a_larger_image_would_have(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = 1 + seed % 2
    stride, padding, dilation = (
        (int(rng.integers(a, b)), int(rng.integers(a, b))) for a, b in ((1, 3), (0, 2), (1, 3))
    )
    conv = Conv(rng.integers(-1, 2, (4, 6 // groups, 2, 3)), (6, 7, 8), stride, padding, dilation, groups)
    spikes = rng.integers(0, 5, 6 * 7 * 8)
    _, rows, columns = conv.output_shape
    tile = Box((4, rows, columns), (1, rows - 2, columns - 1), (4, rows + 3, columns + 2))
    room = 20  # zeros below and to the right: the outputs there read nothing but what the image holds
    wide = Conv(conv.weight, (6, 7 + room, 8 + room), stride, padding, dilation, groups)
    image = np.zeros(wide.input_shape, np.int64)
    image[:, :7, :8] = spikes.reshape(6, 7, 8)
    reads = wide.matrix()
    reads.data[:] = reads.data != 0
    reached = (reads @ image.ravel()).reshape(wide.output_shape)
    part = reached[1:4, rows - 2 : rows + 3, columns - 1 : columns + 2].sum()
    real = reached[1:4, rows - 2 : rows, columns - 1 : columns].sum()
    assert part > real > 0
    assert pilotnet.phantom_synops(conv, tile, spikes) == part - real


def test_a_tile_inside_the_layer_and_a_dense_layer_have_no_phantoms() -> None:
    conv = Conv(np.ones((2, 1, 2, 2), np.int8), (1, 4, 4))
    assert pilotnet.phantom_synops(conv, whole(conv.output_shape), np.ones(16, np.int64)) == 0
    dense = Dense(np.ones((3, 4), np.int8), (4,), (3,))
    assert pilotnet.phantom_synops(dense, Box((3, 1, 1), (0, 0, 0), (9, 1, 1)), np.ones(4, np.int64)) == 0


def test_equal_figures_are_shown_once() -> None:
    assert pilotnet.brief((131010.0, 131010.0, 32752.5)) == "2 x 131,010; 32,752.5"


@needs_case
def test_every_core_of_the_compiler_gets_the_synops_of_the_case() -> None:
    found = pilotnet.report(pilotnet.CASE)
    assert {r["layer"]: r["equal"] for r in found["rows"]} == dict.fromkeys((t.layer for t in pilotnet.TILING), True)
    assert all(total["equal"] for total in found["totals"].values())
    assert found["compiler"]["cores"] == found["cores_measured"] == 74
    assert max(found["fewest"]["cores"], found["fastest"]["cores"]) <= 74
    assert found["fastest"]["busiest core, mean step"] < found["compiler"]["busiest core, mean step"]
    assert pilotnet.passed(found)
    text = pilotnet.show(found)
    assert "conv2     13  yes    12 x 131,010; 32,752.5 | 12 x 131,010; 32,752.5" in text and " NO" not in text


@needs_case
def test_a_count_that_differs_fails(net: QuantNet) -> None:
    case = json.loads((pilotnet.CASE / "case.json").read_text(encoding="utf-8"))
    case["layers"][2]["per_core_nonzero"][1] += 0.0625  # one synop in 16 steps
    rows, _ = pilotnet.compare(net, case, load(pilotnet.PROFILE))
    assert [r.layer for r in rows if not r.equal] == ["conv3"]


@needs_case
def test_the_busiest_core_of_each_step_is_that_of_the_case(net: QuantNet) -> None:
    """Its period is four steps; conv3 is counted in steps of the case's own clock, so in any rotation of ours."""
    case = json.loads((pilotnet.CASE / "case.json").read_text(encoding="utf-8"))
    placement, profile = pilotnet.as_compiled(net, load(pilotnet.PROFILE)), load(pilotnet.PROFILE)
    counts = pilotnet.Counter(placement, net, pilotnet.balance(net), profile).count(pilotnet.run(net))
    for layer in ("conv2", "conv3"):
        ours = pilotnet.per_core(counts, layer).max(axis=0)
        theirs = [phase[f"{layer}_max"] for phase in case["phase"]]
        assert any(np.roll(ours, k).tolist() == theirs * 4 for k in range(4)), layer
