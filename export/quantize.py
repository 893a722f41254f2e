"""``Net -> QuantNet``: one scale a population, one exponent a projection, and a proof that nothing can overflow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil, floor, inf, log2, prod

import numpy as np

from snnergy.errors import BadInput, Overflow, UnsupportedLayer
from snnergy.export.maps import reach, weights, with_weights
from snnergy.export.net import F64, Net, Population, Projection, incoming
from snnergy.export.quantnet import (
    ACCUMULATOR_LIMIT,
    BIAS_EXPONENT_LIMIT,
    BIAS_LIMIT,
    DECAY_ONE,
    I64,
    STATE_LIMIT,
    STATE_SHIFT,
    THRESHOLD_LIMIT,
    QuantNet,
    QuantPopulation,
    QuantProjection,
    QuantSource,
    shifted,
    verify,
)

START_SCALE = float(1 << 16)
"""First scale tried where only graded inputs feed a population and nothing else sets one."""
SMALLEST_SCALE = 2.0**-64
"""Last scale tried where nothing feeds a population, so that only its threshold must fit."""
COARSE, LEAST_EXPONENT = 8, -8
"""Weights whose largest would round to less keep their bits, and their sum is rounded; down to Loihi's exponent."""


@dataclass(frozen=True)
class LayerError:
    """What quantisation did to one population; weight_rms, bias, threshold, decay: relative to the largest value."""

    population: str
    scale: float
    weight_rms: float
    bias: float
    threshold: float
    decay: float


INPUT_BITS = 8
"""Of an input's values, where nobody says another width."""


def quantize(
    net: Net, steps: int, *, weight_bits: int = 8, input_bits: int = INPUT_BITS, input_max: float = 1.0
) -> QuantNet:
    """Post-training quantisation with per-projection exponents.

    steps:     steps between two resets, for which the proof holds
    input_max: the real value that the largest input integer stands for

    For each population the scale starts where the projection with the smallest weights uses all its bits, and is halved
    until interval analysis shows that current, membrane, threshold and bias stay inside their registers (``_fits``).
    A memoryless population whose weights are small integers keeps them as they are: gates and ORs stay exact.
    Raises Overflow where no scale of at least one weight unit fits.
    """
    if not 2 <= weight_bits <= 8:
        raise BadInput(f"weight bits {weight_bits}: 2 to 8 are possible, the sign included")
    if not 1 <= input_bits <= 8:
        raise BadInput(f"input bits {input_bits}: 1 to 8 are possible")
    if steps < 1 or not 0 < input_max < inf:
        raise BadInput(f"steps {steps} and largest input {input_max:g}: both must be > 0")
    sources = tuple(QuantSource(s.name, s.shape, input_bits, ((1 << input_bits) - 1) / input_max) for s in net.sources)
    graded = {s.name: s for s in sources}
    feeds = incoming(net.projections)
    populations: list[QuantPopulation] = []
    quantised: dict[int, QuantProjection] = {}
    lossy: list[str] = []
    for p in net.populations:
        edges = feeds.get(p.name, [])
        population, maps = _population(p, edges, graded, steps, weight_bits)
        populations.append(population)
        quantised.update({id(e): q for e, q in zip(edges, maps, strict=True)})
        lossy += _losses(p, population)
        if _is_gate(p, edges, graded) and population.scale != 1.0:
            lossy.append(f"{p.name}: {weight_bits} bits do not hold its whole weights exactly; a gate or OR may err")
    if any(e.delay for e in net.projections):
        lossy.append("spikes still under way at the end of a sample are dropped; on a chip the host must clear them")
    projections = tuple(quantised[id(e)] for e in net.projections)
    result = QuantNet(sources, tuple(populations), projections, net.outputs, net.dt_s, steps, weight_bits, tuple(lossy))
    verify(result)
    return result


def layer_errors(net: Net, quant: QuantNet) -> tuple[LayerError, ...]:
    """The relative error of every parameter of every population, by comparison of the two networks."""
    feeds, integer = incoming(net.projections), incoming(quant.projections)
    gain = {s.name: s.scale for s in quant.sources}
    rows: list[LayerError] = []
    for p, q in zip(net.populations, quant.populations, strict=True):
        wrong = total = 0.0
        for e, i in zip(feeds.get(p.name, ()), integer.get(p.name, ()), strict=True):
            real = weights(e.map).astype(np.float64)
            back = weights(i.map) * 2.0**i.exponent / q.scale * gain.get(e.source, 1.0)
            wrong += float(((real - back) ** 2).sum())
            total += float((real**2).sum())
        rows.append(
            LayerError(
                p.name,
                q.scale,
                (wrong / total) ** 0.5 if total else 0.0,
                _relative(p.bias, q.bias / (1 << STATE_SHIFT) / q.scale),
                _relative(p.threshold, q.threshold / q.scale) if p.spiking and not _is_exact(p, q) else 0.0,
                max(
                    float(abs(real - (1 - whole / DECAY_ONE)).max()) if real.any() else 0.0
                    for real, whole in ((p.decay, q.decay), (p.current_decay, q.current_decay))
                ),
            )
        )
    return tuple(rows)


def _is_exact(p: Population, q: QuantPopulation) -> bool:
    return q.memoryless and q.scale == 1.0 and not p.bias.any()


def _relative(real: F64, back: F64) -> float:
    largest = float(abs(real).max(initial=0.0))
    return float(abs(real - back).max()) / largest if largest else 0.0


def _losses(p: Population, q: QuantPopulation) -> list[str]:
    lines: list[str] = []
    if p.decay.any() and (1 - q.decay / DECAY_ONE != p.decay).any():
        lines.append(f"{p.name}: decay {p.decay.max():.6g} becomes {1 - q.decay.min() / DECAY_ONE:.6g} (12 bits)")
    if (1 - q.current_decay / DECAY_ONE != p.current_decay).any():
        was, now = p.current_decay.max(), 1 - q.current_decay.min() / DECAY_ONE
        lines.append(f"{p.name}: current decay {was:.6g} becomes {now:.6g} (12 bits)")
    if q.memoryless and (q.decay == DECAY_ONE).any():
        lines.append(f"{p.name}: memoryless beyond the 12-bit decay register; exact in simulation, not on a chip")
    if max(len(set(d.tolist())) for d in (q.decay, q.current_decay)) > 1 or (
        q.spiking and len(set(q.threshold.tolist())) > 1
    ):
        lines.append(f"{p.name}: per-neuron decay or threshold; a Loihi core holds one of each per neuron group")
    return lines


def _population(
    p: Population, edges: list[Projection], graded: dict[str, QuantSource], steps: int, bits: int
) -> tuple[QuantPopulation, list[QuantProjection]]:
    if p.spiking and p.threshold.min() < 0:
        raise UnsupportedLayer(
            f"population '{p.name}' has threshold {p.threshold.min():g}; a chip's thresholds are at least 0"
        )
    if _is_gate(p, edges, graded) and _holds(edges, bits):
        exact = _attempt(p, edges, graded, steps, bits, 1.0, np.floor)
        if exact is not None:
            return exact
    largest = {id(e): float(abs(weights(e.map)).max(initial=0.0)) for e in edges}
    binary = [largest[id(e)] for e in edges if e.source not in graded and largest[id(e)] > 0]
    scale = ((1 << (bits - 1)) - 1) / min(binary) if binary else START_SCALE
    strongest = max([*largest.values(), abs(p.bias).max(initial=0.0)])
    while scale * strongest >= 1.0 or (strongest == 0.0 and scale > SMALLEST_SCALE):
        fitted = _attempt(p, edges, graded, steps, bits, _whole_threshold(p, scale), np.rint)
        if fitted is not None:
            return fitted
        scale /= 2
    raise Overflow(
        f"population '{p.name}' fits no scale: its inputs can outweigh the {STATE_LIMIT.bit_length() + 1}-bit membrane",
        "lower its fan-in, or train with smaller weights relative to the threshold",
    )


def _is_gate(p: Population, edges: list[Projection], graded: dict[str, QuantSource]) -> bool:
    """A memoryless population of whole weights on binary spikes, which needs no scaling."""
    whole = all(np.array_equal(weights(e.map), np.rint(weights(e.map))) for e in edges)
    return bool(p.spiking and not (p.decay.any() or p.current_decay.any() or p.bias.any() or p.reset is not None)) and (
        whole and not any(e.source in graded for e in edges)
    )


def _holds(edges: list[Projection], bits: int) -> bool:
    """Whether these whole weights are integers of so many bits times one power of two per projection."""
    for e in edges:
        w = weights(e.map)
        mantissa = w / 2.0 ** max(_exponent(float(abs(w).max(initial=0.0)), bits), 0)
        if not np.array_equal(mantissa, np.rint(mantissa)):
            return False
    return True


def _exponent(peak: float, bits: int) -> int:
    """The smallest exponent with which ``peak`` fits a signed integer of so many bits."""
    return ceil(log2(peak / ((1 << (bits - 1)) - 1))) if peak > 0 else 0


def _whole_threshold(p: Population, scale: float) -> float:
    """The scale at or just below ``scale`` that makes a shared threshold a whole number."""
    if not p.spiking:
        return scale
    threshold = float(p.threshold.max())
    if threshold <= 0 or threshold * scale < 1 or (p.threshold != threshold).any():
        return scale
    return floor(threshold * scale) / threshold


def _attempt(
    p: Population,
    edges: list[Projection],
    graded: dict[str, QuantSource],
    steps: int,
    bits: int,
    scale: float,
    round_threshold: Callable[[F64], F64],
) -> tuple[QuantPopulation, list[QuantProjection]] | None:
    """The population at this scale, or None where a register could overflow."""
    projections: list[QuantProjection] = []
    low = high = np.zeros(prod(p.shape), np.int64)
    for e in edges:
        source = graded.get(e.source)
        unit = scale / source.scale if source else scale
        peak = float(abs(weights(e.map)).max(initial=0.0)) * unit
        exponent = _exponent(peak, bits)
        if source is None:
            coarse = peak < COARSE and not np.array_equal(weights(e.map) * unit, np.rint(weights(e.map) * unit))
            exponent = max(exponent, LEAST_EXPONENT if coarse else 0)
        integer = with_weights(e.map, lambda w, f=unit / 2.0**exponent: np.rint(w * f).astype(np.int8))
        projections.append(QuantProjection(e.source, e.target, integer, exponent, e.delay))
        least, most = reach(integer, (1 << source.bits) - 1 if source else 1)
        if max(-least.min(initial=0), most.max(initial=0)) > ACCUMULATOR_LIMIT:
            return None
        low, high = low + shifted(least, exponent), high + shifted(most, exponent)
    low, high = low << STATE_SHIFT, high << STATE_SHIFT
    bias = _bias(p.bias * (scale * (1 << STATE_SHIFT)))
    level = round_threshold(p.threshold * scale) if p.spiking else np.full(prod(p.shape), float(THRESHOLD_LIMIT))
    if bias is None or level.max() > THRESHOLD_LIMIT:
        return None
    mantissa, exponent = bias
    decay = np.rint((1.0 - p.decay) * DECAY_ONE).astype(np.int64)
    if (decay >= DECAY_ONE - 1).all():  # all but memoryless: then it is, since 4095 keeps v / 4096
        decay[:] = DECAY_ONE
    current = np.clip(np.rint((1.0 - p.current_decay) * DECAY_ONE), 1, DECAY_ONE).astype(np.int64)
    threshold = level.astype(np.int64)
    back = None
    if p.reset is not None and p.spiking:
        back = np.rint(p.reset * (scale * (1 << STATE_SHIFT))).astype(np.int64)
        if p.subtract and np.allclose(p.reset, p.threshold, rtol=1e-12, atol=0):
            back = threshold << STATE_SHIFT  # the threshold as it is on the chip
        if abs(back).max() > STATE_LIMIT:
            return None
    population = QuantPopulation(
        p.name, p.shape, decay, current, threshold, mantissa, exponent, p.spiking, scale, back, p.subtract
    )
    if not _fits(population, low, high, steps):
        return None
    return _with_short_decay(population, low, high), projections


def _bias(membrane_units: F64) -> tuple[I64, int] | None:
    """Mantissa and the smallest exponent that holds every bias, or None."""
    for exponent in range(BIAS_EXPONENT_LIMIT + 1):
        mantissa = np.rint(membrane_units / (1 << exponent))
        if abs(mantissa).max(initial=0) <= BIAS_LIMIT:
            return mantissa.astype(np.int64), exponent
    return None


def _fits(p: QuantPopulation, low: I64, high: I64, steps: int) -> bool:
    """Interval analysis of one population over ``steps`` steps from rest.

    low, high: int64[n], bounds of the synaptic input of one step, membrane units

    The current never leaves the 24-bit register, so it cannot wrap; the membrane never leaves it, so it cannot
    saturate; a readout never passes its threshold, so it cannot fire. With k = 4096 - decay, truncation toward zero can
    only shrink a magnitude, ``|trunc(v k / 4096)| <= |v| k / 4096``: the bounds use the product, rounded outward.
    """
    if max(-low.min(initial=0), high.max(initial=0)) > STATE_LIMIT:
        return False
    keep, keep_current = DECAY_ONE - p.decay, DECAY_ONE - p.current_decay
    top, bottom, most, least = (np.zeros_like(low) for _ in range(4))
    ceiling = p.threshold << STATE_SHIFT
    limit = np.full_like(ceiling, STATE_LIMIT) if p.spiking else ceiling
    for _ in range(steps):
        before = (top, bottom, most, least)
        most, least = _kept(most, keep_current) + high, -_kept(-least, keep_current) + low
        rest, low_rest = top, bottom
        if p.spiking:  # at most the ceiling without a spike, and what a spike leaves where there can be one
            fires, back = top > ceiling, p.back
            highest, lowest = (top - back, ceiling + 1 - back) if p.subtract else (back, back)
            rest = np.where(fires, np.maximum(ceiling, highest), top)
            low_rest = np.where(fires, np.minimum(bottom, lowest), bottom)
        top, bottom = _kept(rest, keep) + most + p.bias, -_kept(-low_rest, keep) + least + p.bias
        inside = (most <= STATE_LIMIT) & (least >= -STATE_LIMIT) & (top <= limit) & (bottom >= -STATE_LIMIT)
        if not inside.all():
            return False
        if all(np.array_equal(a, b) for a, b in zip(before, (top, bottom, most, least), strict=True)):
            break  # the bounds have settled
    return True


def _kept(bound: I64, keep: I64) -> I64:
    """The upper bound after a step of decay, rounded up; below 0 it becomes 0, since a neuron may rest there."""
    return -((-np.maximum(bound, 0) * keep) // DECAY_ONE)


def _with_short_decay(p: QuantPopulation, low: I64, high: I64) -> QuantPopulation:
    """A memoryless population with the largest decay a 12-bit register holds, where that provably forgets all the same.

    4095 keeps ``v / 4096``, which truncates to 0 for every sub-threshold ``|v| < 4096``.
    """
    rests = np.maximum(-(low + p.bias), np.minimum(high + p.bias, p.threshold << STATE_SHIFT))
    if not p.memoryless or not p.spiking or (rests >= DECAY_ONE).any():
        return p
    return replace(p, decay=np.full_like(p.decay, DECAY_ONE - 1))
