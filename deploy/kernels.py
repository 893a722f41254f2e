"""Compiled inner loops of the native engine: integers only, one row per sample and time step, no thread of their own.

Rows are uint8 spikes or graded values, images with their channels last. Sums are int32: ``quantnet.verify`` has checked
that none leaves it. All release the GIL, so that callers may run rows side by side. ``fresh`` says that ``current``
holds nothing yet and is written, not added to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import int32, njit

if TYPE_CHECKING:
    from collections.abc import Callable

WRAP = 1 << 23
"""Where the 24-bit current wraps."""
BLOCK = 1024
"""Neurons whose state stays in the first-level cache while time passes."""
LARGEST_CHUNK = 255
"""Samples that ``scan`` can count in a byte."""


def compiled(function: Callable[..., Any]) -> Any:
    """Compiled without the GIL, and kept on disk for the next process."""
    options: dict[str, Any] = {"nogil": True, "boundscheck": False, "error_model": "numpy"}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # neither this folder nor the user's can be written: compiled anew by every process
        return njit(**options)(function)


def _events(row: Any, index: Any) -> Any:
    """Positions of the values that are not 0, into ``index``; how many."""
    count = 0
    for i in range(row.shape[0]):
        index[count] = i
        count += row[i] != 0
    return count


events = compiled(_events)


def _put(total: Any, exponent: int, fresh: bool, current: Any) -> None:
    """current (+)= total * 2**exponent, rounded down."""
    for o in range(current.shape[0]):
        value = int32(total[o] << exponent) if exponent >= 0 else int32(total[o] >> -exponent)
        current[o] = value if fresh else int32(current[o] + value)


put = compiled(_put)


def _dense(x: Any, weight: Any, exponent: int, fresh: bool, current: Any) -> None:
    """The rows of the weights whose inputs are not 0. x: uint8[r, i]; weight: int8[i, o]; current: int32[r, o]."""
    inputs, outputs = weight.shape
    index, total = np.empty(inputs + 1, np.int64), np.empty(outputs, np.int32)
    for r in range(x.shape[0]):
        count = events(x[r], index)
        total[:] = 0
        for k in range(count):
            s, row = int32(x[r, index[k]]), weight[index[k]]
            for o in range(outputs):
                total[o] = int32(total[o] + int32(s * int32(row[o])))
        put(total, exponent, fresh, current[r])


def _sparse(x: Any, indptr: Any, target: Any, weight: Any, exponent: int, fresh: bool, current: Any) -> None:
    """As ``_dense`` with listed synapses: those of input i are indptr[i] .. indptr[i+1] of target and weight."""
    index, total = np.empty(x.shape[1] + 1, np.int64), np.empty(current.shape[1], np.int32)
    for r in range(x.shape[0]):
        count = events(x[r], index)
        total[:] = 0
        for e in range(count):
            i = index[e]
            s = int32(x[r, i])
            for k in range(indptr[i], indptr[i + 1]):
                total[target[k]] = int32(total[target[k]] + int32(s * int32(weight[k])))
        put(total, exponent, fresh, current[r])


def _conv(x: Any, weight: Any, geometry: Any, exponent: int, fresh: bool, current: Any) -> None:
    """As ``_dense`` for a convolution.

    weight:   int8[c_in, kh, kw, c_out / groups], so that one event adds runs of output channels
    geometry: int64[11]: c_in per group, h_in, w_in, h_out, w_out, stride y x, padding y x, dilation y x
    """
    per_group, _, w_in, h_out, w_out, sy, sx, py, px, dy, dx = geometry
    c_in, kh, kw, width = weight.shape
    channels = current.shape[1] // (h_out * w_out)
    index, total = np.empty(x.shape[1] + 1, np.int64), np.empty(current.shape[1], np.int32)
    for r in range(x.shape[0]):
        count = events(x[r], index)
        total[:] = 0
        for e in range(count):
            i = index[e]
            s, c, at = int32(x[r, i]), i % c_in, i // c_in
            y, z = at // w_in, at % w_in
            for ky in range(kh):
                oy = y + py - ky * dy
                if oy < 0 or oy % sy != 0 or oy // sy >= h_out:
                    continue
                for kx in range(kw):
                    ox = z + px - kx * dx
                    if ox < 0 or ox % sx != 0 or ox // sx >= w_out:
                        continue
                    first = (oy // sy * w_out + ox // sx) * channels + c // per_group * width
                    to, row = total[first : first + width], weight[c, ky, kx]
                    for o in range(width):
                        to[o] = int32(to[o] + int32(s * int32(row[o])))
        put(total, exponent, fresh, current[r])


def _depthwise(x: Any, weight: Any, geometry: Any, exponent: int, fresh: bool, current: Any) -> None:
    """A convolution of each channel with itself, whatever the activity. weight: int8[kh, kw, channels]."""
    _, h_in, w_in, h_out, w_out, sy, sx, py, px, dy, dx = geometry
    kh, kw, channels = weight.shape
    total = np.empty(channels, np.int32)
    for r in range(x.shape[0]):
        for oy in range(h_out):
            for ox in range(w_out):
                total[:] = 0
                for ky in range(kh):
                    y = oy * sy + ky * dy - py
                    if y < 0 or y >= h_in:
                        continue
                    for kx in range(kw):
                        z = ox * sx + kx * dx - px
                        if z < 0 or z >= w_in:
                            continue
                        row, here = weight[ky, kx], x[r, (y * w_in + z) * channels : (y * w_in + z + 1) * channels]
                        for c in range(channels):
                            total[c] = int32(total[c] + int32(int32(here[c]) * int32(row[c])))
                first = (oy * w_out + ox) * channels
                put(total, exponent, fresh, current[r, first : first + channels])


def _kept(x: Any, keep: Any) -> Any:
    """trunc(x * keep / 4096) in 32 bits: |x| = 4096 high + low."""
    size: Any = int32(abs(x))
    high, low = int32(size >> 12), int32(size & 4095)
    left = int32(int32(high * keep) + int32(int32(low * keep) >> 12))
    return left if x >= 0 else int32(-left)


kept = njit(nogil=True, inline="always")(_kept)


def _scan(
    first: int, last: int, current: Any, keep_u: Any, keep_v: Any, ceiling: Any, bias: Any, cuba: bool,
    u: Any, v: Any, out: Any, counts: Any, currents: Any, membranes: Any, busy: Any,
) -> None:  # fmt: skip
    """Current and membrane of every neuron in the steps first .. last - 1; see ``export.quantnet`` for the step.

    current:        int32[samples, steps, n], the synaptic input in weight units
    keep_u, keep_v: int32[n], 4096 - decay
    ceiling, bias:  int32[n], membrane units; the ceiling of a readout is out of reach
    cuba:           whether currents have a memory; without, keep_u is not looked at
    u, v:           int32[samples, n], the state before, and after
    out:            uint8[samples, steps, n], spikes
    counts:         uint16[steps, n], added to: spikes, and 256 for each active update; at most LARGEST_CHUNK samples
    currents, membranes: int32[samples, steps, n], the state after each step, or [samples, 0, n] where nobody asks
    busy:           uint8[samples, steps, n], the active updates, likewise
    """
    samples, _, n = current.shape
    most, mask = int32(WRAP - 1), int32(2 * WRAP - 1)
    for b in range(samples):
        for n0 in range(0, n, BLOCK):
            n1 = min(n0 + BLOCK, n)
            ub, vb = u[b, n0:n1], v[b, n0:n1]
            ku, kv, top, add = keep_u[n0:n1], keep_v[n0:n1], ceiling[n0:n1], bias[n0:n1]
            for t in range(first, last):
                a, o, count = current[b, t, n0:n1], out[b, t, n0:n1], counts[t, n0:n1]
                for i in range(n1 - n0):
                    c = int32(a[i] << 6)
                    if cuba:
                        c = int32(c + kept(ub[i], ku[i]))
                    c = int32(int32(int32(c + most) & mask) - most)  # into -2**23 + 1 .. 2**23, as Lava wraps
                    ub[i] = c
                    y = int32(int32(kept(vb[i], kv[i]) + c) + add[i])
                    y = most if y > most else (int32(-most) if y < -most else y)
                    fires = int32(y > top[i])
                    vb[i] = int32(0) if fires else y
                    o[i] = fires
                    count[i] += fires + (int32((c | add[i]) != 0) << 8)
                if currents.shape[1] > 0:
                    for i in range(n1 - n0):
                        currents[b, t, n0 + i] = ub[i]
                        membranes[b, t, n0 + i] = vb[i]
                if busy.shape[1] > 0:
                    for i in range(n1 - n0):
                        busy[b, t, n0 + i] = (ub[i] | add[i]) != 0


dense = compiled(_dense)
sparse = compiled(_sparse)
conv = compiled(_conv)
depthwise = compiled(_depthwise)
scan = compiled(_scan)
