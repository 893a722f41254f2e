"""Random NIR graphs that ``lower`` accepts, with every node it knows, joins, delays and loops, in any file order."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from snnergy.export import convention
from snnergy.testing.draw import Draw, often, shuffled, subset

F64 = NDArray[np.float64]
Shape = tuple[int, ...]

NEURONS = ("LIF", "IF", "CubaLIF", "Threshold")
READOUTS = ("LI", "I", "CubaLI")
LONGEST_CHAIN = 3
"""Most linear nodes in a row, so that exact numbers stay exact."""


@dataclass(frozen=True, eq=False)
class Sample:
    """A graph and what it is run with. inputs: float64[samples, *shape], presented at every step"""

    graph: nir.NIRGraph
    inputs: dict[str, F64]
    steps: int
    dt_s: float


def graph(draw: Draw, *, exact: bool = True, recurrent: bool = True) -> Sample:
    """A valid graph. Every neuron that is not read by another may be read by an Output.

    exact:     every number is a small multiple of a power of two, so that float64 does not round in a few steps: two
               readings of the graph agree to the last bit, and thresholds are met exactly. Otherwise any numbers,
               which meet no threshold.
    recurrent: whether edges may close loops; every loop has a neuron in it
    """
    build = _Builder(draw, exact)
    for k in range(draw.choice((1, 2))):
        build.add(f"in{k}", nir.Input({"input": np.array(shape := build.shape())}), shape, [])
    for k in range(draw.integer(1, 8)):
        build.grow(f"n{k}")
    build.end()
    if recurrent and often(draw, 50):
        for k in range(draw.integer(1, 3)):
            build.loop(f"back{k}")
    return build.sample()


class _Builder:
    def __init__(self, draw: Draw, exact: bool) -> None:
        self.draw, self.exact = draw, exact
        self.dt_s = 2.0**-10 if exact else 1e-4
        self.nodes: dict[str, nir.NIRNode] = {}
        self.edges: list[tuple[str, str]] = []
        self.shapes: dict[str, Shape] = {}
        self.chain: dict[str, int] = {}

    def add(self, name: str, node: nir.NIRNode, shape: Shape, feeds: list[str], linear: bool = False) -> None:
        self.nodes[name], self.shapes[name] = node, shape
        self.chain[name] = 1 + max(self.chain[f] for f in feeds) if linear else 0
        self.edges += [(feed, name) for feed in feeds]

    def shape(self) -> Shape:
        if often(self.draw, 50):
            return (self.draw.integer(1, 3), self.draw.integer(1, 6), self.draw.integer(1, 6))
        if often(self.draw, 30):
            return (self.draw.integer(1, 3), self.draw.integer(1, 8))
        return (self.draw.choice((1, 2, 3, 6)),)

    def numbers(self, shape: Shape, low: int, high: int) -> F64:
        """low .. high in halves, or about that."""
        whole = self.draw.array(shape, 2 * low, 2 * high)
        return whole / 2 if self.exact else whole / 2.017 + 0.0123

    def constant(self, shape: Shape, exact: tuple[int, ...], scale: float = 1.0) -> F64:
        """One of the numbers per neuron, times scale."""
        values = self.draw.pick(shape, exact).astype(np.float64)
        return values * scale if self.exact else (values + 0.0371) * scale

    def grow(self, name: str) -> None:
        """One more node that reads others."""
        draw = self.draw
        first = draw.choice(list(self.shapes))
        shape = self.shapes[first]
        feeds = [first, *subset(draw, [n for n, s in self.shapes.items() if s == shape and n != first], 2)]
        kinds = [*NEURONS, "Scale", "Delay"]
        kinds += {
            1: ["Affine", "Linear", "Affine"],
            2: ["Conv1d", "Conv1d", "Flatten"],
            3: ["Conv2d", "SumPool2d", "AvgPool2d", "Flatten"],
        }[len(shape)]
        if max(self.chain[f] for f in feeds) >= LONGEST_CHAIN:
            kinds = list(NEURONS)
        kind = draw.choice(kinds)
        if kind in NEURONS:
            self.add(name, self.neuron(kind, shape), shape, feeds if often(draw, 95) else [])
        elif kind == "Delay":
            self.add(name, self.delay(shape), shape, feeds, linear=True)
        elif kind == "Scale":
            self.add(name, self.scale(shape), shape, feeds, linear=True)
        elif kind == "Flatten":
            start = draw.choice((0, 1))
            flat = (*shape[:start], prod(shape[start:]))
            self.add(name, nir.Flatten({"input": np.array(shape)}, start, -1), flat, feeds, linear=True)
        elif kind in ("Affine", "Linear"):
            node, after = self.matrix(kind, shape)
            self.add(name, node, after, feeds, linear=True)
        else:
            node, after = self.window(kind, shape)
            self.add(name, node, after, feeds, linear=True)

    def matrix(self, kind: str, shape: Shape, out: int | None = None) -> tuple[nir.NIRNode, Shape]:
        """An Affine or Linear, or a Scale where there is more than one axis."""
        if len(shape) != 1:
            return self.scale(shape), shape
        out = out or self.draw.choice((1, 2, 3, 6))
        weight = self.numbers((out, shape[0]), -2, 2)
        return (nir.Affine(weight, self.numbers((out,), -1, 1)) if kind == "Affine" else nir.Linear(weight)), (out,)

    def scale(self, shape: Shape) -> nir.Scale:
        """A factor per value, or now and then one per channel."""
        factors = self.constant(shape, (1, 2, -1))
        if len(shape) == 3 and often(self.draw, 40):
            factors[:] = factors[:, :1, :1]
        return nir.Scale(factors)

    def window(self, kind: str, shape: Shape) -> tuple[nir.NIRNode, Shape]:
        draw, (channels, *sides) = self.draw, shape
        conv = kind in ("Conv1d", "Conv2d")
        kernel, stride, padding, dilation = ([value for _ in sides] for value in (1, 1, 0, 1))
        for axis, side in enumerate(sides):
            padding[axis] = draw.choice((0, 1))
            kernel[axis] = min(draw.choice((1, 2) if kind == "AvgPool2d" else (1, 2, 3)), side)
            stride[axis] = draw.choice((1, 2))
            if conv and 2 * (kernel[axis] - 1) < side + 2 * padding[axis]:
                dilation[axis] = draw.choice((1, 2))
        out = channels
        if conv:
            groups = draw.choice([g for g in range(1, channels + 1) if channels % g == 0])
            out = groups * draw.integer(1, 2)
            weight, bias = self.numbers((out, channels // groups, *kernel), -2, 2), self.numbers((out,), -1, 1)
            pads: Any = tuple(padding)
            spans = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
            if set(stride) == {1} and not any(s % 2 for s in spans) and often(draw, 30):
                pads, padding = "same", [s // 2 for s in spans]
            elif not any(padding) and often(draw, 30):
                pads = "valid"
            if kind == "Conv1d":
                pads = pads if isinstance(pads, str) else pads[0]
                node: nir.NIRNode = nir.Conv1d(sides[0], weight, stride[0], pads, dilation[0], groups, bias)
            else:
                steps, gaps = (stride[0], stride[1]), (dilation[0], dilation[1])
                node = nir.Conv2d((sides[0], sides[1]), weight, steps, pads, gaps, groups, bias)
        else:
            pool = nir.SumPool2d if kind == "SumPool2d" else nir.AvgPool2d
            node = pool(np.array(kernel), np.array(stride), np.array(padding))
        spans = zip(sides, padding, dilation, kernel, stride, strict=True)
        return node, (out, *((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, p, d, k, s in spans))

    def delay(self, shape: Shape) -> nir.Delay:
        steps = self.draw.pick(shape, (1, 2, 0, 4))
        if often(self.draw, 50):
            steps = np.full(shape, steps.flat[0])
        return nir.Delay(steps * self.dt_s)

    def neuron(self, kind: str, shape: Shape) -> nir.NIRNode:
        """Any neuron or readout of this shape, every parameter per neuron."""
        tau, r = self.constant(shape, (1, 2, 4), self.dt_s), self.constant(shape, (1, 2, 4), 0.5)
        leak, zero = self.constant(shape, (0, 0, 1, -1), 0.5), np.zeros(shape)
        if often(self.draw, 20):
            zero = self.constant(shape, (0, 1, -1), 0.25)
        threshold = abs(self.numbers(shape, 0, 2))
        if kind == "Threshold":
            return nir.Threshold(threshold)
        if kind in ("IF", "I"):
            if often(self.draw, 20):
                r = np.full(shape, 1 / self.dt_s)  # what some exporters write for a gain of one per step
            return nir.I(r) if kind == "I" else nir.IF(r, threshold, zero)
        if kind == "LI":
            return nir.LI(tau, r, leak)
        if kind == "LIF":
            return nir.LIF(tau, r, leak, threshold, zero)
        synapse, gain = self.constant(shape, (1, 2, 4), self.dt_s), self.constant(shape, (2, 1, 4, -1), 0.5)
        if kind == "CubaLI":
            return nir.CubaLI(synapse, tau, r, leak, gain)
        return nir.CubaLIF(synapse, tau, r, leak, threshold, zero, gain)

    def end(self) -> None:
        """Readouts and Output nodes; at least one neuron is read."""
        kinds = {name: type(node).__name__ for name, node in self.nodes.items()}
        neurons = [n for n, kind in kinds.items() if kind in NEURONS]
        read = subset(self.draw, neurons, 2)
        if not read or often(self.draw, 60):
            heard = self.draw.choice(list(self.shapes))
            shape = self.shapes[heard]
            self.add("readout", self.neuron(self.draw.choice(READOUTS), shape), shape, [heard])
            read.append("readout")
        for name in read:
            self.nodes[f"out_{name}"] = nir.Output({"output": np.array(self.shapes[name])})
            self.edges.append((name, f"out_{name}"))

    def loop(self, name: str) -> None:
        """One edge back, straight or through a linear node, from or to a neuron so that the loop holds one."""
        kinds = {n: type(node).__name__ for n, node in self.nodes.items()}
        names = [n for n in self.shapes if kinds[n] != "Input" and kinds[n] not in READOUTS]
        pairs = [
            (late, early)
            for k, early in enumerate(names)
            for late in names[k:]
            if {kinds[late], kinds[early]} & set(NEURONS) and self.chain[late] < LONGEST_CHAIN
        ]
        if not pairs:
            return
        late, early = self.draw.choice(pairs)
        before, after = self.shapes[late], self.in_shape(early)
        way = self.draw.choice(("edge", "Delay", "Affine"))
        if len(before) == len(after) == 1 and (before != after or way == "Affine"):
            node, _ = self.matrix("Affine", before, after[0])
            self.add(name, node, after, [late], linear=True)
            self.edges.append((name, early))
        elif before == after and way == "Delay":
            self.add(name, self.delay(before), before, [late], linear=True)
            self.edges.append((name, early))
        elif before == after and (late, early) not in self.edges:
            self.edges.append((late, early))

    def convention(self) -> str:
        """One that float64 follows without rounding, where that is asked for, and that the neurons can follow."""
        known = [name for name, how in convention.CONVENTIONS.items() if how.decay == "euler" or not self.exact]
        taus = [getattr(n, f) for n in self.nodes.values() for f in ("tau", "tau_mem") if hasattr(n, f)]
        forget = any((tau <= self.dt_s).any() for tau in taus)
        late = [name for name in known if convention.CONVENTIONS[name].reset == "subtract late"]
        return self.draw.choice([name for name in known if name not in late or not (forget or self.exact)])

    def in_shape(self, name: str) -> Shape:
        """The shape of what the node reads."""
        feeds = [source for source, target in self.edges if target == name]
        return self.shapes[feeds[0]] if feeds else self.shapes[name]

    def sample(self) -> Sample:
        samples = self.draw.choice((1, 2))
        inputs = {
            name: self.draw.array((samples, *self.shapes[name]), 0, 4) / (4 if self.exact else 4.3)
            for name, node in self.nodes.items()
            if isinstance(node, nir.Input)
        }
        names = shuffled(self.draw, list(self.nodes))
        built = nir.NIRGraph(
            {name: self.nodes[name] for name in names}, shuffled(self.draw, self.edges), metadata={}, type_check=False
        )
        if often(self.draw, 40):
            convention.put(built, self.convention())
        return Sample(built, inputs, self.draw.integer(1, 6), self.dt_s)
