"""Compiled inner loops of the native engine: integers only, one row per sample and time step, no thread of their own.

Rows are uint8 spikes or graded values, images with their channels last. Sums are int32: ``quantnet.verify`` has checked
that none leaves it. All release the GIL, so that callers may run rows side by side. ``fresh`` says that ``current``
holds nothing yet and is written, not added to.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import int32, njit

if TYPE_CHECKING:
    from collections.abc import Callable

WRAP = 1 << 23
"""Where the 24-bit current wraps."""


SOURCES = ("kernels.py", "vectors.py", "lanes.py", "scan.py", "vnni.py", "amx.py")
"""Files whose functions are compiled into one another."""
_STAMP = sha256(b"".join(Path(__file__).with_name(name).read_bytes() for name in SOURCES)).hexdigest()


def compiled(function: Callable[..., Any]) -> Any:
    """Compiled without the GIL, and kept on disk for the next process, until one of SOURCES changes."""
    options: dict[str, Any] = {"nogil": True, "boundscheck": False, "error_model": "numpy"}
    try:
        found: Any = njit(cache=True, **options)(function)
        found._cache._cache_file._source_stamp = _STAMP  # numba itself only looks at the file of the function
    except (RuntimeError, AttributeError):  # neither this folder nor the user's can be written, or another numba:
        return njit(**options)(function)  # compiled anew by every process
    return found


def _events(row: Any, index: Any) -> Any:
    """Positions of the values that are not 0, into ``index``; how many."""
    count = 0
    for i in range(row.shape[0]):
        index[count] = i
        count += row[i] != 0
    return count


events = compiled(_events)


def _tally(x: Any, counts: Any, anew: bool) -> None:
    """Count the values that are not 0. x: uint8[samples, steps, n]; counts: uint16[steps, n], set if anew"""
    for b in range(x.shape[0]):
        for t in range(x.shape[1]):
            row, count = x[b, t], counts[t]
            if anew and b == 0:
                for i in range(row.shape[0]):
                    count[i] = row[i] != 0
            else:
                for i in range(row.shape[0]):
                    count[i] += row[i] != 0


tally = compiled(_tally)


def _fired(out: Any, total: Any) -> None:
    """The spikes of every neuron. out: uint8[samples, steps, n]; total: int64[samples, n]"""
    for b in range(out.shape[0]):
        for i in range(out.shape[2]):
            total[b, i] = 0
        for t in range(out.shape[1]):
            for i in range(out.shape[2]):
                total[b, i] += out[b, t, i]


fired = compiled(_fired)


def _turned(x: Any, first: int, out: Any) -> None:
    """Rows of [first, second] to rows of [second, first]. x, out: [rows, first * second]"""
    second = x.shape[1] // first
    for r in range(x.shape[0]):
        for a in range(first):
            for b in range(second):
                out[r, b * first + a] = x[r, a * second + b]


turned = compiled(_turned)


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


def _advance(
    n: int, current: Any, out: Any, at: int, counts: Any, of: int, u: Any, v: Any, own: int, keep_u: Any, keep_v: Any,
    ceiling: Any, bias: Any, back: Any, first: int, cuba: bool, subtract: bool, shift: int, anew: bool,
) -> None:  # fmt: skip
    """One step of n neurons of a sample. The arrays are those of ``scan``, flat, and begin at the number after them."""
    most, mask = int32(WRAP - 1), int32(2 * WRAP - 1)
    for i in range(n):
        add = bias[first + i]
        c = int32(current[at + i] << shift)
        if cuba:
            c = int32(c + kept(u[own + i], keep_u[first + i]))
        c = int32(int32(int32(c + most) & mask) - most)  # into -2**23 + 1 .. 2**23, as Lava wraps
        u[own + i] = c
        y = int32(int32(kept(v[own + i], keep_v[first + i]) + c) + add)
        y = most if y > most else (int32(-most) if y < -most else y)
        fires = int32(y > ceiling[first + i])
        after = back[first + i]
        if subtract:
            after = int32(y - after)
        v[own + i] = after if fires else y
        out[at + i] = fires
        more = fires + (int32((c | add) != 0) << 8)
        counts[of + i] = more if anew else counts[of + i] + more


dense = compiled(_dense)
sparse = compiled(_sparse)
conv = compiled(_conv)
depthwise = compiled(_depthwise)
advance = njit(nogil=True, inline="always")(_advance)
