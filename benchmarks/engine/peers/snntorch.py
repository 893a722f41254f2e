"""snntorch's Synaptic neuron, reset to zero in the step of the spike."""

from __future__ import annotations

import snntorch
import torch

from peers import measure
from peers.torch_network import Step, one_by_one


def neurons(threshold: float, keep_u: float, keep_v: float) -> Step:
    cell = snntorch.Synaptic(alpha=keep_u, beta=keep_v, threshold=threshold, reset_mechanism="zero", reset_delay=False)
    syn = mem = None

    def step(a: torch.Tensor) -> torch.Tensor:
        nonlocal syn, mem
        if syn is None:
            syn, mem = torch.zeros_like(a), torch.zeros_like(a)
        fires, syn, mem = cell(a, syn, mem)
        return fires

    return step


def build(work: measure.Work, batch: int) -> measure.Ready:
    return one_by_one(work, lambda: [neurons(t, work.keep_u, work.keep_v) for t in work.thresholds])


if __name__ == "__main__":
    measure.main("snntorch", build, ("torch", "snntorch"))
