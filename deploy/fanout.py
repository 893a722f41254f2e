"""How many synapses join each input to each slice of the output; convolutions are counted without being unrolled."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from snnergy.deploy.tiles import Box
from snnergy.export.maps import Conv, Dense, Map, Sparse
from snnergy.export.quantnet import QuantNet

I64 = NDArray[np.int64]


class FanIn(NamedTuple):
    """What reaches some outputs. sources: int64[k] ascending input indices; synapses: int64[k] non-zero, per input."""

    sources: I64
    synapses: I64


def fan_in(linear: Map, neurons: I64 | Box) -> FanIn:
    """The inputs that reach ``neurons`` (ascending outputs) and the non-zero synapses that each has among them.

    A box may pass the last row and column of a convolution: its kernel reads there what input it still meets.
    """
    if isinstance(linear, Conv):
        if isinstance(neurons, Box) and neurons.shape == linear.output_shape:
            return _conv_fan_in(linear, *(np.arange(a, b) for a, b in zip(neurons.low, neurons.high, strict=True)))
        some = neurons.neurons if isinstance(neurons, Box) else neurons
        pixels_out, columns = prod(linear.output_shape[1:]), linear.output_shape[2]
        c, y, x = (np.unique(i) for i in (some // pixels_out, some % pixels_out // columns, some % columns))
        if c.size * y.size * x.size == some.size:
            return _conv_fan_in(linear, c, y, x)
    some = neurons.neurons if isinstance(neurons, Box) else neurons
    if isinstance(linear, Dense):
        counts = np.count_nonzero(linear.weight[some], axis=0)
        sources = np.flatnonzero(counts)
        return FanIn(sources, counts[sources].astype(np.int64))
    part = (linear.weight if isinstance(linear, Sparse) else _unrolled(linear))[some]
    sources, counts = np.unique(part.indices[part.data != 0], return_counts=True)
    return FanIn(sources.astype(np.int64), counts.astype(np.int64))


@lru_cache(maxsize=1)
def _unrolled(conv: Conv) -> csr_array:
    """The last convolution that was unrolled: slice after slice is looked up in it."""
    return conv.matrix()


def _conv_fan_in(conv: Conv, channels: I64, y: I64, x: I64) -> FanIn:
    """Fan-in of the outputs at these channels, rows and columns: a kernel entry as often as it meets them."""
    c_out, per_group, k_h, k_w = conv.weight.shape
    _, h_in, w_in = conv.input_shape
    group = channels // (c_out // conv.groups)
    first, last = int(group[0]), int(group[-1]) + 1
    kernel = np.zeros((last - first, per_group, k_h, k_w))
    for g in range(first, last):
        kernel[g - first] = np.count_nonzero(conv.weight[channels[group == g]], axis=0)
    rows, met_y = _met(conv, 0, y, h_in)
    columns, met_x = _met(conv, 1, x, w_in)
    counts = met_y @ kernel.reshape(-1, k_h, k_w) @ met_x.T  # float64 holds them exactly
    channel, row, column = np.nonzero(counts)
    sources = ((channel + first * per_group) * h_in + rows[row]) * w_in + columns[column]
    return FanIn(sources.astype(np.int64), counts[channel, row, column].astype(np.int64))


def _met(conv: Conv, axis: int, outputs: I64, size: int) -> tuple[I64, NDArray[np.float64]]:
    """Input positions under the kernels of these outputs, and float64[positions, taps] how often under each tap."""
    taps = np.arange(conv.weight.shape[2 + axis])
    there = outputs[:, None] * conv.stride[axis] - conv.padding[axis] + taps * conv.dilation[axis]
    inside = (there >= 0) & (there < size)
    positions = np.unique(there[inside])
    met = np.zeros((positions.size, taps.size))
    np.add.at(met, (np.searchsorted(positions, there[inside]), np.broadcast_to(taps, there.shape)[inside]), 1)
    return positions, met


def table(linear: Map, slices: Sequence[I64 | Box]) -> csr_array:
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
