"""The equations written down in torch, step by step: what somebody would write without a library."""

from __future__ import annotations

import torch

from peers import measure
from peers.torch_network import Step, one_by_one


def neurons(threshold: float, keep_u: float, keep_v: float) -> Step:
    u = v = torch.zeros(())

    def step(a: torch.Tensor) -> torch.Tensor:
        nonlocal u, v
        u = keep_u * u + a
        v = keep_v * v + u
        fires = v > threshold
        v = v.masked_fill(fires, 0.0)
        return fires.float()

    return step


def build(work: measure.Work, batch: int) -> measure.Ready:
    return one_by_one(work, lambda: [neurons(t, work.keep_u, work.keep_v) for t in work.thresholds])


if __name__ == "__main__":
    measure.main("torch_loop", build, ("torch",))
