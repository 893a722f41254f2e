"""The document has the promised keys, says the same everywhere, and the page needs nothing from outside."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from snnergy.deploy.activity import Activity
from snnergy.deploy.energy import STATEMENT, EnergyReport
from snnergy.deploy.place import place
from snnergy.deploy.price import price
from snnergy.deploy.report import RunFacts, document
from snnergy.deploy.report_file import SCHEMA, read
from snnergy.deploy.report_page import html
from snnergy.deploy.report_text import text
from snnergy.deploy.schedule import balance
from snnergy.deploy.units import si, span
from snnergy.errors import BadInput
from snnergy.export.maps import Conv, Dense
from snnergy.export.quantnet import QuantNet, QuantPopulation, QuantProjection, QuantSource
from snnergy.hardware_profiles import load

FACTS = RunFacts(
    engine="native",
    target="loihi2-sim",
    accuracy=0.9,
    accuracy_before=0.92,
    inputs="random:0.1",
    inputs_sha256="ab" * 32,
    seed=7,
    cross_check="equal",
    packages={"numpy": "2"},
    seconds={"run": 0.5},
    lossy=("rounded <weights>",),
)


def report(layer: str = "conv <1>") -> EnergyReport:
    rng = np.random.default_rng(0)
    conv = Conv(rng.integers(-5, 6, (16, 2, 3, 3)).astype(np.int8), (2, 64, 64), padding=(1, 1))

    def population(name: str, shape: tuple[int, ...]) -> QuantPopulation:
        zero = np.zeros(prod(shape), np.int64)
        return QuantPopulation(name, shape, zero, zero + 4096, zero + 10, zero, 0, True, 1.0)

    head = Dense(np.ones((2, 64 * 64 * 16), np.int8) * (np.arange(65536) % 64 == 0), (65536,), (2,))
    net = QuantNet(
        (QuantSource("in", (2, 64, 64), 8, 1.0),),
        (population(layer, conv.output_shape), population("head", (2,))),
        (QuantProjection("in", layer, conv, 0), QuantProjection(layer, "head", head, 0)),
        ("head",),
        1e-3,
        4,
        8,
        (),
    )
    nodes = (*net.sources, *net.populations)
    counts = {n.name: rng.integers(0, 3, (4, prod(n.shape))) for n in nodes}
    active = {p.name: np.maximum(counts[p.name], rng.integers(0, 3, (4, prod(p.shape)))) for p in net.populations}
    profile = load("loihi2")
    return price(Activity(2, 4, counts, active), place(net, balance(net), profile), net, balance(net), profile)


@pytest.fixture(scope="module")
def doc() -> dict[str, Any]:
    return document(report(), FACTS)


def test_the_document_has_the_keys_of_the_schema(doc: dict[str, Any]) -> None:
    assert doc["schema"] == "snnergy.report/2"
    assert json.loads(json.dumps(doc, allow_nan=False)) == doc
    keys = "tool target engine samples timesteps accuracy network placement cores layers energy latency edp provenance"
    assert {*keys.split(), "unpriced"} <= set(doc)
    assert set(doc["network"]) == {"neurons", "synapses", "populations", "projections", "depth"}
    assert {"chips", "cores"} <= set(doc["placement"])
    for name in ("total", "dynamic", "static", "host", "io"):
        assert set(doc["energy"][name]) == {"low", "nominal", "high", "unit"} and doc["energy"][name]["unit"] == "pJ"
    assert set(doc["latency"]) == {"low", "nominal", "high", "unit", "bound_by"}
    assert {"version", "inputs_sha256", "seed", "packages"} <= set(doc["provenance"])
    core = "chip core x y populations neurons synops updates spikes messages hops energy_pj"
    assert all(set(core.split()) <= set(row) for row in doc["cores"])
    assert len(doc["cores"]) == doc["placement"]["cores"] == 17


def rounded(value: Any) -> Any:
    """Numbers to nine digits: the order of a sum differs from processor to processor."""
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, dict):
        return {key: rounded(v) for key, v in value.items()}
    return [rounded(v) for v in value] if isinstance(value, list) else value


def test_document_of_a_small_network(doc: dict[str, Any], golden: Callable[[str], None]) -> None:
    """All of it but the constants, which docs/energy.md lists, and the version."""
    kept = {key: value for key, value in doc.items() if key not in ("constants", "tool", "provenance", "run")}
    golden(json.dumps(rounded(kept), indent=1, ensure_ascii=False))


def test_terminal_report_of_a_small_network(doc: dict[str, Any], golden: Callable[[str], None]) -> None:
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(text(doc, rows=5))
    golden("\n".join(line.rstrip() for line in console.export_text().splitlines()))


def test_cores_and_layers_add_up_to_the_dynamic_energy(doc: dict[str, Any]) -> None:
    for rows in (doc["cores"], doc["layers"]):
        for end, key in (("nominal", "total"), ("low", "low"), ("high", "high")):
            assert sum(row["energy_pj"][key] for row in rows) == pytest.approx(doc["energy"]["dynamic"][end])
        assert sum(row["synops"] for row in rows) == pytest.approx(doc["counters"]["synops"])
    assert [row["name"] for row in doc["layers"]] == ["in", "conv <1>", "head"]
    assert doc["energy"]["total"]["nominal"] == pytest.approx(
        sum(doc["energy"][part]["nominal"] for part in ("dynamic", "static", "host", "io"))
    )


def test_a_document_is_read_back_and_another_schema_is_refused(doc: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps(doc))
    assert read(path) == doc
    path.write_text('{"schema": "snnergy.report/9"}')
    with pytest.raises(BadInput) as error:
        read(path)
    assert str(error.value) == f"r.json: schema is 'snnergy.report/9', must be '{SCHEMA}'"
    path.write_text("[]")
    with pytest.raises(BadInput, match="schema is None"):
        read(path)
    path.write_text("{")
    with pytest.raises(BadInput, match=r"r\.json: cannot be read as JSON: "):
        read(path)


def test_the_text_opens_with_the_statement_and_shortens_the_cores(doc: dict[str, Any]) -> None:
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(text(doc, rows=5))
    shown = console.export_text()
    assert shown.startswith(STATEMENT)
    assert "... 12 more" in shown
    assert span(doc["energy"]["total"]) in shown
    assert all(line in " ".join(shown.split()) for line in doc["unpriced"])
    assert "conv <1>" in shown


class Page(HTMLParser):
    """Counts tags and collects what the page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str | None] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [value for name, value in attrs if name in ("src", "href", "data", "action", "srcset")]
        if tag not in ("meta", "input", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_needs_nothing_from_outside(doc: dict[str, Any]) -> None:
    shown = html(doc)
    page = Page()
    page.feed(shown)
    assert page.open == [] and page.fetched == []
    assert not {"link", "img", "iframe"} & set(page.tags) and page.tags.count("title") == 1
    ours = re.sub(r"<td.*?</td>|<script>.*?</script>", "", shown, count=0, flags=re.S)
    assert "url(" not in ours and "@import" not in ours and "http" not in ours
    assert shown.lower().index(STATEMENT[1:]) < shown.index("Where the energy goes")


def test_names_from_a_file_cannot_inject_markup() -> None:
    shown = html(document(report("<script>x</script>"), FACTS))
    assert "<script>x" not in shown and "&lt;script&gt;x&lt;/script&gt;" in shown
    assert "rounded &lt;weights&gt;" in shown


def test_a_run_without_labels_or_seed_is_shown_too() -> None:
    doc = document(report(), RunFacts("loihi2"))
    assert "no labels" in html(doc)
    assert doc["accuracy"] is None and doc["provenance"]["seed"] is None


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (182.6e6, "pJ", "183 µJ"),
        (999.9e6, "pJ", "1 mJ"),
        (1234, "", "1.23 k"),
        (0, "pJ", "0 J"),
        (443e3, "ns", "443 µs"),
        (8.1e-8, "J s", "81 nJ·s"),
        (0.5, "W", "500 mW"),
        (1e-30, "pJ", "1e-27 fJ"),
        (12, "", "12"),
    ],
)
def test_numbers_for_people_have_three_digits_and_a_prefix(value: float, unit: str, shown: str) -> None:
    assert si(value, unit) == shown
