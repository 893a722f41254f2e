"""Data sets behind one interface: a spec such as "avdigits:test" -> `Samples`. Needs no torch.

A new data set is one file with an `INFO` and a `load(split, samples, image_size)`, and one row in `DATASETS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..config import did_you_mean
from ..errors import BadInput

F32: TypeAlias = NDArray[np.float32]
I64: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Samples:
    """Labelled pairs of a sound and an image.

    audio: float32[n, C, H, W] in 0..1, mel bins by frames
    video: float32[n, C, H, W] in 0..1
    label: int64[n]
    id:    n names, unique in the data set's split
    """

    audio: F32
    video: F32
    label: I64
    id: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, part: slice) -> Samples:
        return Samples(self.audio[part], self.video[part], self.label[part], self.id[part])

    def __repr__(self) -> str:
        return f"Samples({len(self)}, audio {list(self.audio.shape[1:])}, video {list(self.video.shape[1:])})"


@dataclass(frozen=True)
class DatasetInfo:
    """What a report says about a data set.

    splits: name -> number of samples
    groups: split -> who is in it; no group is in two splits that are compared
    sha256: of the file it comes from
    """

    name: str
    title: str
    classes: tuple[str, ...]
    splits: Mapping[str, int]
    groups: Mapping[str, str]
    licence: str
    sha256: str


from . import avdigits  # noqa: E402  (it needs Samples and DatasetInfo)

Loader: TypeAlias = Callable[[str, int | None, int | None], Samples]
DATASETS: dict[str, tuple[DatasetInfo, Loader]] = {"avdigits": (avdigits.INFO, avdigits.load)}


def info(name: str) -> DatasetInfo:
    """The facts about the data set of that name."""
    if name not in DATASETS:
        raise BadInput(f"no data set '{name}'{did_you_mean(name, DATASETS)}")
    return DATASETS[name][0]


def load(spec: str, samples: int | None = None, image_size: int | None = None) -> Samples:
    """The first ``samples`` of a split, all without a number; ``spec`` is "name:split", such as "avdigits:test".

    image_size: pixels a side, the data set's own if None
    """
    name, colon, split = spec.partition(":")
    splits = info(name).splits
    if not colon or split not in splits:
        wanted = f"no split '{split}' in data set '{name}'" if colon else f"'{spec}' names no split"
        raise BadInput(f"{wanted}{did_you_mean(split, splits)}")
    if samples is not None and not 1 <= samples <= splits[split]:
        raise BadInput(f"{samples} samples of {spec} asked for; it has {splits[split]}, and at least 1 is needed")
    return DATASETS[name][1](split, samples, image_size)
