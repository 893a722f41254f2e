"""Mutants are drawn so that each counts, results hold while nothing changes, and what was measured meets its bar."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mutation import EQUIVALENT, RESULTS, ROOT, TESTS, Mutant, holds, page, sample

SOURCE = '''from __future__ import annotations


def clip(x: int | None, low: int = 0) -> int | None:
    """At least ``low``: 1 | 2."""
    return low if x is None or x < low else x
'''


def drawn(source: str = SOURCE, count: int = 99, seed: int = 0) -> list[Mutant]:
    pytest.importorskip("cosmic_ray")
    return sample({"a.py": source}, count, seed)


def test_mutants_change_what_runs_and_compile_without_a_warning() -> None:
    found = drawn()
    assert {m.line for m in found} == {4, 6}  # of line 4 the default alone, not the annotations
    default = [m.patch.splitlines()[-3:] for m in found if m.line == 4]
    assert all(any(line.startswith("+def clip(x: int | None, low: int = ") for line in lines) for lines in default)
    assert len({m.id for m in found}) == len(found) > 5
    assert not drawn("def f(x: int | None) -> int | None: ...\n")
    assert not any("is 0" in m.patch for m in drawn("def f(x):\n    return x == 0\n"))


def test_the_same_seed_draws_the_same_mutants_wherever_they_move() -> None:
    ids = [m.id for m in drawn(count=4)]
    assert ids == [m.id for m in drawn(count=4)] != [m.id for m in drawn(count=4, seed=1)]
    moved = SOURCE.replace("annotations\n", "annotations\n\nimport math\n")
    assert {m.id for m in drawn(moved)} == {m.id for m in drawn()}


def test_a_change_of_one_module_leaves_the_sample_of_the_others() -> None:
    pytest.importorskip("cosmic_ray")
    one = sample({"a.py": SOURCE, "b.py": SOURCE}, 99, 0)
    two = sample({"a.py": SOURCE, "b.py": SOURCE + "\n\nX = 1 + 2 * 3\n"}, 99, 0)
    assert [m.id for m in one if m.module == "a.py"] == [m.id for m in two if m.module == "a.py"]


@pytest.mark.parametrize(
    ("now", "outcome", "keep_killed", "expected"),
    [
        (("m", "t"), "survived", False, True),
        (("m", "new"), "killed", False, False),
        (("m", "new"), "killed", True, True),
        (("m", "new"), "timeout", True, True),
        (("m", "new"), "survived", True, False),
        (("new", "t"), "killed", True, False),
    ],
)
def test_a_result_holds_as_long_as_module_and_tests_are_the_same(
    now: tuple[str, str], outcome: str, keep_killed: bool, expected: bool
) -> None:
    assert holds({"state": ["m", "t"], "outcome": outcome}, now, keep_killed) == expected


def results() -> dict[str, Any]:
    return json.loads((RESULTS / "mutation.json").read_text(encoding="utf-8"))


def test_at_least_85_percent_of_300_mutants_are_noticed_equivalent_ones_not_left_out() -> None:
    rows = results()["mutants"]
    assert len({r["id"] for r in rows}) == len(rows) >= 300
    assert {r["module"] for r in rows} == set(TESTS)
    assert sum(r["outcome"] != "survived" for r in rows) >= 0.85 * len(rows)
    assert EQUIVALENT.keys() <= {r["id"] for r in rows if r["outcome"] == "survived"}


def test_the_page_is_that_of_the_results() -> None:
    assert (RESULTS / "mutation.md").read_text(encoding="utf-8") == page(results())


def test_every_module_is_covered_to_95_percent_in_lines_and_branches() -> None:
    rows = [row.split("|")[1:-1] for row in (RESULTS / "coverage.md").read_text().splitlines() if row.startswith("| ")]
    shares = {name.strip(): (float(lines), float(branches)) for name, _, lines, _, branches in rows[1:]}
    assert shares.keys() == TESTS.keys()
    assert min(min(both) for both in shares.values()) >= 95


def test_every_module_and_its_tests_are_there() -> None:
    for module, tests in TESTS.items():
        assert (ROOT / module).is_file()
        assert all(Path(ROOT, "tests", name).is_file() for name in tests)
