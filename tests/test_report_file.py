"""A report is read back whole; one that is not a report is refused in one line that names the place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from test_report import FACTS, report

from snnergy.deploy import picture, report_page, report_text
from snnergy.deploy import report as views
from snnergy.deploy.report_file import read
from snnergy.errors import BadInput

Document = dict[str, Any]


@pytest.fixture(scope="module")
def whole() -> str:
    return json.dumps(views.document(report(), FACTS))


def said(path: Path, text: str | bytes) -> str:
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    with pytest.raises(BadInput) as error:
        read(path)
    assert "\n" not in str(error.value)
    return str(error.value).replace(str(path), "FILE").replace(path.name, "FILE")


def test_every_view_can_show_what_was_read(whole: str, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(whole)
    document = read(path)
    assert document == json.loads(whole)
    assert report_page.html(document) and report_text.text(document) and picture.svg(document)


def put(*path: Any) -> Callable[[Document], None]:
    """Set the value at all but the last of ``path`` to the last."""

    def change(document: Document) -> None:
        *way, key, value = path
        for step in way:
            document = document[step]
        document[key] = value

    return change


def lost(*path: Any) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        *way, key = path
        for step in way:
            document = document[step]
        del document[key]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("schema", "snnergy.report/9"), "FILE: schema is 'snnergy.report/9', must be 'snnergy.report/2'"),
        (lost("energy", "total", "low"), "FILE: 'energy.total.low' is missing"),
        (put("energy", "total", "low", "3"), "FILE: 'energy.total.low' is '3', must be a number, 0 or more"),
        (put("energy", "total", "low", -1), "FILE: 'energy.total.low' is -1, must be a number, 0 or more"),
        (put("energy", "total", "unit", "kWh"), "FILE: 'energy.total.unit' is 'kWh', must be pJ, ns or J s"),
        (put("energy", 3), "FILE: 'energy' is 3, must be an object"),
        (put("layers", {}), "FILE: 'layers' is {}, must be a list"),
        (put("cores", 3, "x", True), "FILE: 'cores[3].x' is True, must be a whole number, 0 or more"),
        (put("accuracy", 97), "FILE: 'accuracy' is 97, must be a number from 0 to 1, or null"),
        (put("target_title", "\x1b[2J"), "FILE: 'target_title' is '\\x1b[2J', must be printable text"),
        (put("network", "\x1b[2J", 1), "FILE: the key '\\x1b[2J' of 'network' cannot be printed"),
        (put("placement", "mesh_width", 1 << 17), "FILE: the placement has 2097152 seats; at most 262144 are drawn"),
        (
            put("placement", "chips", 10**9),
            "FILE: 'placement.chips' is 1000000000, must be a whole number, 1 to 262144",
        ),
        (put("power_w", float("nan")), "FILE: cannot be read as JSON: NaN is no JSON number"),
        (put("power_w", 10**30), "FILE: cannot be read as JSON: a number of 31 digits"),
    ],
)
def test_a_spoilt_document_is_refused_with_its_place(
    whole: str, tmp_path: Path, change: Callable[[Document], None], message: str
) -> None:
    document = json.loads(whole)
    change(document)
    assert said(tmp_path / "r.json", json.dumps(document)) == message


def test_a_key_that_stands_twice_is_refused(whole: str, tmp_path: Path) -> None:
    twice = whole.replace('"samples":', '"samples": 1, "samples":', 1)
    assert (
        said(tmp_path / "r.json", twice) == "FILE: cannot be read as JSON: the key 'samples' stands twice in one object"
    )


def test_deep_large_and_other_encodings_are_one_line(whole: str, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    assert said(path, "[" * 100_000) == "FILE nests too deeply to be read"
    assert said(path, " " * (33 << 20)) == "FILE is larger than 32 MiB, the most that is read of such a file"
    assert said(path, whole.encode("utf-16")).startswith("FILE: cannot be read as JSON: 'utf-8' codec can't decode")


def test_markup_in_a_title_is_shown_as_it_stands(whole: str, tmp_path: Path) -> None:
    """Rich once took it for its own and raised an error."""
    from rich.console import Console

    path = tmp_path / "r.json"
    path.write_text(whole.replace('"cross_check": "equal"', '"cross_check": "[/red]"'))
    console = Console(width=120)
    with console.capture() as shown:
        console.print(report_text.text(read(path)))
    assert "[/red]" in shown.get()


def test_keys_of_a_later_version_are_ignored(whole: str, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps({**json.loads(whole), "invented_later": [1]}))
    assert read(path)["invented_later"] == [1]


SCHEMA = json.loads((Path(__file__).parents[1] / "docs" / "report.schema.json").read_text(encoding="utf-8"))


def test_the_published_schema_takes_a_report_and_refuses_what_the_reader_refuses(whole: str) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(json.loads(whole), SCHEMA)
    for change in (
        put("schema", "snnergy.report/9"),
        lost("energy", "total", "low"),
        put("energy", "total", "low", -1),
        put("energy", "total", "unit", "kWh"),
        put("layers", {}),
        put("accuracy", 97),
        put("timeline", "terms_ns", "synops", 0, "long"),
        put("evidence", "shares", "assumed", None),
    ):
        document = json.loads(whole)
        change(document)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(document, SCHEMA)
