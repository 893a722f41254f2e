"""The page of ``snnergy map``, from its document."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from snnergy.deploy.rules import title
from snnergy.deploy.units import si

TILES = {
    "fixed": "of one size a population",
    "given": "given, of one size a population",
    "hypergraph": "parts of Mt-KaHyPar",
}
CHIPS_SHOWN = 2
"""Of a population on more chips, their numbers are printed instead of its place on each."""


def text(doc: dict[str, Any]) -> RenderableType:
    """The document for a terminal."""
    place, step, memory, link = doc["placement"], doc["step"], doc["memory"], doc["busiest_link"]
    did, have = doc["activity"], memory["have_bytes"]
    lines = {
        "target": doc["target_title"],
        "in use": f"chips {place['chips']:,}, cores {place['cores']:,} of {place['cores_per_chip'] * place['chips']:,}",
        "mapped for": f"{doc['objective']}, "
        + (f"every neuron alike: {did['alike']}" if did["alike"] else _samples(did["mapped_for"], did["input"])),
    }
    if doc["partition"] in TILES:
        lines["tiles"] = TILES[doc["partition"]]
    if did["counted"] != did["mapped_for"]:
        lines["counted on"] = _samples(did["counted"], did["input"])
    pace = f"{si(step['nominal'], 'ns')}, bound by " if step["nominal"] else ""
    of, share = (f" of {have:,}", f", {memory['used_bytes'] / have:.0%}") if have else ("", "")
    lines |= {
        "time step": f"{pace}{step['bound_by']}",
        "messages": f"{si(doc['messages'], '')} a step, {doc['hops']:.2f} hops each",
        "busiest link": f"{link['name']}, {si(link['messages'], '')} messages at most" if link else "none",
        "memory": f"{memory['used_bytes']:,}{of} bytes of synapses{share}",
    }
    head = Table.grid(padding=(0, 2))
    for name, value in lines.items():
        head.add_row(name, Text(value))
    why = [
        Text.assemble((row["name"], "bold"), f": {' '.join(row['why'])}") for row in doc["populations"] if row["why"]
    ]
    return Group(Text(doc["statement"], style="bold"), head, Text(), _table(doc), *([Text(), *why] if why else []))


def _samples(count: int, spec: str) -> str:
    return f"the activity of {count:,} sample{'s' * (count != 1)} of {spec}"


def _table(doc: dict[str, Any]) -> Table:
    """A row a population; limits and times are of the fullest and the busiest core that holds any of it."""
    table = Table(box=None, header_style="bold", padding=(0, 1))
    table.add_column("population", overflow="fold")
    for column in ("neurons", "cores", "tile", "fullest core", "busiest core"):
        table.add_column(column, justify="right")
    table.add_column("where")
    for row in doc["populations"]:
        small, large = ("x".join(map(str, row[name])) for name in ("smallest_tile", "largest_tile"))
        tightest, busiest = row["tightest"], row["busiest"]
        busy = f"{si(busiest['busy_ns'], 'ns')} {busiest['share']:.0%}" if doc["step"]["nominal"] else "not known"
        table.add_row(
            Text(row["name"]), f"{row['neurons']:,}", f"{row['cores']:,}",
            small if small == large else f"{small} .. {large}",
            f"{title(tightest['limit'])} {tightest['share']:.0%}", busy, _places(row["where"]),
        )  # fmt: skip
    return table


def _places(where: list[dict[str, Any]]) -> str:
    """``chip 0 (0,0)-(3,1)``; of many chips their numbers."""
    if len(where) > CHIPS_SHOWN:
        chips = [here["chip"] for here in where]
        return f"chips {', '.join(_ranges(chips))}"
    return "; ".join(
        f"chip {here['chip']} ({here['x'][0]},{here['y'][0]})"
        + (f"-({here['x'][1]},{here['y'][1]})" if here["cores"] > 1 else "")
        for here in where
    )


def _ranges(numbers: list[int]) -> list[str]:
    """``[0, 1, 2, 5]`` is ``0-2`` and ``5``."""
    ends = [0, *(k + 1 for k, (a, b) in enumerate(pairwise(numbers)) if b > a + 1), len(numbers)]
    return [f"{numbers[a]}-{numbers[b - 1]}" if b - a > 1 else f"{numbers[a]}" for a, b in pairwise(ends)]
