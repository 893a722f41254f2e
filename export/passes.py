"""``Net -> Net`` rewrites and their order. Each keeps every spike; running one twice equals running it once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from snnergy.export.maps import Conv, Map, Sparse, weights
from snnergy.export.net import Net

Pass = Callable[[Net], Net]


def drop_silent(net: Net) -> Net:
    """Remove projections whose every weight is 0: ``0 x = 0``. Exact."""
    return replace(net, projections=tuple(e for e in net.projections if np.any(weights(e.map))))


def diagonal_to_depthwise(net: Net) -> Net:
    """Store a diagonal map with one value per channel as a 1x1 depthwise convolution: the same synapses. Exact."""
    return _map_each(net, _depthwise)


def group_blocks(net: Net) -> Net:
    """Store a convolution whose kernel is block-diagonal over channels as a grouped one: the zeros go. Exact."""
    return _map_each(net, _grouped)


PASSES: tuple[Pass, ...] = (drop_silent, diagonal_to_depthwise, group_blocks)


def _map_each(net: Net, change: Callable[[Map], Map]) -> Net:
    return replace(net, projections=tuple(replace(e, map=change(e.map)) for e in net.projections))


def _depthwise(linear: Map) -> Map:
    if not isinstance(linear, Sparse) or linear.input_shape != linear.output_shape or len(linear.input_shape) != 3:
        return linear
    matrix = linear.weight.tocoo()
    row, column = matrix.coords
    channels, height, width = linear.input_shape
    if matrix.nnz != channels * height * width or not np.array_equal(row, column):
        return linear
    scale = matrix.data[np.argsort(row)].reshape(channels, -1)
    if (scale != scale[:, :1]).any():
        return linear
    return Conv(scale[:, 0].reshape(channels, 1, 1, 1), linear.input_shape, groups=channels)


def _grouped(linear: Map) -> Map:
    if not isinstance(linear, Conv) or linear.groups != 1:
        return linear
    used = (linear.weight != 0).any(axis=(2, 3))
    c_out, c_in = used.shape
    for groups in range(int(np.gcd(c_out, c_in)), 1, -1):
        if c_out % groups or c_in % groups:
            continue
        blocks = used.reshape(groups, c_out // groups, groups, c_in // groups).any(axis=(1, 3))
        if not (blocks & ~np.eye(groups, dtype=bool)).any():
            size = c_in // groups
            parts = [
                linear.weight[g * (c_out // groups) : (g + 1) * (c_out // groups), g * size : (g + 1) * size]
                for g in range(groups)
            ]
            return replace(linear, weight=np.concatenate(parts), groups=groups)
    return linear
