"""brian2's C++ standalone: one compiled program a network, synapses listed one by one, event-driven.

Times are brian2's own, of the loop over time: the program also starts and reads its synapses. An input acts a step
later in each layer.
"""

from __future__ import annotations

import shutil
import tempfile
from math import prod
from typing import Any

import brian2 as b
import numpy as np

from peers import measure


def synapses(weight: Any, before: tuple[int, ...], after: tuple[int, ...]) -> tuple[Any, Any, Any]:
    """Source, target and weight of every synapse."""
    if weight.ndim == 2:
        j, i = np.indices(weight.shape).reshape(2, -1)
        return i, j, weight.ravel()
    o, c, ky, kx, y, x = np.ogrid[tuple(slice(n) for n in (*weight.shape, *after[1:]))]
    shape = (*weight.shape, *after[1:])
    source = np.broadcast_to((c * before[1] + y + ky) * before[2] + x + kx, shape)
    target = np.broadcast_to((o * after[1] + y) * after[2] + x, shape)
    return source.ravel(), target.ravel(), np.broadcast_to(weight[..., None, None], shape).ravel()


def build(work: measure.Work, batch: int) -> measure.Ready:
    b.device.reinit()
    folder = tempfile.mkdtemp(prefix="brian2-")
    b.set_device("cpp_standalone", directory=folder, build_on_run=False)
    dt, steps = b.ms, work.x.shape[1]
    b.defaultclock.dt = dt
    times, index = np.nonzero(work.x[0].reshape(steps, -1))
    before: Any = b.SpikeGeneratorGroup(prod(work.x.shape[2:]), index, times * dt)
    parts, monitors, shape = [before], [], work.x.shape[2:]
    for k, (weight, threshold, after) in enumerate(zip(work.weights, work.thresholds, work.shapes, strict=True)):
        names = {"keep_u": work.keep_u, "keep_v": work.keep_v, "top": threshold}
        cells = b.NeuronGroup(prod(after), "u : 1\nv : 1\na : 1", threshold="v > top", reset="v = 0", namespace=names)
        cells.run_regularly("u = keep_u * u + a\nv = keep_v * v + u\na = 0")
        wires = b.Synapses(before, cells, "w : 1", on_pre="a_post += w")
        source, target, values = synapses(weight, shape, after)
        wires.connect(i=source, j=target)
        wires.w = values
        monitors.append(b.SpikeMonitor(cells, record=k == len(work.weights) - 1))
        parts += [cells, wires, monitors[-1]]
        before, shape = cells, after
    b.Network(*parts).run(steps * dt)
    b.device.build(directory=folder, compile=True, run=False)

    def run(rates: list[float] | None) -> Any:
        b.device.run(with_output=False)
        if rates is not None:
            rates += [m.num_spikes / steps / prod(s) for m, s in zip(monitors, work.shapes, strict=True)]
        out = np.zeros((1, steps, prod(shape)), np.uint8)
        out[0, np.rint(monitors[-1].t / dt).astype(int), np.asarray(monitors[-1].i)] = 1
        return out

    return measure.Ready(
        run,
        delay=len(work.weights),
        took=lambda: float(b.device._last_run_time),
        close=lambda: shutil.rmtree(folder),
    )


if __name__ == "__main__":
    measure.main("brian2", build, ("brian2",), batches=False)
