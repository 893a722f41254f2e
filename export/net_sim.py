"""A Net in float64, population by population over all steps and samples: zero delay, as torch sees it."""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from snnergy.export.net import Net, incoming

F64 = NDArray[np.float64]


def run(net: Net, inputs: dict[str, F64], steps: int) -> dict[str, F64]:
    """Spikes of every population, membranes of every readout: name -> float64[samples, steps, n].

    inputs: name -> float64[samples, *shape], presented at every step
    """
    feeds = incoming(net.projections)
    samples = len(next(iter(inputs.values())))
    values: dict[str, F64] = {}
    for s in net.sources:
        flat = np.asarray(inputs[s.name], np.float64).reshape(samples, 1, prod(s.shape))
        values[s.name] = np.broadcast_to(flat, (samples, steps, flat.shape[2]))
    for p in net.populations:
        n = prod(p.shape)
        x = np.broadcast_to(p.bias, (samples * steps, n)).copy()
        for e in feeds.get(p.name, ()):
            x += (e.map.matrix() @ values[e.source].reshape(samples * steps, -1).T).T
        x = x.reshape(samples, steps, n)
        v = np.zeros((samples, n))
        out = np.empty_like(x)
        for t in range(steps):
            v = p.decay * v + x[:, t]
            if p.spiking:
                fired = v > p.threshold
                v[fired] = 0.0
                out[:, t] = fired
            else:
                out[:, t] = v
        values[p.name] = out
    return {p.name: values[p.name] for p in net.populations}
