"""A step by vectors is a step of one neuron after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from snnergy.deploy import kernels, lanes

LIMIT = 2**23
vectors = pytest.mark.skipif(not lanes.AVAILABLE, reason="this CPU has no AVX-512 VNNI, or numba does not compile")


@vectors
@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 200), st.booleans(), st.booleans(), st.integers(0, 12), st.booleans())
def test_a_step_by_vectors_is_the_step(seed: int, n: int, cuba: bool, subtract: bool, shift: int, anew: bool) -> None:
    rng = np.random.default_rng(seed)
    edges = np.array([-LIMIT, -LIMIT + 1, -4096, -4095, -1, 0, 1, 4095, 4096, LIMIT - 1, LIMIT])

    def values(low: int, high: int) -> Any:
        drawn = np.where(rng.random(300) < 0.3, rng.choice(edges, 300), rng.integers(low, high, 300))
        return np.clip(drawn, low, high).astype(np.int32)

    at, of, own, first = (int(k) for k in rng.integers(0, 90, 4))
    current = values(-(2**20), 2**20)
    keeps = [rng.choice([0, 1, 2047, 4095, 4096], 300).astype(np.int32) for _ in range(2)]
    ceiling, bias = values(-5, LIMIT), values(-LIMIT, LIMIT)
    back = values(0 if subtract else -LIMIT, LIMIT)
    state = [values(-LIMIT, LIMIT), values(-LIMIT, LIMIT)]
    out, counts = rng.integers(0, 255, 300).astype(np.uint8), rng.integers(0, 2**15, 300).astype(np.uint16)
    found: list[list[Any]] = []
    for advance in (by_lanes, by_steps):
        u, v, o, c = (x.copy() for x in (*state, out, counts))
        advance(n, current, o, at, c, of, u, v, own, *keeps, ceiling, bias, back, first, cuba, subtract, shift, anew)
        found.append([u, v, o, c])
    for name, a, b in zip(("current", "membrane", "spikes", "counts"), *found, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)


by_steps = njit(kernels._advance)
by_lanes = njit(lanes._advance)
