"""A ``Diff`` for a terminal, and as Markdown for a comment of continuous integration."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from snnergy.deploy.diff import Diff, Row
from snnergy.deploy.units import si

LAYERS = 8
"""So many layers are shown, those that changed most."""


def text(found: Diff) -> RenderableType:
    """Every number of both, then the layers whose energy changed most, then the verdict."""
    parts: list[RenderableType] = [_table("per inference", found.rows), Text()]
    if changed := _changed(found):
        parts += [_table("dynamic energy of a layer", changed), Text()]
    return Group(*parts, *(Text(f"note: {note}", style="dim") for note in found.notes), Text(verdict(found)))


def markdown(found: Diff) -> str:
    """The same as tables that GitHub and GitLab show."""
    lines = [f"**{verdict(found)}**", ""]
    for head, rows in (("per inference", found.rows), ("dynamic energy of a layer", _changed(found))):
        if rows:
            lines += [f"| {head} | before | after | change |", "|---|---:|---:|---:|"]
            lines += [
                f"| {_safe(r.name)} | {_value(r, r.before)} | {_value(r, r.after)} | {_change(r)} |" for r in rows
            ]
            lines.append("")
    lines += [f"- {_safe(note)}" for note in found.notes]
    return "\n".join(lines).rstrip() + "\n"


def verdict(found: Diff) -> str:
    """One line: within every budget, or which is exceeded and by how much."""
    if found.over:
        return "over budget: " + "; ".join(f"{r.name} {_change(r)}, allowed {r.limit or 0:+.1%}" for r in found.over)
    energy = found.rows[0]
    limited = [f"{r.name} {r.limit:+.1%}" for r in found.rows if r.limit is not None]
    return f"energy {_change(energy)}" + (f"; within budget: {', '.join(limited)}" if limited else "")


def _changed(found: Diff) -> tuple[Row, ...]:
    return tuple(row for row in found.layers if row.before != row.after)[:LAYERS]


def _table(title: str, rows: tuple[Row, ...]) -> Table:
    table = Table(title, box=None, header_style="bold", padding=(0, 1))
    for column in ("before", "after", "change"):
        table.add_column(column, justify="right")
    for row in rows:
        style = "bold red" if row.over else ""
        table.add_row(Text(row.name), _value(row, row.before), _value(row, row.after), _change(row), style=style)
    return table


def _value(row: Row, value: float) -> str:
    return si(value, row.unit) if row.unit else f"{value:,.6g}"


def _change(row: Row) -> str:
    return "from nothing" if row.change is None else f"{row.change:+.1%}"


def _safe(name: str) -> str:
    """A name of the network's in a cell of a table."""
    return name.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
