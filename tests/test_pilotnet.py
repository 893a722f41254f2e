"""The PilotNet benchmark against the shared case, where that is there."""

import json
import sys
from importlib import util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from snnergy.export import lava_dl
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


def test_equal_figures_are_shown_once() -> None:
    assert pilotnet.brief((131010.0, 131010.0, 32752.5)) == "2 x 131,010; 32,752.5"


@needs_case
def test_every_core_of_the_compiler_gets_the_synops_of_the_case() -> None:
    found = pilotnet.report(pilotnet.CASE)
    assert {r["layer"]: r["equal"] for r in found["rows"]} == dict.fromkeys(pilotnet.LAYERS, True)
    assert all(total["equal"] for total in found["totals"].values())
    assert found["compiler"]["cores"] == found["cores_measured"] == 74
    assert max(found[name]["cores"] for name in ("fewest", "fastest", "one size")) <= 74
    for name in ("fastest", "one size"):
        assert found[name]["busiest core, mean step"] < found["compiler"]["busiest core, mean step"]
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
    profile = load(pilotnet.PROFILE)
    placement = pilotnet.without_unused_slots(pilotnet.as_compiled(net, pilotnet.balance(net), profile))
    counts = pilotnet.Counter(placement, net, pilotnet.balance(net), profile).count(pilotnet.run(net))
    for layer in ("conv2", "conv3"):
        ours = pilotnet.per_core(counts, layer).max(axis=0)
        theirs = [phase[f"{layer}_max"] for phase in case["phase"]]
        assert any(np.roll(ours, k).tolist() == theirs * 4 for k in range(4)), layer
