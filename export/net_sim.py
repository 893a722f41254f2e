"""A Net in float64, with the delays it names and no others: as torch sees it."""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from snnergy.export.net import Net, Population, components, incoming, loops

F64 = NDArray[np.float64]


def run(net: Net, inputs: dict[str, F64], steps: int) -> dict[str, F64]:
    """Spikes of every population, membranes of every readout: name -> float64[samples, steps, n].

    inputs: name -> float64[samples, *shape], presented at every step
    """
    feeds = incoming(net.projections)
    matrices = {id(e): e.map.matrix() for e in net.projections}
    samples = len(next(iter(inputs.values())))
    values: dict[str, F64] = {}
    for s in net.sources:
        flat = np.asarray(inputs[s.name], np.float64).reshape(samples, 1, prod(s.shape))
        values[s.name] = np.broadcast_to(flat, (samples, steps, flat.shape[2]))
    for component in components(net.populations, net.projections):
        # outside a loop all steps at once: a population's past does not come back to it
        spans = [(t, t + 1) for t in range(steps)] if loops(component, net.projections) else [(0, steps)]
        state = {p.name: (np.zeros((samples, prod(p.shape))),) * 2 for p in component}
        values |= {p.name: np.zeros((samples, steps, prod(p.shape))) for p in component}
        for first, last in spans:
            for p in component:
                x = np.zeros((samples, last - first, prod(p.shape)))
                for e in feeds.get(p.name, ()):
                    sent = values[e.source][:, max(first - e.delay, 0) : max(last - e.delay, 0)]
                    flat = sent.reshape(samples * sent.shape[1], sent.shape[2])
                    x[:, last - first - sent.shape[1] :] += (matrices[id(e)] @ flat.T).T.reshape(
                        *sent.shape[:2], x.shape[2]
                    )
                values[p.name][:, first:last], state[p.name] = _scan(p, x, *state[p.name])
    return {p.name: values[p.name] for p in net.populations}


def _scan(p: Population, x: F64, i: F64, v: F64) -> tuple[F64, tuple[F64, F64]]:
    """What is sent in each step, and current and membrane after the last. x: float64[samples, steps, n]"""
    out = np.empty_like(x)
    for t in range(x.shape[1]):
        i = p.current_decay * i + x[:, t]
        v = p.decay * v + (i + p.bias)
        if p.spiking:
            out[:, t] = v > p.threshold
            back = 0.0 if p.reset is None else p.reset
            v = np.where(out[:, t] > 0, v - back if p.subtract else back, v)
        else:
            out[:, t] = v
    return out, (i, v)
