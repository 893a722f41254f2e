"""A failing network and its input made as small as they get while they still fail: delta debugging, deterministic.

A failure is whatever the given test says; a candidate that is no valid network does not fail. Moves are tried in a
fixed order, from the coarse to the fine, over and over until none helps or the budget of tests is spent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from snnergy.deploy import shrink_graph, shrink_integer
from snnergy.deploy.compare import Pair
from snnergy.deploy.forms import FORMS, Subject
from snnergy.deploy.job import Inputs
from snnergy.errors import BadInput, SnnergyError
from snnergy.export.lower import lower
from snnergy.export.quantnet import QuantNet, verify
from snnergy.testing.cases import Case, save

CHECKS = 3000
"""How often a candidate is tested, where nobody says."""
Fails = Callable[[Case], bool]
Move = Callable[[Case, Fails], Case]


def shrink(
    case: Case, fails: Fails, *, checks: int = CHECKS, progress: Callable[[int, int], None] | None = None
) -> Case:
    """The smallest case found for which ``fails`` still holds. Raises BadInput where it does not hold to begin with.

    checks: how many candidates are tested at most;  progress: called with (tested, checks)
    """
    tested = 0

    def test(candidate: Case) -> bool:
        nonlocal tested
        if tested >= checks:
            return False
        tested += 1
        if progress:
            progress(tested, checks)
        try:
            if isinstance(candidate.net, QuantNet):
                verify(candidate.net)
            return fails(candidate)
        except (SnnergyError, AssertionError):
            return False

    if not test(case):
        raise BadInput("there is nothing to shrink: the two forms do not differ on this case")
    moves = shrink_integer.MOVES if isinstance(case.net, QuantNet) else shrink_graph.MOVES
    while True:
        before = case
        for move in (one_sample, *moves):
            case = move(case, test)
        if case is before or tested >= checks:
            return case


def one_sample(case: Case, fails: Fails) -> Case:
    """The first single sample that fails."""
    count = len(next(iter(case.inputs.values())))
    for k in range(count if count > 1 else 0):
        one = replace(case, inputs={name: x[k : k + 1] for name, x in case.inputs.items()})
        if fails(one):
            return one
    return case


def differ(left: str, right: str) -> Fails:
    """Whether two forms differ anywhere on a case, readouts in float by more than rounding."""
    from snnergy.deploy.verify import verify as compare

    def fails(case: Case) -> bool:
        subject, inputs = subject_of(case)
        return compare(subject, inputs, [(left, right)], explained=False)[0].first is not None

    return fails


def subject_of(case: Case) -> tuple[Subject, Inputs]:
    """A case in every form that it has, and its inputs in real units."""
    net, about = case.net, case.about
    label: NDArray[np.int64] | None = None
    if isinstance(net, QuantNet):
        real = {s.name: case.inputs[s.name] / s.scale for s in net.sources}
        return Subject(net.steps, net.dt_s, quant=net), Inputs("case", real, label, "")
    try:
        steps, dt_s = int(about["steps"]), float(about["dt_s"])
    except (KeyError, TypeError, ValueError):
        raise BadInput("the case does not say 'steps' and 'dt_s'") from None
    real = {name: np.asarray(x, np.float64) for name, x in case.inputs.items()}
    return Subject(steps, dt_s, graph=net, net=lower(net, dt_s)), Inputs("case", real, label, "")


def case_of(subject: Subject, inputs: Inputs, left: str, right: str) -> Case:
    """What can be shrunk of a pair that differs: the graph, or the integers. Raises BadInput for torch's own model."""
    about: dict[str, Any] = {"pair": f"{left}:{right}", "suite": "lava" if "lava" in (left, right) else "native"}
    needs = {FORMS[left].needs, FORMS[right].needs}
    if needs == {"quant"} and subject.quant is not None:
        return Case(subject.quant, subject.quant.encode(inputs.real), about)
    if needs <= {"graph", "net"} and subject.graph is not None:
        about |= {"suite": "nir", "steps": subject.steps, "dt_s": subject.dt_s}
        return Case(subject.graph, dict(inputs.real), about)
    raise BadInput(f"{left}:{right} cannot be shrunk; pairs of nir and net, or of two integer forms, can")


def shrink_pairs(
    subject: Subject,
    inputs: Inputs,
    pairs: Sequence[Pair],
    path: str,
    *,
    checks: int = CHECKS,
    progress: Callable[[int, int], None] | None = None,
) -> str:
    """Shrink the first pair that should be exact and differs, write it, and say in one line what it is and its replay.

    path: "" is ``<left>-<right>.npz`` in the current folder
    """
    found = next((p for p in pairs if p.demand == "exact" and p.first is not None), None)
    if found is None or found.first is None:
        return "nothing to shrink: no pair that has to be exact differs"
    alone = {name: x[found.first.sample : found.first.sample + 1] for name, x in inputs.real.items()}
    case = case_of(subject, replace(inputs, real=alone, label=None), found.left, found.right)
    small = shrink(case, differ(found.left, found.right), checks=checks, progress=progress)
    target = path or f"{found.left}-{found.right}.npz"
    save(target, small.net, small.inputs, small.about)
    return f"wrote {target}: {size(small)}; replay it: snnergy verify --case {target}"


def size(case: Case) -> str:
    """How large a case is, in one line."""
    if isinstance(case.net, nir.NIRGraph):
        nodes, edges = len(case.net.nodes), len(case.net.edges)
        return f"{nodes} nodes, {edges} edges, {case.about['steps']} steps"
    neurons = sum(p.decay.size for p in case.net.populations)
    joins = sum(e.map.matrix().nnz for e in case.net.projections)
    return f"{len(case.net.populations)} populations, {neurons} neurons, {joins} synapses, {case.net.steps} steps"
