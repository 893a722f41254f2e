"""Write the tables of nodes and conventions into ``docs/nir.md``, or with ``--check`` fail where they differ."""

from __future__ import annotations

import sys
from pathlib import Path

from snnergy.deploy import ops
from snnergy.export.convention import CONVENTIONS
from snnergy.files import write_text

PAGE = Path(__file__).with_name("nir.md")


def conventions() -> str:
    """A row a convention."""
    lines = ["| `--convention` | what a step is | decay | after a spike | fires | input |", "|---|---|---|---|---|---|"]
    for how in CONVENTIONS.values():
        decay = {"euler": "1 - dt/tau", "exact": "exp(-dt/tau)"}[how.decay]
        reset = {"value": "v_reset", "subtract": "v - v_threshold", "subtract late": "v - v_threshold, a step later"}
        gain = "x" if how.unit else "r (1 - decay) x"
        lines.append(
            f"| `{how.name}` | {how.title} | {decay} | {reset[how.reset]} | v {how.compare} threshold | {gain} |"
        )
    return "\n".join(lines) + "\n"


def page() -> str:
    """The whole page, with the tables of now."""
    text = PAGE.read_text(encoding="utf-8")
    for name, table in (("nodes", ops.markdown(ops.rows())), ("conventions", conventions())):
        begin, end = f"<!-- {name} -->\n", f"<!-- end {name} -->\n"
        head, rest = text.split(begin)
        text = head + begin + table + end + rest.split(end)[1]
    return text


def main() -> None:
    if "--check" not in sys.argv[1:]:
        write_text(PAGE, page())
    elif PAGE.read_text(encoding="utf-8") != page():
        sys.exit(f"error: {PAGE.name} is out of date\nhelp: python docs/nodes.py")


if __name__ == "__main__":
    main()
