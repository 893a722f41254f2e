"""sinabs' LIF: layer after layer, each over all steps. Its current is ours times keep_u, so the weights are divided."""

from __future__ import annotations

from math import log

import torch
from sinabs.activation import MembraneReset, SingleSpike
from sinabs.layers import LIF

from peers import measure
from peers.torch_network import Step, all_at_once


def neurons(threshold: float, keep_u: float, keep_v: float) -> Step:
    layer = LIF(
        tau_mem=-1 / log(keep_v),
        tau_syn=-1 / log(keep_u),
        spike_threshold=torch.tensor(threshold),
        spike_fn=SingleSpike,
        reset_fn=MembraneReset(),
        norm_input=False,
    )
    return lambda x: layer(x.transpose(0, 1)).transpose(0, 1)


def build(work: measure.Work, batch: int) -> measure.Ready:
    gain = [1 / work.keep_u] * len(work.weights)
    return all_at_once(work, lambda: [neurons(t, work.keep_u, work.keep_v) for t in work.thresholds], gain)


if __name__ == "__main__":
    measure.main("sinabs", build, ("sinabs", "torch"))
