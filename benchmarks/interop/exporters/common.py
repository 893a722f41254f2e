"""What every exporter writes: a graph by its tool's own exporter, what was sent in, what its own simulator sent out."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

STEPS, SAMPLES = 40, 6
Made = tuple[Any, Any]
"""A graph, and the spikes of its last neurons: [samples, steps, ...]."""


def inputs(shape: tuple[int, ...], seed: int = 0) -> Any:
    """float64[samples, *shape], shown at every step."""
    return np.random.default_rng(seed).random((SAMPLES, *shape)) * 1.5


def weights(shape: tuple[int, ...], seed: int) -> Any:
    """Enough to make neurons fire now and then."""
    return np.random.default_rng(seed).normal(0.25, 1.0, shape) / np.sqrt(np.prod(shape[1:]))


def thresholds(shape: tuple[int, ...], seed: int) -> Any:
    """All different, so that none is met exactly."""
    return np.random.default_rng(seed).uniform(0.31, 0.62, shape)


def main(packages: tuple[str, ...], kinds: dict[str, tuple[tuple[int, ...], Callable[[Any], Made]]]) -> None:
    """Write KIND.nir and KIND.npz into the folder of the command line, and what went wrong into made.json."""
    import nir

    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    said: dict[str, Any] = {"versions": {p: metadata.version(p) for p in (*packages, "nir")}, "failed": {}}
    for kind, (shape, make) in kinds.items():
        x = inputs(shape)
        try:
            graph, spikes = make(x)
            nir.write(folder / f"{kind}.nir", graph)
            np.savez(folder / f"{kind}.npz", x=x, spikes=np.asarray(spikes, np.uint8))
        except Exception as error:
            traceback.print_exc()
            said["failed"][kind] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    (folder / "made.json").write_text(json.dumps(said, indent=1))
