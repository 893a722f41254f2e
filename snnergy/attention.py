"""Query-key attention on spikes: the queries of a head open or close its keys, token by token.

One product per key, and it is a gate: cost and memory are linear in the number of tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .neurons import Spike, TimeConv2d, TimeNorm, _slope


class _Gate(torch.autograd.Function):
    """mask = [sum of the head's queries >= 1]; mask * key. The mask's gradient is the surrogate's at sum - 1/2."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, heads: int) -> Tensor:
        split = (heads, query.shape[2] // heads)
        total = query.unflatten(2, split).sum(3, keepdim=True)
        mask = (total > 0.5).to(query.dtype)
        ctx.save_for_backward(total, mask, key)
        ctx.split = split
        return (mask * key.unflatten(2, split)).flatten(2, 3)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[override]
        total, mask, key = ctx.saved_tensors
        parts = grad.unflatten(2, ctx.split)
        keys = key.unflatten(2, ctx.split)
        to_mask = (parts * keys).sum(3, keepdim=True) * _slope(total - 0.5)
        return to_mask.expand_as(parts).flatten(2, 3), (parts * mask).flatten(2, 3), None


class Gate(nn.Module):
    """A key passes where at least one query of its head fired at the same token and time step; no memory.

    forward: query, key [T, B, C, H, W] of 0 and 1 -> gated key, the same shape
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        return _Gate.apply(query, key, self.heads)  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        return f"heads={self.heads}"


class CrossModalQK(nn.Module):
    """CMQKA in one direction: what the other stream adds to ours. Queries are ours, keys are the other's.

    Q = SN(BN(Wq own)); K = SN(BN(Wk other)); F = SN(BN(Wo gate(Q, K)))
    forward: own, other [T, B, C, H, W] -> F, to be added as ``own + alpha * F``

    With ``own`` for both it is the unimodal Q-K attention.
    """

    def __init__(self, width: int, heads: int, beta: float = 0.5, threshold: float = 1.0) -> None:
        super().__init__()
        self.q_conv = TimeConv2d(width, width, 1, bias=False)
        self.q_norm = TimeNorm(width)
        self.q = Spike(beta, threshold)
        self.k_conv = TimeConv2d(width, width, 1, bias=False)
        self.k_norm = TimeNorm(width)
        self.k = Spike(beta, threshold)
        self.gate = Gate(heads)
        self.out_conv = TimeConv2d(width, width, 1, bias=False)
        self.out_norm = TimeNorm(width)
        self.out = Spike(beta, threshold)
        self.alpha = nn.Parameter(torch.ones(()))

    def forward(self, own: Tensor, other: Tensor) -> Tensor:
        query = self.q(self.q_norm(self.q_conv(own)))
        key = self.k(self.k_norm(self.k_conv(other)))
        return self.out(self.out_norm(self.out_conv(self.gate(query, key))))
