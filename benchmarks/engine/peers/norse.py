"""norse's LIFCell, whose step is the same with its input divided by the leak."""

from __future__ import annotations

import torch
from norse.torch import LIFCell, LIFParameters

from peers import measure
from peers.torch_network import Step, one_by_one


def neurons(threshold: float, keep_u: float, keep_v: float) -> Step:
    cell = LIFCell(
        LIFParameters(
            tau_syn_inv=torch.tensor(1 - keep_u), tau_mem_inv=torch.tensor(1 - keep_v), v_th=torch.tensor(threshold)
        ),
        dt=1.0,
    )
    state = None

    def step(a: torch.Tensor) -> torch.Tensor:
        nonlocal state
        fires, state = cell(a, state)
        return fires

    return step


def build(work: measure.Work, batch: int) -> measure.Ready:
    gain = [1 / (1 - work.keep_v)] * len(work.weights)
    return one_by_one(work, lambda: [neurons(t, work.keep_u, work.keep_v) for t in work.thresholds], gain)


if __name__ == "__main__":
    measure.main("norse", build, ("norse", "torch"))
