"""A part is what only one input reaches, what several do, or an output."""

from __future__ import annotations

import numpy as np
from builders import population, quantnet, readout

from snnergy.deploy.parts import parts
from snnergy.export.maps import Dense
from snnergy.export.quantnet import QuantProjection, QuantSource


def test_streams_fusion_and_head() -> None:
    one = Dense(np.ones((1, 1), np.int8), (1,), (1,))
    edges = [
        ("a", "a1"),
        ("b", "b1"),
        ("a1", "both"),
        ("b1", "both"),
        ("both", "out"),
        ("both", "back"),
        ("back", "b1"),
    ]
    net = quantnet(
        [QuantSource("a", (1,), 1, 1.0), QuantSource("b", (1,), 1, 1.0)],
        [population(name, (1,)) for name in ("a1", "b1", "both", "back", "alone")] + [readout("out", (1,))],
        [QuantProjection(x, y, one, 0, int((x, y) == ("back", "b1"))) for x, y in edges],
        2,
        outputs=("out",),
    )
    assert parts(net) == {
        "a": "a stream",
        "b": "b stream",
        "a1": "a stream",
        "b1": "fusion",  # what is fused comes back to it
        "both": "fusion",
        "back": "fusion",
        "alone": "fusion",
        "out": "head",
    }
