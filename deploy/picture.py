"""Pictures (SVG): a report with its core map, and a mapping as a heat map of the mesh, chip by chip."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from snnergy.deploy.units import si, span
from snnergy.errors import MissingPart

WIDTH, MARGIN, CELL, GAP = 860, 28, 44, 4
TALL = 1200
"""Chips sit side by side where one below the other would pass this height."""
SMALLEST = 3
"""Pitch of the cores, where the picture grows wider instead."""
ZOOM = 2
"""Pixels of a PNG to a unit of the drawing."""
WORDS = 36
"""Side of a core that has room for the last LETTERS letters of a name."""
LETTERS = 7
PARTS = (("dynamic", "#1f6feb"), ("static", "#8a94a3"), ("host", "#d29922"), ("io", "#009e73"))
FREE, COLD, HOT = (233, 237, 242), (255, 241, 230), (217, 72, 15)
GREY = 'fill="#5b6878"'
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Metric:
    """What a heat map shows of a core. value: of a row of ``cores``; says: the value in words"""

    title: str
    value: Callable[[Row], float]
    says: Callable[[float], str]


METRICS = {
    "synops": Metric("Synaptic operations in a mean step", lambda row: row["synops"], lambda v: f"{si(v, '')} synops"),
    "energy": Metric("Dynamic energy per inference", lambda row: row["energy_pj"], lambda v: si(v, "pJ")),
    "memory": Metric("Synaptic memory", lambda row: row["usage"]["synapse_bytes"], lambda v: f"{v:,.0f} bytes"),
    "busy": Metric("Busy time in a mean step", lambda row: row["busy_ns"], lambda v: si(v, "ns")),
}


def svg(doc: Mapping[str, Any]) -> str:
    """The picture of a report's document; it needs no font, script or network."""
    cells = [
        _Cell(row, row["energy_pj"]["total"], si(row["energy_pj"]["total"], "pJ"), tuple(row["populations"]))
        for row in doc["cores"]
    ]
    mesh = _Mesh(doc["placement"])
    return _page([*_headline(doc), *mesh.draw(cells, 170)], mesh.width)


def heat(doc: Mapping[str, Any], metric: str) -> str:
    """One of METRICS of every core, from the document of ``map_model``; it needs no font, script or network."""
    found = METRICS[metric]
    cells = [
        _Cell(row, value := found.value(row), found.says(value), tuple(s["population"] for s in row["slices"]))
        for row in doc["cores"]
    ]
    mesh = _Mesh(doc["placement"])
    return _page([*_heading(doc, found, cells), *mesh.draw(cells, 136)], mesh.width)


def require(path: Path | None) -> None:
    """Raise MissingPart where a picture of pixels is asked for and cannot be made."""
    if path and find_spec("resvg_py") is None:
        raise MissingPart(f"{path} needs resvg-py, not installed", "pip install 'snnergy[png]', or --svg")


def pixels(drawing: str) -> bytes:
    """A picture of this module as PNG, ZOOM pixels to a unit, in the fonts of this machine."""
    import resvg_py

    return bytes(resvg_py.svg_to_bytes(svg_string=drawing, zoom=ZOOM))


def _page(elements: Iterable[tuple[str, int]], width: int) -> str:
    """elements: pieces from top to bottom, each with the height of the picture so far."""
    elements = list(elements)
    body, height = "".join(element for element, _ in elements), elements[-1][1]
    frame = f'<rect width="{width}" height="{height}" rx="12" fill="#ffffff" stroke="#dfe4ea"/>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="system-ui, sans-serif" font-size="14" fill="#16202c">{frame}{body}</svg>\n'
    )


def _headline(doc: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Of a report: what an inference takes, and where the energy goes."""
    energy, place = doc["energy"], doc["placement"]
    title = f"{span(energy['total'])} per inference"
    yield _text(MARGIN, 46, title, 'font-size="24" font-weight="650"'), 60
    accuracy = "" if doc["accuracy"] is None else f"{doc['accuracy']:.2%} accurate, "
    facts = f"{accuracy}latency {span(doc['latency'])}, {place['cores']} of {place['cores_per_chip']} cores"
    yield _text(MARGIN, 70, f"{doc['target_title']}: {facts}", GREY), 80
    yield _text(MARGIN, 92, f"{doc['statement']}; the range is what the sources allow", GREY), 100
    yield _stack(energy), 162


def _heading(doc: Mapping[str, Any], metric: Metric, cells: list[_Cell]) -> Iterator[tuple[str, int]]:
    """Of a mapping: what is shown, of how many cores, and the scale."""
    place, step, link = doc["placement"], doc["step"], doc["busiest_link"]
    yield _text(MARGIN, 46, metric.title, 'font-size="24" font-weight="650"'), 60
    facts = f"chips {place['chips']:,}, cores {place['cores']:,}; a step takes {si(step['nominal'], 'ns')}"
    yield _text(MARGIN, 70, f"{doc['target_title']}: {facts}", GREY), 80
    hottest = max(cells, key=lambda cell: cell.value)
    stops = "".join(f'<stop offset="{k}" stop-color="{_colour(k)}"/>' for k in (0, 1))
    yield f'<defs><linearGradient id="heat">{stops}</linearGradient></defs>', 80
    scale = f'<rect x="{MARGIN + 16}" y="84" width="200" height="12" fill="url(#heat)"/>' + _text(MARGIN, 95, "0")
    scale += _text(MARGIN + 224, 95, f"{hottest.says}: {hottest.name}")
    yield scale + _text(WIDTH - MARGIN, 95, "grey: not in use", f'{GREY} text-anchor="end"'), 100
    crossed = f"; busiest: {link['name']}, {si(link['messages'], '')} messages" if link else ""
    yield _text(MARGIN, 118, f"{doc['statement']}{crossed}", GREY), 124


def _stack(energy: Mapping[str, Any]) -> str:
    """One bar of the nominal total, and its legend."""
    total = energy["total"]["nominal"] or 1.0
    x, legend, out = float(MARGIN), float(MARGIN), ""
    for name, colour in PARTS:
        if name == "io" and not energy[name]["high"]:
            continue
        width = (WIDTH - 2 * MARGIN) * energy[name]["nominal"] / total
        out += f'<rect x="{x:.1f}" y="108" width="{width:.1f}" height="18" fill="{colour}"/>'
        x += width
        label = f"{name} {si(energy[name]['nominal'], energy[name]['unit'])}"
        out += f'<rect x="{legend:.0f}" y="137" width="10" height="10" fill="{colour}"/>' + _text(
            legend + 16, 147, label
        )
        legend += 40 + 8 * len(label)
    return out


@dataclass(frozen=True)
class _Cell:
    """A core in use. value: how hot; says: the same in words"""

    row: Row
    value: float
    says: str
    populations: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"chip {self.row['chip']} core {self.row['core']}"


class _Mesh:
    """Every core of every chip at its place, as many chips in a line as the height asks for."""

    def __init__(self, place: Mapping[str, Any]) -> None:
        self._place, self._chips = place, place["chips"]
        per = place["cores_per_router"]
        self._across = 2 if per > 1 else 1
        self._down = -(-per // self._across)
        self._columns, self._rows = place["mesh_width"] * self._across, place["mesh_height"] * self._down
        self._named = MARGIN // 2 if self._chips > 1 else 0
        self._line = next((n for n in range(1, self._chips) if self._height(n) <= TALL), self._chips)
        self._pitch = self._pitch_of(self._line)
        self.width = max(WIDTH, MARGIN + self._line * (self._columns * self._pitch + MARGIN))

    def _pitch_of(self, line: int) -> int:
        room = (WIDTH - MARGIN) // line - MARGIN
        return min(CELL + GAP, max(room // self._columns, SMALLEST))

    def _height(self, line: int) -> int:
        return -(-self._chips // line) * (self._rows * self._pitch_of(line) + MARGIN + self._named)

    def draw(self, cells: list[_Cell], top: int) -> Iterator[tuple[str, int]]:
        """The darker, the higher the value."""
        per = self._place["cores_per_router"]
        hottest = max((cell.value for cell in cells), default=0.0) or 1.0
        seats = {(c.row["chip"], c.row["x"], c.row["y"], c.row["core"] % per): c for c in cells}
        wide, high = self._columns * self._pitch + MARGIN, self._rows * self._pitch + MARGIN + self._named
        for chip in range(self._chips):
            left, upper = MARGIN + chip % self._line * wide, top + chip // self._line * high + self._named
            if self._named:
                yield _text(left, upper - 4, f"chip {chip}", f'{GREY} font-size="11"'), upper
            for y in range(self._place["mesh_height"]):
                for x in range(self._place["mesh_width"]):
                    for k in range(per):
                        at = left + (x * self._across + k % self._across) * self._pitch
                        below = upper + (y * self._down + k // self._across) * self._pitch
                        yield self._core(at, below, seats.get((chip, x, y, k)), hottest), upper
            yield "", upper + high - self._named

    def _core(self, left: int, top: int, cell: _Cell | None, hottest: float) -> str:
        size = self._pitch - max(min(GAP, self._pitch // 6), 1)
        colour = _colour(cell.value / hottest) if cell else _colour(0, FREE, FREE)
        box = f'<rect x="{left}" y="{top}" width="{size}" height="{size}" rx="{min(4, size // 4)}" fill="{colour}"'
        if cell is None:
            return f"{box}/>"
        names = ", ".join(cell.populations)
        drawn = f"{box}><title>{escape(f'{cell.name}: {cell.says}; {names}')}</title></rect>"
        if size < WORDS:
            return drawn
        ink = "#ffffff" if cell.value > 0.6 * hottest else "#16202c"
        style = f'font-size="9" text-anchor="middle" fill="{ink}" pointer-events="none"'
        lines = [name[-LETTERS:] for name in cell.populations[:3]]
        if len(cell.populations) > 3:
            lines[-1] = f"+{len(cell.populations) - 2}"
        first = top + size / 2 + 3 - 5 * (len(lines) - 1)
        return drawn + "".join(_text(left + size / 2, first + 10 * k, line, style) for k, line in enumerate(lines))


def _colour(share: float, cold: tuple[int, ...] = COLD, hot: tuple[int, ...] = HOT) -> str:
    return "#" + "".join(f"{round(c + (h - c) * share):02x}" for c, h in zip(cold, hot, strict=True))


def _text(x: float, y: float, text: str, style: str = "") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" {style}>{escape(text)}</text>'
