"""The figures of the report's page, drawn by Bokeh in the browser, from the document alone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import pairwise
from math import ceil, sqrt
from typing import Any

from bokeh.document import Document
from bokeh.models import ColumnDataSource, HoverTool, LinearColorMapper, Range1d, SingleIntervalTicker, Span, Whisker
from bokeh.plotting import figure
from bokeh.resources import Resources

from snnergy.deploy.units import scale, si

OP_LABELS = {
    "synops": "synaptic operations",
    "updates": "neuron updates",
    "spikes": "spike generation",
    "messages": "messages between cores",
    "hops": "hops on the mesh",
    "interchip": "links between chips",
    "resets": "resets between samples",
}
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#8A94A3")
"""Okabe and Ito's, which colour-blind readers can tell apart, and a grey."""
HEAT = tuple(
    f"#{round(255 - 38 * k / 255):02x}{round(241 - 169 * k / 255):02x}{round(230 - 215 * k / 255):02x}"
    for k in range(256)
)
INK, SOFT, LINE, FREE = "#16202c", "#5b6878", "#dfe4ea", "#e9edf2"
MOST_LAYERS, MOST_CONSTANTS, MOST_NAMED = 40, 10, 160
GAP = 0.25
"""Between routers, in cores; CHIP_GAP: between chips."""
CHIP_GAP = 1.5
WIDTH = 1060
"""Of a figure on a wide screen, in pixels."""
LETTERS = 7
BAND = 24
"""Height of a population in the raster, in pixels."""
Doc = Mapping[str, Any]


@cache
def script() -> str:
    """BokehJS without widgets, tables and formulas; nothing in it is fetched from elsewhere."""
    return Resources(mode="inline", components=["bokeh"]).js_raw[0].replace("</script", "<\\/script")


def figures(doc: Doc) -> dict[str, Any]:
    """What the page embeds: ``document`` for BokehJS, ``roots``: figure -> model, ``map``: what the core map can show.

    The same document gives the same text, whatever was drawn before.
    """
    drawn = {
        "layers": _layers(doc),
        "cores": _cores(doc),
        "steps": _steps(doc),
        "raster": doc["raster"] and _raster(doc["raster"]),
        "samples": doc["distribution"] and _samples(doc["distribution"]),
        "tornado": _tornado(doc),
    }
    drawn = {name: found for name, found in drawn.items() if found is not None}
    document = Document()
    for found in drawn.values():
        document.add_root(found)
    text = json.dumps(
        {"document": document.to_json(deferred=False), "roots": {name: found.id for name, found in drawn.items()}}
    )
    order = {old: f"m{k}" for k, old in enumerate(dict.fromkeys(re.findall(r'"(p\d+)"', text)))}
    return {**json.loads(re.sub(r'"(p\d+)"', lambda m: f'"{order[m[1]]}"', text)), "map": core_values(doc)}


def core_values(doc: Doc) -> dict[str, Any]:
    """Metric of the core map -> title, unit, value of every core over an inference and, where known, in every step."""
    cores, steps = doc["cores"], doc["timeline"]["cores"] or {}

    def metric(title: str, unit: str, whole: Iterable[float], name: str = "") -> dict[str, Any]:
        return {"title": title, "unit": unit, "whole": list(whole), "steps": steps.get(name)}

    found = {
        "energy": metric("dynamic energy", "pJ", (c["energy_pj"]["total"] for c in cores), "energy_pj"),
        "synops": metric("synaptic operations", "", (c["synops"] for c in cores), "synops"),
        "spikes": metric("spikes", "", (c["spikes"] for c in cores)),
        "messages": metric("messages", "", (c["messages"] for c in cores)),
        "neurons": metric("neurons", "", (c["neurons"] for c in cores)),
    }
    if all("synapse_bytes" in c.get("usage", {}) for c in cores):
        found["memory"] = metric("synaptic memory", "B", (c["usage"]["synapse_bytes"] for c in cores))
    return found


def plain(name: str) -> str:
    """The name, without what BokehJS would take for a formula and fetch a typesetter for."""
    return re.sub(r"\$\$|\\[()\[\]]", lambda m: "\u200b".join(m[0]), name)


def _figure(height: int, *, tools: str = "", **settings: Any) -> Any:
    found = figure(
        height=height,
        **{"sizing_mode": "stretch_width", **settings},
        tools=tools,
        toolbar_location="above" if tools else None,
        min_border_right=12,
        outline_line_color=None,
        background_fill_alpha=0,
        border_fill_alpha=0,
    )
    found.toolbar.logo = None
    for axis in found.axis:
        axis.axis_line_color, axis.major_tick_line_color, axis.minor_tick_line_color = LINE, LINE, None
        axis.major_label_text_color = axis.axis_label_text_color = SOFT
        axis.major_label_text_font_size = axis.axis_label_text_font_size = "12px"
        axis.axis_label_text_font_style = "normal"
    found.grid.grid_line_color = LINE
    return found


def _hover(on: Any, **rows: str) -> HoverTool:
    return HoverTool(renderers=[on], tooltips=list(rows.items()))


def _legend(found: Any) -> None:
    legend = found.legend[0]
    legend.orientation, legend.border_line_color, legend.background_fill_alpha = "horizontal", None, 0
    legend.label_text_font_size, legend.label_text_color, legend.padding = "12px", SOFT, 2
    legend.ncols, legend.click_policy = 4, "hide"
    found.add_layout(legend, "above")


def _layers(doc: Doc) -> Any:
    """Energy by layer and operation, the range of each layer as an error bar."""
    rows = sorted(doc["layers"], key=lambda row: -row["energy_pj"]["total"])[:MOST_LAYERS]
    rows = [row for row in doc["layers"] if row in rows]
    if not rows:
        return None
    names = _unique([plain(row["name"]) for row in rows])
    factor, unit = scale(max(row["energy_pj"]["high"] for row in rows), "pJ")
    found = _figure(72 + 24 * len(rows), y_range=names[::-1], x_axis_label=f"dynamic energy per inference, {unit}")
    left = [0.0] * len(rows)
    for op, colour in zip((op for op in OP_LABELS if op in doc["operations_pj"]), COLOURS, strict=False):
        ends = [row["operations_pj"].get(op, {"low": 0.0, "nominal": 0.0, "high": 0.0}) for row in rows]
        if not any(e["nominal"] for e in ends):
            continue
        right = [a + factor * e["nominal"] for a, e in zip(left, ends, strict=True)]
        source = ColumnDataSource(
            {
                "name": names,
                "left": left,
                "right": right,
                "value": [si(e["nominal"], "pJ") for e in ends],
                "range": [f"{si(e['low'], 'pJ')} .. {si(e['high'], 'pJ')}" for e in ends],
            }
        )
        bar = found.hbar(
            y="name", left="left", right="right", height=0.62, color=colour, source=source, legend_label=OP_LABELS[op]
        )
        found.add_tools(_hover(bar, layer="@name", **{OP_LABELS[op]: "@value (@range)"}))
        left = right
    ends = {end: [factor * row["energy_pj"][end] for row in rows] for end in ("low", "high")}
    _whiskers(found, names, ends["low"], ends["high"], "width")
    if found.legend:
        _legend(found)
    found.x_range = Range1d(start=0, end=1.04 * max([*ends["high"], 1e-12]))
    found.ygrid.grid_line_color = None
    return found


def _whiskers(found: Any, base: Sequence[Any], low: Sequence[float], high: Sequence[float], dimension: Any) -> None:
    source = ColumnDataSource({"base": base, "low": low, "high": high})
    bars = Whisker(base="base", lower="low", upper="high", dimension=dimension, line_color=INK, source=source)
    heads: Any = (bars.upper_head, bars.lower_head)
    for head in heads:
        head.size, head.line_color = 6, INK
    found.add_layout(bars)


def _unique(names: list[str]) -> list[str]:
    return [name + "\u200b" * names[:k].count(name) for k, name in enumerate(names)]


def _cores(doc: Doc) -> Any:
    """Every core at its place in the mesh; the page's script sets what the colours show."""
    cores, place, values = doc["cores"], doc["placement"], core_values(doc)["energy"]["whole"]
    per, chips = place["cores_per_router"], place["chips"]
    across = 2 if per > 1 else 1
    down = -(-per // across)
    wide = place["mesh_width"] * (across + GAP) + CHIP_GAP
    high = place["mesh_height"] * (down + GAP) + CHIP_GAP
    line = min(chips, max(1, ceil(sqrt(chips * high / wide * 1.6))))

    def at(chip: int, x: int, y: int, k: int) -> tuple[float, float]:
        left = chip % line * wide + x * (across + GAP) + k % across
        return left, -(chip // line * high + y * (down + GAP) + k // across)

    seats = [
        at(chip, x, y, k)
        for chip in range(chips)
        for x in range(place["mesh_width"])
        for y in range(place["mesh_height"])
        for k in range(per)
    ]
    used = [at(c["chip"], c["x"], c["y"], c["core"] % per) for c in cores]
    across_all, down_all = line * wide, -(-chips // line) * high
    sized = {"sizing_mode": "scale_width", "aspect_ratio": across_all / down_all, "match_aspect": True}
    found = _figure(round(WIDTH * down_all / across_all), width=WIDTH, tools="pan,wheel_zoom,reset,save", **sized)
    found.axis.visible = False
    found.grid.grid_line_color = None
    found.rect([x for x, _ in seats], [y for _, y in seats], width=0.92, height=0.92, color=FREE)
    source = ColumnDataSource(
        {
            "x": [x for x, _ in used],
            "y": [y for _, y in used],
            "value": values,
            "says": [si(v, "pJ") for v in values],
            "core": [f"chip {c['chip']} core {c['core']} at ({c['x']}, {c['y']})" for c in cores],
            "populations": [", ".join(c["populations"]) for c in cores],
            "neurons": [f"{c['neurons']:,}" for c in cores],
        },
        name="cores",
    )
    mapper = LinearColorMapper(palette=HEAT, low=0, high=max([*values, 1e-12]), name="heat")
    drawn = found.rect(
        "x",
        "y",
        width=0.92,
        height=0.92,
        source=source,
        fill_color={"field": "value", "transform": mapper},
        line_color="#c9855f",
        line_width=0.5,
    )
    found.add_tools(_hover(drawn, core="@core", layers="@populations", neurons="@neurons", value="@says"))
    if len(cores) <= MOST_NAMED:
        names = ["" if not c["populations"] else _short(c["populations"][0]) for c in cores]
        found.text(
            [x for x, _ in used],
            [y for _, y in used],
            names,
            text_align="center",
            text_baseline="middle",
            text_font_size="9px",
            text_color=INK,
            name="names",
        )
    if chips > 1:
        tops = [at(chip, 0, 0, 0) for chip in range(chips)]
        found.text(
            [x - 0.5 for x, _ in tops],
            [y + 0.7 for _, y in tops],
            [f"chip {k}" for k in range(chips)],
            text_font_size="11px",
            text_color=SOFT,
        )
    return found


def _short(name: str) -> str:
    return plain(name if len(name) <= LETTERS else "…" + name[1 - LETTERS :])


def _steps(doc: Doc) -> Any:
    """Time of every step by what sets its pace, with its range."""
    of = doc["timeline"]
    nominal = of["step_ns"]["nominal"]
    if not nominal:
        return None
    factor, unit = scale(max(of["step_ns"]["high"]), "ns")
    found = _figure(250, x_axis_label="step of the pipeline", y_axis_label=f"time of a step, {unit}")
    bounds = of["bound_by"] or [""] * len(nominal)
    kinds = list(dict.fromkeys(re.split(r" of | \(|:", bound)[0] for bound in bounds))
    for kind, colour in zip(kinds, COLOURS * len(kinds), strict=False):
        here = [t for t, bound in enumerate(bounds) if re.split(r" of | \(|:", bound)[0] == kind]
        columns = {
            "step": here,
            "time": [factor * nominal[t] for t in here],
            "says": [si(nominal[t], "ns") for t in here],
            "range": [f"{si(of['step_ns']['low'][t], 'ns')} .. {si(of['step_ns']['high'][t], 'ns')}" for t in here],
            "bound": [bounds[t] for t in here],
            **{name: [si(times[t], "ns") for t in here] for name, times in of["terms_ns"].items()},
        }
        bar = found.vbar(
            x="step",
            top="time",
            width=0.8,
            color=colour,
            source=ColumnDataSource(columns),
            legend_label=plain(kind or "not said"),
        )
        terms = {name: f"@{{{name}}}" for name in of["terms_ns"]}
        found.add_tools(_hover(bar, step="@step", time="@says (@range)", **{"set by": "@bound"}, **terms))
    ends = {end: [factor * v for v in of["step_ns"][end]] for end in ("low", "high")}
    _whiskers(found, list(range(len(nominal))), ends["low"], ends["high"], "height")
    _legend(found)
    found.xaxis.ticker = SingleIntervalTicker(interval=max(1, len(nominal) // 20), num_minor_ticks=0)
    found.y_range = Range1d(start=0, end=1.04 * max([*ends["high"], 1e-12]))
    found.xgrid.grid_line_color = None
    return found


def _raster(of: Doc) -> Any:
    """Who fires when; a line for a spike, a band for a population."""
    rows = of["populations"]
    if not rows:
        return None
    found = _figure(
        max(180, BAND * len(rows) + 90),
        tools="xwheel_zoom,ywheel_zoom,box_zoom,reset,save",
        x_axis_label="step of the sample",
        x_range=Range1d(start=-0.5, end=of["steps"] - 0.5),
        y_range=Range1d(start=len(rows), end=0),
    )
    kinds = list(dict.fromkeys(row["part"] for row in rows))
    for kind, colour in zip(kinds, COLOURS * len(kinds), strict=False):
        columns: dict[str, list[Any]] = {name: [] for name in ("start", "end", "y", "name", "neuron", "step")}
        for k, row in enumerate(rows):
            for step, neuron in row["events"] if row["part"] == kind else ():
                columns["start"].append(step - 0.45)
                columns["end"].append(step + 0.45)
                columns["y"].append(round(k + 0.06 + 0.88 * (neuron + 0.5) / max(row["neurons"], 1), 4))
                columns["name"].append(row["name"])
                columns["neuron"].append(neuron)
                columns["step"].append(step)
        spikes = found.segment(
            "start",
            "y",
            "end",
            "y",
            color=colour,
            line_width=1,
            line_alpha=0.45,
            source=ColumnDataSource(columns),
            legend_label=plain(kind or "network"),
        )
        found.add_tools(_hover(spikes, population="@name", neuron="@neuron", step="@step"))
    found.xaxis.ticker = SingleIntervalTicker(interval=max(1, of["steps"] // 20), num_minor_ticks=0)
    found.xgrid.grid_line_color = None
    found.yaxis.ticker = [k + 0.5 for k in range(len(rows))]
    found.yaxis.major_label_overrides = {k + 0.5: plain(row["name"]) for k, row in enumerate(rows)}
    found.ygrid.grid_line_color = None
    for k in range(1, len(rows)):
        found.add_layout(Span(location=k, dimension="width", line_color=LINE))
    _legend(found)
    return found


def _samples(of: Doc) -> Any:
    """How many samples take how much energy, and where 5, 50 and 95 % of them lie."""
    histogram, energy = of["histogram"], of["energy"]
    counts, low, high = histogram["samples"], histogram["low_pj"], histogram["high_pj"]
    if not counts:
        return None
    factor, unit = scale(high, "pJ")
    edges = [factor * (low + (high - low) * k / len(counts)) for k in range(len(counts) + 1)]
    found = _figure(240, x_axis_label=f"energy of a sample, {unit}", y_axis_label="samples")
    source = ColumnDataSource(
        {
            "left": edges[:-1],
            "right": edges[1:],
            "samples": counts,
            "range": [f"{a:.4g} .. {b:.4g} {unit}" for a, b in pairwise(edges)],
        }
    )
    bars = found.quad(
        left="left", right="right", bottom=0, top="samples", source=source, color=COLOURS[0], line_color="#ffffff"
    )
    found.add_tools(_hover(bars, energy="@range", samples="@samples"))
    for q in (5, 50, 95):
        at = factor * energy[f"p{q}"]
        found.line(
            [at, at],
            [0, 1.05 * max([*counts, 1])],
            color=COLOURS[5],
            line_width=2,
            line_dash="solid" if q == 50 else "dashed",
            legend_label=f"{q} %: {si(energy[f'p{q}'], 'pJ')}",
        )
    _legend(found)
    found.y_range.start = 0
    return found


def _tornado(doc: Doc) -> Any:
    """The total with one constant alone at the ends of its range."""
    rows, total = doc["tornado"][:MOST_CONSTANTS], doc["energy"]["total"]["nominal"]
    rows = [row for row in rows if row["high"] > row["low"]]
    if not rows:
        return None
    factor, unit = scale(max(row["high"] for row in rows), "pJ")
    names = _unique([plain(row["constant"]) for row in rows])
    found = _figure(60 + 28 * len(rows), y_range=names[::-1], x_axis_label=f"total per inference, {unit}")
    for end, colour in (("low", COLOURS[0]), ("high", COLOURS[1])):
        source = ColumnDataSource(
            {
                "name": names,
                "end": [factor * row[end] for row in rows],
                "says": [si(row[end], "pJ") for row in rows],
                "range": [row["range"] for row in rows],
            }
        )
        bar = found.hbar(
            y="name",
            left=factor * total,
            right="end",
            height=0.6,
            color=colour,
            source=source,
            legend_label=f"constant at its {end} end",
        )
        found.add_tools(_hover(bar, constant="@name", range="@range", total="@says"))
    found.add_layout(Span(location=factor * total, dimension="height", line_color=INK))
    _legend(found)
    found.ygrid.grid_line_color = None
    return found
