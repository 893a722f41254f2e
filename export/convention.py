"""How the tool that wrote a NIR graph steps it: NIR says neither the discretisation nor the reset nor the comparison.

The convention travels in the graph's metadata, so that every reading of the graph follows it. What each tool does:
docs/nir.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import nir
import numpy as np

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
        Convention("sinabs-reset", "the same with MembraneReset: the reset is to v_reset",
                   decay="exact", compare=">=", unit=True),
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


def depends(graph: nir.NIRGraph) -> bool:
    """Whether the graph has neurons that another convention would step otherwise."""
    return any(isinstance(node, (nir.LIF, nir.IF, nir.CubaLIF, nir.LI, nir.CubaLI)) for node in graph.nodes.values())


def implied_dt_s(graph: nir.NIRGraph) -> float | None:
    """The time step that an exporter of ``r = tau / dt`` left in the graph, where all its LIF and LI agree on one.

    So write snntorch, and what SpikingJelly, spyx and sinabs read. A graph with r = 1 everywhere says nothing.
    """
    found = [node for node in graph.nodes.values() if isinstance(node, (nir.LIF, nir.LI))]
    if not found or all(np.allclose(node.r, 1.0) for node in found):
        return None
    with np.errstate(all="ignore"):
        ratios = np.concatenate([np.ravel(node.tau / node.r) for node in found]).astype(np.float64)
        shortest = min(float(np.min(node.tau)) for node in found)
    dt_s = float(ratios[0]) if ratios.size else 0.0
    same = bool(np.isfinite(ratios).all()) and dt_s > 0 and np.allclose(ratios, dt_s, rtol=1e-4, atol=0)
    return float(f"{dt_s:.6g}") if same and dt_s <= shortest * (1 + 1e-4) else None
