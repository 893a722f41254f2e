"""The two networks that every simulator runs, made once and written to one .npz: weights, thresholds, spikes.

``fc`` is 784-512-512-10 for 100 steps, ``conv`` 2x34x34-16c5-32c3-10 for 50 (valid, stride 1). Neurons are
current-based LIF: ``u = 0.49976 u + a``, ``v = 0.8999 v + u``, a spike and ``v = 0`` where ``v > threshold``.
Thresholds are set so that each layer fires at the rate asked for. ``fc@25`` is ``fc`` with 25 % of its inputs and
neurons firing.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnergy.deploy import engine
from snnergy.export.maps import Conv, Dense, Map, Shape
from snnergy.export.quantnet import (
    THRESHOLD_LIMIT,
    QuantNet,
    QuantPopulation,
    QuantProjection,
    QuantSource,
    verify,
)

CURRENT_DECAY, DECAY = 2049, 410
"""Of 4096: what a step takes from the current and from the membrane."""
EXPONENT = 1
SHAPES: dict[str, Shape] = {"fc": (784,), "conv": (2, 34, 34)}
STEPS = {"fc": 100, "conv": 50}
BATCH = {"fc": 64, "conv": 16}
RATES = {"fc": (0.10, (0.10, 0.10, 0.10)), "conv": (0.05, (0.08, 0.08, 0.10))}
"""Share of the inputs, and of the neurons of each layer, that fire in a step."""
SWEEP = (1, 2, 5, 10, 25, 50)
"""Percent of inputs and neurons."""
LAYERS = ("hidden1", "hidden2", "output")


def base(name: str) -> str:
    """The network of a workload: ``fc@25`` -> ``fc``."""
    return name.partition("@")[0]


def weights(name: str, seed: int = 0) -> list[NDArray[np.int8]]:
    """Of the three layers: int8[n_out, n_in] or [c_out, c_in, kh, kw]; they count twice (``EXPONENT``)."""
    rng = np.random.default_rng(seed)

    def draw(mean: float, spread: float, *shape: int) -> NDArray[np.int8]:
        return np.clip(np.round(rng.normal(mean, spread, shape)), -127, 127).astype(np.int8)

    if base(name) == "fc":
        return [draw(2, 14, 512, 784), draw(2, 14, 512, 512), draw(2, 14, 10, 512)]
    return [draw(4, 20, 16, 2, 5, 5), draw(2, 16, 32, 16, 3, 3), draw(0, 12, 10, 32 * 28 * 28)]


def spikes(shape: tuple[int, ...], rate: float, seed: int = 1) -> NDArray[np.uint8]:
    """Independent spikes of this rate."""
    return (np.random.default_rng(seed).random(shape, dtype=np.float32) < rate).astype(np.uint8)


def network(
    shape: Shape, layers: list[NDArray[np.int8]], thresholds: list[int], steps: int, names: tuple[str, ...] = LAYERS
) -> QuantNet:
    """The layers one after the other, as the engine takes them; the output is the last."""
    populations: list[QuantPopulation] = []
    projections: list[QuantProjection] = []
    before, feed = shape, "input"
    for name, weight, threshold in zip(names, layers, thresholds, strict=True):
        linear: Map = Conv(weight, before) if weight.ndim == 4 else Dense(weight, before, (len(weight),))
        before = linear.output_shape
        n = prod(before)
        populations.append(
            QuantPopulation(
                name=name,
                shape=before,
                decay=np.full(n, DECAY),
                current_decay=np.full(n, CURRENT_DECAY),
                threshold=np.full(n, threshold),
                bias_mantissa=np.zeros(n, np.int64),
                bias_exponent=0,
                spiking=True,
                scale=1.0,
            )
        )
        projections.append(QuantProjection(feed, name, linear, EXPONENT))
        feed = name
    sources = (QuantSource("input", shape, 1, 1.0),)
    return QuantNet(sources, tuple(populations), tuple(projections), (feed,), 1e-3, steps, 8, ())


def calibrated(
    shape: Shape, layers: list[NDArray[np.int8]], steps: int, rates: tuple[float, ...], x: NDArray[np.uint8]
) -> list[int]:
    """For each layer the lowest threshold at which it fires no more than the rate, by halving."""
    found: list[int] = []
    for weight, rate in zip(layers, rates, strict=True):
        low, high = -1, THRESHOLD_LIMIT
        while high - low > 1:
            middle = (low + high) // 2
            fired = engine.run(network(shape, [weight], [middle], steps, LAYERS[:1]), {"input": x}, record=LAYERS[:1])
            low, high = (middle, high) if fired.recorded[LAYERS[0]].mean() > rate else (low, middle)
        found.append(high)
        net = network(shape, [weight], [high], steps, LAYERS[:1])
        verify(net)
        shape = net.populations[0].shape
        x = engine.run(net, {"input": x}, record=LAYERS[:1]).recorded[LAYERS[0]].reshape(len(x), steps, *shape)
    return found


def write(path: Path, quick: bool = False) -> None:
    """All workloads to one file; ``read`` says what is in it."""
    kept: dict[str, NDArray[Any]] = {"keep": np.array([4096 - CURRENT_DECAY, 4096 - DECAY]) / 4096}
    for name in names(quick):
        key, percent = base(name), name.partition("@")[2]
        layers, steps = weights(key), STEPS[key]
        rate, wanted = RATES[key] if not percent else (int(percent) / 100, (int(percent) / 100,) * 3)
        x = spikes((BATCH[key], steps, *SHAPES[key]), rate)
        thresholds = calibrated(SHAPES[key], layers, steps, wanted, x[: 1 if key == "conv" else 2])
        net = network(SHAPES[key], layers, thresholds, steps)
        verify(net)
        run = engine.run(net, {"input": x}, record=LAYERS)
        kept |= {f"{key}/weight{k}": weight for k, weight in enumerate(layers)}
        kept |= {
            f"{name}/threshold": np.array(thresholds),
            f"{name}/input": x,
            f"{name}/expected": run.recorded["output"],
            f"{name}/rates": np.array([run.recorded[layer].mean() for layer in LAYERS]),
        }
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **kept)  # pyright: ignore[reportArgumentType]


def names(quick: bool = False) -> list[str]:
    """Of all workloads in the file."""
    return ["fc", "conv", *(f"{key}@{p}" for key in ("fc", "conv") for p in (SWEEP[::4] if quick else SWEEP))]


def read(data: Mapping[str, NDArray[Any]], name: str) -> tuple[QuantNet, NDArray[np.uint8]]:
    """The network and the input uint8[samples, steps, *shape] of one workload."""
    x = data[f"{name}/input"]
    layers = [data[f"{base(name)}/weight{k}"] for k in range(3)]
    return network(x.shape[2:], layers, data[f"{name}/threshold"].tolist(), x.shape[1]), x
