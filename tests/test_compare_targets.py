"""One run priced on many chips is what each deployment alone says; a chip that is too small says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from snnergy.deploy import compare_targets
from snnergy.deploy.deploy_model import deploy
from snnergy.errors import BadInput


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, spiking_model: Any) -> Path:
    pytest.importorskip("torch")
    from snnergy import checkpoint
    from snnergy.deploy.export_model import graph_of
    from snnergy.export import nir_file

    folder = tmp_path_factory.mktemp("compare")
    checkpoint.save(folder / "model.pt", spiking_model())
    nir_file.write(graph_of(folder / "model.pt")[1], folder / "model.nir")
    return folder / "model.nir"


def test_every_row_is_the_deployment_on_that_chip(model: Path) -> None:
    found = compare_targets.compare(model, ("loihi2-sim", "spinnaker2-sim", "truenorth-sim"), samples=4)
    assert found["inputs"].startswith("random:0.1") and found["samples"] == 4
    loihi2, spinnaker2, truenorth = found["targets"]
    for row in (loihi2, spinnaker2):
        alone = deploy(model, row["target"], spec="random:0.1", samples=4, cross_check=0, compare_float=False).document
        assert row["energy"] == alone["energy"]["total"]
        assert row["latency"]["nominal"] == alone["latency"]["nominal"]
        assert (row["chips"], row["cores"]) == (alone["placement"]["chips"], alone["placement"]["cores"])
        assert row["grade"] == alone["evidence"]["grade"]
    assert truenorth["fits"] is False and "truenorth has 20" in truenorth["reason"]


def test_a_target_that_is_not_known_stops_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"^no target 'loihi3-sim'; did you mean 'loihi"):
        compare_targets.compare(tmp_path / "none.nir", ("loihi3-sim",))
