"""What any network would cost: from its ``.nir`` file, or from activity that an earlier run saved."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from snnergy.deploy import counts_file, report, report_file
from snnergy.deploy.energy import cost
from snnergy.deploy.targets import find
from snnergy.errors import BadInput

ACTIVITY = "random:0.1"
"""The input of a file that records none: each input fires in one step of ten."""
KEPT = tuple(f.name for f in fields(report.RunFacts) if f.name not in ("target", "distribution", "labels", "seconds"))
"""What saved activity keeps of ``RunFacts``."""


def from_activity(path: Path, target: str | None) -> dict[str, Any]:
    """The report's document of saved activity, priced for a target; None is the one that it was counted on.

    Only constants may differ from then: raises BadInput where the chip has another mesh, on which the network would
    have to be placed anew.
    """
    saved = counts_file.read(path)
    name = target or saved.target
    profile = find(name).load()
    chip = profile.chip
    mesh = chip.mesh_width.whole, chip.mesh_height.whole, chip.cores_per_router.whole
    if mesh != saved.mesh or saved.counts.chips > chip.chips_max.whole:
        there, here = (f"{w} x {h} routers of {c} cores" for w, h, c in (saved.mesh, mesh))
        raise BadInput(
            f"{path} was counted on {saved.counts.chips} chip(s) of {there}; '{name}' has at most "
            f"{chip.chips_max.whole} of {here}",
            f"snnergy estimate MODEL.nir --target {name}",
        )
    priced = cost(saved.counts, profile, saved, saved.network, saved.parts)  # type: ignore[arg-type]  # has cores
    facts = {key: value for key, value in saved.facts.items() if key in KEPT}
    document = report.document(priced, report.RunFacts(**{"engine": "", **facts}, target=name))
    return report_file.check(path.name, document)


def save(path: Path, priced: Any, facts: report.RunFacts) -> None:
    """Keep what ``from_activity`` needs."""
    chip = priced.profile.chip
    seats = tuple(counts_file.Seat(c.chip, c.core, c.x, c.y, dict(c.usage)) for c in priced.placement.cores)
    kept = {name: getattr(facts, name) for name in KEPT}
    mesh = chip.mesh_width.whole, chip.mesh_height.whole, chip.cores_per_router.whole
    saved = counts_file.Saved(priced.counts, mesh, seats, facts.target, dict(priced.network), dict(priced.parts), kept)
    counts_file.write(path, saved)


def from_model(path: Path, target: str, *, spec: str | None, **settings: Any) -> Any:
    """Place, run and price a ``.nir`` file on the native engine: ``deploy`` without comparing anything.

    Where the file records no input and none is given, ACTIVITY is.
    """
    from snnergy.deploy.deploy_model import deploy
    from snnergy.export import nir_file

    if spec is None and path.suffix != ".net":
        spec = nir_file.provenance(nir_file.read(path)).input
    spec = spec or ACTIVITY
    return deploy(path, target, spec=spec, cross_check=0, compare_float=False, **settings)
