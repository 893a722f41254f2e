import itertools
from typing import Any

import nir
import numpy as np
import pytest
import torch
from builders import DT_S, SMALL, samples, spiking_model
from torch import nn

from snnergy.attention import Gate
from snnergy.config import ModelConfig
from snnergy.deploy import engine
from snnergy.errors import BadInput, UnsupportedLayer
from snnergy.export import net_sim, nir_file, nir_sim
from snnergy.export.from_torch import record, to_nir
from snnergy.export.lower import lower
from snnergy.export.quantize import quantize
from snnergy.model import Readout
from snnergy.neurons import OrPool, Repeat, Spike, TimeConv2d, TimeNorm

pytestmark = pytest.mark.usefixtures("one_thread")
STEPS = SMALL.timesteps
SHAPES = dict.fromkeys(("audio", "video"), (1, SMALL.image_size, SMALL.image_size))


def exported(model: Any, tmp_path: Any) -> nir.NIRGraph:
    """The graph as another reader gets it: written, type-checked by nir, read back through our own gate."""
    path = tmp_path / "model.nir"
    nir_file.write(to_nir(model, SHAPES, DT_S, STEPS), path)
    nir.read(path, type_check=True)
    return nir_file.read(path)


VARIANTS: list[dict[str, Any]] = [
    {},
    *({"fusion": fusion} for fusion in ("audio_from_video", "video_from_audio", "none")),
    *({"modalities": one, "downsample": down} for one in ("audio", "video") for down in ("stride", "pool")),
    {"downsample": "pool", "blocks": (1, 0, 0)},
    {"blocks": (0, 0, 1)},
    {"blocks": (1, 1, 1), "fusion": "none"},
    {"beta": 0.0},
    {"beta": 1.0},
    {"beta": 0.9, "threshold": 0.7},
    {"dim": 8, "heads": (1, 1, 4), "mlp_ratio": 2},
]


@pytest.mark.parametrize("changes", VARIANTS, ids=lambda c: "-".join(f"{k}={v}" for k, v in c.items()) or "plain")
def test_torch_nir_and_net_give_the_same_spikes(changes: dict[str, Any], tmp_path: Any) -> None:
    model = spiking_model(**changes)
    graph, real = exported(model, tmp_path), samples(6, SMALL.image_size)
    spikes, logits = record(model, real)
    trains = nir_sim.run(graph, real, STEPS, DT_S)
    net = lower(graph, DT_S)
    lowered = net_sim.run(net, real, STEPS)
    assert 0.02 < np.mean([s.mean() for s in spikes.values()]) < 0.98
    assert set(spikes) | {"readout"} == set(trains) == set(lowered)
    for name, theirs in spikes.items():
        np.testing.assert_array_equal(theirs, trains[name], err_msg=f"{name}, torch and NIR")
        np.testing.assert_array_equal(theirs.reshape(lowered[name].shape), lowered[name], err_msg=f"{name}, Net")
    np.testing.assert_allclose(trains["readout"][:, -1], logits, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(lowered["readout"][:, -1], logits, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("changes", [{}, {"downsample": "pool", "blocks": (1, 0, 0)}])
def test_only_spikes_travel_between_populations(changes: dict[str, Any], tmp_path: Any) -> None:
    graph = exported(spiking_model(**changes), tmp_path)
    trains = nir_sim.run(graph, samples(4, SMALL.image_size), STEPS, DT_S)
    neurons = (nir.LIF, nir.IF, nir.Threshold)
    targets: dict[str, list[str]] = {}
    for source, target in graph.edges:
        targets.setdefault(source, []).append(target)
    for name, node in graph.nodes.items():
        for target in targets.get(name, ()):
            to = graph.nodes[target]
            if isinstance(node, neurons):
                assert set(np.unique(trains[name])) <= {0.0, 1.0} and not isinstance(to, neurons)
            elif isinstance(node, nir.I):
                assert isinstance(to, nir.Output)
            elif isinstance(node, nir.Input):
                assert isinstance(to, nir.Conv2d)
            else:  # one linear node between two populations, flatten and affine before the readout
                assert isinstance(to, (*neurons, nir.I)) or (
                    isinstance(node, nir.Flatten) and isinstance(to, nir.Affine)
                )


def test_the_tiny_preset_is_its_graph(tiny_model: Any, tmp_path: Any) -> None:
    shapes = dict.fromkeys(("audio", "video"), (1, 32, 32))
    graph, real = to_nir(tiny_model, shapes, DT_S, 4), samples(4, 32)
    spikes, logits = record(tiny_model, real)
    trains = nir_sim.run(graph, real, 4, DT_S)
    assert sum(int((trains[name] != theirs).sum()) for name, theirs in spikes.items()) == 0
    np.testing.assert_allclose(trains["readout"][:, -1], logits, rtol=1e-9)


def test_the_module_is_left_alone() -> None:
    model = spiking_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    to_nir(model, SHAPES, DT_S, STEPS)
    record(model, samples(1, SMALL.image_size))
    after = model.state_dict()
    assert all(torch.equal(after[n], v) and after[n].dtype == v.dtype for n, v in before.items())


# gates and pools, exhaustively


class Gated(nn.Module):
    """Two binary inputs, each through a neuron that repeats it, into one gate."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.repeat = Repeat(1)
        self.q_conv, self.k_conv = (TimeConv2d(width, width, 1, bias=False) for _ in range(2))
        self.q, self.k = Spike(0.0, 0.5), Spike(0.0, 0.5)
        self.gate = Gate(heads)
        self.out_conv, self.out = TimeConv2d(width, width, 1, bias=False), Spike(0.0, 0.5)
        for conv in (self.q_conv, self.k_conv, self.out_conv):
            nn.init.eye_(conv.weight.data[:, :, 0, 0])

    def forward(self, query: Any, key: Any) -> Any:
        q, k = self.q(self.q_conv(self.repeat(query))), self.k(self.k_conv(self.repeat(key)))
        return self.out(self.out_conv(self.gate(q, k)))


def gate_everywhere(query: Any, key: Any, heads: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What torch, both NIR forms, both Nets and both QuantNets make of queries and keys [cases, width]."""
    width = query.shape[1]
    module, shape = Gated(width, heads), (width, 1, 1)
    real = {"query": query.reshape(-1, *shape), "key": key.reshape(-1, *shape)}
    found = {"torch": record(module, real)[0]["gate"]}
    for form, limit in (("fused", 127), ("two-step", 0)):
        monkeypatch.setattr("snnergy.export.from_torch.FUSED_GATE_LIMIT", limit)
        graph = to_nir(module, {"query": shape, "key": shape}, DT_S, 1)
        assert ("gate_or" in graph.nodes) == (form == "two-step")
        net = lower(graph, DT_S)
        quant = quantize(net, 1)
        found[f"NIR {form}"] = nir_sim.run(graph, real, 1, DT_S)["gate"]
        found[f"Net {form}"] = net_sim.run(net, real, 1)["gate"]
        found[f"QuantNet {form}"] = engine.run(quant, quant.encode(real), record=("gate",)).recorded["gate"]
    return {name: values.reshape(len(query), width) for name, values in found.items()}


def masked(query: Any, key: Any, heads: int) -> Any:
    some = query.reshape(len(query), heads, -1).any(2, keepdims=True)
    return (key.reshape(len(query), heads, -1) * some).reshape(key.shape)


@pytest.mark.parametrize(("width", "heads"), [(1, 1), (2, 1), (2, 2), (3, 1), (4, 1), (4, 2), (6, 2), (8, 1)])
def test_a_gate_is_key_and_any_query_in_every_form(width: int, heads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bits = np.array(list(itertools.product((0.0, 1.0), repeat=width)))
    query, key = np.repeat(bits, len(bits), 0), np.tile(bits, (len(bits), 1))
    expected = masked(query, key, heads)
    for form, found in gate_everywhere(query, key, heads, monkeypatch).items():
        np.testing.assert_array_equal(found, expected, err_msg=form)


@pytest.mark.parametrize("width", [63, 64, 127])
def test_wide_gates_are_exact_at_the_edge_of_the_fused_form(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(width)
    rates = np.repeat([0.0, 1 / width, 0.3, 1.0], 50)[:, None]
    query, key = (rng.random((200, width)) < rates).astype(float), (rng.random((200, width)) < 0.5).astype(float)
    expected = masked(query, key, 1)
    for form, found in gate_everywhere(query, key, 1, monkeypatch).items():
        np.testing.assert_array_equal(found, expected, err_msg=form)


@pytest.mark.parametrize(("size", "fused"), [(63, True), (64, False)])
def test_the_fused_gate_ends_where_a_register_would_remember(size: int, fused: bool) -> None:
    graph = to_nir(Gated(size, 1), dict.fromkeys(("query", "key"), (size, 1, 1)), DT_S, 1)
    assert ("gate_or" not in graph.nodes) is fused
    quant = quantize(lower(graph, DT_S), 4)
    gates = [p for p in quant.populations if p.name.startswith("gate")]
    assert all((p.decay == 4095).all() for p in gates), "a chip's 12-bit decay forgets their sums"


class Pooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.repeat, self.conv, self.spike, self.pool = Repeat(1), TimeConv2d(1, 1, 1), Spike(0.0, 0.5), OrPool()
        self.out_conv, self.out = TimeConv2d(1, 1, 1), Spike(0.0, 0.5)
        for conv in (self.conv, self.out_conv):
            nn.init.ones_(conv.weight)
            nn.init.zeros_(conv.bias)

    def forward(self, x: Any) -> Any:
        return self.out(self.out_conv(self.pool(self.spike(self.conv(self.repeat(x))))))


def test_an_or_pool_is_or_in_every_form() -> None:
    x = np.zeros((512, 1, 5, 5))
    x[:, 0, 1:4, 1:4] = np.array(list(itertools.product((0.0, 1.0), repeat=9))).reshape(-1, 3, 3)
    module = Pooled()
    graph = to_nir(module, {"x": (1, 5, 5)}, DT_S, 1)
    net = lower(graph, DT_S)
    quant = quantize(net, 1)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    expected = np.array(
        [[padded[:, 0, 2 * r : 2 * r + 3, 2 * c : 2 * c + 3].any((1, 2)) for c in range(3)] for r in range(3)]
    )
    expected = expected.transpose(2, 0, 1)
    assert expected[:, 1, 1].sum() == 511, "the middle window sees every pattern"
    for form, found in {
        "torch": record(module, {"x": x})[0]["pool"],
        "NIR": nir_sim.run(graph, {"x": x}, 1, DT_S)["pool"],
        "Net": net_sim.run(net, {"x": x}, 1)["pool"],
        "QuantNet": engine.run(quant, quant.encode({"x": x}), record=("pool",)).recorded["pool"],
    }.items():
        np.testing.assert_array_equal(found.reshape(512, 3, 3), expected, err_msg=form)


# layers, one by one


class Layers(nn.Module):
    """``repeat -> conv -> ... -> spike``: any layers after the first convolution."""

    def __init__(self, *layers: nn.Module, steps: int = 2) -> None:
        super().__init__()
        self.repeat = Repeat(steps)
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Any) -> Any:
        return self.layers(self.repeat(x))


def seeded(module: Any) -> Any:
    """The module with fixed random weights large enough to make it spike."""
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for value in module.parameters():
            value.copy_(torch.from_numpy(rng.normal(0.2, 1.0, value.shape)))
    return module


@pytest.mark.parametrize(
    "layers",
    [
        (TimeConv2d(4, 6, 3, stride=(2, 1), padding=(1, 0)), Spike()),
        (TimeConv2d(4, 6, 3, padding=2, dilation=2, groups=2), TimeNorm(6), Spike(0.9, 0.3)),
        (TimeConv2d(4, 4, 1, bias=False), TimeNorm(4, affine=False), Spike(), nn.Dropout(),
         TimeConv2d(4, 2, 1), Spike()),
        (nn.Identity(), TimeConv2d(4, 4, 1), TimeNorm(4), TimeNorm(4), Spike(1.0, 2.0)),
    ],
)  # fmt: skip
def test_a_stack_of_layers_is_its_graph(layers: Any) -> None:
    module = seeded(Layers(*layers))
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -0.2, 0.2)  # type: ignore[arg-type]
            nn.init.uniform_(layer.running_var, 0.05, 0.2)  # type: ignore[arg-type]
    graph = to_nir(module, {"x": (4, 5, 6)}, DT_S, 2)
    x = {"x": np.random.default_rng(0).random((8, 4, 5, 6))}
    spikes, _ = record(module, x)
    trains = nir_sim.run(graph, x, 2, DT_S)
    for name, theirs in spikes.items():
        np.testing.assert_array_equal(trains[name], theirs)
    assert 0 < np.mean(list(spikes.values())[-1]) < 1


class Body(nn.Module):
    """A first convolution and neuron, and whatever ``body`` does with them."""

    def __init__(self, body: Any, **layers: Any) -> None:
        super().__init__()
        self.conv, self.spike, self.conv2, self.spike2 = TimeConv2d(1, 2, 1), Spike(), TimeConv2d(2, 2, 1), Spike()
        self.alpha = nn.Parameter(torch.tensor(0.5))
        self.body = body
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: Any) -> Any:
        return self.body(self, self.spike(self.conv(x)))


def test_sums_and_gains_fold_into_the_next_convolution() -> None:
    def body(m: Any, s: Any) -> Any:
        return m.spike2(m.conv2(s) + m.alpha * m.third(s) + m.fourth(2 * s))

    module = seeded(Body(body, third=TimeConv2d(2, 2, 1), fourth=TimeConv2d(2, 2, 1)))
    graph = to_nir(module, {"x": (1, 3, 3)}, DT_S, 1)
    x = np.random.default_rng(1).normal(0, 3, (20, 1, 3, 3))
    with torch.no_grad():
        theirs = module.double()(torch.from_numpy(x)[None]).numpy()[0]
    np.testing.assert_array_equal(nir_sim.run(graph, {"x": x}, 1, DT_S)["spike2"][:, 0], theirs)
    assert 0 < theirs.mean() < 1


def refused(module: nn.Module, kind: Any = UnsupportedLayer) -> str:
    with pytest.raises(kind) as error:
        to_nir(module, {"x": (1, 4, 4)}, DT_S, 1)
    assert "\n" not in str(error.value)
    return str(error.value)


NO_FORM = "has no NIR form"
ONLY = "between layers has no NIR form; only '+' and 'parameter *' have"


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Body(lambda m, s: m.spike2(m.soft(s)), soft=nn.Softmax(-1)),
         f"layer 'soft' (torch.nn.modules.activation.Softmax) {NO_FORM}"),
        (Body(lambda m, s: m.norm(m.conv2(s)), norm=nn.LayerNorm(4)),
         f"layer 'norm' (torch.nn.modules.normalization.LayerNorm) {NO_FORM}"),
        (Body(lambda m, s: m.spike2(m.plain(s)), plain=nn.Conv2d(2, 2, 1)),
         f"layer 'plain' (torch.nn.modules.conv.Conv2d) {NO_FORM}"),
        (Body(lambda m, s: m.spike2(m.conv2(s * m.spike2(m.conv2(s))))),
         "'*' between layers must be one number times spikes; a product of two activations is not"),
        (Body(lambda m, s: m.pool(s + m.spike2(m.conv2(s))), pool=OrPool()),
         "layer 'pool' must be fed by one neuron layer; a sum is not binary"),
        (Body(lambda m, s: m.pool(m.alpha * s), pool=OrPool()),
         "layer 'pool' must be fed by one neuron layer; a sum is not binary"),
        (Body(lambda m, s: m.pool(m.conv2(s)), pool=OrPool()), "layer 'pool' must be fed by spikes, not by a current"),
        (Body(lambda m, s: m.gate(s, s + s), gate=Gate(1)),
         "layer 'gate' must be fed by one neuron layer; a sum is not binary"),
        (Body(lambda m, s: m.spike2(m.norm(s)), norm=TimeNorm(2)),
         "layer 'norm' must follow a convolution; a norm of spikes does not fold"),
        (Body(lambda m, s: m.spike2(m.norm(m.conv2(s))), norm=TimeNorm(2, track_running_stats=False)),
         "layer 'norm' keeps no running statistics; they are needed to fold it"),
        (Body(lambda m, s: m.spike2(s)), "neuron 'spike2' must be fed by a convolution"),
        (Body(lambda m, s: m.spike2(m.conv2(m.conv2(s)))), "layer 'conv2' must be fed by spikes, not by a current"),
        (Body(lambda m, s: m.spike(m.conv2(s))), "layer 'spike' is used twice; give each use a layer of its own"),
        (Body(lambda m, s: m.spike2(m.conv2(s) + 1.0)),
         "'+' between layers must join two spike trains or two currents of one shape"),
        (Body(lambda m, s: m.spike2(m.conv2(s) + s)),
         "'+' between layers must join two spike trains or two currents of one shape"),
        (Body(lambda m, s: m.spike2(m.conv2(s) * m.gains), gains=nn.Parameter(torch.ones(2))),
         "'gains' has 2 values; a gain between layers must be one number"),
        (Body(lambda m, s: m.spike2(torch.relu(m.conv2(s)))), f"'relu' {ONLY}"),
        (Body(lambda m, s: m.spike2(torch.add(m.conv2(s), m.conv2(s)))), f"'add' {ONLY}"),
        (Body(lambda m, s: m.spike2(m.conv2(s).mean(0))), f"'mean' {ONLY}"),
        (Body(lambda m, s: m.spike2(m.conv2(s) - m.conv2(s))), f"'sub' {ONLY}"),
        (Body(lambda m, s: m.gate(query=s, key=s), gate=Gate(1)),
         "layer 'gate' is called with named arguments; pass them by position"),
        (Body(lambda m, s: m.alpha * s), "the module returns a sum or a current; end it with a neuron or a readout"),
        (Body(lambda m, s: s + m.spike2(m.conv2(s))),
         "the module returns a sum or a current; end it with a neuron or a readout"),
        (Body(lambda m, s: m.conv2(s)), "the module returns a sum or a current; end it with a neuron or a readout"),
        (Body(lambda m, s: m.again(m.read(s), s), read=Readout(2, 3), again=Readout(5, 2)),
         "layer 'again' is fed by a readout; nothing can follow one"),
        (Body(lambda m, s: m.spike2(m.same(s)), same=TimeConv2d(2, 2, 3, padding="same")),
         "layer 'same' pads by 'zeros' same; give numbers and zeros"),
        (Body(lambda m, s: m.spike2(m.wrap(s)), wrap=TimeConv2d(2, 2, 3, padding=1, padding_mode="circular")),
         "layer 'wrap' pads by 'circular' (1, 1); give numbers and zeros"),
        (Body(lambda m, s: m.spike2(m.tall(s)), tall=TimeConv2d(2, 2, (3, 1))),
         f"layer 'tall' has a 3x1 kernel; nir {nir.version} types square ones only"),
        (Layers(OrPool(), steps=1), "layer 'layers_0' must be fed by a neuron layer; an input is not binary"),
    ],
)  # fmt: skip
def test_what_has_no_nir_form_is_refused_by_name(module: nn.Module, message: str) -> None:
    assert refused(module) == message


def test_a_branch_on_values_cannot_be_traced() -> None:
    text = refused(Body(lambda m, s: s if s.sum() > 0 else m.spike2(m.conv2(s))))
    assert text.startswith("Body cannot be traced: ")


def test_an_unknown_layer_says_where_a_row_belongs() -> None:
    with pytest.raises(UnsupportedLayer) as error:
        to_nir(Body(lambda m, s: m.soft(s), soft=nn.Softmax(-1)), {"x": (1, 4, 4)}, DT_S, 1)
    assert error.value.help == "remove it, or add a row to export/from_torch.py:TABLE"


def test_steps_must_be_the_models() -> None:
    with pytest.raises(BadInput) as error:
        to_nir(spiking_model(), SHAPES, DT_S, STEPS + 1)
    assert str(error.value) == f"the model repeats its input {STEPS} times, not {STEPS + 1}"


def test_a_config_of_one_modality_reads_one_input() -> None:
    config = ModelConfig(**{**SMALL.__dict__, "modalities": "audio"})
    assert config.streams == ("audio",)
    graph = to_nir(spiking_model(modalities="audio"), SHAPES, DT_S, STEPS)
    assert [n for n, node in graph.nodes.items() if isinstance(node, nir.Input)] == ["audio"]
