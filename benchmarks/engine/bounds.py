"""What the machine can do on one core, and how much of it the engine's dense layers reach.

    python bounds.py        prints one line of JSON

A dense layer can be no faster than its multiplications at the int8 rate of the machine, nor than its spikes and sums
through memory; its share is the slower of the two over the time it took. The int8 rate is that of torch's product
(oneDNN), at the size where it is best; the share of the best rate seen in this run, our own in cache included, is given
beside it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
import torch
import workloads

from snnergy.deploy import engine, synapses
from snnergy.export.maps import Dense

LAYERS = ((784, 512), (512, 512), (2048, 2048))
ROWS = 6400
"""Samples x steps: 64 samples of 100 steps."""


def fastest_s(work: Callable[[], Any], seconds: float) -> float:
    """The shortest of many runs."""
    work()
    best, begin = float("inf"), time.perf_counter()
    while time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def machine(seconds: float, n: int = 2048) -> dict[str, float]:
    """Billions of operations (2 a multiplication with its addition) and of bytes per second."""
    rng = np.random.default_rng(0)
    spikes, weight = (rng.random((n, n)) < 0.5).astype(np.uint8), rng.integers(-127, 128, (n, n)).astype(np.int8)
    a, b, out = spikes.astype(np.float32), weight.astype(np.float32), np.empty((n, n), np.float32)
    operations = 2 * n**3 / 1e9
    found = {"float32 product, numpy": operations / fastest_s(lambda: np.matmul(a, b, out=out), seconds)}
    found["int8 product, torch._int_mm"] = int_mm(seconds)
    vnni_only = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"}
    done = subprocess.run([sys.executable, __file__, "int_mm"], env=vnni_only, capture_output=True, check=True)
    found["int8 product, torch._int_mm without AMX"] = float(done.stdout)
    found["int8 product, ours, in cache"] = ours(seconds)
    source, target = np.ones(1 << 28, np.uint8), np.empty(1 << 28, np.uint8)
    found["memory copy, read + write"] = 2 * source.nbytes / 1e9 / fastest_s(lambda: np.copyto(target, source), seconds)
    return found


def int_mm(seconds: float) -> float:
    """Billions of operations per second of torch's int8 product, at its best size."""
    rng = np.random.default_rng(0)
    rates: list[float] = []
    for n in (512, 1024, 2048):
        left, right = (torch.from_numpy(rng.integers(-127, 128, (n, n)).astype(np.int8)) for _ in range(2))
        rates.append(2e-9 * n**3 / fastest_s(lambda a=left, b=right: torch._int_mm(a, b), seconds))
    return max(rates)


def product(inputs: int, outputs: int) -> synapses.Path:
    """The engine's product of a dense map."""
    weight = np.random.default_rng(0).integers(-127, 128, (outputs, inputs)).astype(np.int8)
    found = synapses.paths(Dense(weight, (inputs,), (outputs,)), 1, (inputs,), (outputs,))
    return next(path for path in found if path.name == "product")


def ours(seconds: float, n: int = 512, rows: int = 256) -> float:
    """Billions of operations per second of our product where everything stays in the second-level cache."""
    x = (np.random.default_rng(0).random((rows, n)) < 0.5).astype(np.uint8)
    path, current = product(n, n), np.zeros((rows, n), np.int32)
    return 2e-9 * rows * n * n / fastest_s(lambda: path.add(x, current, True), seconds)


def layers(bound: dict[str, float], seconds: float, rows: int = ROWS) -> list[dict[str, Any]]:
    """Dense layers with half of their inputs firing: the product alone, and all that ``engine.run`` does."""
    best = max(v for k, v in bound.items() if k.startswith("int8"))
    int8 = bound["int8 product, torch._int_mm"]
    copy = bound["memory copy, read + write"]
    found: list[dict[str, Any]] = []
    for inputs, outputs in LAYERS:
        rng = np.random.default_rng(0)
        x = (rng.random((rows, inputs)) < 0.5).astype(np.uint8)
        weight = rng.integers(-127, 128, (outputs, inputs)).astype(np.int8)
        path = product(inputs, outputs)
        current = np.zeros((rows, outputs), np.int32)
        took = fastest_s(lambda p=path, x=x, c=current: p.add(x, c, True), seconds)
        net = workloads.network((inputs,), [weight], [5000], 100, workloads.LAYERS[:1])
        train = {"input": x.reshape(rows // 100, 100, inputs)}
        whole = fastest_s(lambda net=net, train=train: engine.run(net, train, threads=1), seconds)
        operations, moved = 2e-9 * rows * inputs * outputs, 1e-9 * rows * (inputs + 4 * outputs)
        needed = max(operations / int8, moved / copy)
        found.append(
            {
                "layer": f"{inputs} -> {outputs}",
                "gops": operations / took,
                "bound": "int8" if operations / int8 > moved / copy else "memory",
                "share": needed / took,
                "share_with_neurons": needed / whole,
                "share_of_best": max(operations / best, moved / copy) / took,
                "share_of_best_with_neurons": max(operations / best, moved / copy) / whole,
            }
        )
    return found


if __name__ == "__main__":
    each = float(os.environ.get("SECONDS_EACH", "1"))
    if sys.argv[1:] == ["int_mm"]:
        print(int_mm(each))
        sys.exit()
    found = machine(each)
    print(json.dumps({"bounds": found, "layers": layers(found, each)}))
