"""spyx's CuBaLIF in one compiled scan. It fires a step later and subtracts the threshold: it cannot reset to zero."""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx
from spyx import nn

from peers import jax_network, measure


def build(work: measure.Work, batch: int) -> measure.Ready:
    cells = [
        nn.CuBaLIF(shape, work.keep_u, work.keep_v, threshold, rngs=nnx.Rngs(0))
        for shape, threshold in zip(work.shapes, work.thresholds, strict=True)
    ]
    rest = [jnp.zeros((batch, *shape[:-1], 2 * shape[-1])) for shape in work.shapes]
    run = jax_network.runner(work, cells, rest)
    return measure.Ready(run, delay=len(cells), notes={"neuron": "fires late, subtracts the threshold"})


if __name__ == "__main__":
    measure.main("spyx", build, ("spyx", "jax"))
