"""Sizes are checked before memory is taken, and running out of it is one line about the file."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnergy import limits
from snnergy.errors import BadInput


def test_a_file_may_unpack_to_a_hundred_times_its_size_within_bounds() -> None:
    assert limits.most_unpacked(10) == 64 << 20
    assert limits.most_unpacked(1 << 20) == 100 << 20
    assert limits.most_unpacked(1 << 40) == 4 << 30


@given(st.integers(0, 1 << 50))
def test_a_limit_that_is_given_is_the_only_one(stored: int) -> None:
    with limits.allowing(7 << 30):
        assert limits.most_unpacked(stored) == 7 << 30
    assert limits.most_unpacked(stored) <= 4 << 30


def test_too_much_is_refused_with_the_option_that_allows_it() -> None:
    with pytest.raises(BadInput) as error:
        limits.check_unpacked("a.pt", 5 << 30, 1 << 20)
    assert str(error.value) == "a.pt declares 5 GiB of contents and stores 1 MiB; at most 100 MiB are read"
    assert error.value.help == "if you trust it, pass --max-size 5"
    with limits.allowing(5 << 30):
        limits.check_unpacked("a.pt", 5 << 30, 1 << 20)


def test_memory_beyond_the_room_is_an_error_of_the_file_and_the_limit_is_taken_back() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with pytest.raises(BadInput) as error, limits.memory("a.json"):
        np.ones(2 << 30, np.uint8)
    assert str(error.value) == "a.json takes more than 256 MiB of memory to read"
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    with limits.memory("a.json", 1 << 20):
        assert np.ones(64 << 20, np.uint8).any()


def test_endless_nesting_is_an_error_of_the_file() -> None:
    def deeper() -> None:
        deeper()

    with pytest.raises(BadInput) as error, limits.memory("a.json"):
        deeper()
    assert str(error.value) == "a.json nests too deeply to be read"


def test_only_a_regular_file_of_that_size_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a"

    def said(most: int) -> str:
        with pytest.raises(BadInput) as error:
            limits.read_bytes(path, most)
        return str(error.value).replace(str(path), "FILE")

    assert said(3) == "no file FILE"
    path.write_bytes(b"abcd")
    assert limits.read_bytes(path, 4) == b"abcd"
    assert said(3) == "FILE is larger than 3 bytes, the most that is read of such a file"
    path.unlink()
    path.mkdir()
    assert said(3) == "FILE is a folder"
    path.rmdir()
    os.mkfifo(path)
    assert said(3) == "FILE is not a file"


def test_sizes_are_said_for_people() -> None:
    assert [limits.size(n) for n in (0, 1023, 1536, 64 << 20, 5 << 30)] == [
        "0 bytes", "1023 bytes", "1.5 KiB", "64 MiB", "5 GiB",
    ]  # fmt: skip
