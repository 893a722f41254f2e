"""SNNergy: two streams, three stages, cross-modal attention at every scale, one linear readout.

What is trained is what runs: sums feed convolutions only, every other edge carries spikes, and normalisation folds.
`LEAVES` are the modules a tracer must not look into; between them there are only ``+`` and ``alpha *``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .attention import CrossModalQK, Gate
from .config import ModelConfig
from .neurons import OrPool, Repeat, Spike, TimeConv2d, TimeNorm


class Embed(nn.Module):
    """Spiking patch embedding: halves the grid (quarters it in the first stage) and ends in spikes."""

    def __init__(self, before: int, width: int, config: ModelConfig, *, first: bool) -> None:
        super().__init__()
        pool = config.downsample == "pool"
        self.conv1 = TimeConv2d(before, width, 3, stride=1 if pool else 2, padding=1, bias=False)
        self.norm1 = TimeNorm(width)
        self.spike1 = Spike(config.beta, config.threshold)
        self.pool1 = OrPool() if pool else None
        self.conv2 = TimeConv2d(width, width, 3, stride=2 if first else 1, padding=1, bias=False)
        self.norm2 = TimeNorm(width)
        self.short_conv = None if first else TimeConv2d(before, width, 1, stride=2, bias=False)
        self.short_norm = None if first else TimeNorm(width)
        self.spike2 = Spike(config.beta, config.threshold)

    def forward(self, x: Tensor) -> Tensor:
        main = self.spike1(self.norm1(self.conv1(x)))
        if self.pool1 is not None:
            main = self.pool1(main)
        current = self.norm2(self.conv2(main))
        if self.short_conv is not None and self.short_norm is not None:
            current = current + self.short_norm(self.short_conv(x))
        return self.spike2(current)


class Mlp(nn.Module):
    """Two pointwise layers beside the stream: ``x + SN(BN(W2 SN(BN(W1 x))))``."""

    def __init__(self, width: int, config: ModelConfig) -> None:
        super().__init__()
        inner = width * config.mlp_ratio
        self.up_conv = TimeConv2d(width, inner, 1, bias=False)
        self.up_norm = TimeNorm(inner)
        self.up = Spike(config.beta, config.threshold)
        self.down_conv = TimeConv2d(inner, width, 1, bias=False)
        self.down_norm = TimeNorm(width)
        self.down = Spike(config.beta, config.threshold)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(self.down_norm(self.down_conv(self.up(self.up_norm(self.up_conv(x))))))


class Block(nn.Module):
    """Unimodal Q-K attention, then an MLP, both beside the stream."""

    def __init__(self, width: int, heads: int, config: ModelConfig) -> None:
        super().__init__()
        self.attention = CrossModalQK(width, heads, config.beta, config.threshold)
        self.mlp = Mlp(width, config)

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x + self.attention.alpha * self.attention(x, x))


class Stream(nn.Module):
    """One modality in one stage: embedding and unimodal blocks before the fusion, an MLP after it."""

    def __init__(self, before: int, width: int, heads: int, blocks: int, config: ModelConfig, *, first: bool) -> None:
        super().__init__()
        self.embed = Embed(before, width, config, first=first)
        self.blocks = nn.ModuleList(Block(width, heads, config) for _ in range(blocks))
        self.mlp = Mlp(width, config)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return x


class Stage(nn.Module):
    """One scale: each stream alone, both directions of CMQKA from the tensors before fusion, then the MLPs."""

    def __init__(self, index: int, config: ModelConfig) -> None:
        super().__init__()
        width, heads, blocks = config.widths[index], config.heads[index], config.blocks[index]
        first = index == 0
        inputs = {"audio": config.audio_channels, "video": config.video_channels}
        self.streams = config.streams
        self.directions = config.directions
        for name in self.streams:
            before = inputs[name] if first else config.widths[index - 1]
            self.add_module(name, Stream(before, width, heads, blocks, config, first=first))
        for name in self.directions:
            self.add_module(name, CrossModalQK(width, heads, config.beta, config.threshold))

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        streams = [self.get_submodule(name) for name in self.streams]
        before = [stream(x) for stream, x in zip(streams, inputs, strict=True)]
        fused = list(before)
        for name in self.directions:
            own = self.streams.index(name.split("_from_")[0])
            attention = self.get_submodule(name)
            fused[own] = before[own] + attention.alpha * attention(before[own], before[1 - own])
        return tuple(stream.mlp(x) for stream, x in zip(streams, fused, strict=True))  # type: ignore[operator]


class Readout(nn.Module):
    """Mean over tokens and time of every stream, side by side, then one linear layer. No spikes, no memory.

    forward: one [T, B, C, H, W] per stream -> logits [B, classes]
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, classes)

    def forward(self, *streams: Tensor) -> Tensor:
        return self.linear(torch.cat([x.mean((0, 3, 4)) for x in streams], 1))


LEAVES: tuple[type[nn.Module], ...] = (TimeConv2d, TimeNorm, Spike, OrPool, Gate, Readout, Repeat)
"""What an exporter lowers one by one; ``model.forward`` is symbolically traceable when these are opaque."""


class SNNergy(nn.Module):
    """forward: audio [B, C, H, W], video [B, C, H, W] -> logits [B, classes]; both inputs are 0 to 1."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.repeat = Repeat(config.timesteps)
        self.stages = nn.ModuleList(Stage(index, config) for index in range(len(config.widths)))
        self.readout = Readout(config.dim * len(config.streams), config.classes)
        # convolutions of small grids are several times faster in this layout
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, audio: Tensor, video: Tensor) -> Tensor:
        inputs = {"audio": audio, "video": video}
        streams = tuple(self.repeat(inputs[name]) for name in self.config.streams)
        for stage in self.stages:
            streams = stage(*streams)
        return self.readout(*streams)
