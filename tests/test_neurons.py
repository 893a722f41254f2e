"""Spike is snntorch's Leaky, in spikes and gradient; the folded layers are the plain ones at every time step."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

torch = pytest.importorskip("torch")

from snnergy.neurons import OrPool, Repeat, Spike, TimeConv2d, TimeNorm  # noqa: E402

betas = st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0])
thresholds = st.sampled_from([0.3, 0.5, 1.0, 2.0])


def currents(seed: int, steps: int, *, whole: bool, dtype=torch.float64):
    draw = torch.randn(steps, 3, 2, 4, 5, generator=torch.Generator().manual_seed(seed), dtype=dtype) * 1.5
    return draw.round() if whole else draw


def both_ways(x, beta, threshold):
    """Spikes and input gradient, fused and by snntorch's steps, under the same upstream gradient."""
    weight = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
    for fused in (True, False):
        neuron = Spike(beta, threshold)
        neuron.fused = fused
        given_x = x.clone().requires_grad_()
        spikes = neuron(given_x)
        (spikes * weight).sum().backward()
        yield spikes.detach(), given_x.grad


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6), betas, thresholds, st.booleans())
def test_spikes_and_gradient_are_those_of_snntorch(seed, steps, beta, threshold, whole):
    # whole currents land exactly on the threshold; a beta or threshold that is no binary fraction would make that luck
    x = currents(seed, steps, whole=whole and beta != 0.9 and threshold != 0.3)
    (fused, fused_grad), (plain, plain_grad) = both_ways(x, beta, threshold)
    assert torch.equal(fused, plain)
    torch.testing.assert_close(fused_grad, plain_grad, rtol=1e-5, atol=1e-6)  # its backward is float32


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), betas)
def test_spikes_are_those_of_snntorch_in_single_precision_too(seed, beta):
    x = currents(seed, 5, whole=False, dtype=torch.float32)
    (fused, fused_grad), (plain, plain_grad) = both_ways(x, beta, 1.0)
    assert torch.equal(fused, plain)
    torch.testing.assert_close(fused_grad, plain_grad, rtol=1e-4, atol=1e-5)


def test_the_threshold_is_strict():
    x = torch.tensor([1.0, 0.5, 0.5]).view(3, 1)
    assert Spike(0.5, 1.0)(x).flatten().tolist() == [0, 0, 0]
    assert Spike(0.5, 1.0)(x + 2**-20).flatten().tolist() == [1, 0, 0]


def test_a_spike_resets_the_membrane_to_zero():
    x = torch.tensor([3.0, 0.9, 0.56, 0.0]).view(4, 1)
    assert Spike(0.5, 1.0)(x).flatten().tolist() == [1, 0, 1, 0]


def test_no_state_is_left_between_calls():
    neuron, x = Spike(), torch.full((2, 3), 0.9)
    assert torch.equal(neuron(x), neuron(x))


def test_no_state_leaks_between_samples_of_a_batch():
    x = currents(3, 4, whole=False)
    alone = torch.cat([Spike()(x[:, i : i + 1]) for i in range(x.shape[1])], 1)
    assert torch.equal(Spike()(x), alone)


def test_a_repeated_frame_gives_what_its_copies_give():
    frame = currents(5, 1, whole=False)[0].to(memory_format=torch.channels_last)
    repeated = Repeat(4)(frame)
    assert repeated.stride(0) == 0
    assert torch.equal(Spike()(repeated), Spike()(repeated.contiguous()))


def test_spikes_keep_the_memory_layout_of_the_currents():
    x = torch.rand(4, 3, 8, 5, 5).flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, (4, 3))
    assert Spike()(x).stride() == x.stride()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 9))
def test_or_pool_fires_where_any_input_of_its_window_fires(seed, height, width):
    spikes = (torch.rand(2, 3, 2, height, width, generator=torch.Generator().manual_seed(seed)) < 0.2).double()
    pooled = OrPool()(spikes)
    for y in range(pooled.shape[-2]):
        for x in range(pooled.shape[-1]):
            rows, columns = (slice(max(0, 2 * at - 1), 2 * at + 2) for at in (y, x))
            window = spikes[..., rows, columns]
            assert torch.equal(pooled[..., y, x], (window.sum((-1, -2)) >= 1).double())


def test_convolution_and_norm_treat_every_time_step_alike():
    x = torch.rand(4, 3, 2, 6, 6, dtype=torch.float64)
    conv = TimeConv2d(2, 5, 3, stride=2, padding=1, bias=False).double()
    norm = TimeNorm(5).double().eval()
    norm.running_mean.uniform_(-1, 1)
    for t in range(4):
        torch.testing.assert_close(norm(conv(x))[t], norm(conv(x[t : t + 1]))[0])


def test_a_repeated_frame_is_convolved_once_with_the_same_result():
    frame = torch.rand(3, 2, 6, 6, dtype=torch.float64)
    conv, norm = TimeConv2d(2, 5, 3, bias=False).double(), TimeNorm(5).double().eval()
    once = norm(conv(Repeat(4)(frame)))
    assert once.stride(0) == 0
    torch.testing.assert_close(once, norm(conv(Repeat(4)(frame).contiguous())))
