"""How a projection is computed: by events, by products, or by windows, whichever costs least on what arrives.

Inside the engine images have their channels last, so that one event adds runs of output channels and a row of a kernel
is one run of inputs. ``Order`` says where each neuron went; nobody outside sees it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from snnergy.deploy import amx, kernels, vnni
from snnergy.export.maps import Conv, Dense, Map, Shape

U8 = NDArray[np.uint8]
I32 = NDArray[np.int32]
Add = Callable[[U8, I32, bool], None]
"""``add(x, current, fresh)``: put the contribution of every row of x [rows, n_in] to current [rows, n_out]."""

CONV_MACS_PER_NS = 300.0 if vnni.AVAILABLE else 3.0
PRODUCT_MACS_PER_NS = 1700.0 if amx.AVAILABLE else CONV_MACS_PER_NS
INPUT_NS = 0.25
EVENT_NS, EVENT_ADDS_PER_NS = 1.1, 22.0
TAP_NS, TAP_ADDS_PER_NS = 8.5, 30.0
LISTED_NS, SYNAPSE_NS = 9.5, 0.8
OUTPUTS_PER_NS = 5.5
LINE_NS, SUMS_PER_NS = 1.5, 20.0
WINDOW_NS, WINDOW_CHANNELS_PER_NS = 3.0, 15.0
"""The cost model, on one core, measured by benchmarks/engine/costs.py; it decides speed, never results.

Looking at an input; an event of a dense map and its additions; an event under a tap of a convolution; an event of a
listed map and its synapses; putting sums into place; a tap of a window and its channels.
"""


NAMES = ("events", "listed events", "product", "windows", "tiles")
"""Of the paths there are; a projection has some of them."""


def order(shape: Shape) -> NDArray[np.intp] | None:
    """Where the neuron of each place stands in C order of ``shape``; None where they stand as they are."""
    if len(shape) != 3 or shape[0] == 1 or prod(shape[1:]) == 1:
        return None
    return np.arange(prod(shape)).reshape(shape).transpose(1, 2, 0).ravel()


@dataclass(frozen=True)
class Path:
    """One way to compute a projection. cost: ns for so many rows with so many inputs that are not 0."""

    name: str
    add: Add
    cost: Callable[[int, int], float]


def paths(linear: Map, exponent: int, before: Shape, after: Shape) -> tuple[Path, ...]:
    """Every way this machine has to compute the map between nodes of these shapes."""
    if isinstance(linear, Conv) and linear.input_shape == before and linear.output_shape == after:
        return _conv(linear, exponent)
    rows, columns = order(after), order(before)
    matrix = linear.weight if isinstance(linear, Dense) else linear.matrix()
    matrix = matrix if rows is None else matrix[rows]
    matrix = matrix if columns is None else matrix[:, columns]
    if isinstance(linear, Dense):
        return _dense(np.asarray(matrix, np.int8), exponent)
    listed: Any = csr_array(matrix)
    found = (_listed(listed, exponent),)
    if listed.nnz * 8 > prod(listed.shape):
        found += _dense(listed.toarray().astype(np.int8), exponent)
    return found


def _listed(matrix: Any, exponent: int) -> Path:
    by_source = csr_array(matrix).tocsc()
    indptr, target = by_source.indptr.astype(np.int64), by_source.indices.astype(np.int32)
    weight = by_source.data.astype(np.int8)
    fan_out = matrix.nnz / matrix.shape[1]

    def cost(rows: int, events: int) -> float:
        looking = rows * (INPUT_NS * matrix.shape[1] + matrix.shape[0] / OUTPUTS_PER_NS)
        return looking + events * (LISTED_NS + fan_out * SYNAPSE_NS)

    return Path(
        "listed events",
        lambda x, current, fresh: kernels.sparse(x, indptr, target, weight, exponent, fresh, current),
        cost,
    )


def _dense(weight: NDArray[np.int8], exponent: int) -> tuple[Path, ...]:
    """weight: int8[n_out, n_in]"""
    outputs, inputs = weight.shape
    by_source = np.ascontiguousarray(weight.T)
    found = [
        Path(
            "events",
            lambda x, current, fresh: kernels.dense(x, by_source, exponent, fresh, current),
            lambda rows, events: rows * INPUT_NS * inputs + events * (EVENT_NS + outputs / EVENT_ADDS_PER_NS),
        )
    ]
    found.append(_tiled(weight, exponent) if amx.AVAILABLE else _product(weight, exponent))
    return tuple(found)


def _product(weight: NDArray[np.int8], exponent: int) -> Path:
    packed, lanes, groups = vnni.pack(weight[:, None])
    return Path(
        "product",
        lambda x, current, fresh: vnni.dense(x, groups, packed, lanes, exponent, fresh, current),
        lambda rows, events: rows * packed.size / PRODUCT_MACS_PER_NS,
    )


def _tiled(weight: NDArray[np.int8], exponent: int) -> Path:
    """Whole blocks of rows, whose lines are copied before and whose sums after."""
    packed, (outputs, inputs) = amx.pack(weight), weight.shape

    def cost(rows: int, events: int) -> float:
        return -(-rows // amx.SIDE) * amx.SIDE * packed.size / PRODUCT_MACS_PER_NS + rows * (inputs + outputs) / 32

    return Path("product", lambda x, current, fresh: amx.dense(x, packed, exponent, fresh, current), cost)


def _conv(linear: Conv, exponent: int) -> tuple[Path, ...]:
    c_out, per_group, kh, kw = linear.weight.shape
    weight = np.asarray(linear.weight, np.int8)
    if (kh, kw, *linear.stride, *linear.padding, linear.groups) == (1, 1, 1, 1, 0, 0, 1):
        return tuple(_pointwise(p, per_group, c_out) for p in _dense(weight[:, :, 0, 0], exponent))
    (_, h, w), (_, h_out, w_out) = linear.input_shape, linear.output_shape
    geometry = np.array([per_group, h, w, h_out, w_out, *linear.stride, *linear.padding, *linear.dilation], np.int64)
    grouped = weight.reshape(linear.groups, c_out // linear.groups, per_group, kh, kw)
    by_source = np.ascontiguousarray(grouped.transpose(0, 2, 3, 4, 1)).reshape(-1, kh, kw, c_out // linear.groups)
    taps = kh * kw / prod(linear.stride)
    inputs = prod(linear.input_shape)
    run = c_out // linear.groups

    found = [
        Path(
            "events",
            lambda x, current, fresh: kernels.conv(x, by_source, geometry, exponent, fresh, current),
            lambda rows, events: (
                rows * (INPUT_NS * inputs + c_out * h_out * w_out / OUTPUTS_PER_NS)
                + events * taps * (TAP_NS + run / TAP_ADDS_PER_NS)
            ),
        )
    ]
    if per_group == 1 and c_out == linear.groups:
        windows = np.ascontiguousarray(weight[:, 0].transpose(1, 2, 0))
        found.append(
            Path(
                "windows",
                lambda x, current, fresh: kernels.depthwise(x, windows, geometry, exponent, fresh, current),
                lambda rows, events: rows * h_out * w_out * kh * kw * (WINDOW_NS + c_out / WINDOW_CHANNELS_PER_NS),
            )
        )
    else:
        found.append(_conv_product(linear, weight, exponent))
        if amx.AVAILABLE and linear.groups == linear.dilation[1] == 1:
            found.append(_conv_tiles(linear, weight, exponent))
    return tuple(found)


def _pointwise(path: Path, c_in: int, c_out: int) -> Path:
    """A kernel of one pixel is a dense map of each pixel."""
    return Path(
        path.name,
        lambda x, current, fresh: path.add(x.reshape(-1, c_in), current.reshape(-1, c_out), fresh),
        lambda rows, events: path.cost(rows, events),
    )


def _conv_product(linear: Conv, weight: NDArray[np.int8], exponent: int) -> Path:
    """Row by row of the output: the inputs under a row of the kernel lie side by side, so nothing is unfolded."""
    c_out, per_group, kh, kw = weight.shape
    (c_in, h, w), (_, h_out, w_out) = linear.input_shape, linear.output_shape
    (py, px), (dy, dx), groups = linear.padding, linear.dilation, linear.groups
    wide = w + 2 * px
    joined = dx == 1 and groups == 1  # the pixels of a kernel row are one run
    if groups > 1 and not _worth(c_out, per_group, groups):
        full = np.zeros((c_out, c_in, kh, kw), np.int8)
        for g in range(groups):
            rows = slice(g * (c_out // groups), (g + 1) * (c_out // groups))
            full[rows, g * per_group : (g + 1) * per_group] = weight[rows]
        weight, per_group, groups, joined = full, c_in, 1, dx == 1
    runs = weight.transpose(0, 2, 3, 1)  # [c_out, kh, kw, per_group]
    runs = runs.reshape(c_out, kh, kw * per_group) if joined else runs.reshape(c_out, kh * kw, per_group)
    offsets = [
        ky * dy * wide * c_in + (0 if joined else kx * dx * c_in)
        for ky in range(kh)
        for kx in range(1 if joined else kw)
    ]
    each = c_out // groups
    packs = [vnni.pack(runs[g * each : (g + 1) * each]) for g in range(groups)]
    packed, lanes, fours = np.stack([p for p, _, _ in packs]), packs[0][1], packs[0][2]
    places = np.array(offsets, np.int64)
    geometry = np.array([c_in, h, w, h_out, w_out, *linear.stride, py, px, per_group, each], np.int64)
    macs = packed.size * h_out * w_out
    height = vnni.height(w_out, lanes)
    waste = -(-w_out // height) * height / w_out * (1 + 2 / height)

    return Path(
        "product",
        lambda x, current, fresh: vnni.conv(
            x, geometry, height, places, fours, packed, lanes, exponent, fresh, current
        ),
        lambda rows, events: (
            rows
            * (waste * macs / CONV_MACS_PER_NS + (prod(linear.input_shape) + c_out * h_out * w_out) / OUTPUTS_PER_NS)
        ),
    )


def _conv_tiles(linear: Conv, weight: NDArray[np.int8], exponent: int) -> Path:
    c_out, c_in, kh, kw = weight.shape
    (_, h, w), (_, h_out, w_out) = linear.input_shape, linear.output_shape
    packed = amx.pack_conv(weight)
    geometry = (c_in, h, w, h_out, w_out, kh, kw, *linear.stride, *linear.padding, linear.dilation[0])
    lines = h_out * linear.stride[0] * w_out * -(-kw * c_in // amx.LINE)

    def cost(rows: int, events: int) -> float:
        macs = h_out * w_out * -(-c_out // amx.TALL) * amx.TALL * packed.shape[1] * amx.LINE
        return rows * (macs / PRODUCT_MACS_PER_NS + LINE_NS * lines + c_out * h_out * w_out / SUMS_PER_NS)

    return Path("tiles", lambda x, current, fresh: amx.conv(x, geometry, packed, exponent, fresh, current), cost)


def _worth(c_out: int, per_group: int, groups: int) -> bool:
    """Whether the groups one by one waste less than one product with zeros between them."""
    apart = groups * -(-(c_out // groups) // vnni.LANE) * -(-per_group // 4)
    return apart < -(-c_out // vnni.LANE) * -(-per_group * groups // 4)
