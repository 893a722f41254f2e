"""How many synapses join each input to each slice of the output; convolutions are counted without being unrolled."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from snnergy.export.maps import Conv, Dense, Map, Sparse
from snnergy.export.quantnet import QuantNet

I64 = NDArray[np.int64]


class FanIn(NamedTuple):
    """What reaches some outputs. sources: int64[k] ascending input indices; synapses: int64[k] non-zero, per input."""

    sources: I64
    synapses: I64


def fan_in(linear: Map, neurons: I64) -> FanIn:
    """The inputs that reach ``neurons`` (ascending outputs) and the non-zero synapses that each has among them."""
    if isinstance(linear, Dense):
        counts = np.count_nonzero(linear.weight[neurons], axis=0)
        sources = np.flatnonzero(counts)
        return FanIn(sources, counts[sources].astype(np.int64))
    if isinstance(linear, Conv):
        pixels_out = prod(linear.output_shape[1:])
        channels, pixels = np.unique(neurons // pixels_out), np.unique(neurons % pixels_out)
        if channels.size * pixels.size == neurons.size:
            return _conv_fan_in(linear, channels, pixels)
    part = (linear.weight if isinstance(linear, Sparse) else linear.matrix())[neurons]
    sources, counts = np.unique(part.indices[part.data != 0], return_counts=True)
    return FanIn(sources.astype(np.int64), counts.astype(np.int64))


def _conv_fan_in(conv: Conv, channels: I64, pixels: I64) -> FanIn:
    """Fan-in of the outputs ``channels`` x ``pixels``, from the kernel and the window of inputs that it covers."""
    c_out, per_group, k_h, k_w = conv.weight.shape
    c_in, h_in, w_in = conv.input_shape
    kernel = np.zeros((c_in, k_h, k_w), np.int64)
    group = channels // (c_out // conv.groups)
    for g in np.unique(group):
        kernel[g * per_group : (g + 1) * per_group] = np.count_nonzero(conv.weight[channels[group == g]], axis=0)
    y, x = np.divmod(pixels, conv.output_shape[2])
    first = int(y.min()) * conv.stride[0] - conv.padding[0]
    last = int(y.max()) * conv.stride[0] - conv.padding[0] + (k_h - 1) * conv.dilation[0]
    first, last = max(first, 0), min(last, h_in - 1)
    counts = np.zeros((c_in, max(last - first + 1, 0), w_in), np.int64)
    for ky in range(k_h):
        iy = y * conv.stride[0] + ky * conv.dilation[0] - conv.padding[0]
        for kx in range(k_w):
            ix = x * conv.stride[1] + kx * conv.dilation[1] - conv.padding[1]
            inside = (iy >= 0) & (iy < h_in) & (ix >= 0) & (ix < w_in)
            counts[:, iy[inside] - first, ix[inside]] += kernel[:, ky, kx, None]
    channel, row, column = np.nonzero(counts)
    sources = (channel * h_in + row + first) * w_in + column
    return FanIn(sources.astype(np.int64), counts[channel, row, column])


def table(linear: Map, slices: Sequence[I64]) -> csr_array:
    """int64[n_in, len(slices)]: non-zero synapses from every input to every slice of outputs."""
    parts = [fan_in(linear, neurons) for neurons in slices]
    columns = np.repeat(np.arange(len(parts)), [p.sources.size for p in parts])
    rows = np.concatenate([p.sources for p in parts]) if parts else np.zeros(0, np.int64)
    data = np.concatenate([p.synapses for p in parts]) if parts else np.zeros(0, np.int64)
    return coo_array((data, (rows, columns)), shape=(prod(linear.input_shape), len(parts))).tocsr()


def destinations(
    net: QuantNet, node: str, size: int, slices: dict[str, list[I64]], cores: dict[str, list[int]], core_count: int
) -> csr_array:
    """int64[size, core_count], 0 or 1: the distinct cores that a spike of each neuron of ``node`` is sent to.

    slices, cores: population -> its slices, and the core of each
    """
    rows, columns = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for e in net.projections:
        if e.source == node:
            for neurons, core in zip(slices[e.target], cores[e.target], strict=True):
                rows.append(fan_in(e.map, neurons).sources)
                columns.append(np.full(rows[-1].size, core))
    row, column = np.concatenate(rows), np.concatenate(columns)
    sent = coo_array((np.ones(row.size, np.int64), (row, column)), shape=(size, core_count)).tocsr()
    sent.sum_duplicates()
    sent.data[:] = 1
    return sent
