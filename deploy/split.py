"""Readouts that one core cannot feed, in parts that several can: exact, because integrators add up.

A readout that forgets nothing holds the sum of its inputs, so the inputs may be shared out over parts of it and the
host adds the parts. A neuron that fires or forgets cannot be split so, and is refused by ``place``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array

from snnergy.deploy.fit import adds_up, limit
from snnergy.export.maps import Map, Sparse
from snnergy.export.net import incoming
from snnergy.export.quantnet import QuantNet, QuantPopulation, QuantProjection, verify
from snnergy.hardware_profiles import Profile

I64 = NDArray[np.int64]
PART = ".part"
"""Between the name of a readout and the number of its part."""


def split(net: QuantNet, profile: Profile) -> QuantNet:
    """The network with every readout in as many parts as its inputs need; the same object where none needs any.

    An input of a readout takes an axon and a list of synapses; parts take inputs in order until a core is full.
    """
    feeds = incoming(net.projections)
    for p in net.populations:
        if adds_up(p, net):
            parts = _share(p, feeds.get(p.name, []), net.weight_bits, profile)
            if len(parts) > 1:
                net = _replaced(net, p, parts)
    return net


def gather(outputs: Mapping[str, NDArray[Any]], net: QuantNet) -> dict[str, I64]:
    """The outputs of the network before ``split``: parts added up. outputs: name -> [samples, n] of the split one."""
    return {
        name: sum((x for key, x in outputs.items() if key == name or key.startswith(name + PART)), np.int64(0))
        for name in net.outputs
    }  # pyright: ignore[reportReturnType]


def _share(
    p: QuantPopulation, feeds: list[QuantProjection], bits: int, profile: Profile
) -> list[dict[int, tuple[int, int]]]:
    """For each part: index of a feed -> the columns of its matrix, from and to."""
    most_axons = limit(profile.core, "in_axons") or np.inf
    most_bytes = limit(profile.core, "synapse_bytes") or np.inf
    word = 8 * (limit(profile.core, "synapse_word_bytes") or 1)
    header = 8 * (limit(profile.core, "synapse_header_bytes") or 0)
    parts: list[dict[int, tuple[int, int]]] = [{}]
    axons = memory = 0
    for k, e in enumerate(feeds):
        counts = np.diff(csc_array(e.map.matrix()).indptr)
        lists = np.where(counts > 0, -(-(header + counts * bits) // word) * (word // 8), 0)
        start = 0
        for i, (size, count) in enumerate(zip(lists.tolist(), counts.tolist(), strict=True)):
            if axons + (count > 0) > most_axons or memory + size > most_bytes:
                if i > start:
                    parts[-1][k] = (start, i)
                parts.append({})
                start, axons, memory = i, 0, 0
            axons, memory = axons + (count > 0), memory + size
        parts[-1][k] = (start, len(lists))
    return parts


def _replaced(net: QuantNet, p: QuantPopulation, parts: list[dict[int, tuple[int, int]]]) -> QuantNet:
    """The network with ``p`` in parts; the first keeps the bias."""
    feeds = incoming(net.projections)[p.name]
    names = [f"{p.name}{PART}{k}" for k in range(len(parts))]
    none = np.zeros_like(p.bias_mantissa)
    populations = [replace(p, name=name, bias_mantissa=none if k else p.bias_mantissa) for k, name in enumerate(names)]
    projections = [
        replace(feeds[k], target=name, map=_columns(feeds[k].map, *where))
        for name, part in zip(names, parts, strict=True)
        for k, where in part.items()
    ]
    at = net.populations.index(p)
    found = replace(
        net,
        populations=(*net.populations[:at], *populations, *net.populations[at + 1 :]),
        projections=(*(e for e in net.projections if e.target != p.name), *projections),
        outputs=tuple(n for name in net.outputs for n in (names if name == p.name else [name])),
    )
    verify(found)
    return found


def _columns(linear: Map, first: int, last: int) -> Map:
    """The map without the synapses of all other inputs."""
    matrix: Any = csr_array(linear.matrix())
    keep = (matrix.indices >= first) & (matrix.indices < last)
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))[keep]
    part = csr_array((matrix.data[keep], (rows, matrix.indices[keep])), shape=matrix.shape)
    return Sparse(part, linear.input_shape, linear.output_shape)
