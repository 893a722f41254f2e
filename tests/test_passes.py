from typing import Any

import numpy as np
import pytest
from builders import DT_S, nir_graphs
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from snnergy.export.lower import from_nir
from snnergy.export.maps import Conv, Dense, Map, Sparse
from snnergy.export.net import Net, Population, Projection, Source, dump, verify
from snnergy.export.passes import PASSES, Pass, diagonal_to_depthwise, drop_silent, group_blocks


def matrices(net: Net) -> list[tuple[str, str, Any]]:
    return [(e.source, e.target, e.map.matrix().toarray()) for e in net.projections if e.map.matrix().nnz]


def one(linear: Map) -> Net:
    n = int(np.prod(linear.output_shape))
    population = Population("n", linear.output_shape, np.zeros(n), np.zeros(n), np.ones(n), np.zeros(n))
    return Net((Source("x", linear.input_shape),), (population,), (Projection("x", "n", linear),), ("n",), DT_S)


@settings(max_examples=30)
@given(nir_graphs())
def test_every_pass_keeps_the_matrices_and_twice_is_once(drawn: Any) -> None:
    net = from_nir(drawn[0], DT_S)
    for rewrite in PASSES:
        once = rewrite(net)
        verify(once)
        for (a, b, x), (c, d, y) in zip(matrices(net), matrices(once), strict=True):
            assert (a, b) == (c, d)
            np.testing.assert_array_equal(x, y)
        assert dump(rewrite(once)) == dump(once)
        net = once


@pytest.mark.parametrize("rewrite", PASSES)
def test_a_pass_leaves_its_input_alone(rewrite: Pass) -> None:
    weight = np.kron(np.eye(2), np.ones((2, 2)))[:, :, None, None]
    net = one(Conv(weight, (4, 2, 2)))
    before = dump(net)
    rewrite(net)
    assert dump(net) == before and net.projections[0].map.weight is weight


def test_drop_silent_removes_only_what_is_zero() -> None:
    net = one(Dense(np.zeros((2, 2)), (2,), (2,)))
    assert drop_silent(net).projections == ()
    kept = one(Dense(np.array([[0.0, -1e-300]]), (2,), (1,)))
    assert drop_silent(kept).projections == kept.projections


@pytest.mark.parametrize(
    ("scale", "becomes"),
    [
        ([[2, 2, 2, 2], [3, 3, 3, 3]], Conv),
        ([[2, 2, 2, 1], [3, 3, 3, 3]], Sparse),
        ([[2, 2, 2, 2], [3, 3, 3, 0]], Sparse),
    ],
)
def test_only_a_diagonal_with_one_value_a_channel_becomes_depthwise(scale: Any, becomes: type) -> None:
    matrix = csr_array(np.diag(np.array(scale, float).ravel()))
    net = one(Sparse(matrix, (2, 2, 2), (2, 2, 2)))
    (after,) = diagonal_to_depthwise(net).projections
    assert type(after.map) is becomes
    np.testing.assert_array_equal(after.map.matrix().toarray(), matrix.toarray())


def test_a_permutation_stays_listed() -> None:
    matrix = csr_array(np.eye(8)[::-1])
    assert isinstance(diagonal_to_depthwise(one(Sparse(matrix, (2, 2, 2), (2, 2, 2)))).projections[0].map, Sparse)


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2**32))
def test_block_diagonal_kernels_are_grouped(groups: int, out: int, per_group: int, seed: int) -> None:
    weight = np.zeros((groups * out, groups * per_group, 2, 1))
    rng = np.random.default_rng(seed)
    for g in range(groups):
        block = rng.integers(1, 9, (out, per_group, 2, 1))
        weight[g * out : (g + 1) * out, g * per_group : (g + 1) * per_group] = block
    net = one(Conv(weight, (groups * per_group, 3, 2)))
    (after,) = group_blocks(net).projections
    assert isinstance(after.map, Conv) and after.map.groups == groups
    np.testing.assert_array_equal(after.map.matrix().toarray(), net.projections[0].map.matrix().toarray())


def test_one_weight_across_blocks_keeps_the_kernel_whole() -> None:
    weight = np.kron(np.eye(2), np.ones((2, 2)))[:, :, None, None]
    weight[0, 3] = 1e-9
    (after,) = group_blocks(one(Conv(weight, (4, 1, 1)))).projections
    assert isinstance(after.map, Conv) and after.map.groups == 1
