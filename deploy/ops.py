"""``snnergy ops``: every node of NIR on every chip. Each is tried: a network around it is lowered and checked."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import nir
import numpy as np
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from snnergy.deploy.check_model import WIDTHS, lowered, schedule_of
from snnergy.deploy.fit import layers
from snnergy.deploy.rules import Case, examine
from snnergy.export import convention
from snnergy.hardware_profiles import load, names

DT_S = 1e-4
N = 4
ONE = np.ones(N)
AXIS, PLANE = (2, 4), (1, 2, 2)
YES = "yes"
STEPS, WEIGHT_BITS = 4, 8


def _lif(shape: Any = N, reset: float = 0.0) -> nir.LIF:
    one = np.ones(shape)
    return nir.LIF(tau=2 * DT_S * one, r=one, v_leak=0 * one, v_threshold=one, v_reset=reset * one)


def _chain(*nodes: nir.NIRNode, shape: Any = (N,), after: Any = None, end: nir.NIRNode | None = None) -> nir.NIRGraph:
    """input -> the nodes -> LIF (or ``end``) -> output. after: the shape behind the nodes, where it is another"""
    inner = {f"n{k}": node for k, node in enumerate((*nodes, end or _lif(after or shape)))}
    graph = {
        "input": nir.Input({"input": np.array(shape)}),
        **inner,
        "output": nir.Output({"output": np.array(after or shape)}),
    }
    order = list(graph)
    return nir.NIRGraph(graph, list(pairwise(order)), metadata={}, type_check=False)


def _full() -> nir.Linear:
    return nir.Linear(np.eye(N))


def _sub() -> nir.NIRGraph:
    return nir.NIRGraph(
        {
            "input": nir.Input({"input": np.array([N])}),
            "inner": _full(),
            "output": nir.Output({"output": np.array([N])}),
        },
        [("input", "inner"), ("inner", "output")],
    )


def _told(graph: nir.NIRGraph, how: str) -> nir.NIRGraph:
    convention.put(graph, how)
    return graph


def _twice() -> nir.NIRGraph:
    """Two inputs that join, a loop, two outputs."""
    ends = {name: nir.Input({"input": np.array([N])}) for name in "ab"} | {
        name: nir.Output({"output": np.array([N])}) for name in "cd"
    }
    nodes = {**ends, "wa": _full(), "wb": _full(), "lif": _lif(), "back": _full()}
    edges = [("a", "wa"), ("b", "wb"), ("wa", "lif"), ("wb", "lif"), ("lif", "c"), ("lif", "d"), ("lif", "back")]
    edges += [("back", "late"), ("late", "lif")]
    return nir.NIRGraph({**nodes, "late": nir.Delay(2 * DT_S * ONE)}, edges, metadata={}, type_check=False)


PROBES: dict[str, Callable[[], nir.NIRGraph]] = {
    "Affine": lambda: _chain(nir.Affine(np.eye(N), ONE)),
    "Linear": lambda: _chain(_full()),
    "Scale": lambda: _chain(nir.Scale(2 * ONE)),
    "Conv1d": lambda: _chain(nir.Conv1d(4, np.ones((2, 2, 3)), 1, 1, 1, 1, np.zeros(2)), shape=AXIS),
    "Conv2d": lambda: _chain(nir.Conv2d((2, 2), np.ones((1, 1, 3, 3)), 1, 1, 1, 1, np.zeros(1)), shape=PLANE),
    "SumPool2d": lambda: _chain(nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])), shape=PLANE,
                                after=(1, 1, 1)),
    "AvgPool2d": lambda: _chain(nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])), shape=PLANE,
                                after=(1, 1, 1)),
    "Flatten": lambda: _chain(nir.Flatten({"input": np.array(PLANE)}, 0, -1), shape=PLANE, after=(N,)),
    "Delay": lambda: _chain(_full(), nir.Delay(3 * DT_S * ONE)),
    "Threshold": lambda: _chain(_full(), end=nir.Threshold(ONE)),
    "IF": lambda: _chain(_full(), end=nir.IF(ONE, ONE)),
    "LIF": lambda: _chain(_full()),
    "CubaLIF": lambda: _chain(
        _full(), end=nir.CubaLIF(2 * DT_S * ONE, 2 * DT_S * ONE, ONE, 0 * ONE, ONE, v_reset=0 * ONE)),
    "I": lambda: _chain(_full(), end=nir.I(ONE)),
    "LI": lambda: _chain(_full(), end=nir.LI(2 * DT_S * ONE, ONE, 0 * ONE)),
    "CubaLI": lambda: _chain(_full(), end=nir.CubaLI(2 * DT_S * ONE, 2 * DT_S * ONE, ONE, 0 * ONE)),
    "NIRGraph (nested)": lambda: _chain(_sub()),
    "several Inputs and Outputs, joins, loops": _twice,
    "v_reset other than 0": lambda: _chain(_full(), end=_lif(reset=0.2)),
    "the threshold taken away (--convention)": lambda: _told(_chain(_full()), "subtract"),
}  # fmt: skip
"""Kind of node, or what else a graph may ask -> the smallest graph that has it."""


def rows() -> list[dict[str, Any]]:
    """A row a kind: ``node``, and ``chips``: name -> "yes" or the reason why not.

    Left aside is what no node changes: how many bits a weight and a state may have.
    """
    return [{"node": kind, "chips": {name: _on(make(), name) for name in names()}} for kind, make in PROBES.items()]


def _on(graph: nir.NIRGraph, chip: str) -> str:
    net, troubles, _ = lowered(graph, DT_S)
    if net is None:
        return troubles[0].why
    case = Case(net, layers(net), schedule_of(net), troubles, STEPS, WEIGHT_BITS, load(chip), None, input_bits=1)
    return next((f.says for f in examine(case) if not f.ok and f.rule not in WIDTHS), YES)


def table(found: list[dict[str, Any]]) -> RenderableType:
    """For a terminal."""
    shown = Table(box=None, header_style="bold", padding=(0, 1))
    for column in ("node", *names()):
        shown.add_column(column, overflow="fold")
    for row in found:
        shown.add_row(Text(row["node"]), *(Text(row["chips"][name]) for name in names()))
    return shown


def markdown(found: list[dict[str, Any]]) -> str:
    """For docs/nir.md."""
    lines = [f"| node | {' | '.join(names())} |", "|---|" + "---|" * len(names())]
    lines += [f"| {row['node']} | {' | '.join(row['chips'][name] for name in names())} |" for row in found]
    return "\n".join(lines) + "\n"
