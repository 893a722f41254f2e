"""Random integer networks that ``quantnet.verify`` accepts, biased to the edges of the chip's arithmetic.

Every network has branches and joins of dense, sparse and convolutional projections, delays, and often loops. Weights
sit at both ends of their register, exponents shift both ways, inputs reach the point where the current wraps and the
membrane saturates, thresholds equal sums that really occur, decays keep everything or nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from snnergy.export.maps import Conv, Dense, Map, Shape, Sparse, reach
from snnergy.export.net import incoming
from snnergy.export.quantnet import (
    BIAS_EXPONENT_LIMIT,
    BIAS_LIMIT,
    DECAY_ONE,
    INPUT_LIMIT,
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
from snnergy.testing.draw import I64, Draw, often, shuffled, subset

Inputs = dict[str, NDArray[np.int64]]

DT_S = 1e-4
EXPONENTS = (-20, 11)
"""Range of the exponents; a readout's may need to be the smallest to stay below its threshold."""


def network(
    draw: Draw, *, hardware: bool = True, steps: int | None = None, samples: int | None = None
) -> tuple[QuantNet, Inputs]:
    """A verified network and inputs for it: per source [samples, *shape] or [samples, steps, *shape].

    hardware: every loop has at least as many steps of delay as populations, so that one-step synapses can run it
    """
    steps = steps or draw.choice((4, 1, 2, 3, 5, 6, 8, 12))
    samples = samples or draw.integer(1, 3)
    sources = _sources(draw)
    inputs = {s.name: _input(draw, s, samples, steps) for s in sources}
    plan = _plan(draw, sources, hardware)
    feeds = incoming(tuple(plan.edges))
    most = {s.name: (1 << s.bits) - 1 for s in sources}
    first = {s.name: inputs[s.name].reshape(samples, -1, prod(s.shape))[0, 0] for s in sources}
    populations: list[QuantPopulation] = []
    projections: list[QuantProjection] = []
    for name in plan.populations:
        shape, spiking = plan.shapes[name], name not in plan.readouts
        shared = _fields(draw, prod(shape), None if spiking else steps)
        budget = INPUT_LIMIT if spiking else _budget(shared, steps)
        strengths = _strengths(draw, feeds.get(name, []), most, budget)
        threshold = np.full(prod(shape), THRESHOLD_LIMIT)
        if spiking:
            threshold = _threshold(draw, strengths, shared, first)
            shared |= _reset(draw, threshold)
        populations.append(QuantPopulation(name, shape, threshold=threshold, spiking=spiking, scale=1.0, **shared))
        projections += strengths
    outputs = sorted({populations[-1].name, *plan.readouts, *subset(draw, plan.populations, 2)})
    net = QuantNet(
        tuple(sources), tuple(shuffled(draw, populations)), tuple(shuffled(draw, projections)),
        tuple(shuffled(draw, outputs)), DT_S, steps, 8, (),
    )  # fmt: skip
    verify(net)
    return net, inputs


@dataclass(frozen=True)
class _Plan:
    """Who hears whom through which map; exponents and neurons are drawn when all inputs of a population are known."""

    shapes: dict[str, Shape]
    populations: list[str]
    readouts: set[str]
    edges: list[QuantProjection]


def _plan(draw: Draw, sources: list[QuantSource], hardware: bool) -> _Plan:
    """Every population hears earlier ones; then edges back to an earlier one, or to itself, close loops."""
    plan = _Plan({s.name: s.shape for s in sources}, [], set(), [])
    rank = {s.name: 0 for s in sources}
    for k in range(draw.integer(1, 7)):
        name = f"p{k}"
        senders = [n for n in plan.shapes if n not in plan.readouts]
        feeds = [draw.choice(senders) for _ in range(draw.choice((1, 2, 1, 3, 2, 0)))]
        maps = _maps(draw, [plan.shapes[f] for f in feeds])
        plan.shapes[name] = maps[0].output_shape if maps else _shape(draw)
        plan.populations.append(name)
        rank[name] = 1 + max((rank[f] for f in feeds), default=0)
        plan.edges.extend(QuantProjection(f, name, m, 0, _delay(draw)) for f, m in zip(feeds, maps, strict=True))
        if often(draw, 20):
            plan.readouts.add(name)
    for late, early in _pairs(draw, [n for n in plan.populations if n not in plan.readouts]):
        delay = max(1, rank[late] + 1 - rank[early]) if hardware else 1
        linear = _full(draw, plan.shapes[late], plan.shapes[early])
        plan.edges.append(QuantProjection(late, early, linear, 0, delay + draw.choice((0, 0, 1, 3))))
    return plan


def _sources(draw: Draw) -> list[QuantSource]:
    return [
        QuantSource(f"s{k}", _shape(draw), draw.choice((1, 8, 1, 8, 3)), 1.0) for k in range(draw.choice((1, 2, 3)))
    ]


def _shape(draw: Draw) -> Shape:
    if often(draw, 50):
        return (draw.integer(1, 3), draw.integer(1, 5), draw.integer(1, 5))
    return (draw.choice((1, 2, 3, 5, 8)),)


def _input(draw: Draw, source: QuantSource, samples: int, steps: int) -> NDArray[np.int64]:
    shape = (samples, steps, *source.shape) if often(draw, 70) else (samples, *source.shape)
    most = (1 << source.bits) - 1
    kind = draw.choice(("some", "any", "ends", "all", "some", "any", "ends", "none"))
    if kind == "any":
        return draw.array(shape, 0, most)
    options = {"some": (0, 0, most), "ends": (0, 1, most), "all": (most,), "none": (0,)}[kind]
    return draw.pick(shape, options)


def _delay(draw: Draw) -> int:
    return draw.choice((0, 0, 0, 0, 1, 2, 5, 14))


def _pairs(draw: Draw, neurons: list[str]) -> list[tuple[str, str]]:
    """(sender, earlier or same population) of the projections that close loops."""
    if not neurons or not often(draw, 50):
        return []
    ends = [
        sorted((draw.integer(0, len(neurons) - 1), draw.integer(0, len(neurons) - 1)))
        for _ in range(draw.integer(1, 3))
    ]
    return [(neurons[late], neurons[early]) for early, late in ends]


# maps


def _maps(draw: Draw, before: list[Shape]) -> list[Map]:
    """One map per sender, all with the same output shape."""
    if not before:
        return []
    first = _conv(draw, before[0]) if len(before[0]) == 3 and often(draw, 60) else None
    maps: list[Map] = [first or _full(draw, before[0], _shape(draw))]
    after = maps[0].output_shape
    for shape in before[1:]:
        if first is not None and shape == first.input_shape and often(draw, 50):
            maps.append(replace(first, weight=_weights(draw, first.weight.shape)))
        else:
            maps.append(_full(draw, shape, after))
    return maps


def _full(draw: Draw, before: Shape, after: Shape) -> Map:
    weight = _weights(draw, (prod(after), prod(before)))
    if often(draw, 50):
        listed: Any = csr_array(weight * draw.pick(weight.shape, (1, 0)).astype(np.int8))
        if listed.nnz and often(draw, 30):
            listed.data[0] = 0  # a stored zero is not a synapse
        return Sparse(listed, before, after)
    return Dense(weight, before, after)


def _weights(draw: Draw, shape: tuple[int, ...]) -> NDArray[np.int8]:
    kind = draw.choice(("uniform", "ends", "mixed", "small", "positive", "one"))
    options = {"ends": (127, -128), "mixed": (0, 1, -1, 127, -128), "one": (1,)}
    if kind in options:
        return draw.pick(shape, options[kind]).astype(np.int8)
    low, high = {"uniform": (-128, 127), "small": (-3, 3), "positive": (0, 127)}[kind]
    return draw.array(shape, low, high).astype(np.int8)


def _conv(draw: Draw, before: Shape) -> Conv:
    """Any geometry with an output; now and then a pool, which is a convolution of ones."""
    channels, *sides = before
    groups = draw.choice([g for g in range(1, channels + 1) if channels % g == 0])
    kernel, stride, padding, dilation = [1, 1], [1, 1], [0, 0], [1, 1]
    for axis, side in enumerate(sides):
        padding[axis] = draw.choice((0, 1, 2))
        kernel[axis] = draw.integer(1, min(3, side + 2 * padding[axis]))
        room = side + 2 * padding[axis] - 1
        dilation[axis] = draw.integer(1, 2 if 2 * (kernel[axis] - 1) <= room else 1)
        stride[axis] = draw.choice((1, 2, 3))
    if often(draw, 20):
        groups, stride, weight = channels, kernel, np.ones((channels, 1, *kernel), np.int8)
    else:
        weight = _weights(draw, (groups * draw.integer(1, 2), channels // groups, *kernel))
    (sy, sx), (py, px), (dy, dx) = stride, padding, dilation
    return Conv(weight, before, (sy, sx), (py, px), (dy, dx), groups)


# neurons


def _fields(draw: Draw, n: int, readout_steps: int | None) -> dict[str, Any]:
    """Decays and bias. A readout's bias alone stays below a quarter of its threshold."""
    decay = _decays(draw, n, 0, (DECAY_ONE, 0, 1, 2048, DECAY_ONE - 1))
    current = np.full(n, DECAY_ONE)
    if often(draw, 50):
        current = _decays(draw, n, 1, (DECAY_ONE, 1, 2, 2048, DECAY_ONE - 1))
    if often(draw, 30):  # one value for all, as a chip has it
        decay, current = np.full(n, decay[0]), np.full(n, current[0])
    kind, exponent = draw.choice(("none", "small", "none", "ends", "any")), 0
    mantissa = np.zeros(n, np.int64)
    if kind == "small":
        mantissa = draw.pick((n,), (0, 64, -64, 128, 1))
    elif kind != "none":
        exponent = draw.integer(0, BIAS_EXPONENT_LIMIT)
        ends = (BIAS_LIMIT, -BIAS_LIMIT, 0)
        mantissa = draw.pick((n,), ends) if kind == "ends" else draw.array((n,), -BIAS_LIMIT, BIAS_LIMIT)
    if readout_steps is not None:
        most = (THRESHOLD_LIMIT << STATE_SHIFT) // (4 * readout_steps) >> exponent
        mantissa = np.clip(mantissa, -most, most)
    return {"decay": decay, "current_decay": current, "bias_mantissa": mantissa, "bias_exponent": exponent}


def _reset(draw: Draw, threshold: I64) -> dict[str, Any]:
    """Now and then a reset that no stock neuron has: what a spike takes away, or where it leads."""
    kind = draw.choice(("zero", "threshold", "zero", "any", "zero", "value"))
    if kind == "zero":
        return {}
    if kind == "threshold":
        return {"reset": threshold << STATE_SHIFT, "subtract": True}
    high = draw.choice((3, 4096, STATE_LIMIT))
    return {"reset": draw.array(threshold.shape, 0 if kind == "any" else -high, high), "subtract": kind == "any"}


def _decays(draw: Draw, n: int, least: int, ends: tuple[int, ...]) -> I64:
    return draw.array((n,), least, DECAY_ONE) if often(draw, 30) else draw.pick((n,), ends)


def _budget(shared: dict[str, Any], steps: int) -> int:
    """The largest input of a readout for which neither current nor membrane passes its threshold in so many steps."""
    left = (THRESHOLD_LIMIT << STATE_SHIFT) - steps * int(abs(shared["bias_mantissa"]).max() << shared["bias_exponent"])
    return left // ((1 << STATE_SHIFT) * steps * (steps + 1) // 2)


def _strengths(draw: Draw, edges: list[QuantProjection], most: dict[str, int], budget: int) -> list[QuantProjection]:
    """The edges with exponents for which all of them together stay within the budget."""
    result: list[QuantProjection] = []
    for e in edges:
        least, largest = reach(e.map, most.get(e.source, 1))
        peak = max(int(-least.min()), int(largest.max()))
        highest = EXPONENTS[0]
        while highest < EXPONENTS[1] and shifted(np.int64(peak), highest + 1) < budget // len(edges):  # type: ignore[arg-type]
            highest += 1
        kind = draw.choice(("small", "full", "any"))
        if kind == "full":
            exponent = highest - draw.integer(0, 1)
        else:
            exponent = min(highest, draw.integer(-3, 3) if kind == "small" else draw.integer(-10, EXPONENTS[1]))
        result.append(replace(e, exponent=max(exponent, EXPONENTS[0])))
    return result


def _threshold(
    draw: Draw, edges: list[QuantProjection], shared: dict[str, Any], first: dict[str, NDArray[np.int64]]
) -> I64:
    """Thresholds that matter: half of them equal to a sum that can occur, exactly."""
    n = len(shared["decay"])
    kind = draw.choice(("tie", "any", "scale", "tie", "scale", "zero", "most"))
    if kind == "zero":
        return np.zeros(n, np.int64)
    if kind == "most":
        return np.full(n, THRESHOLD_LIMIT)
    if kind == "any":
        return draw.array((n,), 0, draw.choice((200, 5, THRESHOLD_LIMIT)))
    total = shared["bias_mantissa"] << shared["bias_exponent"] >> STATE_SHIFT
    for e in edges:
        events = (
            first[e.source] if e.source in first and e.delay == 0 else draw.pick((prod(e.map.input_shape),), (1, 0))
        )
        total = total + shifted(e.map.matrix().astype(np.int64) @ events, e.exponent)
    if kind == "scale":
        total = np.full(n, int(abs(total).max(initial=0)) // draw.choice((1, 2, 3)))
    return np.minimum(abs(total), THRESHOLD_LIMIT).astype(np.int64)
