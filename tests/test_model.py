"""What the exporter relies on: the model traces, sums reach linear layers only, and every other edge carries spikes."""

from __future__ import annotations

import operator
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
from torch import fx, nn  # noqa: E402

from snnergy.attention import Gate  # noqa: E402
from snnergy.config import PRESETS, ModelConfig, preset  # noqa: E402
from snnergy.model import LEAVES, Readout, SNNergy  # noqa: E402
from snnergy.neurons import OrPool, Spike, TimeConv2d, TimeNorm  # noqa: E402


def small(name: str, **changes) -> ModelConfig:
    """The preset's structure at a size that runs at once."""
    return replace(preset(name), image_size=32, dim=32, heads=(1, 2, 4), **changes)


VARIANTS = {
    "tiny": small("tiny"),
    "chip": small("chip"),
    "paper": small("paper"),
    "colour": small("tiny", video_channels=3, audio_channels=2),
    "one way": small("chip", fusion="audio_from_video"),
    "other way": small("chip", fusion="video_from_audio"),
    "side by side": small("tiny", fusion="none"),
    "audio": small("paper", modalities="audio"),
    "video": small("chip", modalities="video"),
}
variants = pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)


class Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, LEAVES)


def lively(config: ModelConfig) -> SNNergy:
    """A random model in which neurons fire at every depth."""
    torch.manual_seed(0)
    model = SNNergy(config)
    for module in model.modules():
        if isinstance(module, TimeNorm):
            nn.init.constant_(module.bias, 0.5)
    return model.eval()


def inputs(config: ModelConfig, count: int = 3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    size = config.image_size
    return tuple(
        torch.rand(count, channels, size, size, generator=generator, dtype=dtype)
        for channels in (config.audio_channels, config.video_channels)
    )


@variants
def test_tracing_keeps_the_model(config):
    model = lively(config)
    traced = fx.GraphModule(model, Tracer().trace(model))
    given = inputs(config)
    assert torch.equal(model(*given), traced(*given))


@variants
def test_between_the_leaves_there_are_only_sums_and_scales(config):
    graph = Tracer().trace(lively(config))
    for node in graph.nodes:
        assert node.op in ("placeholder", "call_module", "get_attr", "call_function", "output")
        if node.op == "call_function":
            assert node.target in (operator.add, operator.mul)
        if node.target is operator.mul:
            scale, stream = node.args
            assert scale.op == "get_attr" and scale.target.endswith("alpha") and stream.op == "call_module"


@variants
def test_sums_and_scales_reach_linear_layers_only(config):
    model = lively(config)
    modules = dict(model.named_modules())
    graph = Tracer().trace(model)

    def kind(node: fx.Node) -> type:
        return type(modules[node.target]) if node.op == "call_module" else type(None)

    for node in graph.nodes:
        if node.target is operator.add and not all(kind(term) is TimeNorm for term in node.args):
            allowed = (TimeConv2d, Readout)
            assert all(user.target is operator.add or kind(user) in allowed for user in node.users)
        if kind(node) in (OrPool, Gate):
            assert all(kind(source) in (Spike, OrPool, Gate) for source in node.args)


@variants
def test_every_spiking_layer_gives_zeros_and_ones_and_is_named_once(config):
    model = lively(config)
    seen: dict[str, set[float]] = {}
    for name, module in model.named_modules():
        if isinstance(module, Spike | OrPool | Gate):
            module.register_forward_hook(lambda m, i, out, name=name: seen.update({name: set(out.unique().tolist())}))
    model(*inputs(config))
    assert all(values <= {0.0, 1.0} for values in seen.values())
    assert set(seen) == {n for n, m in model.named_modules() if isinstance(m, Spike | OrPool | Gate)}
    assert len({name.replace(".", "_") for name in seen}) == len(seen)


def test_the_populations_of_tiny_have_stable_names():
    names = [n for n, m in SNNergy(preset("tiny")).named_modules() if isinstance(m, Spike | Gate) and "stages.0" in n]
    assert names == [
        "stages.0.audio.embed.spike1",
        "stages.0.audio.embed.spike2",
        "stages.0.audio.mlp.up",
        "stages.0.audio.mlp.down",
        "stages.0.video.embed.spike1",
        "stages.0.video.embed.spike2",
        "stages.0.video.mlp.up",
        "stages.0.video.mlp.down",
        "stages.0.audio_from_video.q",
        "stages.0.audio_from_video.k",
        "stages.0.audio_from_video.gate",
        "stages.0.audio_from_video.out",
        "stages.0.video_from_audio.q",
        "stages.0.video_from_audio.k",
        "stages.0.video_from_audio.gate",
        "stages.0.video_from_audio.out",
    ]


@pytest.mark.parametrize("name", PRESETS)
def test_the_stages_work_at_a_quarter_an_eighth_and_a_sixteenth(name):
    config = replace(preset(name), dim=32, image_size=64)
    model = lively(config)
    sizes = []
    for stage in model.stages:
        stage.register_forward_hook(lambda m, i, out: sizes.append(tuple(out[0].shape[2:])))
    model(*inputs(config, 1))
    assert sizes == [(8, 16, 16), (16, 8, 8), (32, 4, 4)]


def test_both_directions_start_from_the_tensors_before_the_fusion():
    model = lively(VARIANTS["tiny"])
    stage = model.stages[0]
    seen = {}
    for name in ("audio_from_video", "video_from_audio"):
        stage.get_submodule(name).register_forward_pre_hook(lambda m, i, name=name: seen.update({name: i}))
    model(*inputs(VARIANTS["tiny"]))
    assert seen["audio_from_video"][0] is seen["video_from_audio"][1]
    assert seen["audio_from_video"][1] is seen["video_from_audio"][0]


def test_a_model_of_one_modality_ignores_the_other_input():
    model = lively(VARIANTS["audio"])
    audio, video = inputs(VARIANTS["audio"])
    assert torch.equal(model(audio, video), model(audio, 1 - video))


@variants
def test_a_sample_gives_the_same_logits_alone_and_in_a_batch(config):
    model = lively(config).double()
    audio, video = inputs(config, dtype=torch.float64)
    together = model(audio, video)
    alone = torch.cat([model(audio[i : i + 1], video[i : i + 1]) for i in range(len(audio))])
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-9)


def test_the_fused_neurons_leave_the_logits_of_snntorch():
    model = lively(VARIANTS["chip"]).double()
    given = inputs(VARIANTS["chip"], dtype=torch.float64)
    fused = model(*given)
    for module in model.modules():
        if isinstance(module, Spike):
            module.fused = False
    assert torch.equal(fused, model(*given))


def test_every_parameter_gets_a_gradient():
    model = lively(VARIANTS["paper"]).train()
    model(*inputs(VARIANTS["paper"])).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
