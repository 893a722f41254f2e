"""spyx' exporter beside spyx' neurons."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import spyx
import spyx.nn as snn
from common import STEPS, main, thresholds, weights
from flax import nnx

jax.config.update("jax_enable_x64", True)


def linear(out: int, into: int, seed: int, bias: float = 0.1) -> Any:
    layer = nnx.Linear(into, out, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    layer.kernel[...] = jnp.asarray(weights((out, into), seed).T.astype(np.float32))
    layer.bias[...] = jnp.asarray((weights((out, 1), seed + 1)[:, 0] * bias).astype(np.float32))
    return layer


def lif(n: int, seed: int) -> Any:
    found = snn.LIF((n,), threshold=float(np.float32(thresholds((1,), seed)[0])), rngs=nnx.Rngs(0))
    found.beta.value = jnp.asarray(np.random.default_rng(seed).choice([0.5, 0.75, 0.875], n))  # exact in float32
    return found


def run(net: Any, x: Any, n_in: int, n_out: int) -> Any:
    graph = spyx.nir.to_nir(net, {"input": np.array([n_in])}, {"output": np.array([n_out])}, dt=2.0**-13)
    y, _ = snn.run(net, jnp.repeat(jnp.asarray(x)[None], STEPS, axis=0))
    return graph, np.moveaxis(np.asarray(y), 0, 1)


def fc(bias: float) -> Any:
    return lambda x: run(snn.Sequential(linear(24, 12, 1), lif(24, 2), linear(8, 24, 3, bias), lif(8, 4)), x, 12, 8)


if __name__ == "__main__":
    main(("spyx", "jax", "flax"), {"fc, LIF": ((12,), fc(0.0)), "fc, LIF, all layers biased": ((12,), fc(0.1))})
