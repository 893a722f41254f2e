"""Real files of other tools, from NIR's own paper, go all the way: read twice alike, deployed, priced, run on Lava."""

from __future__ import annotations

from pathlib import Path

import pytest

from snnergy.deploy import lava_compat
from snnergy.deploy.deploy_model import deploy
from snnergy.deploy.verify import Settings, open_file, walk
from snnergy.errors import BadInput

CASES = Path(__file__).parents[2] / "shared" / "cases" / "nir"
FILES = {
    "lif_norse": "nir",
    "two_lif_neurons": "nir",
    "cnn_sinabs": "sinabs",
    "braille_noDelay_bias_zero": "nir",
    "braille_noDelay_noBias_subtract": "subtract",
}


def file(name: str) -> Path:
    path = CASES / f"{name}.nir"
    if not path.exists():
        pytest.skip(f"the NIR paper's {path.name} (shared/cases) is not here")
    return path


@pytest.mark.parametrize(("name", "how"), FILES.items())
def test_a_file_of_the_nir_paper_deploys(name: str, how: str) -> None:
    steps = 12 if name == "cnn_sinabs" else 40
    with_lava = 1 if lava_compat.installed() else 0
    done = deploy(file(name), "loihi2-sim", samples=2, cross_check=with_lava, spec="random:0.3", steps=steps,
                  convention=how)  # fmt: skip
    document = done.document
    assert done.equal and document["energy"]["total"]["low"] > 0
    assert bool(document["programmed"]) == (how in ("subtract", "sinabs"))
    told = " ".join(document["warnings"])
    assert "does not say how its neurons step" not in told
    assert "need" not in told or "program" in told


@pytest.mark.parametrize(("name", "how"), FILES.items())
def test_two_readings_of_it_spike_alike(name: str, how: str) -> None:
    settings = Settings(pairs=("nir:net", "quant-torch:native"), samples=3, lava_samples=0, spec="random:0.3",
                        steps=12 if name == "cnn_sinabs" else 40, convention=how)  # fmt: skip
    subject, inputs = open_file(file(name), settings)
    for pair in walk(subject, inputs, settings, progress=lambda *_: None, say=print):
        assert pair.equal, str(pair)


def test_what_is_assumed_of_a_file_that_says_nothing_is_in_the_report() -> None:
    done = deploy(file("braille_noDelay_noBias_subtract"), "loihi2-sim", samples=1, cross_check=0, spec="random:0.3",
                  steps=10)  # fmt: skip
    told = " ".join(done.document["warnings"])
    assert "names no time step; 0.0001 s is assumed" in told and "does not say how its neurons step" in told


def test_a_malformed_file_says_exactly_why() -> None:
    path = file("braille_noDelay_bias_zero_subgraph")
    with pytest.raises(BadInput, match=r"Edge \('input', 'lif'\) references destination node 'lif'"):
        deploy(path, "loihi2-sim", spec="random:0.3", steps=10)
