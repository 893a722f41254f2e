import os
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
from builders import SMALL, spiking_model

from snnergy import __version__, checkpoint
from snnergy.deploy import export_model as module
from snnergy.deploy.export_model import export_model, graph_of
from snnergy.deploy.verify import Settings, verify_file
from snnergy.errors import NotEqual
from snnergy.export import nir_file

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    checkpoint.save(tmp_path / "model.pt", spiking_model())
    return tmp_path / "model.pt"


def test_the_graph_says_what_nir_cannot(saved: Path) -> None:
    _, graph = graph_of(saved)
    about = nir_file.provenance(graph)
    assert (about.dt_s, about.steps, about.model, about.version) == (1e-4, SMALL.timesteps, "small", __version__)
    assert about.input is None


def test_a_model_is_exported_compared_and_read_again(saved: Path) -> None:
    output = saved.with_name("model.nir")
    done = export_model(saved, output, 3)
    graph = nir_file.read(output)
    assert done.pair.equal and done.pair.samples == 3
    assert (done.nodes, done.edges) == (len(graph.nodes), len(graph.edges))
    assert str(done).startswith(f"wrote {output}: {done.nodes} nodes, {done.edges} edges\ntorch == NIR: 0 of ")
    plain = done.to_dict()
    assert plain["verified"]["equal"] is True and isinstance(plain["path"], str)


@pytest.mark.parametrize("changes", [{"modalities": "audio"}, {"modalities": "video"}])
def test_a_model_of_one_modality_is_exported(changes: dict[str, Any], tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "m.pt", spiking_model(**changes))
    assert export_model(tmp_path / "m.pt", tmp_path / "m.nir", 2).pair.equal


def test_a_model_with_a_data_set_is_compared_on_it(tmp_path: Path, tiny_model: Any) -> None:
    checkpoint.save(tmp_path / "m.pt", tiny_model, {"dataset": "avdigits:test"})
    done = export_model(tmp_path / "m.pt", tmp_path / "m.nir", 2)
    assert done.pair.equal and nir_file.provenance(nir_file.read(tmp_path / "m.nir")).input == "avdigits:test"


def test_a_graph_that_is_not_the_model_leaves_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = saved.with_name("model.nir")
    output.write_bytes(b"old")

    def wrong(path: Path) -> Any:
        model, graph = graph_of(path)
        node: Any = graph.nodes["stages_0_audio_embed_spike1"]
        node.v_threshold = node.v_threshold * 0.5
        return model, graph

    monkeypatch.setattr(module, "graph_of", wrong)
    with pytest.raises(NotEqual) as error:
        export_model(saved, output, 3)
    assert str(error.value).startswith("the exported graph is not the trained network: torch == NIR: ")
    assert "population 'stages_0_audio_embed_spike1'" in str(error.value)
    assert error.value.help == "this is a bug; nothing was written"
    assert output.read_bytes() == b"old" and sorted(os.listdir(saved.parent)) == ["model.nir", "model.pt"]


@pytest.mark.parametrize("suffix", ["pt", "nir"])
def test_verify_file_compares_every_form_the_file_allows(saved: Path, suffix: str) -> None:
    path = saved.with_suffix(f".{suffix}")
    if suffix == "nir":
        export_model(saved, path, 1)
    real = {name: np.random.default_rng(0).random((4, 1, 16, 16)) for name in ("audio", "video")}
    np.savez(saved.with_name("x.npz"), **real)
    pairs = list(verify_file(path, Settings(samples=4, lava_samples=0, spec=str(saved.with_name("x.npz")))))
    names = ["nir:net", "net:native", "quant-float:native", "quant-torch:native"]
    assert [p.name for p in pairs] == (["torch:nir"] if suffix == "pt" else []) + names
    assert all(p.ok and p.samples == 4 for p in pairs)


def test_the_file_passes_nirs_own_checks(saved: Path) -> None:
    export_model(saved, saved.with_name("m.nir"), 1)
    assert isinstance(nir.read(saved.with_name("m.nir"), type_check=True), nir.NIRGraph)
