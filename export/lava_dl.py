"""lava-dl's ``.net`` files: a chain of integer layers in HDF5, as ``lava.lib.dl.netx`` turns them into Lava processes.

Read as lava-dl 0.6.0's ``netx.hdf5.Network`` builds them for Lava's fixed-point models, whatever was trained::

    u = trunc(u * (4096 - iDecay) / 4096) + (a << 6)
    v = trunc(v * (4096 - vDecay) / 4096) + u + (bias << 6);  fire where v > vThMant << 6, then v = 0

Lava keeps images as (x, y, channel) and turns the kernel, as it convolves and does not correlate; both undo each other,
so the file's (channel, y, x) kernels are our ``Conv``. A layer takes one step in Lava and none here (``schedule`` adds
it): a sample that is reset layer by layer, one step later in each, is the sample run from rest. ``pool`` and
``average``, which netx refuses, are read as ``lava.lib.dl.slayer`` computes them.

Nothing is ignored that would change a spike: a field that netx leaves out is refused where it says anything.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from snnergy import limits
from snnergy.errors import BadInput, SnnergyError, UnsupportedLayer, first_line
from snnergy.export import nir_walk
from snnergy.export.lava_dl_file import MAX_SIDE, Layer, read_layers
from snnergy.export.maps import Conv, Dense, Map, Shape, Sparse, reach
from snnergy.export.quantnet import (
    BIAS_LIMIT,
    DECAY_ONE,
    INPUT_LIMIT,
    THRESHOLD_LIMIT,
    QuantNet,
    QuantPopulation,
    QuantProjection,
    QuantSource,
    shifted,
    verify,
)

I64 = NDArray[np.int64]

DT_S = 1e-3
"""lava-dl's time step, ``simulation/Ts`` = 1 ms."""
WEIGHT_BITS = 8
WEIGHT_LOW, WEIGHT_HIGH = -256, 255
"""What Lava's synapses hold; mixed signs leave it the even ones above 7 bits."""
UNIT = 64
"""Weight units per unit of slayer's real membrane."""
BIAS_EXPONENT = 6
INPUT_BITS = 8
"""Of a source: 0 .. 255, what an engine takes."""
MAX_DELAY = 62
MAX_STEPS = 1 << 16
PLAIN = {"refDelay": (0, 1), "wgtExp": (0,), "weight_exp": (0,), "gradedSpike": (0,), "messageBits": (0,)}
"""Fields of a neuron that netx leaves out or CUBA has no use for, and the values with which that changes nothing."""
TRAINING = ("scaleRho", "tauRho", "theta")
"""Of the gradient; they stand in files of the older SLAYER and say nothing about the network that runs."""
NEURONS = ("CUBA", "LOIHI")


def read(path: Path | str, steps: int, *, dt_s: float = DT_S, input_bits: int = 1) -> QuantNet:
    """Read a ``.net`` file from anyone; ``steps``: time steps of one sample.

    input_bits: of the values that reach a network without an input layer of neurons; 1 is spikes, as in netx

    An input layer of neurons is a population, driven through its bias in Lava: here by source 'bias', integers 0 .. 255
    that are added to the bias mantissa, which is 0. Sending 0 leaves it silent. lava-dl puts ``weight * x + bias`` of
    the file there, on the host; ``scale`` is that weight, and ``lossy`` names a bias, which ``encode`` does not add.
    A last layer that cannot reach its threshold within ``steps`` is a readout.
    Raises BadInput or UnsupportedLayer, in one line, naming layer and field.
    """
    path = Path(path)
    if not 0 < steps <= MAX_STEPS:
        raise BadInput(f"{steps} steps per sample; 1 to {MAX_STEPS} are allowed")
    if not 0 < input_bits <= INPUT_BITS:
        raise BadInput(f"{input_bits} input bits; 1 to {INPUT_BITS} are allowed")
    limits.check_file(path, "is a folder, not a .net file")
    if not h5py.is_hdf5(path):
        raise BadInput(f"{path} is not a .net file: it is not HDF5 or is cut short at the front")
    contents = nir_walk.inspect(path, limits.most_unpacked(path.stat().st_size))
    with limits.memory(path, contents):
        try:
            with h5py.File(path, "r") as file:
                net = _Chain(steps, dt_s, input_bits).net(read_layers(path, file))
        except (SnnergyError, MemoryError, AssertionError):
            raise
        except Exception as error:  # h5py raises many kinds
            raise BadInput(f"{path} cannot be read: {first_line(error)}") from None
    verify(net)
    return net


class _Chain:
    """The network so far. last: the node that the next layer reads, of shape ``shape``."""

    def __init__(self, steps: int, dt_s: float, input_bits: int) -> None:
        self.steps, self.dt_s, self.input_bits = steps, dt_s, input_bits
        self.sources: list[QuantSource] = []
        self.populations: list[QuantPopulation] = []
        self.projections: list[QuantProjection] = []
        self.lossy: list[str] = []
        self.last, self.neurons = "", False
        self.shape: Shape = ()

    def net(self, layers: list[Layer]) -> QuantNet:
        """Every layer in order."""
        kinds = {
            "input": self._input, "conv": self._conv, "pool": self._pool, "dense": self._dense,
            "dense_rec": self._dense_rec, "flatten": self._flatten, "average": self._average,
        }  # fmt: skip
        for k, layer in enumerate(layers):
            if layer.kind == "average" and k + 1 < len(layers):
                layer.refuse("an average is read as the last layer only: it sends no spikes", UnsupportedLayer)
            if layer.kind == "input" and k:
                layer.refuse("an input is read as the first layer only", UnsupportedLayer)
            kinds[layer.kind](layer)
        if not self.populations:
            layers[-1].refuse("the network has no neurons")
        last = self.populations[-1]
        if last.spiking and self._most(last) <= last.threshold.min():
            self.populations[-1] = replace(last, spiking=False)
        return QuantNet(
            tuple(self.sources),
            tuple(self.populations),
            tuple(self.projections),
            (last.name,),
            self.dt_s,
            self.steps,
            WEIGHT_BITS,
            tuple(self.lossy),
        )

    def _input(self, layer: Layer) -> None:
        shape = layer.shape
        if not layer.has("neuron"):
            self._source("input", shape, self.input_bits, 1.0)
            return
        weight = layer.one("weight", 1, 1 << 16, UNIT)
        bias = layer.one("bias", -BIAS_LIMIT, BIAS_LIMIT, 0)
        if bias:
            self.lossy.append(
                f"{layer.name}: lava-dl sends {weight} x {bias:+d} for a value x; encode leaves {bias} out"
            )
        self._source("bias", shape, INPUT_BITS, float(weight))
        if len(shape) == 3:
            same: Map = Conv(np.ones((shape[0], 1, 1, 1), np.int8), shape, groups=shape[0])
        else:
            n = prod(shape)
            same = Sparse(csr_array((np.ones(n, np.int8), np.arange(n), np.arange(n + 1))), shape, shape)
        self._add(layer, shape, np.zeros(prod(shape), np.int64), [(same, 0, 0)])

    def _conv(self, layer: Layer) -> None:
        self._needs_image(layer)
        if layer.has("delay"):
            layer.refuse("delay is not read: lava-dl leaves it out of convolutions", UnsupportedLayer)
        weight, exponent = self._stored(layer, layer.whole("weight"), "weight")
        if weight.ndim == 5 and weight.shape[4] == 1:
            weight = weight[..., 0]
        groups = layer.one("groups", 1, MAX_SIDE, 1)
        outputs = weight.shape[0]
        if weight.ndim != 4 or weight.shape[1] * groups != self.shape[0] or outputs % groups:
            layer.refuse(f"weight has shape {list(weight.shape)}; {groups} groups read {self.shape[0]} channels")
        conv = self._window(layer, weight, groups)
        self._add(layer, conv.output_shape, self._bias(layer, conv.output_shape), [(conv, exponent, 0)])

    def _pool(self, layer: Layer) -> None:
        """The sum of a window, times the one weight that all share: a convolution of each channel by itself."""
        self._needs_image(layer)
        if layer.has("delay"):
            layer.refuse("delay is not read with a pool", UnsupportedLayer)
        weight, exponent = self._stored(layer, layer.whole("weight"), "weight")
        if weight.ndim not in (4, 5) or weight.size != prod(weight.shape[2:4]):
            layer.refuse(f"weight has shape {list(weight.shape)}; [1, 1, y, x] is needed")
        kernel, channels = weight.reshape(weight.shape[2:4]), self.shape[0]
        conv = self._window(layer, np.broadcast_to(kernel, (channels, 1, *kernel.shape)).copy(), channels)
        plain = conv.stride == kernel.shape and conv.padding == (0, 0) and conv.dilation == (1, 1)
        if not plain or any(n % k for n, k in zip(self.shape[1:], kernel.shape, strict=True)):
            layer.refuse("a pool is read where its kernel tiles the image without rest", UnsupportedLayer)
        self._add(layer, conv.output_shape, np.zeros(prod(conv.output_shape), np.int64), [(conv, exponent, 0)])

    def _window(self, layer: Layer, weight: NDArray[np.int8], groups: int) -> Conv:
        conv = Conv(
            weight, self.shape, layer.pair("stride", 1), layer.pair("padding", 0), layer.pair("dilation", 1), groups
        )
        if layer.has("kernelSize") and layer.pair("kernelSize", 1) != weight.shape[2:]:
            layer.refuse(f"kernelSize is {list(layer.pair('kernelSize', 1))}, weight has {list(weight.shape[2:])}")
        if conv.output_shape != layer.shape:
            layer.refuse(
                f"shape is {list(layer.shape)}; its weight makes {list(conv.output_shape)} of {list(self.shape)}"
            )
        return conv

    def _dense(self, layer: Layer) -> None:
        outputs = prod(layer.shape)
        given = layer.whole("weight")
        if given.ndim == 1 and given.size % outputs == 0:
            given = given.reshape(outputs, -1)
        if given.ndim != 2 or given.shape[0] != outputs:
            layer.refuse(f"weight has shape {list(given.shape)}; [{outputs}, inputs] is needed")
        if not self.last:
            self._source("input", (given.shape[1],), self.input_bits, 1.0)
        if given.shape[1] != prod(self.shape):
            layer.refuse(f"weight reads {given.shape[1]} inputs; the layer before has {prod(self.shape)}")
        if self.neurons and len(self.shape) > 1:
            layer.refuse(f"inputs of shape {list(self.shape)}; a flatten layer is needed before it")
        weight, exponent = self._stored(layer, _checked(layer, given, "weight"), "weight")
        delay, shape = self._delay(layer, weight), (outputs,)
        parts = [(int(d), Dense(np.where(delay == d, weight, 0), self.shape, shape)) for d in np.unique(delay)]
        self._add(layer, shape, self._bias(layer, shape), [(part, exponent, d) for d, part in parts])

    def _dense_rec(self, layer: Layer) -> None:
        """A dense layer, and spikes that come back one step later."""
        if layer.has("delay"):
            layer.refuse(
                "delay is not read: lava-dl drops the exponent of recurrent weights with delays", UnsupportedLayer
            )
        self._dense(layer)
        if not self.populations[-1].spiking:
            layer.refuse("neurons that never fire feed nothing")
        n = prod(layer.shape)
        back = layer.whole("weight_rec")
        if back.size != n * n:
            layer.refuse(f"weight_rec has shape {list(back.shape)}; [{n}, {n}] is needed")
        weight, exponent = self._stored(layer, _checked(layer, back.reshape(n, n), "weight_rec"), "weight_rec")
        again = QuantProjection(layer.name, layer.name, Dense(weight, (n,), (n,)), exponent, 1)
        self.projections.append(again)
        self._check_sums(layer)

    def _flatten(self, layer: Layer) -> None:
        """(channel, y, x) in C order, as netx transposes (x, y, channel) before it flattens."""
        self.shape = (prod(self.shape),)
        if self.last and prod(layer.shape) != self.shape[0]:
            layer.refuse(f"shape is {list(layer.shape)}; the layer before has {self.shape[0]} neurons")

    def _average(self, layer: Layer) -> None:
        """Means of equal parts: a readout of sums, whose scale holds the divisor."""
        groups, n = prod(layer.shape), prod(self.shape)
        if not self.last or n % groups:
            layer.refuse(f"{groups} averages of {n} neurons")
        size = n // groups
        sums = Sparse(csr_array((np.ones(n, np.int8), np.arange(n), np.arange(0, n + 1, size))), self.shape, (groups,))
        self._join(layer, _integrator(layer.name, (groups,), float(size)), [(sums, 0, 0)])

    def _source(self, name: str, shape: Shape, bits: int, scale: float) -> None:
        self.sources.append(QuantSource(name, shape, bits, scale))
        self.last, self.shape = name, shape

    def _needs_image(self, layer: Layer) -> None:
        if not self.last:
            layer.refuse("the file does not say what shape it reads; an input layer with a shape is needed before it")
        if len(self.shape) != 3:
            layer.refuse(f"inputs of shape {list(self.shape)}; channels, y and x are needed")

    def _stored(self, layer: Layer, weight: I64, field: str) -> tuple[NDArray[np.int8], int]:
        """The same weights as int8 and the exponent of two that they are multiplied with."""
        exponent = 0
        while weight.min() < -128 or weight.max() > 127:
            if (weight & 1).any() or exponent == 1:
                span = f"{weight.min() << exponent} .. {weight.max() << exponent}"
                layer.refuse(f"{field} spans {span}; -128 .. 127, or even ones of twice that, are allowed")
            weight, exponent = weight >> 1, exponent + 1
        return weight.astype(np.int8), exponent

    def _bias(self, layer: Layer, shape: Shape) -> I64:
        return layer.per_neuron("bias", -BIAS_LIMIT, BIAS_LIMIT, shape, 0)

    def _delay(self, layer: Layer, weight: NDArray[np.int8]) -> I64:
        """int64[n_out, n_in]: of all, of each output or else of each input, or of each synapse."""
        delay = layer.within("delay", 0, MAX_DELAY, 0)
        if delay.size > 1 and delay.ndim == 1 and delay.size == weight.shape[0]:
            delay = delay[:, None]
        if delay.size > 1 and delay.shape not in ((weight.shape[0], 1), (weight.shape[1],), weight.shape):
            layer.refuse(f"delay has shape {list(delay.shape)}; one, {list(weight.shape)} or either side is needed")
        return np.broadcast_to(delay.reshape(1) if delay.size == 1 else delay, weight.shape)

    def _add(self, layer: Layer, shape: Shape, bias: I64, maps: list[tuple[Map, int, int]]) -> None:
        """Neurons as the file describes them, fed by (map, exponent, delay)."""
        if not layer.has("neuron"):
            if bias.any():
                layer.refuse("a bias without neurons is not read", UnsupportedLayer)
            self._join(layer, _integrator(layer.name, shape, float(UNIT)), maps)
            return
        own = layer.group["neuron"]
        if not isinstance(own, h5py.Group):
            layer.refuse("neuron is not a group")
        about = replace(layer, group=own, where=f"{layer.where}: neuron")
        kind = about.text("type")
        if kind not in NEURONS:
            about.refuse(f"type {kind} is not read; {' and '.join(NEURONS)} are", UnsupportedLayer)
        for field in own:
            if field in PLAIN:
                about.within(field, PLAIN[field][0], PLAIN[field][-1])
            elif field not in ("type", "iDecay", "vDecay", "vThMant", *TRAINING):
                about.refuse(f"field '{field}' is not known", UnsupportedLayer)
        threshold = about.per_neuron("vThMant", 0, 1 << 31, shape)
        never = threshold > THRESHOLD_LIMIT
        if never.any() and not never.all():
            about.refuse(f"vThMant passes {THRESHOLD_LIMIT} for some neurons; all or none may be silent")
        self._join(
            layer,
            QuantPopulation(
                layer.name,
                shape,
                about.per_neuron("vDecay", 0, DECAY_ONE, shape),
                about.per_neuron("iDecay", 1, DECAY_ONE, shape),
                np.minimum(threshold, THRESHOLD_LIMIT),
                bias,
                BIAS_EXPONENT,
                not never.any(),
                float(UNIT),
            ),
            maps,
        )

    def _join(self, layer: Layer, population: QuantPopulation, maps: list[tuple[Map, int, int]]) -> None:
        if self.neurons and not self.populations[-1].spiking:
            layer.refuse(f"it is fed by {self.last}, whose neurons never fire; they are read as the last layer only")
        self.populations.append(population)
        self.projections += [QuantProjection(self.last, population.name, m, e, d) for m, e, d in maps]
        self.last, self.shape, self.neurons = population.name, population.shape, True
        self._check_sums(layer)
        if not population.spiking and self._most(population) > THRESHOLD_LIMIT:
            layer.refuse(f"its neurons never fire and may pass {THRESHOLD_LIMIT} in {self.steps} steps; use fewer")

    def _check_sums(self, layer: Layer) -> None:
        low, high = self._reach(layer.name)
        most = int(max(-low.min(), high.max()))
        if most > INPUT_LIMIT:
            layer.refuse(f"its weights may add up to {most:,} in one step; {INPUT_LIMIT:,} is allowed")

    def _reach(self, name: str) -> tuple[I64, I64]:
        """Least and largest sum of all synapses of each neuron, int64[n]."""
        most = {s.name: (1 << s.bits) - 1 for s in self.sources}
        feeds = [(reach(e.map, most.get(e.source, 1)), e.exponent) for e in self.projections if e.target == name]
        parts = [(shifted(low, exponent), shifted(high, exponent)) for (low, high), exponent in feeds]
        return sum(low for low, _ in parts), sum(high for _, high in parts)  # type: ignore[return-value]

    def _most(self, p: QuantPopulation) -> int:
        """No membrane of a sample gets further than this, in weight units: both decays as geometric sums."""
        low, high = self._reach(p.name)
        current = np.maximum(-low, high) * -(-DECAY_ONE // p.current_decay)
        held = np.minimum(self.steps, -(-DECAY_ONE // np.maximum(p.decay, 1)))
        return int(((current + abs(p.bias_mantissa)) * held).max())


def _integrator(name: str, shape: Shape, scale: float) -> QuantPopulation:
    """Neurons that add up and never fire; netx makes them where a layer has none.

    There the current keeps everything and the membrane nothing, here the other way about: the same without a bias.
    """
    n = prod(shape)
    zero, full = np.zeros(n, np.int64), np.full(n, DECAY_ONE, np.int64)
    return QuantPopulation(name, shape, zero, full, np.full(n, THRESHOLD_LIMIT), zero, BIAS_EXPONENT, False, scale)


def kept(weight: I64) -> bool:
    """Whether lava-dl and Lava build a dense layer of these very weights, which lie in -256 .. 255.

    netx shifts them up to fill Lava's synapse. A matrix without a positive weight whose least is -2**k is shifted to
    -256; Lava takes it for inhibitory, clips it to -255 and cuts that to the few bits that -2**k needed.
    """
    low, high = int(weight.min()), int(weight.max())
    return not (high <= 0 and low < 0 and low & -low == -low)


def _checked(layer: Layer, weight: I64, field: str) -> I64:
    """The weights, refused where lava-dl builds others."""
    low, high = int(weight.min()), int(weight.max())
    if low < WEIGHT_LOW or high > WEIGHT_HIGH:
        layer.refuse(f"{field} spans {low} .. {high}; Lava's synapses hold {WEIGHT_LOW} .. {WEIGHT_HIGH}")
    if not kept(weight):
        layer.refuse(
            f"{field} is at most 0 and at least {low}, of which lava-dl 0.6 makes others; change one to {low + 1}"
        )
    return weight
