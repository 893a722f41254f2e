"""``snnergy check``: does it fit, every population against every limit, and on how many cores it was placed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from snnergy.deploy import legality, targets
from snnergy.deploy.fit import LIMITS, FitReport, check
from snnergy.deploy.job import prepare
from snnergy.deploy.place import place
from snnergy.deploy.placement import Placement
from snnergy.errors import DoesNotFit
from snnergy.hardware_profiles import load


@dataclass(frozen=True, eq=False)
class Checked:
    """The limits, and the placement or the reason why there is none."""

    target: str
    fit: FitReport
    placement: Placement | None
    reason: str | None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        placed = self.placement
        return {
            "target": self.target,
            "fits": placed is not None,
            "reason": self.reason,
            "chips": placed.chips if placed else None,
            "cores": len(placed.cores) if placed else None,
            "cores_at_least": self.fit.cores,
            "rows": [{**asdict(row), "advice": row.advice} for row in self.fit.rows],
        }


def check_model(path: Path, target: str, chips: int | None, **settings: Any) -> Checked:
    """Check and place without running. settings: of ``job.prepare``."""
    profile = load(targets.find(target).profile)
    job = prepare(path, **settings)
    report = check(job.quant, profile, job.schedule, chips)
    try:
        placement = place(job.quant, job.schedule, profile, chips)
    except DoesNotFit as no:
        return Checked(target, report, None, str(no))
    legality.enforce(job.quant, job.schedule, profile, placement)
    return Checked(target, report, placement, None)


def text(checked: Checked) -> RenderableType:
    """One row a population with what it needs, the limits of a core above, then the answer and every violation."""
    have = {row.limit: row.have for row in checked.fit.rows}
    table = Table("population", box=None, header_style="bold", padding=(0, 1))
    shown = [name for name in LIMITS if name in have]
    for name in shown:
        table.add_column(name.replace("_", " "), justify="right")
    table.add_row("one core holds", *(f"{have[name]:,}" for name in shown), style="dim")
    need: dict[str, dict[str, str]] = {}
    for row in checked.fit.rows:
        if row.limit in shown:
            need.setdefault(row.population, {})[row.limit] = f"{row.need:,}" + ("" if row.ok else " !")
    for population, cells in need.items():
        table.add_row(Text(population), *(cells.get(name, "") for name in shown))
    parts: list[RenderableType] = [table]
    parts += [
        Text(f"{row.population}: {row.limit.replace('_', ' ')} {row.need:,}, allowed {row.have:,}: {row.advice}")
        for row in checked.fit.violations
    ]
    placed = checked.placement
    parts.append(
        Text(f"fits {checked.target}: {placed.chips} chips, {len(placed.cores)} cores", style="bold green")
        if placed
        else Text(f"does not fit {checked.target}: {checked.reason}", style="bold red")
    )
    return Group(*parts)
