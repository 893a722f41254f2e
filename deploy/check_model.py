"""``snnergy check``: does it fit, every design rule of every target at once; nothing is quantised, placed or run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import nir
import numpy as np

from snnergy.deploy import job, legality, targets
from snnergy.deploy.fit import layers
from snnergy.deploy.place import place
from snnergy.deploy.rules import NETWORK, Case, Finding, Trouble, examine, title
from snnergy.deploy.schedule import Schedule, balance
from snnergy.errors import BadInput, DoesNotFit, Overflow, UnsupportedLayer
from snnergy.export import convention, nir_file
from snnergy.export.flatten import flat
from snnergy.export.lower import LINEAR, NEURONS, lower
from snnergy.export.net import Net, count_synapses
from snnergy.export.net import neurons as count_neurons
from snnergy.export.quantize import INPUT_BITS
from snnergy.export.quantnet import QuantNet

LOWERED = (nir.Input, nir.Output, nir.Delay, *LINEAR, *NEURONS)
WIDTHS = ("weight_bits", "state_bits", "spike_bits")
"""Limits that are kept or not; how nearly says nothing."""
MOST_TROUBLES = 20
"""Nodes that lowering refuses one by one; after so many, what is left of the network is not looked at."""


@dataclass(frozen=True)
class Placed:
    """What the mapper found: chips and cores, or the reason why not."""

    chips: int | None
    cores: int | None
    reason: str | None = None


@dataclass(frozen=True, eq=False)
class Verdict:
    """One target: every finding, and what the mapper says where it was asked."""

    target: str
    case: Case
    findings: tuple[Finding, ...]
    placed: Placed | None = None

    @property
    def violations(self) -> tuple[Finding, ...]:
        """The findings that do not hold."""
        return tuple(f for f in self.findings if not f.ok)

    @property
    def fits(self) -> bool:
        """No rule is violated; and it was placed, where that was asked for."""
        return not self.violations and (self.placed is None or self.placed.reason is None)

    @property
    def worst(self) -> Finding | None:
        """The finding nearest to its limit or farthest beyond; None where no limit is stated."""
        stated = [f for f in self.findings if f.have is not None and not (f.ok and f.rule in WIDTHS)]
        return max(stated, key=lambda f: float("inf") if f.over is None else f.over, default=None)

    @property
    def chips(self) -> int:
        """Chips at least."""
        return self.case.chips_for(self.case.bound.cores)

    def to_dict(self) -> dict[str, Any]:
        """For JSON; the form is docs/check.schema.json."""
        worst = self.worst
        return {
            "target": self.target,
            "profile": self.case.profile.name,
            "fits": self.fits,
            "cores_at_least": self.case.bound.cores,
            "chips_at_least": self.chips,
            "worst": worst and {"rule": worst.rule, "population": worst.population, "percent": _short(percent(worst))},
            "violations": len(self.violations),
            "findings": [_row(f) for f in self.findings],
            "placed": self.placed and asdict(self.placed),
        }


@dataclass(frozen=True, eq=False)
class Checked:
    """One network against every target.

    assumed: how the file was read where it does not say, a line each
    neurons, synapses: of what could be lowered; not_checked: nodes that could not, because they follow one that cannot
    """

    path: Path
    dt_s: float
    steps: int | None
    weight_bits: int
    input_bits: int
    neurons: int
    synapses: int
    not_checked: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    assumed: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """It fits every target."""
        return all(v.fits for v in self.verdicts)

    def to_dict(self) -> dict[str, Any]:
        """For JSON; the form is docs/check.schema.json."""
        same = ("dt_s", "steps", "weight_bits", "input_bits", "neurons", "synapses")
        return {
            "model": str(self.path),
            "fits": self.fits,
            **{name: getattr(self, name) for name in same},
            "not_checked": list(self.not_checked),
            "assumed": list(self.assumed),
            "targets": [v.to_dict() for v in self.verdicts],
        }


def percent(finding: Finding) -> float | None:
    """How much of its limit a finding takes, of what decides: one neuron of a core, or the whole of all cores."""
    return None if finding.over is None else 100 * finding.over


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _row(finding: Finding) -> dict[str, Any]:
    row = {**asdict(finding), "title": title(finding.rule), "fix": list(finding.fix)}
    return row | {name: _short(row[name]) for name in ("core_percent", "chip_percent", "over")}


def check_model(
    path: Path,
    names: Sequence[str],
    chips: int | None,
    *,
    dt_s: float | None = None,
    steps: int | None = None,
    convention: str | None = None,
    weight_bits: int = 8,
    input_bits: int = INPUT_BITS,
    placing: bool = False,
) -> Checked:
    """Hold a ``.nir`` file against every target.

    dt_s, steps: override what the file records; input_bits: of an input's values, 1 is spikes
    chips: at most so many; placing: ask the mapper too, which takes longer
    """
    found = {name: targets.find(name).load() for name in names}
    if path.suffix in (".pt", ".pth"):
        raise BadInput(f"{path} is a torch checkpoint; this command reads .nir", f"snnergy export {path} --to nir")
    if path.suffix == ".net":
        raise BadInput(f"{path} is a network in integers, which check does not count", f"snnergy map {path} --steps N")
    graph = nir_file.read(path)
    about = nir_file.provenance(graph)
    dt_s, assumed = job.time_and_convention(graph, dt_s, convention)
    steps = about.steps if steps is None else steps
    if not nir_file.MIN_DT_S <= dt_s <= nir_file.MAX_DT_S:
        raise BadInput(f"steps of {dt_s:g} s; {nir_file.MIN_DT_S:g} to {nir_file.MAX_DT_S:g} s are run")
    net, troubles, lost = lowered(graph, dt_s)
    counted = layers(net) if net else ()
    schedule = schedule_of(net) if net else None
    cases = {
        name: Case(net, counted, schedule, troubles, steps, weight_bits, profile, chips, input_bits)
        for name, profile in found.items()
    }
    read = {"dt_s": dt_s, "steps": steps, "weight_bits": weight_bits, "input_bits": input_bits}
    placed = _placements(path, graph, cases, **read) if placing else {}
    verdicts = tuple(Verdict(name, case, examine(case), placed.get(name)) for name, case in cases.items())
    size, synapses = (count_neurons(net), count_synapses(net.projections)) if net else (0, 0)
    return Checked(path, dt_s, steps, weight_bits, input_bits, size, synapses, lost, verdicts, assumed)


def lowered(graph: nir.NIRGraph, dt_s: float) -> tuple[Net | None, tuple[Trouble, ...], tuple[str, ...]]:
    """What of a graph can be lowered, the nodes that cannot, and the nodes that were left out because they follow one.

    Raises BadInput for a graph that contradicts itself.
    """
    graph = flat(graph)
    troubles = {
        name: Trouble(name, f"a {type(node).__name__} is not lowered", f"one of {', '.join(_known())}")
        for name, node in graph.nodes.items()
        if not isinstance(node, LOWERED)
    }
    while True:
        rest = _without(graph, troubles) if troubles else graph
        lost = tuple(name for name in graph.nodes if name not in rest.nodes and name not in troubles)
        kinds = [type(node) for node in rest.nodes.values()]
        if troubles and not (nir.Input in kinds and any(issubclass(kind, NEURONS) for kind in kinds)):
            return None, (*troubles.values(), *_alone(graph, lost, dt_s)), lost
        try:
            net = lower(rest, dt_s)
        except UnsupportedLayer as no:
            node = next((name for name in re.findall(r"'([^']+)'", str(no)) if name in rest.nodes), None)
            known = node in graph.nodes and node not in troubles
            if node is None or not known or len(troubles) >= MOST_TROUBLES:
                troubles[node or NETWORK] = Trouble(node or NETWORK, str(no), no.help)
                return None, tuple(troubles.values()), lost
            troubles[node] = Trouble(node, str(no), no.help)
            continue
        return net, (*troubles.values(), *_alone(graph, lost, dt_s), *_thresholds(net)), lost


def _alone(graph: nir.NIRGraph, names: Sequence[str], dt_s: float) -> list[Trouble]:
    """Those of the neurons left out that could not be lowered by themselves either, so that all are said at once."""
    found: list[Trouble] = []
    for name in names:
        node = graph.nodes[name]
        if isinstance(node, NEURONS):
            before, after = f"{name}.in", f"{name}.out"
            ends = {before: nir.Input(node.input_type), name: node, after: nir.Output({"output": np.array([1])})}
            try:
                lower(
                    nir.NIRGraph(
                        ends, [(before, name), (name, after)], metadata=convention.kept(graph), type_check=False
                    ),
                    dt_s,
                )
            except UnsupportedLayer as no:
                found.append(Trouble(name, str(no), no.help))
            except BadInput:  # which is said when it is reached
                pass
    return found


def _known() -> list[str]:
    return sorted(kind.__name__ for kind in (nir.Delay, *LINEAR, *NEURONS))


def _without(graph: nir.NIRGraph, bad: dict[str, Trouble]) -> nir.NIRGraph:
    """The nodes that are neither bad nor behind one that is; every neuron left may be read."""
    after: dict[str, list[str]] = {}
    for source, target in graph.edges:
        after.setdefault(source, []).append(target)
    behind, todo = set(bad), list(bad)
    while todo:
        fresh = [name for name in after.get(todo.pop(), ()) if name not in behind]
        behind.update(fresh)
        todo += fresh
    nodes = {name: node for name, node in graph.nodes.items() if name not in behind}
    edges = [(a, b) for a, b in graph.edges if a in nodes and b in nodes]
    for name, node in list(nodes.items()):
        if isinstance(node, NEURONS):
            end = f"{name}.read"
            while end in graph.nodes:
                end += "_"
            nodes[end] = nir.Output({"output": np.array([1])})
            edges.append((name, end))
    return nir.NIRGraph(nodes, edges, metadata=convention.kept(graph), type_check=False)


def _thresholds(net: Net) -> list[Trouble]:
    """The populations whose threshold no chip has; whether every sum fits its register, only quantisation can say."""
    low = ((p, p.threshold.min(initial=0.0)) for p in net.populations)
    return [Trouble(p.name, f"threshold {least:g} < 0", "thresholds of 0 or more") for p, least in low if least < 0]


def schedule_of(net: Net) -> Schedule | None:
    """None where a loop is too fast for a chip."""
    try:
        return balance(cast(QuantNet, net))  # which reads names, shapes and delays, and a Net has the same
    except UnsupportedLayer:  # the rule about loops says which
        return None


def _placements(path: Path, graph: nir.NIRGraph, cases: dict[str, Case], **settings: Any) -> dict[str, Placed]:
    """What the mapper says of every target, or what ended the network's way to it."""
    try:
        ready = job.from_graph(path, graph, **settings)
    except (UnsupportedLayer, Overflow) as no:
        return dict.fromkeys(cases, Placed(None, None, str(no)))
    found: dict[str, Placed] = {}
    for name, case in cases.items():
        try:
            placement = place(ready.quant, ready.schedule, case.profile, case.chips)
        except DoesNotFit as no:
            found[name] = Placed(None, None, str(no))
            continue
        legality.enforce(ready.quant, ready.schedule, case.profile, placement)
        found[name] = Placed(placement.chips, len(placement.cores))
    return found
