"""A fixed slice of the spoilt files of ``benchmarks/hostile.py``, through the real command line."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import hostile
import pytest
from mutations import KINDS, MEANING, spoil

from snnergy import console

SEEDS = {"nir": 16, "pt": 30, "npz": 12, "toml": 40, "json": 50}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def originals(folder: Path) -> hostile.Originals:
    return hostile.originals(folder)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")
def test_a_spoilt_file_is_rejected_in_one_line_or_still_valid(
    kind: str, originals: hostile.Originals, folder: Path
) -> None:
    verdicts: Counter[str] = Counter()
    for seed in range(SEEDS[kind]):
        spoilt = spoil(kind, originals[kind], seed)
        if spoilt.data == originals[kind][spoilt.original]:
            continue
        done = hostile.run(spoilt, folder)
        assert done.verdict in ("rejected", "valid", "too slow"), (
            seed,
            spoilt.mutation,
            done,
        )  # the machine may be busy
        verdicts[done.verdict] += 1
    assert verdicts["rejected"] > SEEDS[kind] / 2


@pytest.mark.parametrize("kind", KINDS)
def test_the_originals_are_valid(kind: str, originals: hostile.Originals, folder: Path) -> None:
    for name, data in originals[kind].items():
        for seed in range(8):  # every command
            done = hostile.run(hostile.Spoilt(kind, name, "none", seed, data), folder)
            assert done.verdict == "valid", done


@pytest.mark.filterwarnings("ignore")
def test_a_seed_names_a_file_for_good(originals: hostile.Originals) -> None:
    for kind in KINDS:
        assert spoil(kind, originals[kind], 5) == spoil(kind, originals[kind], 5)
        assert len(MEANING[kind]) > 8


def test_an_error_moves_no_cursor_and_fills_no_screen(capsys: pytest.CaptureFixture[str]) -> None:
    console.fail("no file \x1b[2J\u202e" + "x" * 5000 + "\nsecond")
    line = capsys.readouterr().err
    assert line.startswith("error: no file \\x1b[2J\\u202exxx") and line.endswith("x ...\n") and len(line) < 1050


def test_ends_that_are_not_the_users_are_faults() -> None:
    verdict = hostile._verdict
    assert verdict(2, 1.0, "", "error: x\nhelp: y\n") == "rejected"
    assert verdict(1, 1.0, "", "error: does not fit\n") == verdict(0, 1.0, "fine", "") == "valid"
    assert verdict(4, 1.0, "", "error: this is a bug\n") == "exit code 4"
    assert verdict(-11, 1.0, "", "") == "killed by SIGSEGV"
    assert verdict(2, 11.0, "", "error: x\n") == "too slow"
    assert verdict(2, 1.0, "", "error: x\nwarning: y\n") == "more than one line"
    assert verdict(1, 1.0, "", "Traceback (most recent call last)\n") == "traceback"
