"""The scan is the arithmetic of the chip, bit by bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnergy.deploy import scan as scanning
from snnergy.deploy.layers import NEVER

SEEDS = st.integers(0, 2**32)
LIMIT = 2**23


def scan(
    current: Any, *, first: int = 0, last: int | None = None, keep_u: int = 0, keep_v: int = 0, threshold: int = 100,
    bias: int = 0, spiking: bool = True, u: Any = None, v: Any = None, stateful: bool = True, shift: int = 6,
    anew: bool = False, back: int = 0, subtract: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """One scan over int[samples, steps, n]; spikes and active start at 10, to see that they are added to."""
    current = np.asarray(current, np.int32)
    samples, steps, n = current.shape
    state = {
        "u": np.zeros((samples, n), np.int32) if u is None else np.asarray(u, np.int32),
        "v": np.zeros((samples, n), np.int32) if v is None else np.asarray(v, np.int32),
        "out": np.zeros((samples, steps, n), np.uint8),
        "anew": anew,
        "counts": np.full((steps, n), 10 + 256 * 10, np.uint16),
        "currents": np.zeros((samples, steps if stateful else 0, n), np.int32),
        "membranes": np.zeros((samples, steps if stateful else 0, n), np.int32),
        "busy": np.full((samples, steps if stateful else 0, n), 9, np.uint8),
    }
    full = [np.full(n, value, np.int32) for value in (keep_u, keep_v, threshold if spiking else NEVER, bias, back)]
    scanning.scan(first, steps if last is None else last, current, *full, keep_u > 0, subtract, shift, *state.values())
    return {**state, "spikes": state["counts"] & 255, "active": state["counts"] >> 8}


def by_hand(
    current: Any, keep_u: int, keep_v: int, threshold: int, bias: int, spiking: bool, back: int, subtract: bool
) -> dict[str, Any]:
    """The same in Python's integers, which do not overflow."""
    samples, steps, n = current.shape
    found: dict[str, Any] = {
        "out": np.zeros((samples, steps, n), int),
        "currents": np.zeros((samples, steps, n), int),
        "membranes": np.zeros((samples, steps, n), int),
        "busy": np.zeros((samples, steps, n), int),
    }
    for b in range(samples):
        for i in range(n):
            u = v = 0
            for t in range(steps):
                kept = abs(u) * keep_u // 4096
                u = (kept if u > 0 else -kept) + int(current[b, t, i]) * 64
                u = (u + LIMIT - 1) % (2 * LIMIT) - LIMIT + 1  # -2**23 + 1 .. 2**23
                kept = abs(v) * keep_v // 4096
                v = (kept if v > 0 else -kept) + u + bias
                v = max(-LIMIT + 1, min(LIMIT - 1, v))
                fires = spiking and v > threshold
                if fires:
                    v = v - back if subtract else back
                found["out"][b, t, i], found["currents"][b, t, i], found["membranes"][b, t, i] = fires, u, v
                found["busy"][b, t, i] = u != 0 or bias != 0
    found["spikes"], found["active"] = 10 + found["out"].sum(0), 10 + found["busy"].sum(0)
    return found


@given(
    SEEDS,
    st.sampled_from([0, 1, 2048, 4095]),
    st.sampled_from([0, 1, 2047, 4095, 4096]),
    st.sampled_from([0, 64, 6400, LIMIT - 1]),
    st.sampled_from([0, 0, -7, 5000, -524_160]),
    st.booleans(),
    st.sampled_from([(0, False), (64, True), (6400, True), (-300, False), (7000, False), (LIMIT - 1, True)]),
)
def test_the_scan_is_the_arithmetic_of_the_chip(
    seed: int, keep_u: int, keep_v: int, threshold: int, bias: int, spiking: bool, reset: tuple[int, bool]
) -> None:
    back, subtract = reset
    rng = np.random.default_rng(seed)
    shape = (*(int(n) for n in rng.integers(1, 5, 2)), int(rng.choice([1, 3, 4, 15, 17, 64, 130])))
    size = int(rng.choice([3, 300, 130_000, 2**18]))
    current = rng.integers(-size, size + 1, shape) * (rng.random(shape) < 0.7)
    found = scan(
        current, keep_u=keep_u, keep_v=keep_v, threshold=threshold, bias=bias, spiking=spiking, back=back,
        subtract=subtract,
    )  # fmt: skip
    expected = by_hand(current, keep_u, keep_v, threshold, bias, spiking, back, subtract)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
    np.testing.assert_array_equal(found["u"], expected["currents"][:, -1])
    np.testing.assert_array_equal(found["v"], expected["membranes"][:, -1])


@pytest.mark.parametrize(
    ("a", "u"),
    [
        (131_072, LIMIT),  # 2**23 is still held
        (131_073, 131_073 * 64 - 2 * LIMIT),
        (-131_071, -131_071 * 64),
        (-131_072, LIMIT),  # -2**23 is not
        (2**18, 0),
        (-(2**18), 0),
    ],
)
def test_the_current_wraps_at_24_bits(a: int, u: int) -> None:
    found = scan([[[a]]], spiking=False)
    assert found["currents"].item() == u
    assert found["membranes"].item() == min(u, LIMIT - 1)


def test_decays_truncate_toward_zero_on_both_sides() -> None:
    for sign in (1, -1):
        found = scan(np.zeros((1, 1, 1)), keep_u=4095, keep_v=4095, u=[[sign * 100]], v=[[sign * 100]], spiking=False)
        assert (found["currents"].item(), found["membranes"].item()) == (sign * 99, sign * (99 + 99))
        gone = scan(np.zeros((1, 1, 1)), keep_u=1, keep_v=1, u=[[sign * 4095]], v=[[sign * 4095]], spiking=False)
        assert (gone["currents"].item(), gone["membranes"].item()) == (0, 0)


def test_only_the_steps_asked_for_run() -> None:
    found = scan(np.full((1, 5, 1), 2), first=1, last=3, keep_v=4096, threshold=200)
    assert found["out"][0, :, 0].tolist() == [0, 0, 1, 0, 0]
    assert found["spikes"][:, 0].tolist() == [10, 10, 11, 10, 10]
    assert found["active"][:, 0].tolist() == [10, 11, 11, 10, 10]
    assert found["membranes"][0, :, 0].tolist() == [0, 128, 0, 0, 0]
    assert found["currents"][0, :, 0].tolist() == [0, 128, 128, 0, 0]


def test_a_neuron_at_its_threshold_waits_and_a_readout_never_fires() -> None:
    assert scan([[[2]]], threshold=128)["out"].item() == 0
    assert scan([[[2]]], threshold=127)["out"].item() == 1
    quiet = scan([[[2]]], threshold=127, spiking=False)
    assert quiet["out"].item() == 0 and quiet["v"].item() == 128


def test_counts_begin_anew_with_the_first_sample() -> None:
    found = scan(np.full((3, 2, 1), 2), threshold=127, anew=True)
    assert found["spikes"].tolist() == found["active"].tolist() == [[3], [3]]


def test_the_exponent_of_all_synapses_may_be_left_to_the_scan() -> None:
    current = np.random.default_rng(0).integers(-99, 99, (2, 5, 70))
    shifted, whole = scan(current, keep_u=2000, shift=9), scan(8 * current, keep_u=2000)
    for name in ("currents", "membranes", "out"):
        np.testing.assert_array_equal(shifted[name], whole[name])


def test_no_state_is_kept_where_nobody_asks() -> None:
    found = scan([[[2]]], threshold=127, stateful=False)
    assert found["out"].item() == 1 and found["currents"].size == found["membranes"].size == 0
