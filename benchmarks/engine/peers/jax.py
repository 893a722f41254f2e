"""The equations in JAX: one compiled scan over time, as spyx would run them, without spyx's neurons."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from peers import jax_network, measure


def build(work: measure.Work, batch: int) -> measure.Ready:
    def layer(threshold: float) -> jax_network.Layer:
        def step(current: Any, kept: Any) -> Any:
            u = work.keep_u * kept[0] + current
            v = work.keep_v * kept[1] + u
            fires = v > threshold
            return fires.astype(jnp.float32), (u, jnp.where(fires, 0.0, v))

        return step

    rest = [(jnp.zeros((batch, *shape)), jnp.zeros((batch, *shape))) for shape in work.shapes]
    return measure.Ready(jax_network.runner(work, [layer(t) for t in work.thresholds], rest))


if __name__ == "__main__":
    measure.main("jax", build, ("jax",))
