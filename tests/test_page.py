"""The page in a real browser: it draws without an error or a request, its slider moves, it says what the JSON says."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_report import FACTS, report

from snnergy.deploy.figures import core_values, figures
from snnergy.deploy.report import RunFacts, document
from snnergy.deploy.report_page import html
from snnergy.deploy.timeline import raster
from snnergy.deploy.units import si

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, of snnergy[dev]")
BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
needs_browser = pytest.mark.skipif(not BROWSER, reason="needs chromium on the PATH")
HOSTILE = "$$\\frac{1}{2}$$ </script><script>document.title='taken'</script>"
SHOWN = "document.getElementById('shown').textContent"
DRAWN = "Bokeh.documents[0].get_model_by_name('cores').data"


@pytest.fixture(scope="module")
def doc() -> dict[str, Any]:
    import numpy as np

    priced = report()
    rng = np.random.default_rng(1)
    spikes = {p: (rng.random((4, n)) < 0.02).astype(np.uint8) for p, n in (("conv <1>", 65536), ("head", 2))}
    facts = copy.replace(FACTS, raster=raster(spikes, {}, 4, 0, 3)) if hasattr(copy, "replace") else RunFacts(
        "native", target="loihi2-sim", raster=raster(spikes, {}, 4, 0, 3)
    )  # fmt: skip
    return document(priced, facts)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as p:
        found = p.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        yield found
        found.close()


class Opened:
    """A page that was opened from a file, with everything that it complained about and asked for."""

    def __init__(self, browser: Any, path: Path, width: int = 1280) -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 900})
        self.wrong: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda m: self.wrong.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_function("document.documentElement.dataset.drawn === 'yes'", timeout=30_000)

    def set(self, element: str, value: object) -> None:
        self.page.evaluate(
            "([id, value]) => { const e = document.getElementById(id); e.value = value;"
            " e.dispatchEvent(new Event('input')); }",
            [element, str(value)],
        )


@pytest.fixture
def opened(doc: dict[str, Any], browser: Any, tmp_path: Path) -> Iterator[Opened]:
    path = tmp_path / "report.html"
    path.write_text(html(doc), encoding="utf-8")
    found = Opened(browser, path)
    yield found
    found.page.close()
    assert found.wrong == [] and found.asked == [path.as_uri()]


@needs_browser
def test_every_figure_is_drawn(opened: Opened, doc: dict[str, Any]) -> None:
    assert set(figures(doc)["roots"]) == {"layers", "cores", "steps", "raster", "tornado"}
    for name in figures(doc)["roots"]:
        box = opened.page.locator(f"#figure-{name}").bounding_box()
        assert box["height"] > 100 and box["width"] > 300, name
    inked = opened.page.evaluate(
        """() => [...document.querySelectorAll('.figure')].map(figure => {
          const walk = root => [...root.querySelectorAll('*')]
            .flatMap(e => [e, ...(e.shadowRoot ? walk(e.shadowRoot) : [])]);
          return walk(figure).filter(e => e.tagName === 'CANVAS' && e.width > 0).some(c =>
            c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(v => v > 0 && v < 255));
        })"""
    )
    assert inked and all(inked)


@needs_browser
def test_the_slider_shows_every_step_as_the_json_has_it(opened: Opened, doc: dict[str, Any]) -> None:
    for metric, key, unit in (("energy", "energy_pj", "pJ"), ("synops", "synops", "")):
        opened.set("metric", metric)
        for t in range(doc["timeline"]["steps"]):
            opened.set("step", t + 1)
            values = [row[t] for row in doc["timeline"]["cores"][key]]
            assert list(opened.page.evaluate(f"Array.from({DRAWN}.value)")) == values
            assert opened.page.evaluate(f"{DRAWN}.says") == [si(v, unit) for v in values]
            assert opened.page.evaluate(SHOWN).startswith(f"step {t}: {si(sum(values), unit)} ")
    assert opened.page.evaluate("Bokeh.documents[0].get_model_by_name('heat').high") == max(
        max(row) for row in doc["timeline"]["cores"]["synops"]
    )


@needs_browser
def test_every_metric_of_the_whole_inference_is_the_json_s(opened: Opened, doc: dict[str, Any]) -> None:
    for name, metric in core_values(doc).items():
        opened.set("step", 0)
        opened.set("metric", name)
        assert list(opened.page.evaluate(f"Array.from({DRAWN}.value)")) == metric["whole"]
        assert opened.page.evaluate("document.getElementById('step').disabled") is (metric["steps"] is None)
        assert si(sum(metric["whole"]), metric["unit"]) in opened.page.evaluate(SHOWN)


@needs_browser
def test_the_slider_moves_by_keyboard(opened: Opened) -> None:
    opened.page.focus("#step")
    opened.page.keyboard.press("ArrowRight")
    assert opened.page.evaluate(SHOWN).startswith("step 0: ")
    assert opened.page.get_attribute("#step", "aria-valuetext") == "step 0"
    opened.page.keyboard.press("Home")
    assert opened.page.evaluate(SHOWN).startswith("all steps: ")


@needs_browser
def test_the_tiles_are_the_json_s(opened: Opened, doc: dict[str, Any]) -> None:
    told = opened.page.locator(".tile .big").all_text_contents()
    wanted = (doc["energy"]["total"], doc["energy"]["dynamic"], doc["latency"], doc["edp"])
    assert told == [si(value["nominal"], value["unit"]) for value in wanted]


@needs_browser
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_wider_than_the_window_and_it_prints(
    doc: dict[str, Any], browser: Any, tmp_path: Path, width: int
) -> None:
    path = tmp_path / "report.html"
    path.write_text(html(doc), encoding="utf-8")
    found = Opened(browser, path, width)
    assert found.page.evaluate("document.documentElement.scrollWidth") <= width
    assert found.page.pdf(format="A4").startswith(b"%PDF")
    found.page.close()


@needs_browser
def test_names_are_text_and_never_a_formula_or_a_script(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(html(document(report(HOSTILE), FACTS)), encoding="utf-8")
    found = Opened(browser, path)
    found.page.wait_for_timeout(300)
    assert found.wrong == [] and found.asked == [path.as_uri()]
    assert "taken" not in found.page.title()
    found.page.close()


def test_the_same_document_gives_the_same_page_whatever_was_drawn_before(doc: dict[str, Any]) -> None:
    first = html(doc)
    html(document(report("other"), FACTS))
    assert html(doc) == first


def test_the_figures_are_of_the_document(doc: dict[str, Any]) -> None:
    found = json.dumps(figures(doc)["document"])
    for row in doc["layers"]:
        assert si(row["operations_pj"]["updates"]["nominal"], "pJ") in json.loads(found.join(["[", "]"])).__repr__()
