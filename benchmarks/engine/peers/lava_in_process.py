"""Lava's process models in one OS process, as ``snnergy verify`` runs them. Building the network is not counted."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import workloads

from peers import measure
from snnergy.deploy import lava_backend
from snnergy.deploy.schedule import balance


def build(work: measure.Work, batch: int) -> measure.Ready:
    layers = [(w / 2).astype("int8") for w in work.weights]
    net = workloads.network(work.x.shape[2:], layers, [int(t) for t in work.thresholds], work.x.shape[1])
    schedule, twice = balance(net), {"input": np.repeat(work.x, 2, axis=0)}
    ends: list[float] = []

    def run(rates: list[float] | None) -> Any:
        ends.clear()
        record = workloads.LAYERS
        result = lava_backend.run(
            net, twice, schedule, record=record, progress=lambda done, of: ends.append(time.perf_counter())
        )
        if rates is not None:
            rates += [float(result.recorded[name].mean()) for name in record]
        return result.recorded["output"][:1]

    return measure.Ready(run, took=lambda: ends[-1] - ends[0])


if __name__ == "__main__":
    measure.main("lava_in_process", build, ("lava-nc",), batches=False)
