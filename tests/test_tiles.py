"""Boxes of neurons: every cut is a partition in as many parts as asked, and sums are those of numpy."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from mapping import SEEDS

from snnergy.deploy.tiles import Box, Sums, cut, least, mask, union, whole


def drawn(rng: np.random.Generator, most: int = 6) -> tuple[Box, np.ndarray, Sums]:
    """A population, a weight of every neuron, and its sums; now and then all channels are alike."""
    shape = tuple(int(n) for n in rng.integers(1, most, 3))
    weight = rng.random(shape) * (rng.random(shape) < 0.6)
    alike = rng.random() < 0.3
    if alike:
        weight = np.broadcast_to(weight[:1], shape)
    return whole(shape), weight, Sums(weight[:1] if alike else weight)


def part(rng: np.random.Generator, of: Box) -> Box:
    """Some box of a population, never empty."""
    low = [int(rng.integers(0, n)) for n in of.shape]
    high = [int(rng.integers(a + 1, n + 1)) for a, n in zip(low, of.shape, strict=True)]
    return Box(of.shape, tuple(low), tuple(high))  # type: ignore[arg-type]


@given(SEEDS)
def test_sums_of_boxes_are_those_of_their_neurons(seed: int) -> None:
    rng = np.random.default_rng(seed)
    everything, weight, sums = drawn(rng)
    box = part(rng, everything)
    inside = weight[tuple(slice(a, b) for a, b in zip(box.low, box.high, strict=True))]
    assert box.size == inside.size == box.neurons.size
    np.testing.assert_allclose(sums.of(box), weight.ravel()[box.neurons].sum(), atol=1e-12)
    for axis in range(3):
        slabs = np.moveaxis(inside, axis, 0).reshape(inside.shape[axis], -1).sum(axis=1)
        np.testing.assert_allclose(sums.along(box, axis), slabs.cumsum(), atol=1e-12)


@given(SEEDS, st.data())
def test_every_cut_is_a_partition_in_as_many_parts_as_asked(seed: int, data: st.DataObject) -> None:
    everything, _, sums = drawn(np.random.default_rng(seed))
    parts = cut(everything, data.draw(st.integers(1, everything.size)), sums)
    assert np.array_equal(np.sort(np.concatenate([p.neurons for p in parts])), np.arange(everything.size))
    assert all(p.size for p in parts) and len(parts) == len(set(parts))


def test_a_cut_is_fair_where_it_can_be() -> None:
    everything, sums = whole((8, 32, 32)), Sums(np.ones((1, 32, 32)))
    for count in (2, 3, 4, 7, 16):
        sizes = [sums.of(p) for p in cut(everything, count, sums)]
        assert max(sizes) <= 1.3 * sum(sizes) / count
    busy = np.ones((1, 32, 32))
    busy[0, :8, :8] = 50.0
    corner = [p for p in cut(everything, 16, Sums(busy)) if max(p.low[1:]) < 8]
    assert len(corner) > 8


def test_channels_are_cut_only_where_one_pixel_is_left() -> None:
    assert {p.sides[0] for p in cut(whole((6, 2, 2)), 4, Sums(np.ones((1, 2, 2))))} == {6}
    assert [p.sides for p in cut(whole((6,)), 3, Sums(np.ones((1, 1, 1))))] == [(2, 1, 1)] * 3


@given(SEEDS, st.integers(1, 5))
def test_a_union_counts_every_neuron_once(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    everything, _, _ = drawn(rng)
    boxes = [part(rng, everything) for _ in range(count)]
    listed = [box.neurons if rng.random() < 0.3 else box for box in boxes]
    expected = np.unique(np.concatenate([box.neurons for box in boxes])).size
    assert union(listed) == union(boxes) == expected == mask(boxes)[0].sum()
    assert union([]) == 0


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 50))
def test_the_least_that_succeeds_is_found(low: int, more: int, first: int) -> None:
    high = low + more
    found = least(low, high, lambda n: n if n >= first else None)
    assert found == (max(low, first) if first <= high else None)
