"""The table of nodes tries every kind that NIR has, and says what a chip would say."""

from __future__ import annotations

from typing import Any

import nir
import pytest

from snnergy.deploy import ops
from snnergy.export.lower import LINEAR, NEURONS
from snnergy.hardware_profiles import load, names


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, str]]:
    return {row["node"]: row["chips"] for row in ops.rows()}


def test_every_node_of_nir_is_tried(rows: dict[str, Any]) -> None:
    kinds = {k.__name__ for k in vars(nir).values() if isinstance(k, type) and issubclass(k, nir.NIRNode)}
    tried = {name.split(" ")[0] for name in rows}
    assert kinds - {"NIRNode", "NIRGraph", "Input", "Output"} <= tried and "NIRGraph (nested)" in rows
    assert {k.__name__ for k in (*LINEAR, *NEURONS)} <= tried
    for name, make in ops.PROBES.items():
        graph = make()
        if name in vars(nir):
            assert any(type(node).__name__ == name for node in graph.nodes.values()), name


def test_everything_runs_on_loihi_2_and_what_needs_a_program_nowhere_without(rows: dict[str, Any]) -> None:
    assert {chips["loihi2"] for chips in rows.values()} == {ops.YES}
    for name in ("v_reset other than 0", "the threshold taken away (--convention)"):
        for chip in names():
            said = rows[name][chip]
            assert (said == ops.YES) == load(chip).programmable
            assert said == ops.YES or f"all neurons of {chip} reset to 0" in said
    assert rows["Delay"]["speck"] == "longest delay 3 > 0"


def test_the_markdown_has_a_row_a_node_and_a_column_a_chip(rows: dict[str, Any]) -> None:
    lines = ops.markdown(ops.rows()).splitlines()
    assert len(lines) == 2 + len(rows) and all(line.count("|") == len(names()) + 2 for line in lines)
