#!/usr/bin/env python3
"""How much the fusion is worth as the noise grows: the models of `accuracy.py`, tested at other noise levels.

    python benchmarks/accuracy.py --variants both video audio      first: trains what is tested here
    python benchmarks/noise.py

All models were trained at the data set's own noise (0.2 on the map, 0.5 on the image). Writes results/noise.md.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import mean

from accuracy import MODELS, RESULTS

from snnergy import checkpoint
from snnergy.data import Samples, avdigits
from snnergy.files import write_text
from snnergy.train import evaluate

LEVELS = ((0.0, 0.0), (0.2, 0.5), (0.2, 0.7), (0.3, 0.7), (0.4, 0.9))
VARIANTS = ("both", "video", "audio")


def accuracy(variant: str, samples: Samples) -> float:
    """Mean over the seeds that were trained."""
    models = sorted(MODELS.glob(f"{variant}-[0-9]*.pt"))
    if not models:
        sys.exit(
            f"error: no model {variant}-*.pt in {MODELS}\nhelp: python benchmarks/accuracy.py --variants {variant}"
        )
    return mean(evaluate(checkpoint.load(path)[0], samples) for path in models)


def main() -> None:
    lines = [
        "Preset `tiny` trained at noise 0.2 / 0.5, tested on the same 2000 pairs at other noise; mean over seeds.",
        "",
        "| noise: map / image | both % | vision only % | audio only % | gain over the better one |",
        "|---|---|---|---|---|",
    ]
    for sigma in LEVELS:
        samples = avdigits.load("test", noise=sigma)
        both, video, audio = (100 * accuracy(variant, samples) for variant in VARIANTS)
        lines.append(
            f"| {sigma[0]} / {sigma[1]} | {both:.2f} | {video:.2f} | {audio:.2f} | {both - max(video, audio):+.2f} |"
        )
        print(lines[-1], file=sys.stderr)
    write_text(Path(RESULTS) / "noise.md", "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
