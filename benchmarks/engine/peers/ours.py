"""Our native engine, by whichever path SNNERGY_PATH names (else by its own choice), on SNNERGY_THREADS threads."""

from __future__ import annotations

import os
from typing import Any

import workloads

from peers import measure
from snnergy.deploy import engine
from snnergy.deploy.layers import _READY as ready
from snnergy.deploy.layers import Layers

PATH = os.environ.get("SNNERGY_PATH") or None
THREADS = int(os.environ.get("SNNERGY_THREADS") or os.cpu_count() or 1)


def build(work: measure.Work, batch: int) -> measure.Ready:
    layers = [(w / 2).astype("int8") for w in work.weights]
    thresholds = [int(t) for t in work.thresholds]
    net = workloads.network(work.x.shape[2:], layers, thresholds, work.x.shape[1])
    if PATH:  # made ready once, as a network without a forced path is
        ready[net] = Layers(net, PATH)

    def run(rates: list[float] | None) -> Any:
        record = workloads.LAYERS if rates is not None else workloads.LAYERS[-1:]
        result = engine.run(net, {"input": work.x}, record=record, threads=THREADS)
        if rates is not None:
            rates += [float(result.recorded[name].mean()) for name in workloads.LAYERS]
        return result.recorded["output"]

    return measure.Ready(run)


if __name__ == "__main__":
    measure.main("ours", build, ("numba",))
