"""Kernels are compiled once, kept, and never run when what they were compiled from has changed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnergy.deploy import kernels


def test_without_a_place_for_the_cache_kernels_are_compiled_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def njit(**options: Any) -> Any:
        asked.append(options)
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr(kernels, "njit", njit)
    function = kernels.compiled(kernels._put)
    assert function is kernels._put
    assert [options.pop("cache", False) for options in asked] == [True, False] and asked[0] == asked[1]


USE = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
import snnergy.deploy
snnergy.deploy.__path__[:] = [sys.argv[1]]
from snnergy.deploy import scan
one = lambda *shape, kind=np.int32: np.zeros(shape, kind)
u, v = one(1, 3), one(1, 3)
none, unseen = one(0, 0, 0), one(0, 0, 0, kind=np.uint8)
scan.scan(0, 1, one(1, 1, 3) + 5, one(3), one(3), one(3) + 9999, one(3), one(3), False, False, 6, u, v,
          one(1, 1, 3, kind=np.uint8), True, one(1, 3, kind=np.uint16), none, none, unseen)
print(u.tolist(), sum(scan.scan.stats.cache_hits.values()) if hasattr(scan.scan, "stats") else 0)
"""


@pytest.mark.skipif(not hasattr(kernels.put, "stats"), reason="numba does not compile here")
def test_kernels_are_compiled_anew_when_what_they_call_has_changed(tmp_path: Path) -> None:
    for path in Path(kernels.__file__).parent.glob("*.py"):
        shutil.copy(path, tmp_path)

    def run() -> str:
        command = [sys.executable, "-c", USE, str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert run() == "[[320, 320, 320]] 0"
    assert run() == "[[320, 320, 320]] 1"
    for name, old, new in (
        ("lanes.py", "b.shl(read(2), left_shift)", "b.shl(read(2), _same(7))"),
        ("kernels.py", "int32(current[at + i] << shift)", "int32(current[at + i] << 7)"),
    ):
        source = (tmp_path / name).read_text()
        assert old in source
        (tmp_path / name).write_text(source.replace(old, new))
    assert run() == "[[640, 640, 640]] 0"


def test_channels_first_and_last_are_turned_round() -> None:
    x = np.arange(24, dtype=np.uint8).reshape(2, 12)
    out = np.empty_like(x)
    kernels.turned(x, 3, out)
    np.testing.assert_array_equal(out, x.reshape(2, 3, 4).transpose(0, 2, 1).reshape(2, 12))
