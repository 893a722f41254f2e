"""The report as one picture (SVG): the headline, where the energy goes, and the core map."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from snnergy.deploy.report import si, span

WIDTH, MARGIN, CELL, GAP = 860, 28, 44, 4
PARTS = (("dynamic", "#1f6feb"), ("static", "#8a94a3"), ("host", "#d29922"))
COLD, HOT = (233, 237, 242), (217, 72, 15)


def svg(doc: Mapping[str, Any]) -> str:
    """The picture of a report's document; it needs no font, script or network."""
    elements = list(_elements(doc))
    body, height = "".join(element for element, _ in elements), elements[-1][1]
    frame = f'<rect width="{WIDTH}" height="{height}" rx="12" fill="#ffffff" stroke="#dfe4ea"/>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="system-ui, sans-serif" font-size="14" fill="#16202c">{frame}{body}</svg>\n'
    )


def _elements(doc: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Pieces from top to bottom, each with the height of the picture so far."""
    energy, place = doc["energy"], doc["placement"]
    title = f"{span(energy['total'])} per inference"
    yield _text(MARGIN, 46, title, 'font-size="24" font-weight="650"'), 60
    accuracy = "" if doc["accuracy"] is None else f"{doc['accuracy']:.2%} accurate, "
    facts = f"{accuracy}latency {span(doc['latency'])}, {place['cores']} of {place['cores_per_chip']} cores"
    yield _text(MARGIN, 70, f"{doc['target_title']}: {facts}", 'fill="#5b6878"'), 80
    yield _text(MARGIN, 92, f"{doc['statement']}; the range is what the sources allow", 'fill="#5b6878"'), 100
    yield _stack(energy), 162
    yield from _map(doc)


def _stack(energy: Mapping[str, Any]) -> str:
    """One bar of the nominal total, and its legend."""
    total = energy["total"]["nominal"] or 1.0
    x, legend, out = float(MARGIN), float(MARGIN), ""
    for name, colour in PARTS:
        width = (WIDTH - 2 * MARGIN) * energy[name]["nominal"] / total
        out += f'<rect x="{x:.1f}" y="108" width="{width:.1f}" height="18" fill="{colour}"/>'
        x += width
        label = f"{name} {si(energy[name]['nominal'], energy[name]['unit'])}"
        out += f'<rect x="{legend:.0f}" y="137" width="10" height="10" fill="{colour}"/>' + _text(
            legend + 16, 147, label
        )
        legend += 40 + 8 * len(label)
    return out


def _map(doc: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Every core of every chip at its place; the darker, the more dynamic energy."""
    place = doc["placement"]
    per, columns, rows = place["cores_per_router"], place["mesh_width"], place["mesh_height"]
    across = 2 if per > 1 else 1
    down = -(-per // across)
    size = min(CELL, (WIDTH - 2 * MARGIN) // (columns * across) - GAP)
    hottest = max((row["energy_pj"]["total"] for row in doc["cores"]), default=0.0) or 1.0
    top = 170
    for chip in range(place["chips"]):
        seats = {(row["x"], row["y"], row["core"] % per): row for row in doc["cores"] if row["chip"] == chip}
        for y in range(rows):
            for x in range(columns):
                for k in range(per):
                    left = MARGIN + (x * across + k % across) * (size + GAP)
                    upper = top + (y * down + k // across) * (size + GAP)
                    yield _core(left, upper, size, seats.get((x, y, k)), hottest), top
        top += rows * down * (size + GAP) + MARGIN
        yield "", top


def _core(left: int, top: int, size: int, row: Mapping[str, Any] | None, hottest: float) -> str:
    share = row["energy_pj"]["total"] / hottest if row else 0.0
    colour = "#" + "".join(f"{round(c + (h - c) * share):02x}" for c, h in zip(COLD, HOT, strict=True))
    if row is None:
        return f'<rect x="{left}" y="{top}" width="{size}" height="{size}" rx="4" fill="{colour}"/>'
    names = ", ".join(row["populations"])
    title = f"chip {row['chip']} core {row['core']}: {si(row['energy_pj']['total'], 'pJ')}; {names}"
    return (
        f'<rect x="{left}" y="{top}" width="{size}" height="{size}" rx="4" fill="{colour}" stroke="#d9480f">'
        f"<title>{escape(title)}</title></rect>"
    )


def _text(x: float, y: float, text: str, style: str = "") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" {style}>{escape(text)}</text>'
