"""Other ways of counting, by hand on a small network."""

from __future__ import annotations

import numpy as np
import pytest
from builders import population, quantnet, readout

from snnergy.deploy import baselines
from snnergy.export.maps import Conv, Dense
from snnergy.export.quantnet import QuantNet, QuantProjection, QuantSource


def net() -> QuantNet:
    """2 x 4 x 4 -> 3 x 2 x 2 by 3 x 3 kernels -> 5; 7 steps."""
    weight = np.ones((3, 2, 3, 3), np.int8)
    weight[0, 0] = 0  # multiplied all the same
    conv = Conv(weight, (2, 4, 4))
    dense = Dense(np.ones((5, 12), np.int8), (12,), (5,))
    return quantnet(
        [QuantSource("x", (2, 4, 4), 1, 1.0)],
        [population("c", (3, 2, 2)), readout("out", (5,))],
        [QuantProjection("x", "c", conv, 0), QuantProjection("c", "out", dense, 0)],
        7,
    )


def test_sizes_are_those_of_the_network_without_time() -> None:
    assert baselines.sizes(net()) == baselines.Sizes(54 * 4 + 60, 54 + 60, 17, 32)


def test_every_row_is_its_formula() -> None:
    counters = {"synops": 1000.0, "updates_active": 30.0, "updates_idle": 89.0}
    rows = {r["name"]: r for r in baselines.document(net(), counters)["rows"]}
    macs = 276
    words = 114 / 8 + 2 * 49 * 3 / 64  # 7 steps count 8 levels: 3 bits
    wanted = {
        "ANN of the same shape, fp32": macs * 4.6,
        "ANN of the same shape, int8": macs * 0.23,
        "quantised ANN, 3-bit activations, with memory": macs * 0.23 * 3 / 8 + words * 10,
        "SNN as papers count it, 0.9 pJ a synop": 900.0,
        "KerasSpiking: CPU, Intel i7-4960X": (macs + 17) * 7 * 8600.0,
        "KerasSpiking: Loihi": 1000 * 27.1 + 119 * 81,
    }
    for name, energy_pj in wanted.items():
        assert rows[name]["energy_pj"] == pytest.approx(energy_pj), name
    assert len(rows) == 4 + len(baselines.DEVICES)
    assert all(r["source"] and r["leaves_out"] for r in rows.values())


def test_more_weights_are_read_from_a_larger_memory() -> None:
    large = Dense(np.ones((100, 400), np.int8), (400,), (100,))
    big = quantnet(
        [QuantSource("x", (400,), 1, 1.0)], [readout("out", (100,))], [QuantProjection("x", "out", large, 0)], 1
    )
    row = baselines.document(big, {"synops": 0.0, "updates_active": 0.0, "updates_idle": 0.0})["rows"][2]
    assert row["energy_pj"] == pytest.approx(40_000 * 0.23 / 8 + (40_000 / 8 + 2 * 500 / 64) * 100)
