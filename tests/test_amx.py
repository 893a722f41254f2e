import ctypes
import mmap
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from snnergy.deploy import amx, synapses
from snnergy.export.maps import Dense

tiles = pytest.mark.skipif(not amx.AVAILABLE, reason="this CPU has no tiles (AMX), or they may not be used")


def case(seed: int, rows: int, inputs: int, outputs: int) -> tuple[NDArray[np.uint8], NDArray[np.int8], Any]:
    """Spikes, weights, and their product."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (rows, inputs)).astype(np.uint8)
    weight = rng.integers(-128, 128, (outputs, inputs)).astype(np.int8)
    return x, weight, x.astype(np.int64) @ weight.T.astype(np.int64)


def scaled(total: Any, exponent: int) -> Any:
    return total << exponent if exponent >= 0 else total >> -exponent


@tiles
@settings(max_examples=300)
@given(
    st.integers(0, 2**32), st.integers(1, 100), st.integers(1, 300), st.integers(1, 150), st.integers(-9, 4),
    st.booleans(),
)  # fmt: skip
def test_the_product_is_exact(seed: int, rows: int, inputs: int, outputs: int, exponent: int, fresh: bool) -> None:
    x, weight, total = case(seed, rows, inputs, outputs)
    start = np.random.default_rng(seed).integers(-99, 100, total.shape).astype(np.int32)
    current = start.copy()
    amx.dense(x, amx.pack(weight), exponent, fresh, current)
    np.testing.assert_array_equal(current, scaled(total, exponent) + (0 if fresh else start))


@tiles
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(255, 1024, 1040), (257, 1100, 1024), (513, 2048, 600)])
def test_weights_larger_than_the_cache_are_read_again_for_many_rows(rows: int, inputs: int, outputs: int) -> None:
    x, weight, total = case(rows, rows, inputs, outputs)
    packed, current = amx.pack(weight), np.empty(total.shape, np.int32)
    assert packed.size > amx.CACHED
    amx.dense(x, packed, 0, True, current)
    np.testing.assert_array_equal(current, total)


@tiles
def test_the_largest_values_do_not_saturate() -> None:
    x = np.full((40, 300), 255, np.uint8)
    for weight in (-128, 127):
        current = np.empty((40, 33), np.int32)
        amx.dense(x, amx.pack(np.full((33, 300), weight, np.int8)), 0, True, current)
        assert (current == 255 * 300 * weight).all()


def before_a_wall(size: int) -> NDArray[np.uint8]:
    """So many bytes at the end of a page, before one that nobody may touch."""
    libc = ctypes.CDLL(None, use_errno=True)
    pages = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = np.frombuffer(mmap.mmap(-1, pages + mmap.PAGESIZE), np.uint8)
    wall = ctypes.c_void_p(memory.ctypes.data + pages)
    assert libc.mprotect(wall, ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    return memory[pages - size : pages]


@tiles
@pytest.mark.parametrize("rows", [1, 15, 16, 33, 64])
def test_nothing_beyond_the_arrays_is_touched(rows: int) -> None:
    for inputs, outputs in ((1, 1), (63, 15), (64, 16), (65, 17), (130, 33)):
        x, weight, total = case(rows, rows, inputs, outputs)
        spikes = before_a_wall(x.size).reshape(x.shape)
        spikes[:] = x
        for fresh in (True, False):
            current = before_a_wall(4 * total.size).view(np.int32).reshape(total.shape)
            amx.dense(spikes, amx.pack(weight), 0, fresh, current)
            np.testing.assert_array_equal(current, total)


@tiles
def test_threads_do_not_share_tiles() -> None:
    cases = [case(k, 200 + k, 200 + 40 * k, 100 + 30 * k) for k in range(4)]

    def check(k: int) -> None:
        x, weight, total = cases[k % 4]
        packed = amx.pack(weight)
        for _ in range(20):
            current = np.empty(total.shape, np.int32)
            amx.dense(x, packed, 0, True, current)
            np.testing.assert_array_equal(current, total)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(check, range(16)))


def test_without_tiles_the_product_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight, total = case(5, 37, 70, 40)
    linear = Dense(weight, (70,), (40,))
    monkeypatch.setattr(amx, "AVAILABLE", False)
    monkeypatch.setattr(amx, "dense", None)
    product = next(p for p in synapses.paths(linear, -2, (70,), (40,)) if p.name == "product")
    current = np.empty(total.shape, np.int32)
    product.add(x, current, True)
    np.testing.assert_array_equal(current, scaled(total, -2))


@tiles
@pytest.mark.parametrize("refusal", ["no", "missing", "plain", "other"])
def test_tiles_are_off_where_they_must_not_be_used(refusal: str) -> None:
    before, after = {
        "no": ("", "import ctypes, types; ctypes.CDLL = lambda _: types.SimpleNamespace(syscall=lambda *_: -1)"),
        "missing": ("", "vnni.FEATURES['amx-int8'] = False"),
        "plain": ("import numba; numba.config.DISABLE_JIT = 1", ""),
        "other": ("import numba; numba.config.CPU_NAME = 'skylake'", ""),
    }[refusal]
    lines = (
        before, "from snnergy.deploy import vnni", after, "from snnergy.deploy import amx",
        "assert amx.AVAILABLE is False",
    )  # fmt: skip
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)
