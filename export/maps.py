"""Linear maps between populations: the weights of a projection, in the three forms that hardware stores.

Every map takes a flat input vector in C order of ``input_shape`` to a flat output in C order of ``output_shape``. Its
meaning is ``matrix()``; engines may compute it any other way that gives the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

Array = NDArray[Any]
Shape = tuple[int, ...]
Pair = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Dense:
    """Every input to every output. weight: [n_out, n_in]."""

    weight: Array
    input_shape: Shape
    output_shape: Shape

    @cached_property
    def sources(self) -> NDArray[np.int64]:
        """int64[k], the inputs that any output has a weight for."""
        return np.flatnonzero(np.asarray(self.weight).any(axis=0))

    def matrix(self) -> csr_array:
        """The map as a sparse matrix [n_out, n_in] of its non-zero weights."""
        return csr_array(self.weight)

    def __str__(self) -> str:
        return f"dense {self.weight.shape[1]}->{self.weight.shape[0]}"


@dataclass(frozen=True, eq=False)
class Conv:
    """Cross-correlation as torch computes it, zero padding. weight: [c_out, c_in / groups, kh, kw]."""

    weight: Array
    input_shape: Shape
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    @cached_property
    def output_shape(self) -> Shape:
        """(c_out, h_out, w_out), by torch's formula for Conv2d."""
        spans = zip(self.input_shape[1:], self.weight.shape[2:], self.stride, self.padding, self.dilation, strict=True)
        return (self.weight.shape[0], *((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in spans))

    def taps(self, axis: int) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """For each kernel offset on one axis (0: y, 1: x): output positions, and the input positions they read."""
        size, out = self.input_shape[1 + axis], self.output_shape[1 + axis]
        result: list[tuple[NDArray[np.intp], NDArray[np.intp]]] = []
        for k in range(self.weight.shape[2 + axis]):
            o = np.arange(out)
            i = o * self.stride[axis] + k * self.dilation[axis] - self.padding[axis]
            inside = (i >= 0) & (i < size)
            result.append((o[inside], i[inside]))
        return result

    def matrix(self) -> csr_array:
        """The unrolled map, [n_out, n_in], non-zero weights only."""
        c_out, per_group = self.weight.shape[:2]
        (_, h_out, w_out), (_, h_in, w_in) = self.output_shape, self.input_shape
        rows: list[Array] = []
        cols: list[Array] = []
        data: list[Array] = []
        for ky, (oy, iy) in enumerate(self.taps(0)):
            for kx, (ox, ix) in enumerate(self.taps(1)):
                kernel = self.weight[:, :, ky, kx]
                o, j = np.nonzero(kernel)
                source = o // (c_out // self.groups) * per_group + j
                here = (oy[:, None] * w_out + ox).ravel()
                there = (iy[:, None] * w_in + ix).ravel()
                rows.append((o[:, None] * (h_out * w_out) + here).ravel())
                cols.append((source[:, None] * (h_in * w_in) + there).ravel())
                data.append(np.repeat(kernel[o, j], here.size))
        shape = (prod(self.output_shape), prod(self.input_shape))
        return coo_array((np.concatenate(data), (np.concatenate(rows), np.concatenate(cols))), shape=shape).tocsr()

    def __str__(self) -> str:
        kernel = "x".join(map(str, self.weight.shape[2:]))
        extra = "".join(
            f" {name} {'x'.join(map(str, pair))}"
            for name, pair, plain in (
                ("stride", self.stride, (1, 1)),
                ("pad", self.padding, (0, 0)),
                ("dilation", self.dilation, (1, 1)),
            )
            if pair != plain
        )
        groups = f" groups {self.groups}" if self.groups > 1 else ""
        return f"conv {kernel} {self.input_shape[0]}->{self.weight.shape[0]}{extra}{groups}"


@dataclass(frozen=True, eq=False)
class Sparse:
    """Listed synapses. weight: csr_array [n_out, n_in]."""

    weight: Any
    input_shape: Shape
    output_shape: Shape

    def matrix(self) -> csr_array:
        """The weights themselves, without stored zeros."""
        matrix = csr_array(self.weight, copy=True)
        matrix.eliminate_zeros()
        return matrix

    def __str__(self) -> str:
        return f"sparse {self.weight.shape[1]}->{self.weight.shape[0]} ({self.weight.nnz} synapses)"


Map = Dense | Conv | Sparse


def weights(linear: Map) -> Array:
    """Every stored weight of the map, in storage order."""
    return linear.weight.data if isinstance(linear, Sparse) else linear.weight


def with_weights(linear: Map, change: Callable[[Array], Array]) -> Map:
    """The same map with ``change`` applied to its stored weights; the input is untouched."""
    if isinstance(linear, Sparse):
        csr = linear.weight
        return replace(linear, weight=csr_array((change(csr.data), csr.indices, csr.indptr), shape=csr.shape))
    return replace(linear, weight=change(linear.weight))


def synapses(linear: Map) -> int:
    """Number of non-zero synapses, padding excluded."""
    if isinstance(linear, Conv):
        used = np.outer([o.size for o, _ in linear.taps(0)], [o.size for o, _ in linear.taps(1)])
        return int((np.count_nonzero(linear.weight, axis=(0, 1)) * used).sum())
    return int(np.count_nonzero(weights(linear)))


def reach(linear: Map, most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Lowest and highest sum each output can receive from inputs in 0 .. most: int64[n_out] each.

    The sums of the negative and of the positive weights of a row. A convolution is bounded by its kernel, padding
    ignored: a bound, and tight away from the border.
    """
    w = weights(linear).astype(np.int64)
    if isinstance(linear, Sparse):
        rows = np.repeat(np.arange(linear.weight.shape[0]), np.diff(linear.weight.indptr))
        n = prod(linear.output_shape)
        negative = np.bincount(rows, np.minimum(w, 0), n).astype(np.int64)
        positive = np.bincount(rows, np.maximum(w, 0), n).astype(np.int64)
    else:
        axes = tuple(range(1, w.ndim))
        negative, positive = np.minimum(w, 0).sum(axis=axes), np.maximum(w, 0).sum(axis=axes)
        if isinstance(linear, Conv):
            area = prod(linear.output_shape[1:])
            negative, positive = np.repeat(negative, area), np.repeat(positive, area)
    return negative * most, positive * most
