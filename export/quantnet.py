"""``QuantNet``: the network in the chip's integers.

The arithmetic is Loihi's, as Lava's fixed-point LIF computes it (lava-nc 0.10.0, ``PyLifResetModelBitAcc``); for one
step, with ``trunc`` toward zero::

    a = sum over projections of  (W @ s[t - delay]) << exponent   (floor shift right where the exponent is negative)
    u = trunc(u * (4096 - current_decay) / 4096) + (a << 6)       (24 bits, signed: wraps)
    v = trunc(v * (4096 - decay) / 4096) + u + (bias_mantissa << bias_exponent)            (24 bits, signed: saturates)
    fire where v > threshold << 6, strictly; then v = reset, or v = v - reset if the population subtracts

A reset other than that to 0 is of no stock neuron: a chip needs a neuron program for it (``programmed``).

One unit of weight is 64 units of ``v``. A neuron's real membrane is ``v / 64 / scale``. Networks from ``quantize`` are
proved neither to wrap nor to saturate; one made by hand may, and every engine then does what the chip does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnergy.export.maps import Map, Shape, reach, weights
from snnergy.export.net import components, incoming, late, span

I64 = NDArray[np.int64]

STATE_SHIFT = 6
"""Left shift from weight units to membrane units (Lava's ds/vth alignment)."""
ACCUMULATOR_LIMIT = (1 << 31) - 1
"""Largest sum of one projection's weights before the exponent is applied, in the engines and in Lava: int32."""
INPUT_LIMIT = 1 << 18
"""Largest magnitude of ``a``: twice the register, so that the current wraps at most once."""
DECAY_ONE = 4096
"""The 12-bit decay that forgets everything."""
STATE_LIMIT = (1 << 23) - 1
"""Largest magnitude of the 24-bit membrane and current registers."""
THRESHOLD_LIMIT = (1 << 17) - 1
"""Largest threshold mantissa, 17 bits."""
BIAS_LIMIT = (1 << 12) - 1
"""Largest magnitude of the 13-bit signed bias mantissa."""
BIAS_EXPONENT_LIMIT = 7
"""Largest bias exponent, 3 bits."""
PER_NEURON = ("decay", "current_decay", "threshold", "bias_mantissa", "reset")
"""The fields of a population with a value for each neuron; the last may be None."""


@dataclass(frozen=True)
class QuantSource:
    """A graded input of integers 0 .. 2**bits - 1; the integer is ``round(scale * value)``."""

    name: str
    shape: Shape
    bits: int
    scale: float


@dataclass(frozen=True, eq=False)
class QuantPopulation:
    """Neurons with integer state; see the module for the step.

    decay:         int64[n], 0 (keeps everything) .. 4096 (forgets everything), of the membrane
    current_decay: int64[n], 1 .. 4096, of the current; Lava's and Loihi's register ``du`` is one less
    threshold:     int64[n], weight units, 0 .. 2**17 - 1
    bias_mantissa: int64[n], 13 bits signed; bias_exponent: 0 .. 7, shared
    spiking:       False is a readout, whose membrane is proved to stay at or below its threshold
    scale:         weight units per unit of the real membrane
    reset:         int64[n], membrane units, None is 0; subtract: whether a spike takes it away, or leads there
    """

    name: str
    shape: Shape
    decay: I64
    current_decay: I64
    threshold: I64
    bias_mantissa: I64
    bias_exponent: int
    spiking: bool
    scale: float
    reset: I64 | None = None
    subtract: bool = False

    def taken(self, neurons: NDArray[np.intp], shape: Shape) -> QuantPopulation:
        """The population of these of its neurons, in this order."""
        values = {name: getattr(self, name) for name in PER_NEURON}
        fields = {name: None if x is None else x[neurons] for name, x in values.items()}
        return replace(self, shape=shape, **fields)

    @property
    def bias(self) -> I64:
        """int64[n], what is added to the membrane at every step, in membrane units."""
        return self.bias_mantissa << self.bias_exponent

    @property
    def back(self) -> I64:
        """int64[n], ``reset``, whatever it is."""
        return np.zeros_like(self.threshold) if self.reset is None else self.reset

    @property
    def programmed(self) -> bool:
        """Whether its neurons do after a spike what stock neurons do not, so that a chip needs a program for them."""
        return self.spiking and (self.subtract or bool(self.back.any()))

    @property
    def memoryless(self) -> bool:
        """Whether nothing below the threshold is left of one step in the next, as in gates and ORs."""
        return bool((self.decay >= DECAY_ONE - 1).all() and not self.cuba and not self.programmed)

    @property
    def cuba(self) -> bool:
        """Whether the current has a memory of its own."""
        return bool((self.current_decay != DECAY_ONE).any())


@dataclass(frozen=True, eq=False)
class QuantProjection:
    """Synapses with weights of int8 range, -128 .. 127, times ``2**exponent``.

    delay: what is sent in step t acts in step t + delay of the same sample
    """

    source: str
    target: str
    map: Map
    exponent: int
    delay: int = 0


@dataclass(frozen=True, eq=False)
class QuantNet:
    """The network in integers, and ``lossy``: one line for everything that is not exact.

    steps: time steps of one sample; the overflow proof holds for this many steps between two resets
    """

    sources: tuple[QuantSource, ...]
    populations: tuple[QuantPopulation, ...]
    projections: tuple[QuantProjection, ...]
    outputs: tuple[str, ...]
    dt_s: float
    steps: int
    weight_bits: int
    lossy: tuple[str, ...]

    def encode(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.int32]]:
        """Real inputs [samples, ...] as the integers that are sent to the chip, clipped to the source's range."""
        return {
            s.name: np.clip(np.rint(inputs[s.name] * s.scale), 0, (1 << s.bits) - 1).astype(np.int32)
            for s in self.sources
        }


def verify(net: QuantNet) -> None:
    """Raise AssertionError unless shapes agree, every number fits its register and every sum its accumulator.

    Raises UnsupportedLayer for a loop without delay.
    """
    shapes = {n.name: n.shape for n in (*net.sources, *net.populations)}
    assert len(shapes) == len(net.sources) + len(net.populations), "two nodes share a name"
    for p in net.populations:
        n = prod(p.shape)
        for values in (p.decay, p.current_decay, p.threshold, p.bias_mantissa):
            assert values.shape == (n,), p.name
        assert ((p.decay >= 0) & (p.decay <= DECAY_ONE)).all(), p.name
        assert ((p.current_decay >= 1) & (p.current_decay <= DECAY_ONE)).all(), p.name
        assert ((p.threshold >= 0) & (p.threshold <= THRESHOLD_LIMIT)).all(), p.name
        assert p.back.shape == (n,) and (abs(p.back) <= STATE_LIMIT).all(), p.name
        assert not p.subtract or (p.back >= 0).all(), p.name
        assert (abs(p.bias_mantissa) <= BIAS_LIMIT).all() and 0 <= p.bias_exponent <= BIAS_EXPONENT_LIMIT, p.name
    limit = 1 << (net.weight_bits - 1)
    most = {s.name: (1 << s.bits) - 1 for s in net.sources}
    low, high = ({p.name: np.zeros(prod(p.shape), np.int64) for p in net.populations} for _ in range(2))
    for e in net.projections:
        assert e.target in low and e.source in shapes and e.delay >= 0, f"{e.source} -> {e.target}"
        w = weights(e.map)
        assert np.issubdtype(w.dtype, np.integer), f"{e.source} -> {e.target}"
        assert w.size == 0 or (w.min() >= -limit and w.max() < limit), f"{e.source} -> {e.target}"
        assert prod(e.map.input_shape) == prod(shapes[e.source]), f"{e.source} -> {e.target}"
        assert prod(e.map.output_shape) == prod(shapes[e.target]), f"{e.source} -> {e.target}"
        least, largest = reach(e.map, most.get(e.source, 1))
        assert max(-least.min(), largest.max()) <= ACCUMULATOR_LIMIT, f"{e.source} -> {e.target}"
        low[e.target] += shifted(least, e.exponent)
        high[e.target] += shifted(largest, e.exponent)
    for name in low:
        assert max(-low[name].min(), high[name].max()) <= INPUT_LIMIT, name
    components(net.populations, net.projections)


def shifted(values: I64, exponent: int) -> I64:
    """``values * 2**exponent``, rounded down."""
    return values << exponent if exponent >= 0 else values >> -exponent


def dump(net: QuantNet) -> str:
    """One line a node, then its inputs, in integers."""
    feeds = incoming(net.projections)
    lines = [f"quantnet {net.weight_bits}-bit weights, {net.steps} steps, dt {net.dt_s:g} s"]
    lines += [f"  source {s.name} {list(s.shape)} {s.bits} bits x{s.scale:g}" for s in net.sources]
    for p in net.populations:
        fires = f"threshold {span(p.threshold)}" if p.spiking else "readout"
        bias = f"bias {span(p.bias_mantissa)} << {p.bias_exponent}"
        resets = f" {'subtracts' if p.subtract else 'resets to'} {span(p.back)}" if p.programmed else ""
        decay = f"decay {span(p.decay)}" + (f" current {span(p.current_decay)}" if p.cuba else "")
        lines.append(f"  {p.name} {list(p.shape)} {decay} {fires} {bias}{resets} scale {p.scale:.6g}")
        for e in feeds.get(p.name, ()):
            lines.append(f"    <- {e.source} {e.map} w {span(weights(e.map))} << {e.exponent}{late(e)}")
    lines.append(f"  outputs {', '.join(net.outputs)}")
    return "\n".join(lines + [f"  lossy: {line}" for line in net.lossy])
