import importlib.util
import itertools
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import numpy as np
import pytest

from snnergy.deploy import engine, lava_compat
from snnergy.errors import BadInput, SnnergyError, UnsupportedLayer
from snnergy.export import lava_dl
from snnergy.export.maps import Conv, Dense, weights
from snnergy.export.quantnet import QuantNet

Fields = dict[str, Any]
STEPS = 12


def neuron(threshold: Any = 20, v_decay: Any = 1024, i_decay: Any = 4096, **more: Any) -> Fields:
    return {"type": "CUBA", "iDecay": i_decay, "vDecay": v_decay, "vThMant": threshold, "refDelay": 1,
            "gradedSpike": False, **more}  # fmt: skip


def layer(kind: str, shape: tuple[int, ...], **fields: Any) -> Fields:
    return {"type": kind, "shape": np.array(shape), **fields}


def image(shape: tuple[int, ...], **fields: Any) -> Fields:
    return layer("input", shape, **fields)


def conv(shape: tuple[int, ...], weight: Any, stride: Any = (1, 1), padding: Any = (0, 0), **fields: Any) -> Fields:
    plain = {"dilation": (1, 1), "groups": 1, "neuron": neuron()}
    return layer("conv", shape, weight=weight, stride=stride, padding=padding, **{**plain, **fields})


def dense(weight: Any, **fields: Any) -> Fields:
    return layer("dense", (len(weight), 1, 1), weight=weight, **{"neuron": neuron(), **fields})


def put(group: h5py.Group, fields: Fields) -> None:
    for name, value in fields.items():
        if isinstance(value, dict):
            put(group.create_group(name), value)
        elif name == "type" and group.name and not group.name.endswith("neuron"):
            group.create_dataset(name, (1,), "S10", [value.encode()])  # as lava-dl does
        else:
            group.create_dataset(name, data=value)


def written(path: Path, layers: list[Fields]) -> Path:
    with h5py.File(path, "w") as file:
        for k, fields in enumerate(layers):
            put(file.create_group(f"layer/{k}"), fields)
    return path


@pytest.fixture
def net_of(tmp_path: Path) -> Callable[..., QuantNet]:
    """``net_of(layer, layer, ...)``: what is read from the file of these layers."""
    return lambda *layers, **more: lava_dl.read(written(tmp_path / "a.net", list(layers)), STEPS, **more)


def drawn(rng: np.random.Generator, *shape: int, low: int = -20, high: int = 24) -> np.ndarray:
    return rng.integers(low, high, shape, endpoint=True).astype(np.float32)  # lava-dl stores integers as floats


# against lava-dl itself


@pytest.fixture(scope="module")
def netx() -> Any:
    """lava-dl's reader. It imports matplotlib, which it does not need here: empty where it is not installed."""
    try:
        metadata.version("lava-dl")
    except metadata.PackageNotFoundError:
        pytest.skip("lava-dl is not installed")
    if lava_compat.installed() is None:
        pytest.skip("lava-nc is not installed")
    pytest.importorskip("torch", reason="lava-dl needs torch")
    lava_compat.activate()
    absent = ["matplotlib", "matplotlib.pyplot", "matplotlib.animation"]
    absent = [] if importlib.util.find_spec("matplotlib") else absent
    for name in absent:
        sys.modules[name] = ModuleType(name)
        if "." in name:
            setattr(sys.modules["matplotlib"], name.split(".")[1], sys.modules[name])
    try:
        import lava.lib.dl.netx.hdf5 as found
    finally:
        for name in absent:
            del sys.modules[name]
    return found


def on_lava(netx: Any, path: Path, x: np.ndarray, bits: int, driven: bool) -> list[np.ndarray]:
    """Spikes of every layer, uint8[steps, n] in our order, of one sample on Lava's fixed-point models.

    x:      [steps, *shape] in our order, sent to the first layer
    driven: by an input layer of neurons, of which x holds the bias mantissas, the same each step
    Layer k runs its sample one step after layer k - 1, and is reset before it.
    """
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.io.source import RingBuffer

    from snnergy.deploy.lava_in_process import InProcess, no_trace

    with no_trace():
        net = netx.Network(
            str(path), input_message_bits=bits if bits > 1 else 0, reset_interval=64, reset_offset=0 if driven else 1
        )
        whole = x.transpose(*range(x.ndim - 1, 0, -1), 0)  # x, y, channel, step
        first = 1 if driven else 2
        total = len(x) + len(net.layers) + first
        padded = np.zeros((*whole.shape[:-1], total), np.int32)
        padded[..., : len(x)] = whole
        if not driven:
            RingBuffer(data=padded).s_out.connect(net.inp)
        runner = InProcess([net], Loihi2SimCfg(select_tag="fixed_pt"))
    for block in net.layers:
        if block.block == "Conv":  # Lava keeps the padding as int8, to which numpy 2 adds no width above 127
            model = runner.model(block.synapse)
            model.padding = model.padding.astype(np.int64)
    if driven:
        runner.model(net.in_layer.neuron).bias_mant = padded[..., 0]
    sent: list[list[np.ndarray]] = [[] for _ in net.layers]
    for spikes, block in zip(sent, net.layers, strict=True):
        runner.tap(block.neuron.s_out, spikes.append)
    runner.run(total)
    result: list[np.ndarray] = []
    for k, spikes in enumerate(sent):
        own = np.array(spikes[first - 1 + k : first - 1 + k + len(x)])
        own = own.transpose(0, *range(own.ndim - 1, 0, -1))
        result.append(own.reshape(len(x), -1).astype(np.uint8))
    return result


def same_on_lava(netx: Any, path: Path, net: QuantNet, x: np.ndarray) -> set[str]:
    """The populations that neither were silent nor always fired, after comparing all with Lava. x: [steps, *shape]"""
    source, names = net.sources[0], tuple(p.name for p in net.populations)
    driven = source.name == "bias"
    if driven:
        x = np.repeat(x[:1], len(x), axis=0)
    ours = engine.run(net, {source.name: x[None]}, record=names).recorded
    theirs = on_lava(netx, path, x, 1 if driven else source.bits, driven)
    for name, spikes in zip(names, theirs, strict=True):
        np.testing.assert_array_equal(ours[name][0], spikes, name)
    return {name for name, spikes in zip(names, theirs, strict=True) if 0 < spikes.mean() < 1}


def chain_of_convolutions(rng: np.random.Generator) -> list[Fields]:
    return [
        image((3, 9, 7)),
        conv((4, 4, 4), drawn(rng, 4, 3, 3, 2), (2, 2), (0, 1), bias=drawn(rng, 4, high=8)),
        conv((6, 3, 4), drawn(rng, 6, 2, 2, 3), (1, 1), (0, 1), groups=2, neuron=neuron(12, [100, 500, 4096, 0, 7, 1])),
        layer("flatten", (1, 1, 72)),
        dense(drawn(rng, 5, 72, low=-6, high=8), bias=drawn(rng, 5, low=-2, high=6)),
        dense(drawn(rng, 3, 5), neuron=neuron([3, 5, 9], [0, 4096, 2000], [4096, 900, 3000])),
    ]


def input_of_neurons(rng: np.random.Generator) -> list[Fields]:
    first = image((2, 5, 4), weight=np.float32(40), bias=np.float32(3), neuron=neuron(25))
    return [first, conv((3, 3, 3), drawn(rng, 3, 2, 3, 2)), layer("flatten", (27, 1, 1)), dense(drawn(rng, 4, 27))]


def currents_with_memory(rng: np.random.Generator) -> list[Fields]:
    cuba = neuron(60, 500, 300)
    return [dense(drawn(rng, 7, 6, low=-90, high=110), neuron=cuba), dense(drawn(rng, 4, 7, low=0), neuron=cuba)]


def even_weights_of_nine_bits(rng: np.random.Generator) -> list[Fields]:
    return [dense(2 * drawn(rng, 7, 6, low=-128, high=127), neuron=neuron(150)), dense(drawn(rng, 4, 7, low=1))]


def odd_weights_of_mixed_signs(rng: np.random.Generator) -> list[Fields]:
    return [dense(drawn(rng, 7, 6, low=-63, high=63) * 2 + 1, neuron=neuron(99)), dense(drawn(rng, 4, 7) * 2 + 1)]


def recurrence(rng: np.random.Generator) -> list[Fields]:
    looped = layer("dense_rec", (7, 1, 1), weight=drawn(rng, 7, 6), weight_rec=drawn(rng, 7, 7), neuron=neuron())
    return [looped, dense(drawn(rng, 4, 7))]


def delays(kind: str) -> Callable[[np.random.Generator], list[Fields]]:
    shapes = {"one": (), "outputs": (5,), "inputs": (6,), "synapses": (5, 6)}

    def made(rng: np.random.Generator) -> list[Fields]:
        delay = rng.integers(0, 5, shapes[kind]).astype(np.float32)
        return [dense(drawn(rng, 5, 6), delay=delay), dense(drawn(rng, 4, 5))]

    return made


CHAINS: dict[str, tuple[Callable[[np.random.Generator], list[Fields]], int]] = {
    "convolutions": (chain_of_convolutions, 1),
    "graded": (chain_of_convolutions, 3),
    "input of neurons": (input_of_neurons, 8),
    "currents with memory": (currents_with_memory, 1),
    "even weights": (even_weights_of_nine_bits, 1),
    "odd weights": (odd_weights_of_mixed_signs, 1),
    "recurrence": (recurrence, 1),
    **{f"delays of {kind}": (delays(kind), 1) for kind in ("one", "outputs", "inputs", "synapses")},
}


@pytest.mark.lava
@pytest.mark.parametrize("name", CHAINS)
def test_every_layer_spikes_as_netx_on_lava(name: str, netx: Any, tmp_path: Path) -> None:
    make, bits = CHAINS[name]
    lively, names = set[str](), set[str]()
    for seed in range(4):
        rng = np.random.default_rng(seed)
        path = written(tmp_path / f"{seed}.net", make(rng))  # lava-dl leaves its file open
        net = lava_dl.read(path, STEPS, input_bits=bits)
        x = rng.integers(0, 1 << min(bits, 6), (STEPS, *net.sources[0].shape))
        names = {p.name for p in net.populations}
        lively |= same_on_lava(netx, path, net, x)
    assert lively == names, "the test is empty: a layer is always silent"


@pytest.mark.lava
@pytest.mark.slow
def test_every_layer_of_pilotnet_spikes_as_netx_on_lava(netx: Any) -> None:
    path = Path(__file__).parents[2] / "shared/cases/pilotnet-lif-loihi2/network.net"
    if not path.exists():
        pytest.skip("the shared case pilotnet-lif-loihi2 is not beside the repository")
    net = lava_dl.read(path, 16)
    lively = same_on_lava(netx, path, net, np.zeros((16, *net.sources[0].shape), np.int64))
    assert lively == {p.name for p in net.populations[1:-1]}


@pytest.mark.lava
def test_weights_that_netx_would_change_are_known(netx: Any) -> None:
    from lava.utils import weightutils

    def built(weight: np.ndarray) -> np.ndarray:
        stored, bits, exponent, _ = netx.optimize_weight_bits(weight)
        sign = weightutils.determine_sign_mode(stored)
        cut = weightutils.truncate_weights(weightutils.clip_weights(stored, sign, 8), sign, bits)
        return cut * 2.0**exponent  # what is shifted is the sum, so a lost bit of one weight is lost

    grid = (-128, -127, -100, -65, -64, -63, -3, -2, -1, 0, 1, 2, 63, 64, 100, 127)
    with np.errstate(divide="ignore"):
        for low, high in itertools.product(grid, grid):
            weight = np.array([[low, high]])
            if weight.any():  # of zeros netx makes an infinite shift
                assert lava_dl.kept(weight) == (built(weight) == weight).all(), weight
    assert not lava_dl.kept(np.array([-64, -64])) and lava_dl.kept(np.array([-64, 1]))


# without Lava


def test_the_printed_network_has_the_integers_of_the_file(net_of: Callable[..., QuantNet]) -> None:
    rng = np.random.default_rng(3)
    kernel, matrix = drawn(rng, 4, 3, 3, 2), drawn(rng, 2, 16, low=-200, high=200) * 2 // 2 // 2 * 2
    net = net_of(
        image((3, 5, 5), weight=40.0, bias=36.0, neuron=neuron()),
        conv((4, 2, 2), kernel, 2, bias=[1, -2, 3, 4095]),
        layer("flatten", (1, 1, 16)),
        dense(matrix),
    )
    assert [p.name for p in net.populations] == ["input0", "conv1", "dense3"]
    assert net.outputs == ("dense3",) and net.steps == STEPS and net.weight_bits == 8
    same, first, second = net.projections
    assert isinstance(same.map, Conv) and (weights(same.map) == 1).all()
    assert isinstance(first.map, Conv) and first.map.stride == (2, 2) and first.exponent == 0
    np.testing.assert_array_equal(first.map.weight, kernel)
    assert isinstance(second.map, Dense) and second.exponent == 1
    np.testing.assert_array_equal(second.map.weight.astype(int) << 1, matrix)
    conv1 = net.populations[1]
    assert conv1.bias.reshape(4, 4)[:, 0].tolist() == [64, -128, 192, 4095 << 6]
    assert net.sources[0].scale == 40 and net.populations[0].bias.any() == np.False_
    assert net.lossy == ("input0: lava-dl sends 40 x +36 for a value x; encode leaves 36 out",)


def test_an_image_keeps_rows_and_columns_and_flattens_channel_first(net_of: Callable[..., QuantNet]) -> None:
    kernel = np.zeros((2, 1, 2, 3))
    kernel[0, 0, 0, 2] = kernel[1, 0, 1, 0] = 30
    net = net_of(image((1, 3, 4)), conv((2, 2, 2), kernel), layer("flatten", (1, 1, 8)), dense(np.eye(8) * 30))
    x = np.zeros((1, 3, 4), np.int64)
    x[0, 0, 2] = x[0, 2, 1] = 1  # the first kernel at output (0, 0), the second at (1, 1)
    spikes = engine.run(net, {"input": x[None]}, record=("dense3",)).recorded["dense3"]
    assert np.flatnonzero(spikes[0].all(axis=0)).tolist() == [0, 4 + 3]


def test_a_pool_sums_each_channel_by_itself(net_of: Callable[..., QuantNet]) -> None:
    pool = layer("pool", (2, 2, 3), weight=np.full((1, 1, 2, 2), 10.0), kernelSize=(2, 2), stride=(2, 2),
                 padding=(0, 0), dilation=(1, 1), neuron=neuron(25))  # fmt: skip
    net = net_of(image((2, 4, 6)), pool)
    x = np.random.default_rng(0).integers(0, 2, (2, 4, 6))
    sums = x.reshape(2, 2, 2, 3, 2).sum(axis=(2, 4)).ravel()
    spikes = engine.run(net, {"input": x[None]}, record=("pool1",)).recorded["pool1"][0, 0]
    assert 0 < spikes.sum() < spikes.size
    np.testing.assert_array_equal(spikes, sums * 10 > 25)


def test_an_average_is_a_readout_whose_scale_is_the_number_it_divides_by(net_of: Callable[..., QuantNet]) -> None:
    net = net_of(dense(np.eye(6) * 30), layer("average", (2, 1, 1)))
    x = np.random.default_rng(0).integers(0, 2, (1, STEPS, 6))
    run = engine.run(net, {"input": x}, record=("dense0",))
    assert not net.populations[-1].spiking
    means = run.recorded["dense0"][0].reshape(STEPS, 2, 3).mean(axis=2).sum(axis=0)
    np.testing.assert_allclose(run.outputs["average1"][0] / 64 / net.populations[-1].scale, means)


@pytest.mark.parametrize("silent", [neuron((1 << 18) - 1, 0), neuron(131071, 0), None])
def test_a_last_layer_that_cannot_fire_is_a_readout(silent: Fields | None, net_of: Callable[..., QuantNet]) -> None:
    last = dense(np.full((2, 3), 5), **({} if silent is None else {"neuron": silent}))
    if silent is None:
        del last["neuron"]
    net = net_of(dense(np.eye(3) * 30), last)
    assert not net.populations[-1].spiking
    out = engine.run(net, {"input": np.ones((1, 3), np.int64)}).outputs["dense1"]
    assert (out == STEPS * 3 * 5 << 6).all()


def flatten_only() -> Fields:
    return layer("flatten", (1, 1, 4))


ONES = np.ones((4, 4))
REFUSED: dict[str, tuple[list[Fields], type[SnnergyError], str]] = {
    "unknown layer": (
        [dense(ONES), layer("concat", (4,))],
        UnsupportedLayer,
        "layer 1 (concat): this layer is not read; input, conv, pool, dense, dense_rec, flatten, average are",
    ),
    "unknown field": (
        [dense(ONES, skip=1)],
        UnsupportedLayer,
        "layer 0 (dense): field 'skip' is not known; bias, delay, inFeatures, neuron, outFeatures, shape, type, "
        "weight are",
    ),
    "neuron type": (
        [dense(ONES, neuron={**neuron(), "type": "SDNN"})],
        UnsupportedLayer,
        "layer 0 (dense): neuron: type SDNN is not read; CUBA and LOIHI are",
    ),
    "graded spikes": (
        [dense(ONES, neuron={**neuron(), "gradedSpike": True})],
        BadInput,
        "layer 0 (dense): neuron: gradedSpike spans 1 .. 1; 0 .. 0 is allowed",
    ),
    "weight exponent": (
        [dense(ONES, neuron=neuron(wgtExp=2))],
        BadInput,
        "layer 0 (dense): neuron: wgtExp spans 2 .. 2; 0 .. 0 is allowed",
    ),
    "refractory": (
        [dense(ONES, neuron={**neuron(), "refDelay": 3})],
        BadInput,
        "layer 0 (dense): neuron: refDelay spans 3 .. 3; 0 .. 1 is allowed",
    ),
    "no current decay": (
        [dense(ONES, neuron=neuron(i_decay=0))],
        BadInput,
        "layer 0 (dense): neuron: iDecay spans 0 .. 0; 1 .. 4096 is allowed",
    ),
    "fraction": (
        [dense(ONES / 2)],
        BadInput,
        "layer 0 (dense): weight holds 0.5; lava-dl would cut it to a whole number",
    ),
    "not a number": ([dense(ONES * np.nan)], BadInput, "layer 0 (dense): weight is not finite"),
    "odd and large": (
        [dense(ONES * 129)],
        BadInput,
        "layer 0 (dense): weight spans 129 .. 129; -128 .. 127, or even ones of twice that, are allowed",
    ),
    "too large": (
        [dense(ONES * 258)],
        BadInput,
        "layer 0 (dense): weight spans 258 .. 258; Lava's synapses hold -256 .. 255",
    ),
    "what netx breaks": (
        [dense(ONES * -64)],
        BadInput,
        "layer 0 (dense): weight is at most 0 and at least -64, of which lava-dl 0.6 makes others; change one to -63",
    ),
    "bias": ([dense(ONES, bias=[0, 0, 0, 5000])], BadInput, "layer 0 (dense): bias spans 0 .. 5000; -4095 .. 4095 is "
             "allowed"),
    "bias of a conv by neuron": (
        [image((1, 2, 2)), conv((2, 2, 2), np.ones((2, 1, 1, 1)), bias=np.ones(8))],
        BadInput,
        "layer 1 (conv): bias has 8 values; 1 or 2 are needed",
    ),
    "long delay": ([dense(ONES, delay=63)], BadInput, "layer 0 (dense): delay spans 63 .. 63; 0 .. 62 is allowed"),
    "delay of a conv": (
        [image((1, 2, 2)), conv((2, 2, 2), np.ones((2, 1, 1, 1)), delay=1)],
        UnsupportedLayer,
        "layer 1 (conv): delay is not read: lava-dl leaves it out of convolutions",
    ),
    "complex": (
        [{**dense(ONES), "weight": {"real": ONES, "imag": ONES}}],
        UnsupportedLayer,
        "layer 0 (dense): weight has parts imag, real; complex synapses are not read",
    ),
    "no flatten": (
        [image((1, 2, 2)), conv((1, 2, 2), np.ones((1, 1, 1, 1))), dense(ONES)],
        BadInput,
        "layer 2 (dense): inputs of shape [1, 2, 2]; a flatten layer is needed before it",
    ),
    "shape": (
        [image((1, 4, 4)), conv((1, 2, 2), np.ones((1, 1, 2, 2)))],
        BadInput,
        "layer 1 (conv): shape is [1, 2, 2]; its weight makes [1, 3, 3] of [1, 4, 4]",
    ),
    "no input shape": (
        [conv((1, 2, 2), np.ones((1, 1, 2, 2)))],
        BadInput,
        "layer 0 (conv): the file does not say what shape it reads; an input layer with a shape is needed before it",
    ),
    "sizes": ([dense(ONES), dense(np.ones((2, 3)))], BadInput,
              "layer 1 (dense): weight reads 3 inputs; the layer before has 4"),
    "huge": (
        [image((1 << 12, 1 << 12, 2)), flatten_only()],
        BadInput,
        "layer 0 (input): shape [4096, 4096, 2] has more than 16,777,216 neurons",
    ),
    "no neurons": ([image((4,)), flatten_only()], BadInput, "layer 1 (flatten): the network has no neurons"),
    "average inside": (
        [dense(ONES), layer("average", (2,)), dense(np.ones((2, 2)))],
        UnsupportedLayer,
        "layer 1 (average): an average is read as the last layer only: it sends no spikes",
    ),
    "silent inside": (
        [dense(ONES, neuron=neuron(1 << 18)), dense(ONES)],
        BadInput,
        "layer 1 (dense): it is fed by dense0, whose neurons never fire; they are read as the last layer only",
    ),
    "sum": (
        [dense(np.full((1, 2100), 127.0))],
        BadInput,
        "layer 0 (dense): its weights may add up to 266,700 in one step; 262,144 is allowed",
    ),
    "pool with a rest": (
        [image((1, 5, 4)), layer("pool", (1, 2, 2), weight=np.ones((1, 1, 2, 2)), stride=2, padding=0, dilation=1)],
        UnsupportedLayer,
        "layer 1 (pool): a pool is read where its kernel tiles the image without rest",
    ),
    "type": ([{**dense(ONES), "type": "a\nb"}], BadInput, "layer 0: type is not a name"),
    "no weight": ([layer("dense", (4,), neuron=neuron())], BadInput, "layer 0 (dense): no field 'weight'"),
    "array for one": (
        [image((1, 2, 2)), conv((1, 2, 2), np.ones((1, 1, 1, 1)), groups=[1, 1])],
        BadInput,
        "layer 1 (conv): groups has 2 values; one is needed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    layers, kind, expected = REFUSED[name]
    path = written(tmp_path / "a.net", layers)
    with pytest.raises(SnnergyError) as caught:
        lava_dl.read(path, STEPS)
    assert str(caught.value) == f"{path}: {expected}"
    assert type(caught.value) is kind


def test_files_that_are_no_networks_are_refused(tmp_path: Path) -> None:
    def refused(path: Path, steps: int = STEPS) -> str:
        with pytest.raises(BadInput) as caught:
            lava_dl.read(path, steps)
        return str(caught.value).replace(str(path), "FILE")

    path = tmp_path / "a.net"
    assert refused(path) == "no file FILE"
    assert refused(tmp_path) == "FILE is a folder, not a .net file"
    path.write_bytes(b"x" * 600)
    assert refused(path) == "FILE is not a .net file: it is not HDF5 or is cut short at the front"
    written(path, [])
    assert refused(path) == "FILE is HDF5 but no network of lava-dl: it has no layers under 'layer'"
    written(path, [dense(ONES)])
    assert refused(path, 0) == "0 steps per sample; 1 to 65536 are allowed"
    with h5py.File(path, "r+") as file:
        file.move("layer/0", "layer/1")
    assert refused(path) == "FILE: 1 layers are numbered from 0, 'layer/0' is missing"
    with h5py.File(path, "r+") as file:
        file["layer/0"] = h5py.ExternalLink("/etc/passwd", "/x")
    assert refused(path) == "FILE: '/layer/0' is a link to another place; copy the data into the file"
