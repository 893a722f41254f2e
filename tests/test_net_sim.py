"""``net_sim`` against the Population equation by hand; against NIR it stands in test_lower."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from snnergy.export import net_sim
from snnergy.export.maps import Dense
from snnergy.export.net import Net, Population, Projection, Source


def full(*values: float) -> Any:
    return np.array(values)


def one(decay: float, threshold: float, bias: float) -> Net:
    return Net(
        (Source("x", (1,)),),
        (Population("n", (1,), full(decay), full(0), full(threshold), full(bias)),),
        (Projection("x", "n", Dense(np.ones((1, 1)), (1,), (1,))),),
        ("n",),
        1e-3,
    )


@given(st.floats(0, 1), st.floats(0, 2), st.floats(-1, 1), st.floats(0, 1))
def test_a_neuron_by_hand(decay: float, threshold: float, bias: float, x: float) -> None:
    v, expected = 0.0, []
    for _ in range(8):
        v = decay * v + (x + bias)
        expected.append(v > threshold)
        v = 0.0 if expected[-1] else v
    found = net_sim.run(one(decay, threshold, bias), {"x": full(x)[:, None]}, 8)["n"]
    assert found.ravel().tolist() == expected


def test_a_readout_gives_its_membrane_at_every_step() -> None:
    found = net_sim.run(one(0.5, np.inf, 1.0), {"x": np.array([[0.0], [1.0]])}, 3)["n"]
    assert found[:, :, 0].tolist() == [[1.0, 1.5, 1.75], [2.0, 3.0, 3.5]]


def test_samples_do_not_touch_each_other() -> None:
    x = np.random.default_rng(0).random((5, 1))
    together = net_sim.run(one(0.9, 1.0, 0.1), {"x": x}, 10)["n"]
    apart = [net_sim.run(one(0.9, 1.0, 0.1), {"x": x[k : k + 1]}, 10)["n"] for k in range(5)]
    np.testing.assert_array_equal(together, np.concatenate(apart))
