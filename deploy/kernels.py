"""Compiled inner loops of the native engine: integers only, one row per sample and time step, no thread of their own.

Every kernel walks the events of a row (inputs that are not 0) and adds each one's outgoing weights. Accumulators are
int32: ``quantize`` has proved that no sum leaves it. All release the GIL, so that callers may run rows side by side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from collections.abc import Callable

WRAP = 1 << 23
"""Where the 24-bit current wraps."""


def _compiled(function: Callable[..., None]) -> Any:
    try:
        return njit(nogil=True, cache=True, boundscheck=False)(function)
    except RuntimeError:  # neither this folder nor the user's can be written: compiled anew by every process
        return njit(nogil=True, boundscheck=False)(function)


def _dense(x: Any, weight: Any, exponent: int, current: Any) -> None:
    """current[r] += (weight.T @ x[r]) << exponent. x: uint8[r, i]; weight: int8[i, o]; current: int32[r, o]."""
    for r in range(x.shape[0]):
        total = current[r] * 0
        for i in range(x.shape[1]):
            s = x[r, i]
            if s != 0:
                for o in range(weight.shape[1]):
                    total[o] += s * weight[i, o]
        for o in range(weight.shape[1]):
            current[r, o] += total[o] << exponent if exponent >= 0 else total[o] >> -exponent


def _sparse(x: Any, indptr: Any, target: Any, weight: Any, exponent: int, current: Any) -> None:
    """As ``_dense`` with listed synapses: those of input i are indptr[i] .. indptr[i+1] of target and weight."""
    for r in range(x.shape[0]):
        total = current[r] * 0
        for i in range(x.shape[1]):
            s = x[r, i]
            if s != 0:
                for k in range(indptr[i], indptr[i + 1]):
                    total[target[k]] += s * weight[k]
        for o in range(total.shape[0]):
            current[r, o] += total[o] << exponent if exponent >= 0 else total[o] >> -exponent


def _conv(x: Any, weight: Any, geometry: Any, exponent: int, current: Any) -> None:
    """As ``_dense`` for a convolution.

    weight:   int8[c_in, kh, kw, c_out / groups], so that one event adds contiguous runs of output channels
    geometry: int64[11]: c_in per group, h_in, w_in, h_out, w_out, stride y x, padding y x, dilation y x
    """
    per_group, h_in, w_in, h_out, w_out, sy, sx, py, px, dy, dx = geometry
    c_in, kh, kw, width = weight.shape
    area = h_out * w_out
    channels = current.shape[1] // area
    for r in range(x.shape[0]):
        total = (current[r] * 0).reshape(area, channels)
        for c in range(c_in):
            first = c // per_group * width
            for y in range(h_in):
                for z in range(w_in):
                    s = x[r, (c * h_in + y) * w_in + z]
                    if s == 0:
                        continue
                    for ky in range(kh):
                        oy = y + py - ky * dy
                        if oy < 0 or oy % sy != 0 or oy // sy >= h_out:
                            continue
                        for kx in range(kw):
                            ox = z + px - kx * dx
                            if ox < 0 or ox % sx != 0 or ox // sx >= w_out:
                                continue
                            row = total[oy // sy * w_out + ox // sx]
                            for o in range(width):
                                row[first + o] += s * weight[c, ky, kx, o]
        for a in range(area):
            for o in range(channels):
                value = total[a, o]
                current[r, o * area + a] += value << exponent if exponent >= 0 else value >> -exponent


def _scan(
    first: int, last: int, current: Any, keep_u: Any, keep_v: Any, ceiling: Any, bias: Any, spiking: bool, cuba: bool,
    u: Any, v: Any, out: Any, spikes: Any, active: Any, currents: Any, membranes: Any,
) -> None:  # fmt: skip
    """Current and membrane of every neuron in the steps first .. last - 1; see ``export.quantnet`` for the step.

    current:        int32[samples, steps, n], the synaptic input in weight units
    keep_u, keep_v: int64[n], 4096 - decay
    ceiling, bias:  int64[n], membrane units
    cuba:           whether currents have a memory; without, keep_u is not looked at
    u, v:           int32[samples, n], the state before, and after
    out:            uint8[samples, steps, n], spikes
    spikes, active: int64[steps, n], added to
    currents, membranes: int32[samples, steps, n], the state after each step, or [samples, 0, n] where nobody asks
    """
    samples, _, n = current.shape
    for b in range(samples):
        for t in range(first, last):
            for i in range(n):
                c = np.int64(current[b, t, i]) << 6
                if cuba:
                    m = u[b, i] * keep_u[i]
                    c += m >> 12 if m >= 0 else -((-m) >> 12)
                if c > WRAP:
                    c -= 2 * WRAP
                elif c <= -WRAP:
                    c += 2 * WRAP
                u[b, i] = c
                m = v[b, i] * keep_v[i]
                y = (m >> 12 if m >= 0 else -((-m) >> 12)) + c + bias[i]
                y = min(max(y, 1 - WRAP), WRAP - 1)
                if c != 0 or bias[i] != 0:
                    active[t, i] += 1
                if spiking and y > ceiling[i]:
                    out[b, t, i] = 1
                    spikes[t, i] += 1
                    y = 0
                v[b, i] = y
            if currents.shape[1] > 0:
                for i in range(n):
                    currents[b, t, i] = u[b, i]
                    membranes[b, t, i] = v[b, i]


dense = _compiled(_dense)
sparse = _compiled(_sparse)
conv = _compiled(_conv)
scan = _compiled(_scan)
