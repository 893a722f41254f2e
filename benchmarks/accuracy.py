#!/usr/bin/env python3
"""Accuracy of `tiny` on the fixed AV digits test split, against its ablations, trained by the same recipe.

    python benchmarks/accuracy.py                      every variant, seeds 0 1 2
    python benchmarks/accuracy.py --variants both audio video --seeds 0 1 2
    python benchmarks/accuracy.py --quick              two short epochs, one seed: does it run?

Writes results/accuracy.json and results/accuracy.md beside this file after every training, so a run that was
interrupted keeps its rows; a row that is already there is trained again only with --again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from snnergy import checkpoint, data
from snnergy.config import ModelConfig, preset
from snnergy.deploy import engine
from snnergy.deploy.export_model import graph_of
from snnergy.deploy.job import from_graph
from snnergy.deploy.verify import accuracy
from snnergy.files import write_text
from snnergy.model import SNNergy
from snnergy.neurons import Spike
from snnergy.train import Recipe, train

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "both": ("cross-modal attention, both ways", {}),
    "audio_from_video": ("audio <- video only", {"fusion": "audio_from_video"}),
    "video_from_audio": ("video <- audio only", {"fusion": "video_from_audio"}),
    "none": ("concatenation only", {"fusion": "none"}),
    "audio": ("audio only", {"modalities": "audio"}),
    "video": ("vision only", {"modalities": "video"}),
}
RESULTS = Path(__file__).with_name("results")
MODELS = Path(__file__).parent.parent / "runs" / "accuracy"
"""Where the trained models stay, for `noise.py`; not part of the repository."""


def quantised_accuracy(path: Path, samples: data.Samples) -> float:
    """Share right of the integer network, exported, quantised to 8 bits and run on the native engine."""
    _, graph = graph_of(path)
    job = from_graph(path, graph)
    real = {"audio": samples.audio, "video": samples.video}
    run = engine.run(job.quant, job.quant.encode({s.name: real[s.name] for s in job.quant.sources}))
    return accuracy(run.outputs[job.quant.outputs[0]], samples.label)


@torch.no_grad()
def firing_rate(model: SNNergy, samples: data.Samples) -> float:
    """Spikes per neuron and time step, over every spiking layer."""
    fired: list[tuple[float, int]] = []
    hooks = [
        module.register_forward_hook(lambda m, i, out: fired.append((float(out.sum()), out.numel())))
        for module in model.modules()
        if isinstance(module, Spike)
    ]
    model(torch.from_numpy(samples.audio), torch.from_numpy(samples.video))
    for hook in hooks:
        hook.remove()
    return sum(spikes for spikes, _ in fired) / sum(count for _, count in fired)


def measure(config: ModelConfig, recipe: Recipe, seed: int, threads: int, label: str) -> dict[str, Any]:
    """Train once and evaluate once on the test split."""

    def show(epoch: int, epochs: int, step: int, steps: int, loss: float, accuracy: float | None) -> None:
        if accuracy is not None:
            print(f"{label} seed {seed} epoch {epoch}/{epochs} loss {loss:.3f} val {accuracy:.3f}", file=sys.stderr)

    MODELS.mkdir(parents=True, exist_ok=True)
    path = MODELS / f"{label}-{seed}.pt"
    cpu = sum(os.times()[:2])
    result = train(config, path, seed=seed, recipe=recipe, progress=show, threads=threads, resume=False)
    cpu = sum(os.times()[:2]) - cpu
    model, _ = checkpoint.load(path)
    test = data.load("avdigits:test", image_size=config.image_size)
    return {
        "seed": seed,
        "test_accuracy": result.test_accuracy,
        "val_accuracy": result.val_accuracy,
        "quantised_accuracy": quantised_accuracy(path, test),
        "train_s": round(result.seconds, 1),
        "cpu_s": round(cpu, 1),
        "best_epoch": result.best_epoch,
        "epochs": len(result.history),
        "firing_rate": round(firing_rate(model, test[:500]), 4),
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def markdown(report: dict[str, Any]) -> str:
    """The table that the documentation shows."""

    def spread(values: list[float]) -> str:
        return f"{100 * mean(values):.2f}" + (f" ± {100 * stdev(values):.2f}" if len(values) > 1 else "")

    lines = [
        "| variant | test accuracy % | after quantisation % | per seed | training s | spikes per neuron and step |",
        "|---|---|---|---|---|---|",
    ]
    for key, (title, _) in VARIANTS.items():
        rows = report["variants"].get(key)
        if not rows:
            continue
        each = ", ".join(f"{100 * row['test_accuracy']:.2f}" for row in rows)
        quantised = [row["quantised_accuracy"] for row in rows]
        lines.append(
            f"| {title} | {spread([row['test_accuracy'] for row in rows])} | {spread(quantised)} "
            f"| {each} "
            f"| {mean(row['train_s'] for row in rows):.0f} | {mean(row['firing_rate'] for row in rows):.3f} |"
        )
    seeds = sorted({row["seed"] for rows in report["variants"].values() for row in rows})
    return "\n".join(
        [
            f"Preset `tiny`, AV digits test split (2000 fixed pairs, speakers and writers never trained on), "
            f"seeds {', '.join(map(str, seeds))}. ± is the standard deviation over seeds.",
            "",
            *lines,
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--epochs", type=int, default=Recipe().epochs)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="two epochs of 256 pairs, seed 0, nothing kept")
    parser.add_argument("--again", action="store_true", help="train rows that are already in the results too")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of accuracy.json and accuracy.md")
    options = parser.parse_args()
    recipe = Recipe(epochs=options.epochs)
    if options.quick:
        recipe, options.seeds = Recipe(epochs=2, pairs=256), [0]
        options.out = Path(tempfile.mkdtemp())
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "accuracy.json"
    about = {
        "preset": "tiny",
        "dataset": "avdigits:test",
        "recipe": asdict(recipe),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": options.threads,
    }
    report: dict[str, Any] = {**about, "variants": {}}
    if file.exists() and not options.again:
        old = json.loads(file.read_text())
        if old.get("recipe") == about["recipe"]:
            report["variants"] = old["variants"]
    for seed in options.seeds:
        for key in options.variants:
            rows = report["variants"].setdefault(key, [])
            if any(row["seed"] == seed for row in rows):
                continue
            config = replace(preset("tiny"), **VARIANTS[key][1])
            rows.append(measure(config, recipe, seed, options.threads, key))
            rows.sort(key=lambda row: row["seed"])
            write_text(file, json.dumps(report, indent=1) + "\n")
            write_text(file.with_suffix(".md"), markdown(report))
    print(markdown(report))


if __name__ == "__main__":
    main()
