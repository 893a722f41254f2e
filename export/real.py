"""``QuantNet -> Net``: what the integers mean, for a network that never was anything else."""

from __future__ import annotations

import numpy as np

from snnergy.export.maps import Map, with_weights
from snnergy.export.net import Net, Population, Projection, Source
from snnergy.export.quantnet import DECAY_ONE, STATE_SHIFT, QuantNet, QuantPopulation


def real(quant: QuantNet) -> Net:
    """The network in float64, without the chip's truncation, wrap and saturation; quantising it loses nothing more."""
    gain = {s.name: s.scale for s in quant.sources}
    scale = {p.name: p.scale for p in quant.populations}
    projections = tuple(
        Projection(
            e.source,
            e.target,
            _times(e.map, 2.0**e.exponent / scale[e.target] * gain.get(e.source, 1.0)),
            e.delay,
        )
        for e in quant.projections
    )
    sources = tuple(Source(s.name, s.shape) for s in quant.sources)
    return Net(sources, tuple(map(_population, quant.populations)), projections, quant.outputs, quant.dt_s)


def _population(p: QuantPopulation) -> Population:
    unit = p.scale * (1 << STATE_SHIFT)
    return Population(
        p.name,
        p.shape,
        decay=1 - p.decay / DECAY_ONE,
        current_decay=1 - p.current_decay / DECAY_ONE,
        threshold=p.threshold / p.scale if p.spiking else np.full(p.threshold.size, np.inf),
        bias=p.bias / (1 << STATE_SHIFT) / p.scale,
        reset=p.back / unit if p.programmed else None,
        subtract=p.subtract,
    )


def _times(linear: Map, factor: float) -> Map:
    return with_weights(linear, lambda w: w.astype(np.float64) * factor)
