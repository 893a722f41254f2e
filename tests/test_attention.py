"""The gate against its truth table, and CMQKA against its equations."""

from __future__ import annotations

import itertools

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

torch = pytest.importorskip("torch")

from snnergy.attention import CrossModalQK, Gate  # noqa: E402


def test_a_head_of_two_is_an_or_of_queries_and_an_and_with_each_key():
    for q0, q1, k0, k1 in itertools.product((0.0, 1.0), repeat=4):
        query = torch.tensor([q0, q1]).view(1, 1, 2, 1, 1)
        key = torch.tensor([k0, k1]).view(1, 1, 2, 1, 1)
        opened = float(q0 or q1)
        assert Gate(1)(query, key).flatten().tolist() == [opened * k0, opened * k1]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1, 2, 3, 6]), st.floats(0, 1))
def test_each_head_gates_its_own_channels_token_by_token(seed, heads, rate):
    generator = torch.Generator().manual_seed(seed)
    query, key = ((torch.rand(2, 3, 6, 2, 4, generator=generator) < rate).float() for _ in range(2))
    gated = Gate(heads)(query, key)
    size = 6 // heads
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        opened = query[:, :, part].amax(2, keepdim=True)
        assert torch.equal(gated[:, :, part], opened * key[:, :, part])


def test_the_gradient_reaches_queries_and_keys():
    generator = torch.Generator().manual_seed(0)
    query, key = ((torch.rand(2, 3, 4, 2, 2, generator=generator) < 0.5).double() for _ in range(2))
    query.requires_grad_()
    key.requires_grad_()
    gated = Gate(2)(query, key)
    gated.sum().backward()
    mask = query.detach().unflatten(2, (2, 2)).amax(3, keepdim=True).expand(-1, -1, -1, 2, -1, -1).flatten(2, 3)
    assert torch.equal(key.grad, mask)
    total = query.detach().unflatten(2, (2, 2)).sum(3, keepdim=True)
    slope = 1 / (1 + (torch.pi * (total - 0.5)) ** 2)
    wanted = key.detach().unflatten(2, (2, 2)).sum(3, keepdim=True) * slope
    torch.testing.assert_close(query.grad, wanted.expand(-1, -1, -1, 2, -1, -1).flatten(2, 3))


def test_the_gate_has_no_memory():
    generator = torch.Generator().manual_seed(0)
    query, key = ((torch.rand(4, 2, 4, 3, 3, generator=generator) < 0.3).float() for _ in range(2))
    gated = Gate(2)(query, key)
    assert torch.equal(gated.flip(0), Gate(2)(query.flip(0), key.flip(0)))


def test_silent_queries_close_every_key_of_cross_modal_attention():
    attention = CrossModalQK(8, 2).eval()
    torch.nn.init.constant_(attention.q_norm.bias, -10.0)
    seen = []
    attention.gate.register_forward_hook(lambda *call: seen.append(call[2]))
    attention(torch.ones(4, 2, 8, 2, 2), torch.ones(4, 2, 8, 2, 2))
    assert seen[0].sum() == 0


def test_cross_modal_attention_is_its_equations_in_order():
    torch.manual_seed(0)
    attention = CrossModalQK(8, 2).double().eval()
    for norm in (attention.q_norm, attention.k_norm, attention.out_norm):
        torch.nn.init.constant_(norm.bias, 0.8)
    own, other = ((torch.rand(4, 3, 8, 2, 2, dtype=torch.float64) < 0.5).double() for _ in range(2))
    query = attention.q(attention.q_norm(attention.q_conv(own)))
    key = attention.k(attention.k_norm(attention.k_conv(other)))
    wanted = attention.out(attention.out_norm(attention.out_conv(attention.gate(query, key))))
    got = attention(own, other)
    assert torch.equal(got, wanted)
    assert set(got.unique().tolist()) == {0.0, 1.0}
    assert attention.alpha.shape == () and attention.alpha.item() == 1.0
