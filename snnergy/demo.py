"""The whole job on real input, for ``snnergy demo``: train, export, verify, deploy on both engines, show the cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from snnergy import console
from snnergy.config import ModelConfig, preset
from snnergy.deploy import deploy_model, report_text
from snnergy.deploy.export_model import export_model
from snnergy.deploy.verify import Settings, verify_file
from snnergy.files import make_folder
from snnergy.train import TrainResult, train

VERIFY_SAMPLES, LAVA_SAMPLES = 64, 16
_T = TypeVar("_T")


def train_with_bar(
    config: ModelConfig, output: Path, *, seed: int, epochs: int | None, resume: bool = True, quiet: bool = False
) -> TrainResult:
    """``train`` with a progress bar; without a terminal, one line an epoch."""
    with console.bar(f"train {config.name}", quiet) as update:

        def progress(epoch: int, epochs: int, step: int, steps: int, loss: float, val: float | None) -> None:
            update((epoch - 1) * steps + step, epochs * steps)
            if val is not None and not quiet:
                console.say(f"epoch {epoch:>2}/{epochs}  loss {loss:.3f}  validation {val:.2%}")

        return train(config, output, seed=seed, epochs=epochs, resume=resume, progress=progress)


def demo(folder: Path, *, seed: int = 0, epochs: int | None = None) -> int:
    """Every step of the toolchain with the ``tiny`` preset; the exit code is 1 if any comparison failed.

    Writes model.pt, model.nir, report.json, report-lava.json and report.html into ``folder``.
    """
    make_folder(folder)
    model, graph = folder / "model.pt", folder / "model.nir"
    seconds: dict[str, float] = {}

    def step(title: str, work: Callable[[], _T]) -> _T:
        console.say(click.style(title, bold=True))
        start = time.perf_counter()
        result = work()
        seconds[title] = time.perf_counter() - start
        return result

    trained = step("train", lambda: train_with_bar(preset("tiny"), model, seed=seed, epochs=epochs))
    click.echo(f"test accuracy in torch: {trained.test_accuracy:.2%}")
    click.echo(step("export", lambda: export_model(model, graph, VERIFY_SAMPLES)))
    chosen = Settings(samples=VERIFY_SAMPLES, lava_samples=LAVA_SAMPLES)
    pairs = step("verify", lambda: list(verify_file(graph, chosen)))  # the file, which export compared with torch
    for pair in pairs:
        click.echo(pair)
    lava = step("deploy on Lava", lambda: deploy_model.deploy(graph, "loihi2-sim", engine="lava", samples=LAVA_SAMPLES))
    deploy_model.write(lava, folder / "report-lava.json", None)
    done = step("deploy", lambda: deploy_model.deploy(graph, "loihi2-sim"))
    page = folder / "report.html"
    deploy_model.write(done, folder / "report.json", page)
    console.show(report_text.text(done.document))
    click.echo("  ".join(f"{title} {s:.0f} s" for title, s in seconds.items()))
    click.echo(f"wrote {page} and, beside it, model.pt, model.nir, report.json, report-lava.json")
    return 0 if all(p.ok for p in pairs) and done.equal and lava.equal else 1
