"""Lava's own CPU simulation in fixed point: its LIF, Dense and Conv, on its runtime of one OS process per process.

One sample; the first run is compared, those after it go on with the same input. A synapse takes a step.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from peers import measure
from snnergy.deploy import lava_compat

lava_compat.activate()

from lava.magma.core.run_conditions import RunSteps  # noqa: E402
from lava.magma.core.run_configs import Loihi2SimCfg  # noqa: E402
from lava.proc.conv.process import Conv  # noqa: E402
from lava.proc.dense.process import Dense  # noqa: E402
from lava.proc.io.sink import RingBuffer as Sink  # noqa: E402
from lava.proc.io.source import RingBuffer as Source  # noqa: E402
from lava.proc.lif.process import LIF  # noqa: E402


def build(work: measure.Work, batch: int) -> measure.Ready:
    keep_u, keep_v = (round(4096 * keep) for keep in (work.keep_u, work.keep_v))
    steps, image = work.x.shape[1], work.x.ndim == 5
    train = work.x[0].astype(np.int32)
    source = Source(data=train.transpose(3, 2, 1, 0) if image else train.T)  # x y c t
    out: Any = source.s_out
    before = work.x.shape[2:]
    for w, threshold, after in zip(work.weights, work.thresholds, work.shapes, strict=True):
        weight = w.astype(np.int32)
        if w.ndim == 4:  # Lava turns the kernel round
            synapses: Any = Conv(
                weight=weight[:, :, ::-1, ::-1].transpose(0, 3, 2, 1).copy(),
                input_shape=(before[2], before[1], before[0]),
            )
            shape: tuple[int, ...] = (after[2], after[1], after[0])
        else:
            if len(before) == 3:
                weight = weight.reshape(-1, *before).transpose(0, 3, 2, 1).reshape(len(weight), -1)
                out = out.flatten()
            synapses, shape = Dense(weights=weight, num_weight_bits=8), after
        cells = LIF(shape=shape, du=4096 - keep_u - 1, dv=4096 - keep_v, vth=int(threshold), bias_mant=0, bias_exp=0)
        out.connect(synapses.s_in)
        synapses.a_out.connect(cells.a_in)
        out, before = cells.s_out, after
    sink = Sink(shape=before, buffer=steps)
    out.connect(sink.a_in)
    config = Loihi2SimCfg(select_tag="fixed_pt")

    def run(rates: list[float] | None) -> Any:
        cells.run(condition=RunSteps(num_steps=steps), run_cfg=config)
        spikes = sink.data.get().T[None] if rates is not None or not seen else None
        seen.append(True)
        if rates is not None:
            rates.append(float(spikes.mean()))
        return spikes

    seen: list[bool] = []
    return measure.Ready(run, delay=len(work.weights), close=cells.stop)


if __name__ == "__main__":
    measure.main("lava", build, ("lava-nc",), batches=False)
