"""The neurons of the native engine, in one pass over time."""

from __future__ import annotations

from typing import Any

from snnergy.deploy import kernels, lanes

BLOCK = 1024
"""Neurons whose state stays in the first-level cache while time passes."""
LARGEST_CHUNK = 255
"""Samples that ``scan`` can count in a byte."""
advance = lanes.advance if lanes.AVAILABLE else kernels.advance


def _scan(
    first: int, last: int, current: Any, keep_u: Any, keep_v: Any, ceiling: Any, bias: Any, back: Any, cuba: bool,
    subtract: bool, shift: int, u: Any, v: Any, out: Any, anew: bool, counts: Any, currents: Any, membranes: Any,
    busy: Any,
) -> None:  # fmt: skip
    """Current and membrane of every neuron in the steps first .. last - 1; see ``export.quantnet`` for the step.

    current:        int32[samples, steps, n], the synaptic input; times 2**shift in membrane units
    keep_u, keep_v: int32[n], 4096 - decay
    ceiling, bias:  int32[n], membrane units; the ceiling of a readout is out of reach
    back:           int32[n], membrane units, where a spike leads, or if ``subtract`` what it takes away
    cuba:           whether currents have a memory; without, keep_u is not looked at
    u, v:           int32[samples, n], the state before, and after
    out:            uint8[samples, steps, n], spikes
    counts:         uint16[steps, n], spikes, and 256 for each active update, of at most LARGEST_CHUNK samples; set if
                    ``anew``, else added to
    currents, membranes: int32[samples, steps, n], the state after each step, or [samples, 0, n] where nobody asks
    busy:           uint8[samples, steps, n], the active updates, likewise
    """
    samples, steps, n = current.shape
    whole, spikes, tally, us, vs = (
        current.reshape(-1),
        out.reshape(-1),
        counts.reshape(-1),
        u.reshape(-1),
        v.reshape(-1),
    )
    for b in range(samples):
        for n0 in range(0, n, BLOCK):
            size, own = min(BLOCK, n - n0), b * n + n0
            for t in range(first, last):
                at, of = (b * steps + t) * n + n0, t * n + n0
                advance(
                    size, whole, spikes, at, tally, of, us, vs, own, keep_u, keep_v, ceiling, bias, back, n0, cuba,
                    subtract, shift, anew and b == 0,
                )  # fmt: skip
                if currents.shape[1] > 0:
                    for i in range(size):
                        currents[b, t, n0 + i] = us[own + i]
                        membranes[b, t, n0 + i] = vs[own + i]
                if busy.shape[1] > 0:
                    for i in range(size):
                        busy[b, t, n0 + i] = (us[own + i] | bias[n0 + i]) != 0


scan = kernels.compiled(_scan)
