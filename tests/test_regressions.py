"""Every saved case of tests/regressions, under the suite that found it: once a difference, never again."""

from pathlib import Path

import pytest
from suites import regression

CASES = sorted((Path(__file__).parent / "regressions").glob("*.npz"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_difference_that_was_found_is_gone(path: Path) -> None:
    assert regression(path) is None


def test_there_are_cases() -> None:
    assert CASES
