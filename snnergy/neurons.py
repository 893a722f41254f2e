"""The spiking layers. Every tensor between them is ``[T, B, C, H, W]``, time first.

There is one neuron, snntorch's ``Leaky`` with reset to zero, and one memoryless unit, the OR of a pool.
Convolution and normalisation fold time into the batch. A frame repeated over time (stride 0) is computed once.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

SLOPE = 2.0
"""Steepness a of snntorch's ``atan`` surrogate gradient: dS/dV = (a / 2) / (1 + (pi a (V - threshold) / 2) ** 2)."""


class _LeakyOverTime(torch.autograd.Function):
    """All T steps of snntorch's Leaky (zero reset, no delay) at once, with its gradient.

    V[t] = beta * M[t-1] + x[t]; S[t] = V[t] > threshold; M[t] = V[t] * (1 - S[t])
    The gradient passes through the reset as in snntorch, with dS/dV replaced by the surrogate.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, beta: float, threshold: float) -> Tensor:
        frame = torch.empty_like(x[0])  # x may repeat one frame, so its own strides are no guide
        room = (x.shape, (frame.numel(), *frame.stride()))
        membrane, spikes = (torch.empty_strided(*room, dtype=x.dtype, device=x.device) for _ in range(2))
        for t in range(len(x)):
            if t == 0:
                membrane[0].copy_(x[0])
            else:
                kept = torch.addcmul(membrane[t - 1], membrane[t - 1], spikes[t - 1], value=-1)
                torch.add(x[t], kept.mul_(beta), out=membrane[t])  # rounded twice, as snntorch does
            torch.gt(membrane[t], threshold, out=spikes[t])
        ctx.save_for_backward(membrane, spikes)
        ctx.beta, ctx.threshold = beta, threshold  # type: ignore[attr-defined]
        return spikes

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        membrane, spikes = ctx.saved_tensors
        slope = _slope(membrane - ctx.threshold)
        out = torch.empty_like(membrane)
        later = None  # beta * dL/dV[t+1], which is dL/dM[t]
        for t in reversed(range(membrane.shape[0])):
            if later is None:
                torch.mul(grad[t], slope[t], out=out[t])
            else:
                torch.addcmul(grad[t], later, membrane[t], value=-1, out=out[t])
                out[t].mul_(slope[t]).add_(later).addcmul_(later, spikes[t], value=-1)
            later = out[t] * ctx.beta
        return out, None, None


def _slope(distance: Tensor) -> Tensor:
    """The surrogate's dS/dV at ``distance`` above the threshold; overwrites its argument."""
    return distance.mul_(math.pi / 2 * SLOPE).square_().add_(1).reciprocal_().mul_(SLOPE / 2)


class Spike(nn.Module):
    """``v[t] = beta * v[t-1] + x[t]``; spike and reset to 0 where ``v[t] > threshold``. Starts at 0 on every call.

    forward: currents [T, ...] -> spikes [T, ...] of 0 and 1, same dtype

    The definition is `leaky`, snntorch's neuron. With ``fused`` (the default) all T steps run in one autograd
    function, about four times faster and equal in spikes and gradient; without it, snntorch steps.
    """

    def __init__(self, beta: float = 0.5, threshold: float = 1.0) -> None:
        super().__init__()
        self.beta = beta
        self.threshold = threshold
        self.fused = True

    def leaky(self) -> nn.Module:
        """The snntorch neuron that this layer is."""
        import snntorch
        from snntorch import surrogate

        return snntorch.Leaky(
            self.beta,
            self.threshold,
            spike_grad=surrogate.atan(SLOPE),
            reset_mechanism="zero",
            reset_delay=False,
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.fused:
            return _LeakyOverTime.apply(x, self.beta, self.threshold)  # type: ignore[no-any-return]
        leaky = self.leaky().to(x.device, x.dtype)
        membrane = torch.zeros_like(x[0])
        spikes = []
        for current in x:
            spike, membrane = leaky(current, membrane)
            spikes.append(spike)
        return torch.stack(spikes).to(x.dtype)  # snntorch's spikes are always float32

    def extra_repr(self) -> str:
        return f"beta={self.beta}, threshold={self.threshold}"


class OrPool(nn.Module):
    """A unit fires where any of its 3x3 inputs fires, every second row and column: max pooling of spikes, no memory."""

    kernel = 3
    stride = 2
    padding = 1

    def forward(self, spikes: Tensor) -> Tensor:
        pooled = F.max_pool2d(spikes.flatten(0, 1), self.kernel, self.stride, self.padding)
        return pooled.unflatten(0, spikes.shape[:2])


class Repeat(nn.Module):
    """Direct encoding: the same frame at every time step, ``[B, C, H, W] -> [T, B, C, H, W]`` without a copy."""

    def __init__(self, timesteps: int) -> None:
        super().__init__()
        self.timesteps = timesteps

    def forward(self, frame: Tensor) -> Tensor:
        return frame.expand(self.timesteps, *frame.shape)

    def extra_repr(self) -> str:
        return f"timesteps={self.timesteps}"


def _is_repeated(x: Tensor) -> bool:
    return x.shape[0] > 1 and x.stride(0) == 0


class TimeConv2d(nn.Conv2d):
    """A convolution of every time step, without memory: ``[T, B, C, H, W] -> [T, B, C', H', W']``."""

    def forward(self, input: Tensor) -> Tensor:
        if _is_repeated(input):
            return super().forward(input[0]).expand(input.shape[0], -1, -1, -1, -1)
        return super().forward(input.flatten(0, 1)).unflatten(0, input.shape[:2])


class TimeNorm(nn.BatchNorm2d):
    """Batch normalisation over time and batch. After training it folds into the convolution before it."""

    def forward(self, input: Tensor) -> Tensor:
        if _is_repeated(input):
            return super().forward(input[0]).expand(input.shape[0], -1, -1, -1, -1)
        return super().forward(input.flatten(0, 1)).unflatten(0, input.shape[:2])
