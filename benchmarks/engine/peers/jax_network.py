"""What the peers on JAX share: synapses, and one compiled scan over time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from peers import measure

Layer = Callable[[Any, Any], tuple[Any, Any]]
"""``layer(current, kept)``: float32 spikes and the state that is kept; current: [batch, ...], from the synapses."""


def synapse(weight: Any, x: Any) -> Any:
    """x: [batch, ...]"""
    if weight.ndim == 4:
        return jax.lax.conv_general_dilated(x, weight, (1, 1), "VALID")
    return x.reshape(len(x), -1) @ weight.T


def runner(work: measure.Work, layers: list[Layer], rest: list[Any]) -> Callable[[list[float] | None], Any]:
    """The timed part of ``measure.Ready``; rest: the state that each layer starts from."""
    weights = [jnp.asarray(w) for w in work.weights]
    x = jnp.asarray(np.swapaxes(work.x, 0, 1), jnp.float32)

    def step(state: Any, now: Any) -> Any:
        after, fired = [], []
        for weight, layer, kept in zip(weights, layers, state, strict=True):
            now, kept = layer(synapse(weight, now), kept)
            after.append(kept)
            fired.append(now.mean())
        return after, (now, jnp.stack(fired))

    walk = jax.jit(lambda x: jax.lax.scan(step, rest, x)[1])

    def run(rates: list[float] | None) -> Any:
        out, fired = walk(x)
        if rates is not None:
            rates += np.asarray(fired).mean(0).tolist()
        return np.swapaxes(np.asarray(out), 0, 1)

    return run
