"""Small networks in every form, for the tests of the export floor and the native engine."""

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
from snnergy.export.maps import Conv, Dense, Map, Sparse
from snnergy.export.quantnet import THRESHOLD_LIMIT, QuantNet, QuantPopulation, QuantProjection, QuantSource, verify
from snnergy.testing import strategies

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


class Odd(nir.NIRNode):
    """A node that no release of NIR has."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.input_type, self.output_type = {"input": np.array(shape)}, {"output": np.array(shape)}
        self.metadata: dict[str, Any] = {}


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


def nir_graphs() -> st.SearchStrategy[tuple[nir.NIRGraph, dict[str, Any]]]:
    """Any graph that lowers, in steps of ``DT_S``, and samples for it."""
    return strategies.nir_graphs(exact=False).map(lambda sample: (sample.graph, sample.inputs))


# integer networks


def population(name: str, shape: Any, **changes: Any) -> QuantPopulation:
    n = prod(shape)
    plain = {"decay": 2048, "current_decay": 4096, "threshold": 100, "bias_mantissa": 0}
    fields: dict[str, Any] = {**plain, **changes}
    if fields.get("reset") is not None:
        plain = {**plain, "reset": 0}
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
