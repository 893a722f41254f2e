"""Small networks in every form, and slow references, for the tests of the export floor and the native engine."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from math import prod
from typing import Any

import nir
import numpy as np
from hypothesis import strategies as st
from scipy.sparse import csr_array

from snnergy import data
from snnergy.config import ModelConfig, preset
from snnergy.deploy.activity import Activity, Run
from snnergy.export.maps import Conv, Dense, Map, Sparse
from snnergy.export.quantnet import THRESHOLD_LIMIT, QuantNet, QuantPopulation, QuantProjection, QuantSource, verify

__all__ = ["lively", "preset", "spiking_model"]
DT_S = 1e-4
SMALL = ModelConfig(
    name="small", image_size=16, dim=16, heads=(1, 2, 2), blocks=(0, 0, 0), mlp_ratio=1, downsample="stride", classes=4
)

# torch models


def samples(count: int, side: int) -> dict[str, Any]:
    """Real AV digits at any size, by averaging: float64[count, 1, side, side] each."""
    found = data.load("avdigits:train", count, image_size=max(side, 32))
    step = max(side, 32) // side
    return {
        name: x.astype(np.float64).reshape(count, 1, side, step, side, step).mean((3, 5))
        for name, x in (("audio", found.audio), ("video", found.video))
    }


def lively(config: ModelConfig, seed: int = 7) -> Any:
    """A network whose norms have seen real samples and whose gains, biases and alphas are random: it spikes."""
    import torch

    from snnergy.model import SNNergy

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = SNNergy(config)
        for layer in model.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.momentum = 1.0
                torch.nn.init.uniform_(layer.weight, 0.5, 2.0)
                torch.nn.init.uniform_(layer.bias, -0.3, 0.7)
        for name, parameter in model.named_parameters():
            if name.endswith("alpha"):
                torch.nn.init.uniform_(parameter, 0.3, 1.7)
        found = {name: torch.from_numpy(x).float() for name, x in samples(32, config.image_size).items()}
        with torch.no_grad():
            model.train()(found["audio"], found["video"])
            for name, value in model.state_dict().items():  # to a grid, so that every platform has the same network
                if value.is_floating_point():
                    value.copy_((value * 256).round().clamp(min=1 if name.endswith("running_var") else -1e9) / 256)
    return model.eval()


@cache
def _small(changes: tuple[tuple[str, Any], ...]) -> Any:
    return lively(ModelConfig(**{**SMALL.__dict__, **dict(changes)}))


def spiking_model(**changes: Any) -> Any:
    """The 16-pixel network with these fields of its config changed."""
    return _small(tuple(sorted(changes.items())))


# NIR graphs


def graph(nodes: Mapping[str, nir.NIRNode], *edges: tuple[str, str]) -> nir.NIRGraph:
    """A graph without nir's type check, which refuses grouped and non-square convolutions."""
    return nir.NIRGraph(dict(nodes), list(edges), metadata={}, type_check=False)


def chain(shape: tuple[int, ...], *nodes: nir.NIRNode) -> nir.NIRGraph:
    """in -> n0 -> n1 -> ... -> out"""
    named = {"in": nir.Input({"input": np.array(shape)}), **{f"n{k}": n for k, n in enumerate(nodes)}}
    names = [*named, "out"]
    named["out"] = nir.Output({"output": np.array([1])})
    return graph(named, *pairwise(names))


def lif(
    shape: Any, tau: Any = 2 * DT_S, r: Any = 1.0, threshold: Any = 0.5, leak: Any = 0.0, reset: Any = 0.0
) -> nir.LIF:
    def full(value: Any) -> Any:
        return np.broadcast_to(np.asarray(value, np.float64), shape).copy()

    return nir.LIF(tau=full(tau), r=full(r), v_leak=full(leak), v_threshold=full(threshold), v_reset=full(reset))


def threshold(shape: Any, value: Any) -> nir.Threshold:
    return nir.Threshold(np.broadcast_to(np.asarray(value, np.float64), shape).copy())


@st.composite
def nir_graphs(draw: st.DrawFn) -> tuple[nir.NIRGraph, dict[str, Any]]:
    """A random feed-forward graph with branches and joins, one or two inputs, and samples for it."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    nodes: dict[str, nir.NIRNode] = {}
    edges: list[tuple[str, str]] = []
    shapes: dict[str, tuple[int, ...]] = {}
    inputs: dict[str, Any] = {}
    image = tuple(int(n) for n in rng.integers((1, 3, 3), (4, 7, 7)))
    for k in range(draw(st.integers(1, 2))):
        name, shape = f"in{k}", image if draw(st.booleans()) or k == 0 else (int(rng.integers(1, 6)),)
        nodes[name], shapes[name] = nir.Input({"input": np.array(shape)}), shape
        inputs[name] = rng.random((2, *shape))

    def join(name: str, node: nir.NIRNode, shape: tuple[int, ...], feeds: list[str]) -> None:
        nodes[name], shapes[name] = node, shape
        edges.extend((feed, name) for feed in feeds)

    def feeds_of(name: str) -> list[str]:
        same = [n for n, s in shapes.items() if s == shapes[name] and n != name]
        extra = [str(n) for n in rng.permutation(same)[: draw(st.integers(0, 2))]] if same else []
        return [name, *extra]

    for k in range(draw(st.integers(2, 8))):
        name = f"n{k}"
        first = draw(st.sampled_from(sorted(shapes)))
        feeds, shape = feeds_of(first), shapes[first]
        kinds = ["lif", "if", "threshold", "scale"]
        kinds += ["conv", "sum", "avg", "flatten"] if len(shape) == 3 else ["affine", "linear"]
        kind = draw(st.sampled_from(kinds))
        if kind in ("lif", "if", "threshold"):
            join(name, _neuron(kind, shape, rng), shape, feeds)
        elif kind == "scale":
            join(name, nir.Scale(rng.normal(size=shape)), shape, feeds)
        elif kind == "flatten":
            start = int(rng.integers(0, 3))
            flat = (*shape[:start], prod(shape[start:]))
            join(name, nir.Flatten({"input": np.array(shape)}, start, -1), flat, feeds)
        elif kind in ("affine", "linear"):
            out = int(rng.integers(1, 5))
            weight = rng.normal(size=(out, *shape)) if len(shape) == 1 else None
            if weight is None:
                continue
            node = nir.Affine(weight, rng.normal(size=out)) if kind == "affine" else nir.Linear(weight)
            join(name, node, (out,), feeds)
        else:
            c, h, w = shape
            size = (int(rng.integers(1, min(h, 3) + 1)), int(rng.integers(1, min(w, 3) + 1)))
            stride, padding = tuple(rng.integers(1, 3, 2).tolist()), tuple(rng.integers(0, 2, 2).tolist())
            if kind == "conv":
                groups = c if draw(st.booleans()) else 1
                out = groups * int(rng.integers(1, 3))
                weight = rng.normal(size=(out, c // groups, *size))
                node = nir.Conv2d((h, w), weight, stride, padding, 1, groups, rng.normal(size=out))
            else:
                out = c
                pool = nir.SumPool2d if kind == "sum" else nir.AvgPool2d
                node = pool(np.array(size), np.array(stride), np.array(padding))
            h, w = ((n + 2 * p - k) // s + 1 for n, p, k, s in zip((h, w), padding, size, stride, strict=True))
            join(name, node, (out, h, w), feeds)
    last = list(shapes)[-1]
    join("spikes", _neuron("lif", shapes[last], rng), shapes[last], feeds_of(last))
    full = np.ones(shapes["spikes"])
    readout = nir.I(full * rng.uniform(0.5, 2)) if rng.random() < 0.5 else nir.LI(full * 3 * DT_S, full * 2, full * 0.1)
    join("readout", readout, shapes["spikes"], ["spikes"])
    for name in ("spikes", "readout"):
        nodes[f"out_{name}"] = nir.Output({"output": np.array(shapes[name])})
        edges.append((name, f"out_{name}"))
    return graph(nodes, *edges), inputs


def _neuron(kind: str, shape: Any, rng: np.random.Generator) -> nir.NIRNode:
    level = rng.uniform(0.05, 1.0, shape)
    if kind == "threshold":
        return nir.Threshold(level)
    if kind == "if":
        return nir.IF(r=rng.uniform(0.5, 2, shape), v_threshold=level, v_reset=level * 0)
    tau = rng.uniform(1.0, 8.0, shape) * DT_S
    return lif(shape, tau, rng.uniform(0.5, 2, shape), level, rng.normal(0, 0.2, shape))


# integer networks


def population(name: str, shape: Any, **changes: Any) -> QuantPopulation:
    n = prod(shape)
    plain = {"decay": 2048, "current_decay": 4096, "threshold": 100, "bias_mantissa": 0}
    fields: dict[str, Any] = {**plain, **changes}
    arrays = {key: np.broadcast_to(np.asarray(fields.pop(key), np.int64), n).copy() for key in plain}
    return QuantPopulation(name, shape, **arrays, **{"bias_exponent": 0, "spiking": True, "scale": 1.0, **fields})


def readout(name: str, shape: Any, **changes: Any) -> QuantPopulation:
    return population(name, shape, **{"decay": 0, "threshold": THRESHOLD_LIMIT, "spiking": False, **changes})


def quantnet(sources: Any, populations: Any, projections: Any, steps: int, outputs: Any = None) -> QuantNet:
    outputs = outputs or (populations[-1].name,)
    net = QuantNet(tuple(sources), tuple(populations), tuple(projections), tuple(outputs), DT_S, steps, 8, ())
    verify(net)
    return net


def random_quantnet(seed: int) -> tuple[QuantNet, dict[str, Any]]:
    """Branches, joins, every kind of map, graded and binary inputs, negative exponents, integrators, biases."""
    rng = np.random.default_rng(seed)
    steps, count = int(rng.integers(1, 6)), int(rng.integers(1, 6))
    sources = [QuantSource("image", (2, 4, 3), 8, 1.0), QuantSource("events", (5,), 1, 1.0)]
    shapes: dict[str, Any] = {s.name: s.shape for s in sources}
    populations: list[QuantPopulation] = []
    projections: list[QuantProjection] = []
    for k in range(int(rng.integers(2, 8))):
        name = f"p{k}"
        shape: Any = (int(rng.integers(1, 9)),) if rng.random() < 0.6 else (2, int(rng.integers(1, 4)), 2)
        senders = [n for n in shapes if not n.startswith("r")]
        feeds = [str(n) for n in rng.choice(senders, min(len(senders), int(rng.integers(1, 4))), replace=False)]
        if k == 0:
            feeds = ["image"]
        for feed in feeds:
            linear = _random_map(rng, shapes[feed], shape)
            if isinstance(linear, Conv):
                if len(feeds) > 1:
                    linear = Dense(linear.matrix().toarray()[: prod(shape)], shapes[feed], shape)
                    if len(linear.weight) < prod(shape):
                        linear = _dense(rng, shapes[feed], shape)
                else:
                    shape = linear.output_shape
            graded = feed == "image"
            exponent = int(rng.integers(-8, -2)) if graded else int(rng.integers(-3, 3))
            projections.append(QuantProjection(feed, name, linear, exponent))
        spiking = rng.random() < 0.85
        n = prod(shape)
        shared: dict[str, Any] = {
            "bias_mantissa": rng.integers(-300, 900, n) * int(rng.random() < 0.5),
            "bias_exponent": int(rng.integers(0, 3)),
        }
        if spiking:
            decay = rng.choice([0, 1, 2048, 4095, 4096]) if rng.random() < 0.5 else rng.integers(0, 4097, n)
            level = rng.integers(0, 200, n) if rng.random() < 0.5 else int(rng.integers(0, 200))
            populations.append(population(name, shape, decay=decay, threshold=level, **shared))
            shapes[name] = shape
        else:
            name = f"r{k}"
            projections = [p if p.target != f"p{k}" else _retarget(p, name) for p in projections]
            populations.append(readout(name, shape, **shared))
    outputs = tuple({populations[-1].name, *(p.name for p in populations if not p.spiking)})
    net = quantnet(sources, populations, projections, steps, outputs)
    image: Any = (count, 2, 4, 3) if rng.random() < 0.5 else (count, steps, 2, 4, 3)
    return net, {
        "image": rng.integers(0, 256, image) * (rng.random(image) < 0.7),
        "events": rng.integers(0, 2, (count, steps, 5)),
    }


def _retarget(p: QuantProjection, name: str) -> QuantProjection:
    return QuantProjection(p.source, name, p.map, p.exponent)


def _dense(rng: np.random.Generator, before: Any, after: Any) -> Dense:
    return Dense(rng.integers(-128, 128, (prod(after), prod(before))).astype(np.int8), before, after)


def _random_map(rng: np.random.Generator, before: Any, after: Any) -> Map:
    if len(before) == 3 and rng.random() < 0.6:
        c = before[0]
        groups = c if rng.random() < 0.4 else 1
        size = [int(rng.integers(1, min(n, 3) + 1)) for n in before[1:]]
        weight = rng.integers(-128, 128, (2 * groups, c // groups, *size)).astype(np.int8)
        stride, padding = tuple(rng.integers(1, 3, 2).tolist()), tuple(rng.integers(0, 3, 2).tolist())
        return Conv(weight, before, stride, padding, (1, 2) if before[2] + 2 * padding[1] > 4 else (1, 1), groups)
    dense = _dense(rng, before, after)
    if rng.random() < 0.5:
        return dense
    return Sparse(csr_array(dense.weight * (rng.random(dense.weight.shape) < 0.3)), before, after)


def slow_run(net: QuantNet, inputs: Mapping[str, Any]) -> Run:
    """The equations of quantnet.py one sample, one step and one population at a time, in Python's own order."""
    count = len(next(iter(inputs.values())))
    size = {n.name: prod(n.shape) for n in (*net.sources, *net.populations)}
    matrix = {id(e): e.map.matrix().toarray().astype(np.int64) for e in net.projections}
    trains = {name: np.zeros((count, net.steps, n), np.int64) for name, n in size.items()}
    active = {p.name: np.zeros((net.steps, size[p.name]), np.int64) for p in net.populations}
    outputs = {name: np.zeros((count, size[name]), np.int64) for name in net.outputs}
    for b in range(count):
        v = {p.name: np.zeros(size[p.name], np.int64) for p in net.populations}
        for t in range(net.steps):
            for s in net.sources:
                x = np.asarray(inputs[s.name][b])
                trains[s.name][b, t] = (x if x.shape == s.shape else x[t]).ravel()
            for p in net.populations:
                a = np.zeros(size[p.name], np.int64)
                for e in net.projections:
                    if e.target == p.name:
                        total = matrix[id(e)] @ trains[e.source][b, t]
                        a += total * 2**e.exponent if e.exponent >= 0 else total // 2**-e.exponent
                u, bias = a * 64, p.bias_mantissa * 2**p.bias_exponent
                kept = v[p.name] * (4096 - p.decay)
                now = np.sign(kept) * (abs(kept) // 4096) + u + bias
                fires = (now > p.threshold * 64) & p.spiking
                v[p.name] = np.where(fires, 0, now)
                trains[p.name][b, t] = fires
                active[p.name][t] += (u != 0) | (bias != 0)
        for name in net.outputs:
            spiking = next(p.spiking for p in net.populations if p.name == name)
            outputs[name][b] = trains[name][b].sum(0) if spiking else v[name]
    spikes = {name: (x != 0).sum(0) for name, x in trains.items()}
    recorded = {p.name: trains[p.name].astype(np.uint8) for p in net.populations}
    return Run(outputs, Activity(count, net.steps, spikes, active), recorded)
