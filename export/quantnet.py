"""``QuantNet``: the network in the chip's integers. Holding one proves that no accumulator can overflow.

The arithmetic is Loihi's, as Lava's fixed-point LIF computes it (lava-nc 0.10.0, ``PyLifModelBitAcc``); for one step::

    a = sum over projections of  (W @ s) << exponent          (floor shift right where the exponent is negative)
    u = a << 6                                                (24 bits, signed; no memory of its own)
    v = trunc(v * (4096 - decay) / 4096) + u + (bias_mantissa << bias_exponent)
    fire where v > threshold << 6, strictly; then v = 0

One unit of weight is 64 units of ``v``. A neuron's real membrane is ``v / 64 / scale``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnergy.export.maps import Map, Shape, weights
from snnergy.export.net import incoming

I64 = NDArray[np.int64]

STATE_SHIFT = 6
"""Left shift from weight units to membrane units (Lava's ds/vth alignment)."""
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

    decay:         int64[n], 0 (keeps everything) .. 4096 (forgets everything)
    threshold:     int64[n], weight units, 0 .. 2**17 - 1
    bias_mantissa: int64[n], 13 bits signed; bias_exponent: 0 .. 7, shared
    spiking:       False is a readout, whose membrane is proved to stay at or below its threshold
    scale:         weight units per unit of the real membrane
    """

    name: str
    shape: Shape
    decay: I64
    threshold: I64
    bias_mantissa: I64
    bias_exponent: int
    spiking: bool
    scale: float

    @property
    def bias(self) -> I64:
        """int64[n], what is added to the membrane at every step, in membrane units."""
        return self.bias_mantissa << self.bias_exponent

    @property
    def memoryless(self) -> bool:
        """Whether the membrane forgets every sub-threshold value from step to step, as gates and ORs do."""
        return bool((self.decay >= DECAY_ONE - 1).all())


@dataclass(frozen=True, eq=False)
class QuantProjection:
    """Synapses with weights of int8 range, -128 .. 127, times ``2**exponent``."""

    source: str
    target: str
    map: Map
    exponent: int


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
    """Raise AssertionError unless shapes agree and every number fits its register."""
    shapes = {n.name: n.shape for n in (*net.sources, *net.populations)}
    assert len(shapes) == len(net.sources) + len(net.populations), "two nodes share a name"
    for p in net.populations:
        n = prod(p.shape)
        assert p.decay.shape == p.threshold.shape == p.bias_mantissa.shape == (n,), p.name
        assert ((p.decay >= 0) & (p.decay <= DECAY_ONE)).all(), p.name
        assert ((p.threshold >= 0) & (p.threshold <= THRESHOLD_LIMIT)).all(), p.name
        assert (abs(p.bias_mantissa) <= BIAS_LIMIT).all() and 0 <= p.bias_exponent <= BIAS_EXPONENT_LIMIT, p.name
    limit = 1 << (net.weight_bits - 1)
    for e in net.projections:
        w = weights(e.map)
        assert np.issubdtype(w.dtype, np.integer), f"{e.source} -> {e.target}"
        assert w.size == 0 or (w.min() >= -limit and w.max() < limit), f"{e.source} -> {e.target}"
        assert prod(e.map.input_shape) == prod(shapes[e.source]), f"{e.source} -> {e.target}"
        assert prod(e.map.output_shape) == prod(shapes[e.target]), f"{e.source} -> {e.target}"


def dump(net: QuantNet) -> str:
    """One line a node, then its inputs, in integers."""
    feeds = incoming(net.projections)
    lines = [f"quantnet {net.weight_bits}-bit weights, {net.steps} steps, dt {net.dt_s:g} s"]
    lines += [f"  source {s.name} {list(s.shape)} {s.bits} bits x{s.scale:g}" for s in net.sources]
    for p in net.populations:
        fires = f"threshold {_span(p.threshold)}" if p.spiking else "readout"
        bias = f"bias {_span(p.bias_mantissa)} << {p.bias_exponent}"
        lines.append(f"  {p.name} {list(p.shape)} decay {_span(p.decay)} {fires} {bias} scale {p.scale:.6g}")
        lines += [f"    <- {e.source} {e.map} w {_span(weights(e.map))} << {e.exponent}" for e in feeds.get(p.name, ())]
    lines.append(f"  outputs {', '.join(net.outputs)}")
    return "\n".join(lines + [f"  lossy: {line}" for line in net.lossy])


def _span(values: NDArray[np.generic]) -> str:
    low, high = values.min(), values.max()
    return f"{low}" if low == high else f"{low}..{high}"
