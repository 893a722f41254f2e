"""The deployed network in the metrics of NeuroBench, by its names, and its synops by the form of their weights.

What NeuroBench 2.3.0's harness says of a PyTorch model, these say of the integers on the chip; on the same network
they are equal (``tests/test_neurobench.py``). Its other metrics are of a PyTorch module (bytes of float parameters,
changes of a float membrane between two hooks), and have no counterpart here.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnergy.deploy.activity import Activity
from snnergy.deploy.fanout import fan_in
from snnergy.export.maps import Conv, Dense, Map, weights
from snnergy.export.quantnet import QuantNet

FORMS = ("dense", "convolution", "sparse")


def metrics(net: QuantNet, activity: Activity) -> dict[str, Any]:
    """Of the mean sample.

    ConnectionSparsity: share of the stored weights that are 0; a convolution's kernel is stored once
    ActivationSparsity: share of neurons and steps without a spike, readouts left out
    SynapticOperations: additions (input of 0 and 1) and multiplications (graded input) by weights that are not 0 for
    inputs that are not 0, and all of them, zeros included, as ``Dense``; biases are not counted
    """
    stored = [weights(e.map) for e in net.projections]
    size = sum(w.size for w in stored)
    fires = [p for p in net.populations if p.spiking]
    places = activity.samples * net.steps * sum(prod(p.shape) for p in fires)
    spikes = sum(int(activity.spikes[p.name].sum()) for p in fires)
    graded = {s.name for s in net.sources if s.bits > 1}
    effective = {False: 0.0, True: 0.0}
    for e in net.projections:
        effective[e.source in graded] += _synops(e.map, activity.spikes[e.source]) / activity.samples
    return {
        "ConnectionSparsity": 1 - sum(int(np.count_nonzero(w)) for w in stored) / size if size else 0.0,
        "ActivationSparsity": 1 - spikes / places if places else 0.0,
        "SynapticOperations": {
            "Effective_MACs": effective[True],
            "Effective_ACs": effective[False],
            "Dense": float(net.steps * sum(_all(e.map) for e in net.projections)),
        },
    }


def by_form(net: QuantNet, activity: Activity) -> dict[str, float]:
    """FORMS -> synops of an inference; together they are the report's."""
    found: dict[str, float] = dict.fromkeys(FORMS, 0.0)
    for e in net.projections:
        kind = "dense" if isinstance(e.map, Dense) else "convolution" if isinstance(e.map, Conv) else "sparse"
        found[kind] += _synops(e.map, activity.spikes[e.source]) / activity.samples
    return found


def _synops(linear: Map, spikes: NDArray[np.int64]) -> int:
    """spikes: int64[steps, n_in]"""
    reached = fan_in(linear, np.arange(prod(linear.output_shape)))
    return int(spikes.sum(axis=0)[reached.sources] @ reached.synapses)


def _all(linear: Map) -> int:
    """Synapses, those of weight 0 too; where a kernel hangs over the border there is none."""
    if isinstance(linear, Conv):
        met = [sum(o.size for o, _ in linear.taps(axis)) for axis in (0, 1)]
        return linear.weight.shape[0] * linear.weight.shape[1] * prod(met)
    return weights(linear).size
