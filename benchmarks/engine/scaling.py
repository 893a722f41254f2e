"""How the engine's speed goes with the number of neurons, synapses, steps and samples, on one core.

python scaling.py       prints one line of JSON
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

import numpy as np
import workloads

from snnergy.deploy import engine
from snnergy.export.quantnet import QuantNet

RATE = 0.1


def speed(net: QuantNet, x: Any, seconds: float) -> float:
    """Samples x steps per second, the best of many runs."""
    engine.run(net, {"input": x}, threads=1)
    best, begin = float("inf"), time.perf_counter()
    while time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        engine.run(net, {"input": x}, threads=1)
        best = min(best, time.perf_counter() - start)
    return x.shape[0] * x.shape[1] / best


def layer(weight: Any, shape: tuple[int, ...], steps: int, samples: int) -> tuple[QuantNet, Any]:
    """One layer that fires at RATE, and its input."""
    x = workloads.spikes((samples, steps, *shape), RATE)
    threshold = workloads.calibrated(shape, [weight], steps, (RATE,), x[:1])
    return workloads.network(shape, [weight], threshold, steps, workloads.LAYERS[:1]), x


def weight(*shape: int) -> Any:
    return np.clip(np.random.default_rng(0).normal(2, 14, shape).round(), -127, 127).astype(np.int8)


def measure(seconds: float, quick: bool) -> dict[str, list[dict[str, float]]]:
    """Each with all else held: neurons (a 16c3 convolution of larger and larger images), synapses (512 neurons), ..."""
    found: dict[str, list[dict[str, float]]] = {}

    def point(name: str, value: float, net: QuantNet, x: Any) -> None:
        rate = speed(net, x, seconds)
        neurons = sum(len(p.threshold) for p in net.populations)
        found.setdefault(name, []).append({"value": value, "st_s": rate, "updates_s": rate * neurons})

    for side in (16, 64) if quick else (16, 32, 64, 128, 256):
        net, x = layer(weight(16, 2, 3, 3), (2, side, side), 10, 1)
        point("neurons", len(net.populations[0].threshold), net, x)
    for inputs in (64, 1024) if quick else (64, 256, 1024, 4096, 16384):
        net, x = layer(weight(512, inputs), (inputs,), 100, 1)
        point("synapses", inputs * 512, net, x)
    fc = workloads.weights("fc")
    thresholds = workloads.calibrated((784,), fc, 100, (RATE,) * 3, workloads.spikes((2, 100, 784), RATE))
    for steps in (10, 100) if quick else (1, 10, 100, 1000, 10000):
        net = workloads.network((784,), fc, thresholds, steps)
        point("steps", steps, net, workloads.spikes((1, steps, 784), RATE))
    net = workloads.network((784,), fc, thresholds, 100)
    for samples in (1, 16) if quick else (1, 4, 16, 64, 256):
        point("samples", samples, net, workloads.spikes((samples, 100, 784), RATE))
    return found


if __name__ == "__main__":
    each = float(os.environ.get("SECONDS_EACH", "1"))
    print(json.dumps(measure(each, each < 0.5)))
