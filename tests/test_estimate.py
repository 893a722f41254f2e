"""Saved activity gives the report again, without the network; of another chip it asks for the network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_report import FACTS, report

from snnergy import console
from snnergy.cli import cli
from snnergy.deploy import counts_file, estimate, npz_file
from snnergy.deploy.report import document
from snnergy.errors import BadInput


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A file of saved activity, and the document of the run."""
    path, priced = tmp_path_factory.mktemp("activity") / "run.npz", report()
    estimate.save(path, priced, FACTS)
    return path, document(priced, FACTS)


def test_saved_activity_gives_the_same_report(saved: tuple[Path, dict[str, Any]]) -> None:
    path, wanted = saved
    found = estimate.from_activity(path, None)
    assert {k: v for k, v in found.items() if k != "run"} == {k: v for k, v in wanted.items() if k != "run"}


def test_other_constants_of_the_same_mesh_are_priced(saved: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    path, before = saved
    source = Path(estimate.__file__).parent.parent / "hardware_profiles" / "loihi2.toml"
    other = tmp_path / "dear.toml"
    other.write_text(source.read_text().replace("synop         = { value = 23.6,", "synop         = { value = 35.0,"))
    found = estimate.from_activity(path, str(other))
    more = (35.0 - 23.6) * before["counters"]["synops"]
    assert found["energy"]["total"]["nominal"] - before["energy"]["total"]["nominal"] == pytest.approx(more)
    assert found["target"] == str(other)


def test_a_chip_with_another_mesh_is_refused(saved: tuple[Path, dict[str, Any]]) -> None:
    with pytest.raises(BadInput) as caught:
        estimate.from_activity(saved[0], "truenorth-sim")
    assert str(caught.value) == (
        f"{saved[0]} was counted on 1 chip(s) of 8 x 4 routers of 4 cores; 'truenorth-sim' has at most 16 of 64 x 64 "
        "routers of 1 cores"
    )


def spoilt(path: Path, to: Path, **changes: Any) -> Path:
    arrays = npz_file.read(path)
    text = json.loads(arrays["text"].tobytes())
    for key, value in changes.items():
        if key in text:
            text[key] = value
        else:
            arrays[key] = value
    arrays["text"] = np.frombuffer(json.dumps(text).encode(), np.uint8)
    np.savez(to, **arrays)  # pyright: ignore[reportArgumentType]
    return to


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": "x"}, "schema is 'x', must be 'snnergy.activity/2'"),
        ({"cores": 3}, "is not saved activity: no core "),
        ({"seats": []}, "has 0 seats for 17 cores"),
        ({"depth": "deep"}, "is not saved activity: invalid literal"),
        ({"by_spikes": np.full((1, 1), 7)}, "is not saved activity: spikes is int64(1, 1)"),
        ({"facts": {"engine": 7}}, "'engine' is 7, must be printable text"),
        ({"facts": {"accuracy": "high"}}, "'accuracy' is 'high', must be a number from 0 to 1, or null"),
    ],
)
def test_a_spoilt_file_is_refused_in_one_line(
    saved: tuple[Path, dict[str, Any]], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInput) as caught:
        estimate.from_activity(spoilt(saved[0], tmp_path / "x.npz", **changes), None)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert "x.npz" in str(caught.value)


def test_the_three_commands(
    saved: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    for path in (one, two):
        assert console.run(cli, ["estimate", "--activity", str(saved[0]), "-o", str(path)]) == 0
    assert "estimate: no hardware was used" in capsys.readouterr().out
    assert one.read_text() == two.read_text()
    assert console.run(cli, ["diff", str(one), str(two), "--budget", "0%", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["within"] is True
    assert console.run(cli, ["estimate"]) == 2
    assert "give a MODEL.nir or --activity, one of the two" in capsys.readouterr().err


def test_pricing_what_was_saved_loads_no_engine_and_no_solver(saved: tuple[Path, dict[str, Any]]) -> None:
    code = (
        "import sys\nfrom snnergy.deploy import estimate\nfrom pathlib import Path\n"
        f"estimate.from_activity(Path({str(saved[0])!r}), None)\n"
        "print([m for m in ('torch', 'numba', 'scipy', 'nir', 'lava') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_activity_is_written_as_it_was(saved: tuple[Path, dict[str, Any]]) -> None:
    counts, wanted = counts_file.read(saved[0]).counts, report().counts
    assert counts.cells == wanted.cells and counts.nodes == wanted.nodes
    for name, values in wanted.by.items():
        np.testing.assert_array_equal(counts.by[name], values)
