"""The equations in JAX: one compiled scan over time, as spyx would run them, without spyx's neurons."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from peers import measure


def synapse(weight: Any, x: Any) -> Any:
    """x: [batch, ...]"""
    if weight.ndim == 4:
        return jax.lax.conv_general_dilated(x, weight, (1, 1), "VALID")
    return x.reshape(len(x), -1) @ weight.T


def build(work: measure.Work, batch: int) -> measure.Ready:
    weights = [jnp.asarray(w) for w in work.weights]
    x = jnp.asarray(np.swapaxes(work.x, 0, 1), jnp.float32)
    rest = [(jnp.zeros((batch, *shape)), jnp.zeros((batch, *shape))) for shape in work.shapes]

    def step(state: Any, now: Any) -> Any:
        after, fired = [], []
        for weight, threshold, (u, v) in zip(weights, work.thresholds, state, strict=True):
            u = work.keep_u * u + synapse(weight, now)
            v = work.keep_v * v + u
            fires = v > threshold
            after.append((u, jnp.where(fires, 0.0, v)))
            now = fires.astype(jnp.float32)
            fired.append(now.mean())
        return after, (now, jnp.stack(fired))

    walk = jax.jit(lambda x: jax.lax.scan(step, rest, x)[1])

    def run(rates: list[float] | None) -> Any:
        out, fired = walk(x)
        if rates is not None:
            rates += np.asarray(fired).mean(0).tolist()
        return np.swapaxes(np.asarray(out), 0, 1)

    return measure.Ready(run)


if __name__ == "__main__":
    measure.main("jax", build, ("jax",))
