"""What ``snnergy verify`` prints and writes: the pairs, and a table of the populations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from snnergy.deploy.compare import Pair, Row
from snnergy.deploy.forms import FORMS
from snnergy.deploy.job import Inputs


def document(inputs: Inputs, pairs: Sequence[Pair], left_out: Sequence[str]) -> dict[str, Any]:
    """For JSON: the same command gives the same bytes."""
    return {
        "inputs": {"spec": inputs.spec, "sha256": inputs.sha256, "samples": len(inputs)},
        "pairs": [pair.to_dict() for pair in pairs],
        "left_out": list(left_out),
        "equal": all(pair.equal for pair in pairs if pair.demand == "exact"),
        "ok": all(pair.ok for pair in pairs),
    }


def text(pair: Pair, explained: bool) -> str:
    """The line of a pair; below it, where it failed or that is asked for, why it differs first."""
    if pair.explanation is None or (pair.ok and not explained):
        return str(pair)
    return f"{pair}\n{pair.explanation}"


def table(pairs: Sequence[Pair]) -> Table:
    """A row a population: agreement in every pair that differs, firing rate in float and on the chip, saturation."""
    differing = [pair for pair in pairs if pair.differing]
    rates: dict[str, dict[str, float | None]] = {"float": {}, "integer": {}}
    rows: dict[str, list[Row]] = {}
    for pair in pairs:
        for row in pair.rows:
            rows.setdefault(row.population, []).append(row)
            for form, rate in ((pair.left, row.left_rate), (pair.right, row.right_rate)):
                if FORMS[form].arithmetic in rates:
                    rates[FORMS[form].arithmetic].setdefault(row.population, rate)
    titles = ["neurons", *(pair.name.replace(":", ":\n") for pair in differing)]
    titles += [*(f"{kind}\nrate" for kind in rates), "at 24\nbits", "at ends of\nweights"]
    cells = [
        [
            f"{found[0].neurons:,}",
            *(_agreement(pair, name) for pair in differing),
            *(_share(by_name.get(name)) for by_name in rates.values()),
            _share(next((r.saturated for r in found if r.saturated is not None), None)),
            _share(next((r.extreme_weights for r in found if r.extreme_weights is not None), None)),
        ]
        for name, found in rows.items()
    ]
    used = [k for k in range(len(titles)) if any(row[k] for row in cells)]
    result = Table("population", box=None, header_style="bold", padding=(0, 1))
    for k in used:
        result.add_column(titles[k], justify="right")
    for name, row in zip(rows, cells, strict=True):
        result.add_row(Text(name), *(row[k] for k in used))
    return result


def _agreement(pair: Pair, name: str) -> str:
    row = next((row for row in pair.rows if row.population == name), None)
    return _share(row.agreement) if row and row.compared else ""


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"
