"""What ``--target`` can name: a chip's profile, how many chips, and whether they are simulated or the real ones."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from snnergy.config import did_you_mean
from snnergy.deploy import loihi2_hardware
from snnergy.errors import BadInput, MissingPart
from snnergy.hardware_profiles import NAMES, Profile, load


@dataclass(frozen=True)
class Target:
    """A chip to deploy to.

    profile: name for ``hardware_profiles.load``; hardware: True where the real chip is needed
    chips:   of the board; None is as many as the profile says; board: its name in the profile, empty for a bare chip
    """

    name: str
    profile: str
    hardware: bool
    title: str
    chips: int | None = None
    board: str = ""

    def load(self) -> Profile:
        """The profile, with no more chips than the board has."""
        profile = load(self.profile)
        if not self.board:
            return profile
        return replace(profile, chip=replace(profile.chip, chips_max=profile.boards[self.board]))


TARGETS: dict[str, Target] = {
    t.name: t
    for t in (
        Target("loihi2-sim", "loihi2", False, "Loihi 2, simulated exactly on this machine"),
        Target("loihi1-sim", "loihi1", False, "Loihi, simulated exactly on this machine"),
        Target("loihi2", "loihi2", True, "Loihi 2, the chip itself"),
        Target("spinnaker2-sim", "spinnaker2", False, "SpiNNaker 2, simulated exactly on this machine"),
        Target("truenorth-sim", "truenorth", False, "TrueNorth, simulated exactly on this machine"),
        Target("speck-sim", "speck", False, "Speck, simulated exactly on this machine"),
    )
}


@cache
def boards() -> dict[str, Target]:
    """One target a board of the chips that ship with the package, all simulated; of a chip the smallest board first."""
    found: dict[str, Target] = {}
    for chip in NAMES:
        profile = load(chip)
        for name, chips in sorted(profile.boards.items(), key=lambda item: item[1].value):
            title = f"a board of {chips.whole:,} {_short(profile)}, simulated exactly on this machine"
            found[name] = Target(name, chip, False, title, chips.whole, name)
    return found


def find(name: str) -> Target:
    """The target or board of that name, or the chip of a ``.toml`` profile, simulated.

    Raises BadInput, naming the nearest.
    """
    if name in TARGETS:
        return TARGETS[name]
    if name.endswith(".toml"):
        return Target(name, name, False, "a chip of your own, simulated exactly on this machine")
    known = {**TARGETS, **boards()}
    if name not in known:
        raise BadInput(f"no target '{name}'{did_you_mean(name, known)}")
    return known[name]


def rows() -> list[dict[str, Any]]:
    """One row a target: what it is, its size, and whether it can run here."""
    found: list[dict[str, Any]] = []
    for target in (*TARGETS.values(), *boards().values()):
        profile = target.load()
        found.append(
            {
                "name": target.name,
                "profile": target.profile,
                "title": target.title,
                "chip": _short(profile),
                "chips": profile.chip.chips_max.whole,
                "cores": profile.chip.cores.whole,
                "neurons": profile.core.neurons.whole,
                "mode": "hardware" if target.hardware else "simulated",
                "state": _state(target),
            }
        )
    return found


def _short(profile: Profile) -> str:
    """The chip's title up to the first comma."""
    return profile.title.split(",")[0]


def _state(target: Target) -> str:
    """Whether a network can be run on it here, and why not."""
    try:
        if target.hardware:
            loihi2_hardware.board()
    except MissingPart as error:
        return f"not here: {error}"
    return "ready"


def table(found: list[dict[str, Any]]) -> RenderableType:
    """The rows for a terminal, and below them why a target is not here."""
    shown = Table("target", "chip", box=None, header_style="bold", padding=(0, 1))
    for column in ("chips", "cores a chip", "neurons a core"):
        shown.add_column(column, justify="right")
    shown.add_column("mode")
    for row in found:
        sizes = (f"{row[key]:,}" for key in ("chips", "cores", "neurons"))
        shown.add_row(row["name"], row["chip"], *sizes, row["mode"])
    missing = [Text(f"{row['name']} is {row['state']}") for row in found if row["state"] != "ready"]
    return Group(shown, *missing)


def sheet(name: str) -> dict[str, Any]:
    """Everything that is known of a target, for JSON: its profile's numbers with where they come from, and the gaps."""
    target = find(name)
    profile = target.load()
    return {
        "target": target.name,
        "profile": profile.name,
        "title": profile.title,
        "mode": "hardware" if target.hardware else "simulated",
        "energy_scope": profile.scope,
        "note": profile.note,
        "numbers": [{"key": key, **asdict(quantity)} for key, quantity in profile.numbers()],
        "missing": list(profile.missing()),
    }


def text(found: dict[str, Any]) -> RenderableType:
    """A sheet for a terminal: a line a number, its note and the number of its source; the sources below."""
    sources = list(dict.fromkeys(row["source"] for row in found["numbers"]))
    shown = Table(box=None, header_style="bold", padding=(0, 1))
    for column in ("number", "value", "range", "unit", "evidence", "source"):
        shown.add_column(column, no_wrap=True, justify="right" if column == "value" else "left")
    shown.add_column("note")
    for row in found["numbers"]:
        span = "" if row["low"] == row["high"] else f"{row['low']:,.12g} .. {row['high']:,.12g}"
        cited = f"[{1 + sources.index(row['source'])}]"
        cells = (row["key"], f"{row['value']:,.12g}", span, row["unit"], row["evidence"], cited, row["note"])
        shown.add_row(*(Text(cell) for cell in cells))
    parts: list[RenderableType] = [Text(f"{found['target']}: {found['title']}, {found['mode']}", style="bold"), shown]
    parts += [Text(f"[{k}] {source}") for k, source in enumerate(sources, 1)]
    if found["energy_scope"] != "per-term":
        parts.append(Text(f"energy_pj.synop is {found['energy_scope']}: it holds the energy of other events too"))
    if found["missing"]:
        parts.append(Text(f"left out, not published or inside another number: {', '.join(found['missing'])}"))
    if found["note"]:
        parts.append(Text(found["note"]))
    return Group(*parts)
