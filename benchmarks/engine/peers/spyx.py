"""spyx's CuBaLIF in one compiled scan. It fires a step later and subtracts the threshold: it cannot reset to zero."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from spyx import nn

from peers import measure


def synapse(weight: Any, x: Any) -> Any:
    """x: [batch, ...]"""
    if weight.ndim == 4:
        return jax.lax.conv_general_dilated(x, weight, (1, 1), "VALID")
    return x.reshape(len(x), -1) @ weight.T


def build(work: measure.Work, batch: int) -> measure.Ready:
    weights = [jnp.asarray(w) for w in work.weights]
    x = jnp.asarray(np.swapaxes(work.x, 0, 1), jnp.float32)
    cells = [
        nn.CuBaLIF(shape, work.keep_u, work.keep_v, threshold, rngs=nnx.Rngs(0))
        for shape, threshold in zip(work.shapes, work.thresholds, strict=True)
    ]
    rest = [jnp.zeros((batch, *shape[:-1], 2 * shape[-1])) for shape in work.shapes]

    def step(state: Any, now: Any) -> Any:
        after, fired = [], []
        for weight, cell, kept in zip(weights, cells, state, strict=True):
            now, kept = cell(synapse(weight, now), kept)
            after.append(kept)
            fired.append(now.mean())
        return after, (now, jnp.stack(fired))

    walk = jax.jit(lambda x: jax.lax.scan(step, rest, x)[1])

    def run(rates: list[float] | None) -> Any:
        out, fired = walk(x)
        if rates is not None:
            rates += np.asarray(fired).mean(0).tolist()
        return np.swapaxes(np.asarray(out), 0, 1)

    return measure.Ready(run, delay=len(weights), notes={"neuron": "fires late, subtracts the threshold"})


if __name__ == "__main__":
    measure.main("spyx", build, ("spyx", "jax"))
