"""How the tool that wrote a NIR graph steps it: NIR says neither the discretisation nor the reset nor the comparison.

The convention travels in the graph's metadata, so that every reading of the graph follows it. What each tool does:
docs/nir.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import nir

from snnergy.errors import BadInput

KEY = "snnergy convention"
"""Where its name sits in the graph's metadata."""


@dataclass(frozen=True)
class Convention:
    """What a step is.

    decay:   of a state with time constant tau: 1 - dt/tau (forward Euler), or exp(-dt/tau)
    reset:   to ``v_reset``; or by the threshold, in the step of the spike; or by the threshold in the step after it,
             when the membrane has decayed already
    compare: a spike above the threshold, or from it on
    unit:    whether an LIF or LI adds its input as it is, without the gain r dt/tau
    """

    name: str
    title: str
    decay: Literal["euler", "exact"] = "euler"
    reset: Literal["value", "subtract", "subtract late"] = "value"
    compare: Literal[">", ">="] = ">"
    unit: bool = False


NIR = Convention("nir", "NIR's equations by forward Euler, reset to v_reset, v > threshold: norse, snntorch's reader")
CONVENTIONS = {
    c.name: c
    for c in (
        NIR,
        Convention("subtract", "the same, but a spike takes the threshold away: norse with reset_subtract",
                   reset="subtract"),
        Convention("snntorch", "Leaky as it is by default: the threshold is taken away in the step after the spike",
                   reset="subtract late"),
        Convention("spikingjelly", "as nir, but a membrane at the threshold fires", compare=">="),
        Convention("exact", "as nir, but states decay by exp(-dt/tau), inputs held over a step", decay="exact"),
        Convention("sinabs", "exp(-dt/tau), input as it is, the threshold taken away, v >= threshold; one spike a step",
                   decay="exact", reset="subtract", compare=">=", unit=True),
        Convention("spyx", "input as it is, the threshold taken away in the step after the spike; sent late",
                   reset="subtract late", unit=True),
    )
}  # fmt: skip


def of(graph: nir.NIRGraph) -> Convention:
    """The graph's; NIR where it names none. Raises BadInput for a name that is not known."""
    name = (graph.metadata or {}).get(KEY, NIR.name)
    return find(name.decode() if isinstance(name, bytes) else str(name))


def find(name: str) -> Convention:
    """Raises BadInput where there is none of that name."""
    if name not in CONVENTIONS:
        raise BadInput(f"no convention '{name[:40]}'; known: {', '.join(CONVENTIONS)}")
    return CONVENTIONS[name]


def put(graph: nir.NIRGraph, name: str) -> None:
    """Put a convention into the graph, in place."""
    graph.metadata[KEY] = find(name).name


def kept(graph: nir.NIRGraph) -> dict[str, str]:
    """The metadata of another graph that is to be read in the same way."""
    return {KEY: of(graph).name} if is_stated(graph) else {}


def is_stated(graph: nir.NIRGraph) -> bool:
    """Whether the graph names its convention."""
    return KEY in (graph.metadata or {})


def asked(graph: nir.NIRGraph) -> tuple[str, ...]:
    """What of the graph depends on a convention that it does not name: a line each, none where nothing does."""
    kinds = {type(node) for node in graph.nodes.values()}
    lines: list[str] = []
    if kinds & {nir.LIF, nir.IF, nir.CubaLIF}:
        lines.append(
            "after a spike: reset to v_reset (or the threshold taken away), above the threshold (or from it on)"
        )
    if kinds & {nir.LIF, nir.LI, nir.CubaLIF, nir.CubaLI}:
        lines.append("decay: 1 - dt/tau (or exp(-dt/tau))")
    return tuple(lines)
