"""Write every price of every profile into ``docs/energy.md``, or with ``--check`` fail where it is out of date."""

from __future__ import annotations

import sys
from pathlib import Path

from snnergy.files import write_text
from snnergy.hardware_profiles import Profile, load, names

PAGE = Path(__file__).with_name("energy.md")
BEGIN, END = "<!-- constants -->\n", "<!-- end constants -->\n"
TABLES = ("energy_pj", "time_ns", "power_mw")


def table(profile: Profile) -> str:
    """Every energy, time and power of a chip, and what of them nobody published."""
    lines = [f"**{profile.title}** (`{profile.name}`; energies {profile.scope})\n"]
    rows = [(key, q) for key, q in profile.numbers() if key.split(".")[0] in TABLES]
    if rows:
        lines += ["| constant | value | low .. high | evidence | source |", "|---|---:|---:|---|---|"]
    for key, q in rows:
        ends = "" if q.low == q.high else f"{q.low:g} .. {q.high:g}"
        source = "; ".join(part for part in (q.source, q.note) if part).replace("|", "\\|")
        lines.append(f"| `{key}` | {q.value:g} {q.unit} | {ends} | {q.evidence} | {source} |")
    absent = [f"`{key}`" for key in profile.missing() if key.split(".")[0] in TABLES]
    return "\n".join(lines) + f"\n\nNot published: {', '.join(absent) or 'nothing'}.\n"


def page() -> str:
    """The whole page, with the tables of now."""
    head, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    order = sorted(names(), key=lambda name: name != "loihi2")
    return head + BEGIN + "\n".join(table(load(name)) for name in order) + END + rest.split(END)[1]


def main() -> None:
    if "--check" not in sys.argv[1:]:
        write_text(PAGE, page())
    elif PAGE.read_text(encoding="utf-8") != page():
        sys.exit(f"error: the constants of {PAGE.name} are out of date\nhelp: python docs/constants.py")


if __name__ == "__main__":
    main()
