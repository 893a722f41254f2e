"""What ``snnergy check`` prints: what every layer needs of every limit, all violations, the verdict."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from snnergy.deploy.check_model import Checked, Verdict, percent
from snnergy.deploy.rules import COUNTED, NETWORK, RULES, Finding, title

NOTE = "the file's own weights are counted: those that quantisation rounds to 0 take no place on a chip"
COLUMNS = tuple(rule.__name__ for rule in COUNTED if rule.__name__ != "groups")
"""The rules that have a column of the table of layers where the limit is stated; all others have a row below it."""


def text(checked: Checked) -> RenderableType:
    """One target: its tables, all violations, the verdict. Several: a row each, and their violations."""
    parts: list[RenderableType] = []
    if len(checked.verdicts) == 1:
        (verdict,) = checked.verdicts
        parts += [_layers(verdict), _limits(verdict), *_violations(verdict, ""), *_lost(checked), _answer(verdict)]
    else:
        parts.append(_targets(checked))
        for verdict in checked.verdicts:
            parts += _violations(verdict, f"{verdict.target}: ")
        parts += [*_lost(checked), *(_answer(v) for v in checked.verdicts if v.placed)]
    return Group(*parts, *(Text(f"note: {line}", style="dim") for line in (*checked.assumed, NOTE)))


def _table(*columns: str) -> Table:
    """Names on the left, whole however long, numbers on the right."""
    table = Table(box=None, header_style="bold", padding=(0, 1))
    table.add_column(columns[0], overflow="fold")
    for column in columns[1:]:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _columns(verdict: Verdict) -> tuple[str, ...]:
    stated = {f.rule for f in verdict.findings if f.have is not None}
    return tuple(name for name in COLUMNS if name in stated)


def _layers(verdict: Verdict) -> RenderableType:
    """One row a population: what it needs, how much that is of one core, and how many cores at least."""
    columns = _columns(verdict)
    have = {f.rule: f.have for f in verdict.findings}
    rows: dict[str, dict[str, Finding]] = {}
    for f in verdict.findings:
        if f.rule in columns:
            rows.setdefault(f.population, {})[f.rule] = f
    if not rows:
        return Group()
    table = _table("layer", *map(title, columns), "cores")
    table.add_row("one core holds", *(_stated(have[name]) for name in columns), "at least", style="dim")
    for population, found in rows.items():
        cores = max(f.cores for f in found.values())
        table.add_row(Text(population), *(_cell(found[name]) for name in columns), f"{cores:,}")
    return table


def _stated(have: int | None) -> str:
    return "not stated" if have is None else f"{have:,}"


def _cell(f: Finding) -> Text:
    used = "" if f.core_percent is None else f" {f.core_percent:,.0f}%"
    return Text(f"{f.need:,}{used}" + ("" if f.ok else " !"), style="" if f.ok else "bold red")


def _limits(verdict: Verdict) -> RenderableType:
    """The limits that have no column: a row each, of whoever needs most."""
    table = _table("limit", "need", "have", "used")
    table.add_column("of", overflow="fold")
    skip = (*_columns(verdict), "loops", "programs", "unsupported")
    for name in (rule.__name__ for rule in RULES if rule.__name__ not in skip):
        f = max((f for f in verdict.findings if f.rule == name), key=lambda f: f.need, default=None)
        if f is not None:
            used = "" if f.core_percent is None else f"{f.core_percent:,.0f}%"
            have = "any" if f.rule == "chips" and f.have is None else _stated(f.have)
            need = f"{f.need:,}" + ("" if f.ok else " !")
            table.add_row(title(name), need, have, used, Text(f.population), style="" if f.ok else "bold red")
    return Group("", table, "") if table.row_count else Group()


def _violations(verdict: Verdict, before: str) -> Iterator[RenderableType]:
    for f in verdict.violations:
        yield Text(f"{before}{f}")


def _lost(checked: Checked) -> Iterator[RenderableType]:
    """The nodes that follow one that is not lowered."""
    if lost := checked.not_checked:
        yield Text(f"not checked, as they follow a node that is not lowered: {', '.join(lost)}")


def _answer(verdict: Verdict) -> RenderableType:
    target, placed, count = verdict.target, verdict.placed, len(verdict.violations)
    where = f"placed on {_count(placed.chips or 0, 'chip')}, {_count(placed.cores or 0, 'core')}" if placed else ""
    size = f"at least {_count(verdict.chips, 'chip')}, {_count(verdict.case.bound.cores, 'core')}"
    if placed and placed.reason is not None:
        return Text(f"does not fit {target}: {placed.reason}", style="bold red")
    if count:
        though = f", though {where} with its weights rounded" if placed else ""
        return Text(f"does not fit {target}: {_count(count, 'violation')}{though}", style="bold red")
    return Text(f"fits {target}: {where}{'; ' * bool(placed)}{size}", style="bold green")


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'s' * (number != 1)}"


def _targets(checked: Checked) -> RenderableType:
    """One row a target."""
    table = _table("target", "fits", "cores at least", "chips at least")
    table.add_column("worst limit")
    for v in checked.verdicts:
        worst = v.worst
        shown = ""
        if worst:
            used = percent(worst)
            where = "" if worst.population == NETWORK else f" of {worst.population}"
            shown = f"{title(worst.rule)}{where}" + ("" if used is None else f", {used:,.0f}%")
        table.add_row(v.target, "yes" if v.fits else "no", f"{v.case.bound.cores:,}", f"{v.chips:,}", Text(shown),
                      style="green" if v.fits else "red")  # fmt: skip
    return Group(table, "")
