"""The same arithmetic in plain numpy, int64 all through, for exactness: nothing of the engine is used here."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

I64 = NDArray[np.int64]


def synapses(x: I64, weight: I64) -> I64:
    """x: [samples, c, h, w] or [samples, n]; a valid cross-correlation or a matrix."""
    if weight.ndim == 2:
        return x.reshape(len(x), -1) @ weight.T
    windows = sliding_window_view(x, weight.shape[2:], axis=(2, 3))
    samples, _, height, width = windows.shape[:4]
    columns = windows.transpose(0, 2, 3, 1, 4, 5).reshape(samples * height * width, -1)
    sums = columns @ weight.reshape(len(weight), -1).T
    return sums.reshape(samples, height, width, -1).transpose(0, 3, 1, 2)


def decayed(state: I64, keep: int) -> I64:
    """trunc(state * keep / 4096), toward zero."""
    return np.sign(state) * (abs(state) * keep >> 12)


def run(
    weights: list[NDArray[Any]], thresholds: list[int], keep: tuple[int, int], x: NDArray[Any], exponent: int = 1
) -> list[NDArray[np.uint8]]:
    """The spikes of each layer, uint8[samples, steps, n].

    x: [samples, steps, *shape]; keep: what a step keeps of the current and of the membrane, of 4096
    """
    layers: list[NDArray[np.uint8]] = []
    sent = x.astype(np.int64)
    for weight, threshold in zip(weights, thresholds, strict=True):
        u = v = np.int64(0)
        fired: list[NDArray[np.bool_]] = []
        for t in range(x.shape[1]):
            a = synapses(sent[:, t], weight.astype(np.int64)) << exponent
            u = decayed(u, keep[0]) + (a << 6)
            u = np.where(u > 1 << 23, u - (1 << 24), np.where(u <= -(1 << 23), u + (1 << 24), u))
            v = np.clip(decayed(v, keep[1]) + u, -(1 << 23) + 1, (1 << 23) - 1)
            fires = v > threshold << 6
            v = np.where(fires, 0, v)
            fired.append(fires)
        sent = np.stack(fired, axis=1).astype(np.int64)
        layers.append(sent.reshape(*sent.shape[:2], -1).astype(np.uint8))
    return layers
