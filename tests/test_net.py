from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from builders import SMALL, spiking_model
from scipy.sparse import csr_array

from snnergy.errors import UnsupportedLayer
from snnergy.export.from_torch import to_nir
from snnergy.export.lower import lower
from snnergy.export.maps import Dense, Sparse
from snnergy.export.net import (
    Net,
    Population,
    Projection,
    Source,
    count_synapses,
    dump,
    incoming,
    neurons,
    order,
    verify,
)


def pop(name: str, n: int = 2, threshold: float = 1.0) -> Population:
    return Population(name, (n,), np.full(n, 0.5), np.zeros(n), np.full(n, threshold), np.zeros(n))


def edge(source: str, target: str, n: int = 2) -> Projection:
    return Projection(source, target, Dense(np.eye(n), (n,), (n,)))


def net(*edges: Projection, populations: Any = ("a", "b", "c")) -> Net:
    return Net((Source("x", (2,)),), tuple(pop(n) for n in populations), edges, (populations[-1],), 1e-3)


def small_net(**changes: Any) -> Net:
    shapes = dict.fromkeys(("audio", "video"), (1, SMALL.image_size, SMALL.image_size))
    return lower(to_nir(spiking_model(**changes), shapes, 1e-4, SMALL.timesteps), 1e-4)


def test_dump_of_a_one_block_network(golden: Callable[[str], None]) -> None:
    golden(dump(small_net(blocks=(0, 0, 1), modalities="video")))


def test_dump_of_a_pooling_network(golden: Callable[[str], None]) -> None:
    golden(dump(small_net(downsample="pool", modalities="audio")))


def test_order_puts_every_population_after_what_feeds_it() -> None:
    edges = (edge("c", "b"), edge("x", "c"), edge("b", "a"), edge("x", "a"))
    assert [p.name for p in order(net().populations, edges)] == ["c", "b", "a"]


def test_order_keeps_ties_and_is_stable() -> None:
    edges = (edge("x", "b"), edge("x", "a"), edge("x", "c"))
    once = order(net().populations, edges)
    assert [p.name for p in once] == ["a", "b", "c"] == [p.name for p in order(once, edges)]


def test_order_names_a_loop_in_the_direction_of_its_spikes() -> None:
    edges = (edge("a", "b"), edge("b", "c"), edge("c", "a"))
    with pytest.raises(UnsupportedLayer) as error:
        order(net().populations, edges)
    path = str(error.value).removeprefix("the loop ").removesuffix(" has no delay").split(" -> ")
    assert path[0] == path[-1]
    assert all(any((e.source, e.target) == pair for e in edges) for pair in pairwise(path))


def test_incoming_keeps_the_order_of_the_projections() -> None:
    first, second, third = edge("x", "a"), edge("x", "b"), edge("b", "a")
    assert incoming((first, second, third)) == {"a": [first, third], "b": [second]}


def test_counts() -> None:
    found = net(edge("x", "a"), edge("a", "b"))
    assert neurons(found) == 6 and count_synapses(found.projections) == 4


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (replace(net(), sources=(Source("a", (2,)),)), "two nodes share a name"),
        (net(edge("x", "ghost")), "x -> ghost"),
        (net(edge("x", "a", 3)), "x -> a"),
        (net(Projection("x", "a", Dense(np.full((2, 2), np.nan), (2,), (2,)))), "x -> a"),
        (replace(net(), populations=(replace(pop("a"), decay=np.full(2, 1.5)),)), "a"),
        (replace(net(), populations=(replace(pop("a"), bias=np.full(2, np.inf)),)), "a"),
        (replace(net(), populations=(replace(pop("a"), threshold=np.ones(3)),)), "a"),
        (replace(net(), outputs=("x",)), "an output is not a population"),
    ],
)
def test_verify_names_what_is_broken(broken: Net, message: str) -> None:
    with pytest.raises(AssertionError) as error:
        verify(broken)
    assert str(error.value).split("\n")[0] == message


def test_a_projection_without_a_synapse_prints() -> None:
    nothing = Projection("x", "a", Sparse(csr_array((2, 1)), (1,), (2,)))
    net = Net((Source("x", (1,)),), (pop("a"),), (nothing,), ("a",), 1e-4)
    assert "    <- x sparse 1->2 (0 synapses) w none" in dump(net).splitlines()
