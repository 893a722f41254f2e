"""The training loop: distorted, noisy pairs drawn anew every epoch, AdamW on one cycle, averaged weights.

Every random number of an epoch follows from (seed, epoch), so a run that was interrupted, or killed, goes on from its
last finished epoch to the same file, byte for byte. Progress goes to a callback; nothing is printed.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import checkpoint, data
from .config import ModelConfig
from .data import Samples, avdigits
from .errors import BadInput
from .files import check_writable
from .model import SNNergy

RESUME_FORMAT = "snnergy.resume/2"

Progress: TypeAlias = Callable[[int, int, int, int, float, "float | None"], None]
"""(epoch, epochs, step, steps, loss, val accuracy or None), epochs and steps from 1."""


@dataclass(frozen=True)
class Recipe:
    """How to train. The defaults are those of the `tiny` preset's published accuracy."""

    epochs: int = 20
    pairs: int = 2048  # drawn anew every epoch
    batch: int = 64
    lr: float = 4e-3  # peak of the cycle
    weight_decay: float = 1e-3
    smoothing: float = 0.1
    clip: float = 1.0  # of the gradient's norm
    average: float = 0.98  # share of the averaged weights that a step keeps; less in the first steps
    patience: int = 10  # epochs without a better val accuracy before the run stops

    def __post_init__(self) -> None:
        for field in ("epochs", "pairs", "batch", "patience"):
            if getattr(self, field) < 1:
                raise BadInput(f"{field} is {getattr(self, field)}, it must be at least 1")


@dataclass(frozen=True)
class Epoch:
    """One line of the history: mean training loss, and accuracy on the val split (0 to 1)."""

    loss: float
    val_accuracy: float


@dataclass(frozen=True)
class TrainResult:
    """What came out. Accuracies are 0 to 1, of the best model.

    seconds: spent training, over all parts of an interrupted run
    finished: False if ``stop`` ended it; nothing is at ``path`` then, test_accuracy is None, and a rerun goes on
    """

    path: Path
    history: tuple[Epoch, ...]
    best_epoch: int
    val_accuracy: float
    test_accuracy: float | None
    seconds: float
    finished: bool


def train(
    config: ModelConfig,
    out: str | os.PathLike[str],
    *,
    seed: int = 0,
    epochs: int | None = None,
    pairs: int | None = None,
    recipe: Recipe | None = None,
    resume: bool = True,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
    threads: int | None = None,
) -> TrainResult:
    """Train on AV digits and, at the end, write the best model of the val split to ``out``.

    epochs, pairs: override the recipe's
    resume: go on from ``<out>.resume`` where an unfinished run left one; it goes when all is done
    stop: asked before every step
    threads: of torch; the same number gives the same model bit for bit
    """
    recipe = _override(recipe or Recipe(), epochs=epochs, pairs=pairs)
    if config.audio_channels != 1 or config.video_channels != 1 or config.classes != len(avdigits.INFO.classes):
        raise BadInput(f"avdigits has 1 audio and 1 video channel and 10 classes; '{config.name}' does not")
    if threads is not None:
        torch.set_num_threads(threads)
    path = Path(out)
    check_writable(path)
    val = data.load("avdigits:val", image_size=config.image_size)
    run = _Run.start(config, recipe, seed, path, resume=resume)
    finished = run.go(avdigits.pool("train"), val, progress, stop)
    test_accuracy = None
    if finished:
        model = run.save()
        test_accuracy = evaluate(model, data.load("avdigits:test", image_size=config.image_size))
        run.resume_path.unlink(missing_ok=True)
    best = run.best_epoch
    return TrainResult(
        path=path,
        history=tuple(run.history),
        best_epoch=best,
        val_accuracy=run.history[best - 1].val_accuracy if best else 0.0,
        test_accuracy=test_accuracy,
        seconds=run.seconds,
        finished=finished,
    )


@torch.no_grad()
def evaluate(model: SNNergy, samples: Samples, batch: int = 250) -> float:
    """Share of the samples whose largest logit is their label; the model is left in evaluation mode."""
    model.eval()
    right = 0
    for start in range(0, len(samples), batch):
        part = samples[start : start + batch]
        guess = model(torch.from_numpy(part.audio), torch.from_numpy(part.video)).argmax(1)
        right += int((guess == torch.from_numpy(part.label)).sum())
    return right / len(samples)


def _override(recipe: Recipe, **changes: int | None) -> Recipe:
    return Recipe(**{**asdict(recipe), **{key: value for key, value in changes.items() if value is not None}})


class _Run:
    """One training run: everything that a resume file holds."""

    def __init__(self, config: ModelConfig, recipe: Recipe, seed: int, path: Path) -> None:
        self.config, self.recipe, self.seed, self.path = config, recipe, seed, path
        self.resume_path = path.with_name(path.name + ".resume")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = SNNergy(config)
            self.averaged = SNNergy(config)
        self.averaged.load_state_dict(self.model.state_dict())
        self.optimizer = torch.optim.AdamW(self.model.parameters(), recipe.lr, weight_decay=recipe.weight_decay)
        self.history: list[Epoch] = []
        self.best_epoch = 0
        self.best: dict[str, Tensor] = {}
        self.seconds = 0.0

    @classmethod
    def start(cls, config: ModelConfig, recipe: Recipe, seed: int, path: Path, *, resume: bool) -> _Run:
        run = cls(config, recipe, seed, path)
        if resume and run.resume_path.exists():
            run._restore(checkpoint.read(run.resume_path))
        return run

    def go(self, pool: avdigits.Pool, val: Samples, progress: Progress | None, stop: Callable[[], bool] | None) -> bool:
        """All remaining epochs; False if ``stop`` said so."""
        began = time.perf_counter() - self.seconds
        for epoch in range(len(self.history), self.recipe.epochs):
            if epoch - self.best_epoch >= self.recipe.patience:
                break
            loss = self._epoch(epoch, pool, progress, stop)
            if loss is None:
                self.seconds = time.perf_counter() - began
                return False
            accuracy = evaluate(self.averaged, val)
            self.history.append(Epoch(loss, accuracy))
            if not self.best_epoch or accuracy >= self.history[self.best_epoch - 1].val_accuracy:
                self.best_epoch = epoch + 1
                self.best = {key: value.clone() for key, value in self.averaged.state_dict().items()}
            self.seconds = time.perf_counter() - began
            self._save_resume()
            if progress is not None:
                steps = math.ceil(self.recipe.pairs / self.recipe.batch)
                progress(epoch + 1, self.recipe.epochs, steps, steps, loss, accuracy)
        return True

    def _epoch(
        self, epoch: int, pool: avdigits.Pool, progress: Progress | None, stop: Callable[[], bool] | None
    ) -> float | None:
        recipe, total = self.recipe, 0.0
        steps = math.ceil(recipe.pairs / recipe.batch)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        clips, images, labels = pool.pairs(recipe.pairs, np.random.default_rng([self.seed, epoch]))
        audio, video = torch.from_numpy(pool.audio), torch.from_numpy(pool.video)
        self.model.train()
        for step in range(steps):
            if stop is not None and stop():
                return None
            part = slice(step * recipe.batch, (step + 1) * recipe.batch)
            sound = distort_audio(audio[torch.from_numpy(clips[part])], generator)
            image = distort_image(video[torch.from_numpy(images[part])], generator)
            if self.config.image_size != avdigits.SIZE:
                size = (self.config.image_size, self.config.image_size)
                sound, image = (F.interpolate(x, size, mode="bilinear") for x in (sound, image))
            label = torch.from_numpy(labels[part])
            loss = self._step(sound, image, label, epoch * steps + step, recipe.epochs * steps)
            total += loss
            if progress is not None and step + 1 < steps:
                progress(epoch + 1, recipe.epochs, step + 1, steps, loss, None)
        return total / steps

    def _step(self, audio: Tensor, video: Tensor, label: Tensor, done: int, steps: int) -> float:
        """One update, after ``done`` of ``steps``."""
        recipe = self.recipe
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.lr * one_cycle(done / steps)
        loss = F.cross_entropy(self.model(audio, video), label, label_smoothing=recipe.smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip)
        self.optimizer.step()
        self._average(min(recipe.average, (1 + done) / (10 + done)))
        return float(loss.detach())

    @torch.no_grad()
    def _average(self, kept_share: float) -> None:
        """The kept model follows the trained one: weights and normalisation statistics alike."""
        for kept, new in zip(self.averaged.state_dict().values(), self.model.state_dict().values(), strict=True):
            if kept.is_floating_point():
                kept.lerp_(new, 1 - kept_share)
            else:
                kept.copy_(new)

    def save(self) -> SNNergy:
        """Write the best model, and read it back."""
        meta = {
            "dataset": "avdigits:test",
            "seed": self.seed,
            "epoch": self.best_epoch,
            "val_accuracy": self.history[self.best_epoch - 1].val_accuracy,
            "recipe": asdict(self.recipe),
        }
        self.averaged.load_state_dict(self.best)
        checkpoint.save(self.path, self.averaged, meta)
        return checkpoint.load(self.path)[0]

    def _identity(self) -> dict[str, Any]:
        return {"config": self.config.to_dict(), "recipe": asdict(self.recipe), "seed": self.seed}

    def _save_resume(self) -> None:
        checkpoint.write(
            self.resume_path,
            {
                "format": RESUME_FORMAT,
                "run": self._identity(),
                "model": self.model.state_dict(),
                "averaged": self.averaged.state_dict(),
                "best": self.best,
                "optimizer": self.optimizer.state_dict(),
                "history": [asdict(epoch) for epoch in self.history],
                "best_epoch": self.best_epoch,
                "seconds": self.seconds,
            },
        )

    def _restore(self, state: Any) -> None:
        advice = "delete it, or train without resume"
        if not isinstance(state, dict) or state.get("format") != RESUME_FORMAT:
            raise BadInput(f"{self.resume_path} is not a state to resume from", advice)
        if state["run"] != self._identity():
            other = [key for key in ("config", "recipe", "seed") if state["run"].get(key) != self._identity()[key]]
            raise BadInput(f"{self.resume_path} belongs to a run with another {' and '.join(other)}", advice)
        self.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best = state["best"]
        self.history = [Epoch(**epoch) for epoch in state["history"]]
        self.best_epoch, self.seconds = state["best_epoch"], state["seconds"]


def one_cycle(done: float, warm_up: float = 0.3, start: float = 0.04, end: float = 1e-3) -> float:
    """Share of the peak learning rate: a cosine up from ``start``, then a cosine down to ``end``."""
    low, share = (start, done / warm_up) if done < warm_up else (end, (1 - done) / (1 - warm_up))
    return low + (1 - low) * (1 - math.cos(math.pi * share)) / 2


def distort_audio(level: Tensor, generator: torch.Generator) -> Tensor:
    """Another voice, another room: level [B, 32, 32] (bands, frames) -> noisy [B, 1, 32, 32].

    Bands are scaled and shifted (vocal tract), frames stretched and shifted (speed), the spectrum is tilted
    smoothly (microphone), contrast changes, one band and one stretch of time are masked, then noise is added.
    """
    count, bands, frames = level.shape

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(count, 1, 1).uniform_(low, high, generator=generator)

    band = torch.arange(bands).view(1, -1, 1)
    frame = torch.arange(frames).view(1, 1, -1)
    source = band * uniform(0.92, 1.08) + uniform(-0.7, 0.7)
    rows = _tent(source.clamp(0, bands - 1), bands)
    middle = (frames - 1) / 2
    at = (frame.transpose(1, 2) - middle) * uniform(0.86, 1.16) + middle + uniform(-4, 4)
    columns = _tent(at, frames)
    level = rows @ level @ columns.transpose(1, 2)
    place = (band + 0.5) * math.pi / bands
    tilt = sum(uniform(-0.03, 0.03) * torch.cos(order * place) for order in (1, 2, 3))
    level = torch.where(level > 0, (level - 1) * uniform(0.92, 1.08) + 1 + tilt, 0.0)
    level = torch.where(level > 0, level + 1 - level.amax((1, 2), keepdim=True), 0.0).clamp(min=0)
    for axis, length in ((band, bands), (frame, frames)):
        first, width = uniform(0, length).floor(), uniform(0, 3).floor()
        level = level * ((axis < first) | (axis >= first + width))
    return _noisy(level[:, None], avdigits.AUDIO_SIGMA, generator)


def distort_image(grey: Tensor, generator: torch.Generator) -> Tensor:
    """Another hand: grey [B, 32, 32] turned, scaled, slanted, shifted -> noisy [B, 1, 32, 32]."""
    count = len(grey)

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(count).uniform_(low, high, generator=generator)

    turn, slant = uniform(-0.2, 0.2), uniform(-0.2, 0.2)
    wide, tall = uniform(0.88, 1.14), uniform(0.88, 1.14)
    shift_x, shift_y = uniform(-0.12, 0.12), uniform(-0.12, 0.12)
    cosine, sine = torch.cos(turn), torch.sin(turn)
    across = torch.stack([cosine * wide, (slant * cosine - sine) * tall, shift_x], 1)
    down = torch.stack([sine * wide, (slant * sine + cosine) * tall, shift_y], 1)
    size = [count, 1, *grey.shape[1:]]
    grid = F.affine_grid(torch.stack([across, down], 1), size, align_corners=False)
    moved = F.grid_sample(grey[:, None], grid, align_corners=False)
    return _noisy(moved, avdigits.IMAGE_SIGMA, generator)


def _tent(at: Tensor, length: int) -> Tensor:
    """Linear interpolation as a matrix: positions [B, n, 1] -> [B, n, length]; outside there is nothing."""
    return (1 - (at - torch.arange(length)).abs()).clamp(min=0)


def _noisy(clean: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    return (clean + sigma * torch.randn(clean.shape, generator=generator)).clamp(0, 1)
