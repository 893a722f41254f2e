from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config
from scipy.sparse import csr_array

from snnergy.deploy import amx, synapses, vnni
from snnergy.export.maps import Conv, Dense, Map, Sparse

NAMES = set(synapses.NAMES)
PLAIN = bool(config.DISABLE_JIT)  # kernels as plain Python are slow
SIDE, WIDTH = (6, 5) if PLAIN else (30, 40)


def random_map(rng: np.random.Generator) -> tuple[Map, tuple[int, ...], tuple[int, ...]]:
    """Any map with int8 weights, and the shapes of the nodes at its ends."""
    before: Any = (int(rng.integers(1, 2 * SIDE)),)
    if rng.random() < 0.4:
        c = int(rng.integers(1, 9))
        groups = int(rng.choice([d for d in range(1, c + 1) if c % d == 0]))
        before = (c, int(rng.integers(1, SIDE)), int(rng.integers(1, SIDE)))
        size = [int(rng.integers(1, min(n, 4) + 1)) for n in before[1:]]
        dilation = tuple(
            int(rng.integers(1, 3)) if 2 * (k - 1) < n else 1 for k, n in zip(size, before[1:], strict=True)
        )
        each = 1 if rng.random() < 0.3 else int(rng.integers(1, WIDTH))
        weight = rng.integers(-128, 128, (groups * each, c // groups, *size)).astype(np.int8)
        stride, padding = tuple(rng.integers(1, 3, 2).tolist()), tuple(rng.integers(0, 3, 2).tolist())
        conv = Conv(weight, before, stride, padding, dilation, groups)  # pyright: ignore
        return conv, before, conv.output_shape
    if rng.random() < 0.4:
        before = (3, 4, 2)
    after = (2, 3, 5) if rng.random() < 0.4 else (int(rng.integers(1, 4 * SIDE)),)
    weight = rng.integers(-128, 128, (prod(after), prod(before))).astype(np.int8)
    if rng.random() < 0.5:
        return Dense(weight, before, after), before, after
    return Sparse(csr_array(weight * (rng.random(weight.shape) < 0.3)), before, after), before, after


def place(shape: tuple[int, ...]) -> Any:
    found = synapses.order(shape)
    return np.arange(prod(shape)) if found is None else found


def check_every_path(seed: int) -> set[str]:
    rng = np.random.default_rng(seed)
    linear, before, after = random_map(rng)
    exponent, rows = int(rng.integers(-8, 4)), int(rng.integers(1, 2 * SIDE))
    x = rng.integers(0, 256 if rng.random() < 0.5 else 2, (rows, prod(before))) * (rng.random((rows, 1)) < rng.random())
    total = x @ linear.matrix().toarray().astype(np.int64).T
    expected = (total << exponent if exponent >= 0 else total >> -exponent)[:, place(after)]
    inside = np.ascontiguousarray(x[:, place(before)].astype(np.uint8))
    found = synapses.paths(linear, exponent, before, after)
    for path in found:
        for fresh in (True, False):
            start = rng.integers(-9, 10, expected.shape).astype(np.int32)
            current = start.copy()
            path.add(inside, current, fresh)
            np.testing.assert_array_equal(current, expected + (0 if fresh else start), err_msg=f"{path.name}: {linear}")
        assert path.cost(rows, int(np.count_nonzero(x))) > 0
    return {path.name for path in found}


@settings(max_examples=20 if PLAIN else 150)
@given(st.integers(0, 2**32))
def test_every_path_is_the_matrix(seed: int) -> None:
    check_every_path(seed)


def test_every_path_is_taken_by_some_map() -> None:
    here = set(NAMES) if amx.AVAILABLE else set(NAMES) - {"tiles"}
    assert set().union(*(check_every_path(seed) for seed in range(60))) == here


@pytest.mark.parametrize("product", [vnni.product, vnni.plain])
@pytest.mark.parametrize("outputs", [1, 16, 17, 32, 33, 64, 65, 130])
def test_every_height_of_tile_gives_the_product(outputs: int, product: Any) -> None:
    rng = np.random.default_rng(outputs)
    for rows in (1, 2, 3) if PLAIN else range(1, 20):
        for inputs in (4, 9) if PLAIN else (1, 3, 4, 9, 64):
            weight = rng.integers(-128, 128, (outputs, inputs)).astype(np.int8)
            x = np.zeros((rows + 1, inputs), np.uint8)  # and what a tile may read beyond
            x[:rows] = rng.integers(0, 256, (rows, inputs))
            packed, lanes, groups = vnni.pack(weight[:, None])
            sums = np.empty((rows, 16 * lanes * len(packed)), np.int32)
            product(
                np.concatenate([x.ravel(), x.ravel()[:4]]),
                0,
                inputs,
                rows,
                rows,
                np.zeros(1, np.int64),
                groups,
                packed,
                lanes,
                sums,
            )
            np.testing.assert_array_equal(sums[:, :outputs], x[:rows].astype(np.int64) @ weight.T.astype(np.int64))


@pytest.mark.skipif(not vnni.AVAILABLE, reason="without the instruction events win")
def test_a_quiet_row_goes_by_events_and_many_busy_ones_by_products() -> None:
    found = synapses.paths(Dense(np.ones((512, 784), np.int8), (784,), (512,)), 0, (784,), (512,))
    assert min(found, key=lambda p: p.cost(1, 0)).name == "events"
    assert min(found, key=lambda p: p.cost(100, 100 * 784)).name == "product"


def test_costs_add_up_as_the_model_says() -> None:
    """10 rows with 30 events: looking at inputs, events and their additions, putting sums into place."""
    ones = np.ones((600, 50), np.int8)

    def costs(linear: Map) -> dict[str, float]:
        return {p.name: p.cost(10, 30) for p in synapses.paths(linear, 0, linear.input_shape, linear.output_shape)}

    dense = costs(Dense(ones[:44, :40], (40,), (44,)))
    assert dense["events"] == pytest.approx(10 * 0.25 * 40 + 30 * (1.1 + 44 / 22))
    listed = costs(Sparse(csr_array(np.eye(8, 4, dtype=np.int8)), (4,), (8,)))
    assert listed == {"listed events": pytest.approx(10 * (0.25 * 4 + 8 / 5.5) + 30 * (9.5 + 1 * 0.8))}
    conv = Conv(ones.reshape(60, 2, 5, 50)[:, :, :3, :3], (2, 7, 8), stride=(2, 1))
    found = costs(conv)
    (out, h, w), packed = conv.output_shape, vnni.pack(conv.weight.transpose(0, 2, 3, 1).reshape(60, 3, 6))
    assert found["events"] == pytest.approx(10 * (0.25 * 112 + out * h * w / 5.5) + 30 * 4.5 * (8.5 + 60 / 30))
    tall = vnni.height(w, packed[1])
    macs = -(-w // tall) * tall / w * (1 + 2 / tall) * packed[0].size * h * w
    assert found["product"] == pytest.approx(10 * (macs / synapses.CONV_MACS_PER_NS + (112 + out * h * w) / 5.5))
    pool = costs(Conv(ones[:30, :4].reshape(30, 1, 2, 2), (30, 4, 4), stride=(2, 2), groups=30))
    assert pool["windows"] == pytest.approx(10 * 2 * 2 * 4 * (3 + 30 / 15))


def test_groups_go_one_by_one_where_that_wastes_less() -> None:
    assert synapses._worth(32, 4, 2) and synapses._worth(64, 16, 4)
    assert not synapses._worth(4, 2, 2) and not synapses._worth(16, 1, 4)
    tie = csr_array(np.pad(np.ones((1, 4), np.int8), ((0, 7), (0, 0))))  # an eighth is not dense yet
    assert [p.name for p in synapses.paths(Sparse(tie, (4,), (8,)), 0, (4,), (8,))] == ["listed events"]


def test_tiles_cost_their_lines_their_products_and_their_sums() -> None:
    """Three lines of 64 for a run of 3 x 50 inputs, 60 outputs in four columns of 16; one line for a run of 3 x 2."""
    for c_in, c_out, pieces in ((50, 60, 3), (2, 20, 1)):
        weight = np.ones((c_out, c_in, 5, 3), np.int8)
        conv = Conv(weight, (c_in, 9, 8), stride=(2, 1))
        _, h, w = conv.output_shape
        path = synapses._conv_tiles(conv, weight, 0)
        macs = h * w * -(-c_out // 16) * 16 * 5 * pieces * 64
        each = macs / synapses.PRODUCT_MACS_PER_NS + 1.5 * h * 2 * w * pieces + c_out * h * w / 20
        assert path.name == "tiles" and path.cost(10, 7) == pytest.approx(10 * each)


def test_tiles_are_offered_for_kernels_whose_rows_are_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amx, "AVAILABLE", True)

    def offered(groups: int = 1, dilation: int = 1) -> bool:
        weight = np.ones((4, 4 // groups, 3, 3), np.int8)
        conv = Conv(weight, (4, 9, 9), groups=groups, dilation=(1, dilation))
        return "tiles" in {p.name for p in synapses.paths(conv, 0, conv.input_shape, conv.output_shape)}

    assert offered() and not offered(groups=2) and not offered(dilation=2)
