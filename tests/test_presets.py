"""The presets at their real size: what each promises."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from snnergy import config, model  # noqa: E402
from snnergy.deploy import job, place  # noqa: E402
from snnergy.export import from_torch, nir_file  # noqa: E402
from snnergy.export.net import neurons  # noqa: E402
from snnergy.hardware_profiles import load  # noqa: E402


@pytest.mark.parametrize("name", ["paper", "paper512"])
def test_the_published_scale_runs_forward(name):
    preset = config.preset(name)
    assert (preset.image_size, preset.timesteps) == (128, 4)
    assert preset.dim == (512 if name == "paper512" else 256)
    net = model.SNNergy(preset).eval()
    with torch.no_grad():
        logits = net(torch.rand(1, 1, 128, 128), torch.rand(1, 1, 128, 128))
    assert logits.shape == (1, preset.classes)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("name", ["tiny", "chip"])
def test_the_small_presets_fit_one_loihi_2(name):
    preset = config.preset(name)
    size = (1, preset.image_size, preset.image_size)
    graph = from_torch.to_nir(model.SNNergy(preset), {"audio": size, "video": size}, 1e-4, preset.timesteps)
    nir_file.describe(graph, nir_file.Provenance(steps=preset.timesteps))
    ready = job.from_graph(Path(f"{name}.nir"), graph)
    placement = place.place(ready.quant, ready.schedule, load("loihi2"), chips=1)
    assert placement.chips == 1
    assert sum(s.neurons.size for core in placement.cores for s in core.slices) == neurons(ready.net)


@pytest.mark.slow
@pytest.mark.lava
def test_the_chip_preset_is_the_same_network_in_every_form(tmp_path):
    pytest.importorskip("lava.magma")
    import builders

    from snnergy import checkpoint
    from snnergy.deploy.verify import Settings, verify_file

    path = tmp_path / "chip.pt"
    checkpoint.save(path, builders.lively(config.preset("chip")), {"dataset": "avdigits:test"})
    pairs = list(verify_file(path, Settings(samples=4, lava_samples=2)))
    exact = [(p.left, p.right, p.differing) for p in pairs if p.demand == "exact"]
    assert exact == [("torch", "nir", 0), ("nir", "net", 0), ("quant-torch", "native", 0), ("native", "lava", 0)]
