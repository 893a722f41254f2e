"""The network as data: one frozen `ModelConfig`, checked when it is made, and the presets. Needs no torch."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

from .errors import BadInput

Downsample = Literal["stride", "pool"]
Fusion = Literal["both", "audio_from_video", "video_from_audio", "none"]
Modalities = Literal["both", "audio", "video"]

STAGES = 3  # H/4, H/8, H/16


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``"; did you mean 'tiny'?"`` for a near miss, otherwise the list of what there is."""
    names = tuple(known)
    close = difflib.get_close_matches(word, names, n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; there are: {', '.join(names)}"


@dataclass(frozen=True)
class ModelConfig:
    """Everything that decides the shape and the dynamics of one SNNergy network.

    name:        of the preset, or your own
    image_size:  pixels a side of both inputs; the stages work at 1/4, 1/8 and 1/16 of it
    dim:         width D; the stages have D/4, D/2 and D channels
    heads:       of every attention, one number per stage
    blocks:      unimodal Q-K blocks per stage and stream
    downsample:  "stride" (strided convolutions) or "pool" (neurons, then an OR of 3x3 spikes)
    beta:        share of the membrane kept from one time step to the next
    threshold:   a neuron fires where its membrane is strictly above it
    fusion:      which direction of the cross-modal attention is built
    modalities:  "audio" or "video" build one stream only; the other input is then ignored
    """

    name: str
    image_size: int
    dim: int
    heads: tuple[int, int, int]
    blocks: tuple[int, int, int]
    mlp_ratio: int
    downsample: Downsample
    classes: int
    audio_channels: int = 1
    video_channels: int = 1
    timesteps: int = 4
    beta: float = 0.5
    threshold: float = 1.0
    fusion: Fusion = "both"
    modalities: Modalities = "both"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise BadInput(f"model config: name is {self.name!r}, it must be a string")
        for field, least, most in (
            ("image_size", 16, 4096),
            ("dim", 4, 65536),
            ("mlp_ratio", 1, 64),
            ("classes", 2, 1_000_000),
            ("audio_channels", 1, 1024),
            ("video_channels", 1, 1024),
            ("timesteps", 1, 4096),
        ):
            value = getattr(self, field)
            if type(value) is not int or not least <= value <= most:
                raise BadInput(f"model config: {field} is {value!r}, it must be a whole number from {least} to {most}")
        if self.image_size % 16:
            raise BadInput(f"model config: image_size is {self.image_size}, it must be a multiple of 16")
        if self.dim % 4:
            raise BadInput(f"model config: dim is {self.dim}, it must be a multiple of 4")
        for field, least, most in (("heads", 1, 65536), ("blocks", 0, 64)):
            value = getattr(self, field)
            fits = type(value) is tuple and len(value) == STAGES
            if not fits or any(type(n) is not int or not least <= n <= most for n in value):
                raise BadInput(
                    f"model config: {field} is {value!r}, it must be three whole numbers from {least} to {most}"
                )
        for width, heads in zip(self.widths, self.heads, strict=True):
            if width % heads:
                raise BadInput(f"model config: {heads} heads do not divide a stage {width} channels wide")
        numbers = (int, float)
        if type(self.beta) not in numbers or not 0 <= self.beta <= 1:
            raise BadInput(f"model config: beta is {self.beta!r}, it must be a number from 0 to 1")
        if type(self.threshold) not in numbers or not 0 < self.threshold < float("inf"):
            raise BadInput(f"model config: threshold is {self.threshold!r}, it must be a finite number above 0")
        for field, allowed in (("downsample", Downsample), ("fusion", Fusion), ("modalities", Modalities)):
            value = getattr(self, field)
            if value not in get_args(allowed):
                raise BadInput(f"model config: {field} is {value!r}, it must be one of {', '.join(get_args(allowed))}")

    @property
    def widths(self) -> tuple[int, int, int]:
        """Channels of the three stages."""
        return self.dim // 4, self.dim // 2, self.dim

    @property
    def streams(self) -> tuple[str, ...]:
        """The streams that are built, in the order the readout joins them."""
        return ("audio", "video") if self.modalities == "both" else (self.modalities,)

    @property
    def directions(self) -> tuple[str, ...]:
        """The cross-modal attentions that are built, as "audio_from_video" and "video_from_audio"."""
        if self.modalities != "both" or self.fusion == "none":
            return ()
        return ("audio_from_video", "video_from_audio") if self.fusion == "both" else (self.fusion,)

    def to_dict(self) -> dict[str, Any]:
        """Plain values only, as a checkpoint stores them."""
        plain = asdict(self)
        return {**plain, "heads": list(self.heads), "blocks": list(self.blocks)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> ModelConfig:
        """The inverse of `to_dict`; an unknown or a missing key is an error."""
        known = [field.name for field in fields(cls)]
        for key in plain:
            if key not in known:
                raise BadInput(f"model config: unknown key {key!r}{did_you_mean(str(key), known)}")
        ready: dict[str, Any] = dict(plain)
        for key in ("heads", "blocks"):
            if isinstance(ready.get(key), list):
                ready[key] = tuple(ready[key])
        for field in fields(cls):
            if field.default is MISSING and field.name not in ready:
                raise BadInput(f"model config: the key '{field.name}' is missing")
        return cls(**ready)


_PAPER = ModelConfig(
    name="paper", image_size=128, dim=256, heads=(2, 4, 8), blocks=(1, 1, 1), mlp_ratio=4, downsample="pool", classes=6
)

PRESETS: dict[str, ModelConfig] = {
    "tiny": ModelConfig(
        name="tiny",
        image_size=32,
        dim=64,
        heads=(1, 2, 4),
        blocks=(0, 0, 0),
        mlp_ratio=2,
        downsample="stride",
        classes=10,
    ),
    "chip": ModelConfig(
        name="chip",
        image_size=64,
        dim=64,
        heads=(1, 2, 4),
        blocks=(1, 1, 1),
        mlp_ratio=2,
        downsample="stride",
        classes=10,
    ),
    "paper": _PAPER,
    "paper512": replace(_PAPER, name="paper512", dim=512),
}


def preset(name: str) -> ModelConfig:
    """The preset of that name."""
    if name not in PRESETS:
        raise BadInput(f"no preset '{name}'{did_you_mean(name, PRESETS)}")
    return PRESETS[name]
