"""Readouts that one core cannot feed, in parts that several can, because integrators add up.

A readout that forgets nothing holds the sum of its inputs, so the inputs may be shared out over parts of it and the
host adds the parts. That is exact, but for a projection that is shifted to the right and too large for one core: its
sum is rounded down once, the sums of its parts each, and ``lossy`` says so. A neuron that fires or forgets cannot be
split, and is refused by ``place``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import count, islice
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array

from snnergy.deploy.fit import adds_up, bytes_of_lists, limit
from snnergy.export.maps import Conv, Map, Sparse
from snnergy.export.net import incoming
from snnergy.export.quantnet import QuantNet, QuantPopulation, QuantProjection, verify
from snnergy.hardware_profiles import CoreLimits, Profile

I64 = NDArray[np.int64]
PART = ".part"
"""Between the name of a readout and the number of its part."""


def split(net: QuantNet, profile: Profile) -> QuantNet:
    """The network with every readout whose neurons have too many inputs in parts; the same object where none has.

    An input of a readout takes an axon and a list of synapses; parts take inputs in order until a core is full.
    """
    feeds = incoming(net.projections)
    for p in net.populations:
        if adds_up(p, net) and _too_much(feeds.get(p.name, []), net.weight_bits, profile.core):
            parts = _share(feeds[p.name], net.weight_bits, profile.core)
            if len(parts) > 1:
                net = _replaced(net, p, parts)
    return net


def gather(outputs: Mapping[str, NDArray[Any]], net: QuantNet) -> dict[str, I64]:
    """The outputs of the network before ``split``: parts added up. outputs: name -> [samples, n] of the split one."""
    there = {p.name for p in net.populations}

    def mine(key: str, name: str) -> bool:
        begins, _, number = key.rpartition(PART)
        return key == name or (begins == name and number.isdecimal() and key not in there)

    return {name: sum((x for key, x in outputs.items() if mine(key, name)), np.int64(0)) for name in net.outputs}  # pyright: ignore[reportReturnType]


def _too_much(feeds: list[QuantProjection], bits: int, core: CoreLimits) -> bool:
    """Whether a core is too small for some neuron by itself; of a convolution all kernels are taken to be inside."""
    axons: int | I64 = 0
    memory: int | I64 = 0
    for e in feeds:
        if isinstance(e.map, Conv):
            area = prod(e.map.output_shape[1:])
            kernels = np.count_nonzero(e.map.weight, axis=(1, 2, 3))
            axons = axons + np.repeat(kernels, area)
            memory = memory + np.repeat(bytes_of_lists(kernels, bits, core), area)
        else:
            matrix: Any = e.map.matrix()
            axons = axons + np.diff(matrix.indptr)
            memory = memory + np.diff(matrix.indptr) * bytes_of_lists(np.array([1]), bits, core)
    needs = {"in_axons": axons, "synapse_bytes": memory}
    return any(bool(np.any(need > (limit(core, name) or np.inf))) for name, need in needs.items())


def _share(feeds: list[QuantProjection], bits: int, core: CoreLimits) -> list[dict[int, tuple[int, int]]]:
    """For each part: index of a feed -> the columns of its matrix, from and to."""
    most_axons = limit(core, "in_axons") or np.inf
    most_bytes = limit(core, "synapse_bytes") or np.inf
    parts: list[dict[int, tuple[int, int]]] = [{}]
    axons = memory = 0
    for k, e in enumerate(feeds):
        counts = np.diff(csc_array(e.map.matrix()).indptr)
        lists = bytes_of_lists(counts, bits, core)
        if lists.max(initial=0) > most_bytes:  # the neurons of a part share several cores
            lists = bytes_of_lists(np.minimum(counts, 1), bits, core)
        every = int((counts > 0).sum()), int(lists.sum())
        alone = every[0] <= most_axons and every[1] <= most_bytes
        if e.exponent < 0 and alone and (axons + every[0] > most_axons or memory + every[1] > most_bytes):
            parts.append({})  # whole, it is rounded as before
            axons = memory = 0
        start = 0
        for i, (size, synapses) in enumerate(zip(lists.tolist(), counts.tolist(), strict=True)):
            if axons + (synapses > 0) > most_axons or memory + size > most_bytes:
                if i > start:
                    parts[-1][k] = (start, i)
                parts.append({})
                start, axons, memory = i, 0, 0
            axons, memory = axons + (synapses > 0), memory + size
        parts[-1][k] = (start, len(lists))
    return [part for part in parts if part]


def _replaced(net: QuantNet, p: QuantPopulation, parts: list[dict[int, tuple[int, int]]]) -> QuantNet:
    """The network with ``p`` in parts; the first keeps the bias."""
    feeds = incoming(net.projections)[p.name]
    there = {n.name for n in (*net.sources, *net.populations)}
    free = (name for k in count() if (name := f"{p.name}{PART}{k}") not in there)
    names = list(islice(free, len(parts)))
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
        lossy=(*net.lossy, *_rounded(p, feeds, parts)),
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


def _rounded(p: QuantPopulation, feeds: list[QuantProjection], parts: list[dict[int, tuple[int, int]]]) -> list[str]:
    """A line for every divided projection whose sums are shifted to the right."""
    times = {k: sum(k in part for part in parts) for k in range(len(feeds))}
    return [
        f"{p.name}: what {e.source} sends is summed on {times[k]} cores, and rounded down on each"
        for k, e in enumerate(feeds)
        if e.exponent < 0 and times[k] > 1
    ]
