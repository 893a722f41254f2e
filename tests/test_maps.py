from math import prod
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from snnergy.export.maps import Conv, Dense, Sparse, synapses, weights, with_weights

pytestmark = pytest.mark.usefixtures("one_thread")


@st.composite
def convs(draw: st.DrawFn) -> Conv:
    """Kernels up to 4 by 4, strides, paddings and dilations per axis, groups; some weights are 0."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    groups = draw(st.integers(1, 3))
    per_group, per_out = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    pairs = {key: (draw(st.integers(*ends)), draw(st.integers(*ends))) for key, ends in
             {"kernel": (1, 4), "stride": (1, 3), "padding": (0, 3), "dilation": (1, 3)}.items()}  # fmt: skip
    spans = [d * (k - 1) + 1 for k, d in zip(pairs["kernel"], pairs["dilation"], strict=True)]
    size = [max(1, s - 2 * p) + draw(st.integers(0, 4)) for s, p in zip(spans, pairs["padding"], strict=True)]
    weight = rng.integers(-3, 4, (groups * per_out, per_group, *pairs.pop("kernel"))).astype(np.float64)
    shape: Any = (groups * per_group, *size)
    return Conv(weight, shape, **pairs, groups=groups)


@given(convs(), st.integers(0, 2**32))
def test_conv_is_torchs_conv2d(conv: Conv, seed: int) -> None:
    x = np.random.default_rng(seed).integers(-5, 6, conv.input_shape).astype(np.float64)
    theirs = torch.nn.functional.conv2d(
        torch.from_numpy(x)[None], torch.from_numpy(conv.weight), None, conv.stride, conv.padding, conv.dilation,
        conv.groups,
    )[0].numpy()  # fmt: skip
    assert conv.output_shape == theirs.shape
    np.testing.assert_array_equal(conv.matrix() @ x.ravel(), theirs.ravel())


@given(convs())
def test_synapses_are_the_stored_entries_of_the_matrix(conv: Conv) -> None:
    assert synapses(conv) == conv.matrix().nnz == np.count_nonzero(conv.matrix().toarray())


@given(convs())
def test_taps_stay_inside_and_name_what_each_output_reads(conv: Conv) -> None:
    for axis in (0, 1):
        for k, (out, read) in enumerate(conv.taps(axis)):
            assert ((read >= 0) & (read < conv.input_shape[1 + axis])).all()
            expected = out * conv.stride[axis] + k * conv.dilation[axis] - conv.padding[axis]
            np.testing.assert_array_equal(read, expected)


def test_matrix_of_a_dense_and_a_sparse_map_drops_zeros() -> None:
    weight = np.array([[1.0, 0.0, -2.0], [0.0, 0.0, 3.0]])
    stored = csr_array((np.array([1.0, 0.0, -2.0, 3.0]), np.array([0, 1, 2, 2]), np.array([0, 3, 4])), shape=(2, 3))
    for linear in (Dense(weight, (3,), (2,)), Sparse(stored, (3,), (2,))):
        assert linear.matrix().nnz == synapses(linear) == 3
        np.testing.assert_array_equal(linear.matrix().toarray(), weight)
    assert stored.nnz == 4, "the map's own weights are left alone"


@pytest.mark.parametrize("kind", ["dense", "conv", "sparse"])
def test_with_weights_changes_a_copy(kind: str) -> None:
    weight = np.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    conv = Conv(weight, (1, 4, 4))
    linear = {
        "dense": Dense(conv.matrix().toarray(), (1, 4, 4), (1, 2, 2)),
        "conv": conv,
        "sparse": Sparse(conv.matrix(), (1, 4, 4), (1, 2, 2)),
    }[kind]
    before = weights(linear).copy()
    doubled = with_weights(linear, lambda w: 2 * w)
    np.testing.assert_array_equal(weights(linear), before)
    np.testing.assert_array_equal(doubled.matrix().toarray(), 2 * linear.matrix().toarray())
    assert (doubled.input_shape, doubled.output_shape) == (linear.input_shape, linear.output_shape)
    assert prod(doubled.output_shape) == doubled.matrix().shape[0]


def test_a_map_prints_in_one_line() -> None:
    plain = Conv(np.ones((4, 2, 3, 1)), (2, 8, 8))
    full = Conv(np.ones((4, 1, 3, 3)), (2, 8, 8), (2, 1), (1, 0), (1, 2), groups=2)
    assert str(plain) == "conv 3x1 2->4"
    assert str(full) == "conv 3x3 2->4 stride 2x1 pad 1x0 dilation 1x2 groups 2"
    assert str(Dense(np.ones((3, 5)), (5,), (3,))) == "dense 5->3"
    assert str(Sparse(csr_array(np.eye(3)), (3,), (3,))) == "sparse 3->3 (3 synapses)"
