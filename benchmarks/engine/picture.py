"""The benchmark's results as one picture: bars for the four cases, then speed against activity."""

from __future__ import annotations

from math import log10
from typing import Any

from report import CASES, TITLES, by_simulator, cell, number

WIDTH, ROW, LEFT = 880, 18, 230
STYLE = """<style>
text { font: 12px system-ui, sans-serif; fill: #222 } .title { font-weight: 600 } .grid { stroke: #8886 }
.bar { fill: #9aa4b2 } .ours { fill: #d9480f } .line { fill: none; stroke-width: 2 }
@media (prefers-color-scheme: dark) { text { fill: #ddd } .bar { fill: #6b7684 } .ours { fill: #ff8a4c } }
</style>"""
COLOURS = {"automatic": "#d9480f", "events": "#1c7ed6", "product": "#2f9e44"}


def svg(found: dict[str, Any]) -> str:
    """Both parts on logarithmic scales; readable on light and dark pages."""
    parts: list[str] = []
    y = 10
    rows = found.get("rows", [])
    best = by_simulator(rows)
    speeds = [cell(r, case) for cases in best.values() for case, r in cases.items()]
    top = max((s for s in speeds if s), default=10.0)
    scale = (WIDTH - LEFT - 90) / max(1.0, log10(top))
    for case, label in CASES.items():
        shown = sorted(
            ((cell(cases[case], case) or 1.0, p) for p, cases in best.items() if case in cases), reverse=True
        )
        if not shown:
            continue
        y += 22
        parts.append(f'<text class="title" x="8" y="{y}">{label}: samples x timesteps per second, logarithmic</text>')
        for speed, peer in shown:
            y += ROW
            long = max(1.0, log10(max(speed, 1.0)) * scale)
            kind = "ours" if peer == "ours" else "bar"
            name = TITLES.get(peer, peer).replace("*", "")
            parts.append(f'<text x="{LEFT - 8}" y="{y}" text-anchor="end">{name}</text>')
            parts.append(f'<rect class="{kind}" x="{LEFT}" y="{y - 11}" width="{long:.1f}" height="13" rx="2"/>')
            parts.append(f'<text x="{LEFT + long + 6:.1f}" y="{y}">{number(speed)}</text>')
        y += 8
    for key in ("fc", "conv"):
        lines = _lines(found.get("sweep", []), key)
        if lines:
            parts += _plot(lines, f"{key}: speed against activity, one sample, one core", y + 30)
            y += 300
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 20}" width="{WIDTH}" height="{y + 20}">'
        f"{STYLE}{''.join(parts)}</svg>\n"
    )


def _lines(rows: list[dict[str, Any]], key: str) -> dict[str, list[tuple[float, float]]]:
    """Label -> (percent, samples x timesteps per second)."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        points = [
            (float(case.partition("@")[2].partition(":")[0]), speed)
            for case in row["cases"]
            if case.startswith(key) and (speed := cell(row, case))
        ]
        if points:
            lines[f"snnergy, {row['path']}" if row["peer"] == "ours" else row["peer"]] = points
    return lines


def _plot(lines: dict[str, list[tuple[float, float]]], label: str, y: int) -> list[str]:
    right, height = WIDTH - 200, 220
    every = [p for points in lines.values() for p in points]
    low, high = (int(log10(min(s for _, s in every))), int(log10(max(s for _, s in every))) + 1)
    first, last = log10(min(a for a, _ in every)), log10(max(a for a, _ in every))

    def at(a: float, s: float) -> tuple[float, float]:
        across = (log10(a) - first) / max(last - first, 1e-9)
        return 84 + across * (right - 84), y + 15 + height * (high - log10(s)) / (high - low)

    parts = [f'<text class="title" x="8" y="{y}">{label}</text>']
    for power in range(low, high + 1):
        _, h = at(10**first, 10.0**power)
        parts.append(f'<line class="grid" x1="84" x2="{right}" y1="{h:.1f}" y2="{h:.1f}"/>')
        parts.append(f'<text x="76" y="{h + 4:.1f}" text-anchor="end">{10**power:,}</text>')
    for a in sorted({a for a, _ in every}):
        x, _ = at(a, 10.0**low)
        parts.append(f'<text x="{x:.1f}" y="{y + height + 32}" text-anchor="middle">{a:g} %</text>')
    ends: list[float] = []
    for name, points in sorted(lines.items(), key=lambda line: -line[1][-1][1]):
        colour = COLOURS.get(name.removeprefix("snnergy, "), "#868e96")
        path = " ".join(f"{x:.1f},{h:.1f}" for x, h in (at(*p) for p in points))
        width = 4 if name.endswith("automatic") else 2
        parts.append(f'<polyline class="line" stroke="{colour}" style="stroke-width:{width}" points="{path}"/>')
        x, h = at(*points[-1])
        h = max(h, ends[-1] + 14) if ends else h
        ends.append(h)
        parts.append(f'<text x="{x + 8:.1f}" y="{h + 4:.1f}">{name}</text>')
    return parts
