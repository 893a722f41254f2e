"""AV digits: real spoken digits paired with real handwritten digits of the same class, under noise.

Sound: 13 MFCCs of a recording -> log-mel map of 32 bands by 32 frames, loudest 60 dB as 0..1.
Image: 8x8 grey levels -> 32x32 by bilinear interpolation, 0..1.
Noise: Gaussian, sigma 0.2 on the map and 0.5 on the image, then clamped to 0..1.

Test speakers and writers are never trained on. Validation clips and images come from the training speakers and
writers, but are not trained on either. Pairs, noise and sizes of the fixed splits never change.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from ..errors import BadInput
from . import F32, I64, DatasetInfo, Samples

FILE = Path(__file__).with_name("avdigits.npz")
SIZE = 32  # mel bands, frames, and pixels a side
AUDIO_SIGMA = 0.2
IMAGE_SIGMA = 0.5
TEST_SPEAKERS = ("theo", "yweweler")
TEST_FORMS = range(10, 14)
VAL_TAKES = range(46, 50)  # of each training speaker's 50 recordings of a digit
VAL_IMAGE_EVERY = 12  # every 12th image of the training writers
SEEDS = {"train": 997, "val": 998, "test": 999}

INFO = DatasetInfo(
    name="avdigits",
    title="AV digits (spoken and written digits, paired)",
    classes=tuple("0123456789"),
    splits=MappingProxyType({"train": 2000, "val": 500, "test": 2000}),
    groups=MappingProxyType(
        {
            "train": "speakers george, jackson, lucas, nicolas; writer forms 0 to 9",
            "val": "the same speakers and writers; other recordings, other images",
            "test": "speakers theo, yweweler; writer forms 10 to 13",
        }
    ),
    licence="CC BY-SA 4.0 (Free Spoken Digit Dataset); optdigits, Alpaydin and Kaynak; see LICENSE.avdigits",
    sha256="16ecc75adc0040c798a90e0040cda15a34ce171014097f153b719455007e6a97",
)


@dataclass(frozen=True, eq=False)
class Pool:
    """What a split may pair: every clip and every image of its speakers and writers, without noise.

    audio: float32[clips, 32, 32]; video: float32[images, 32, 32]; labels and names beside them
    """

    audio: F32
    audio_label: I64
    audio_id: tuple[str, ...]
    video: F32
    video_label: I64
    video_id: tuple[str, ...]

    def pairs(self, count: int, rng: np.random.Generator) -> tuple[I64, I64, I64]:
        """Balanced classes in random order: clip[count], image[count] of the same class, and the class."""
        label = rng.permutation(np.arange(count, dtype=np.int64) % len(INFO.classes))
        clip, image = np.empty_like(label), np.empty_like(label)
        for digit in range(len(INFO.classes)):
            here = label == digit
            clip[here] = rng.choice(np.flatnonzero(self.audio_label == digit), here.sum())
            image[here] = rng.choice(np.flatnonzero(self.video_label == digit), here.sum())
        return clip, image, label


@functools.cache
def pool(split: str) -> Pool:
    """The clips and images of "train", "val" or "test"."""
    with np.load(FILE, allow_pickle=False) as file:
        raw = {key: file[key] for key in file.files}
    test_clip = np.isin(raw["speakers"][raw["speaker"]], TEST_SPEAKERS)
    test_image = np.isin(raw["form"], TEST_FORMS)
    val_clip = np.isin(raw["take"], VAL_TAKES) & ~test_clip
    val_image = (np.arange(len(raw["form"])) % VAL_IMAGE_EVERY == 0) & ~test_image
    clips = {"train": ~test_clip & ~val_clip, "val": val_clip, "test": test_clip}[split]
    images = {"train": ~test_image & ~val_image, "val": val_image, "test": test_image}[split]
    ends = np.cumsum(raw["length"].astype(np.int64))
    frames = np.split(raw["mfcc"], ends[:-1])
    which, seen = np.flatnonzero(clips), np.flatnonzero(images)
    return Pool(
        audio=np.stack([log_mel(frames[i]) for i in which]),
        audio_label=raw["digit"][which].astype(np.int64),
        audio_id=tuple(f"{raw['speakers'][raw['speaker'][i]]}-{raw['digit'][i]}-{raw['take'][i]}" for i in which),
        video=resize(raw["image"][seen] / 16.0, SIZE).astype(np.float32),
        video_label=raw["image_digit"][seen].astype(np.int64),
        video_id=tuple(f"form{raw['form'][i]}-{i}" for i in seen),
    )


@functools.cache
def _mel_basis() -> NDArray[np.float64]:
    """[13, 32]: the orthonormal inverse DCT from 13 coefficients to 128 mel bands, averaged by fours."""
    order, band = np.arange(13)[:, None], np.arange(128)
    basis = np.cos(np.pi * order * (2 * band + 1) / 256) * np.sqrt(2 / 128)
    basis[0] /= np.sqrt(2)
    return basis.reshape(13, SIZE, 4).mean(2)


def log_mel(mfcc: NDArray[np.int16]) -> F32:
    """int16[frames, 13], four times the coefficients in dB -> float32[32 bands, 32 frames], centred, padded with 0."""
    level = (mfcc.astype(np.float64) / 4 @ _mel_basis()).T
    level = np.clip((level - level.max() + 60) / 60, 0, 1)
    frames = level.shape[1]
    start = (frames - SIZE) // 2
    if start >= 0:
        level = level[:, start : start + SIZE]
    else:
        level = np.pad(level, ((0, 0), ((SIZE - frames) // 2, SIZE - frames - (SIZE - frames) // 2)))
    return _grid(level)


def resize(image: NDArray[np.floating], size: int) -> NDArray[np.float64]:
    """Bilinear interpolation of [..., H, W] to [..., size, size], pixel centres aligned, edges repeated."""
    rows, columns = (_interpolation(side, size) for side in image.shape[-2:])
    return rows @ image.astype(np.float64) @ columns.T


@functools.cache
def _interpolation(before: int, after: int) -> NDArray[np.float64]:
    at = np.clip((np.arange(after) + 0.5) * before / after - 0.5, 0, before - 1)
    low = np.minimum(at.astype(np.int64), before - 2) if before > 1 else np.zeros(after, np.int64)
    matrix = np.zeros((after, before))
    matrix[np.arange(after), low] = 1 - (at - low)
    if before > 1:
        matrix[np.arange(after), low + 1] = at - low
    return matrix


def _grid(values: NDArray[np.float64]) -> F32:
    """Rounded to multiples of 2**-16, so that every platform's arithmetic gives the same numbers."""
    return (np.round(values * 65536) / 65536).astype(np.float32)


def load(
    split: str, samples: int | None = None, image_size: int | None = None, noise: tuple[float, float] | None = None
) -> Samples:
    """The fixed pairs of a split, with noise. It is drawn at 32x32, so a larger image_size holds no more facts.

    noise: standard deviations on the map and on the image; None is the data set's own
    """
    audio_sigma, image_sigma = noise or (AUDIO_SIGMA, IMAGE_SIGMA)
    total = INFO.splits[split]
    count = total if samples is None else samples
    size = SIZE if image_size is None else image_size
    if not SIZE <= size <= 1024:
        raise BadInput(f"avdigits cannot be resized to {size} pixels; it has {SIZE} and goes up to 1024")
    source = pool(split)
    rng = np.random.Generator(np.random.PCG64(SEEDS[split]))
    clip, image, label = source.pairs(total, rng)
    audio = source.audio[clip] + audio_sigma * rng.standard_normal((total, SIZE, SIZE))
    video = source.video[image] + image_sigma * rng.standard_normal((total, SIZE, SIZE))
    audio, video = (_grid(np.clip(noisy[:count], 0, 1)) for noisy in (audio, video))
    if size != SIZE:
        audio, video = (_grid(resize(clean, size)) for clean in (audio, video))
    names = tuple(f"{i}:{source.audio_id[clip[i]]}+{source.video_id[image[i]]}" for i in range(count))
    return Samples(audio[:, None], video[:, None], label[:count], names)
