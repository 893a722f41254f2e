"""The differential suites: what is drawn from a seed, what is compared, and the first difference in words.

``fuzz.py`` runs them in bulk, the tests a slice of each and every saved case.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

import nir
import numpy as np

from snnergy.deploy import engine, lava_backend, schedule, synapses
from snnergy.deploy.activity import Run
from snnergy.deploy.simulator import Simulator
from snnergy.errors import BadInput, Overflow
from snnergy.export import convention, net_sim, nir_sim
from snnergy.export.lower import lower
from snnergy.export.quantize import quantize
from snnergy.export.quantnet import QuantNet
from snnergy.testing import cases, graphs, integer, metamorphic, reference
from snnergy.testing.cases import Case
from snnergy.testing.draw import Seeded, shuffled

ROUNDING = 1e-9
"""How far float64 membranes of two readings may be apart; spikes must agree."""


@dataclass(frozen=True)
class Result:
    """difference: None where both sides agree. edges: how often the run reached an edge of the arithmetic"""

    difference: str | None
    edges: Counter[str]


@dataclass(frozen=True)
class Suite:
    """make: the case of a seed. check: the results of a few cases, which may share one run.

    together: how many cases to check at once
    """

    name: str
    title: str
    make: Callable[[int], Case]
    check: Callable[[list[Case]], list[Result]]
    together: int = 1

    def run(self, case: Case) -> str | None:
        """The first difference of one case."""
        return self.check([case])[0].difference

    def save(self, case: Case, folder: Path, difference: str) -> Path:
        """Write a failing case, ready to be a regression test."""
        path = folder / f"{self.name.replace(' ', '_')}_{case.about['seed']}.npz"
        about = {**case.about, "suite": self.name, "difference": difference}
        if self.name in PAIRS.values():  # ready for `snnergy verify --case`, too
            about["pair"] = next(pair for pair, name in PAIRS.items() if name == self.name)
        cases.save(path, case.net, case.inputs, about)
        return path


def first_difference(pairs: Iterable[tuple[str, Any, Any]]) -> str | None:
    """Where the first pair of arrays that are not equal differ, in words."""
    for label, left, right in pairs:
        if np.shape(left) != np.shape(right):
            return f"{label}: shapes {np.shape(left)} and {np.shape(right)}"
        apart = np.argwhere(np.asarray(left) != np.asarray(right))
        if len(apart):
            at = tuple(int(k) for k in apart[0])
            return f"{label}{list(at)}: {left[at]} and {right[at]}, {len(apart)} of {np.size(left)} differ"
    return None


def _each(check: Callable[[Case], Result]) -> Callable[[list[Case]], list[Result]]:
    return lambda many: [check(case) for case in many]


def _plain(difference: str | None, edges: Iterable[str] = ()) -> Result:
    return Result(difference, Counter(edges))


def _native(net: QuantNet, inputs: Any, **options: Any) -> Run:
    names = tuple(p.name for p in net.populations)
    return engine.run(net, inputs, record=names, states=names, **{"threads": 1, **options})


def _quant(case: Case) -> QuantNet:
    assert isinstance(case.net, QuantNet)
    return case.net


# native == reference


def _network(seed: int) -> Case:
    net, inputs = integer.network(Seeded(seed), hardware=seed % 2 == 0)
    return Case(net, inputs, {"seed": seed})


def _reference(case: Case) -> Result:
    net = _quant(case)
    found, wanted = _native(net, case.inputs), reference.run(net, case.inputs)

    def pairs() -> Iterator[tuple[str, Any, Any]]:
        for p in net.populations:
            yield f"spikes of {p.name}", found.recorded[p.name], wanted.spikes[p.name]
            yield f"currents of {p.name}", found.currents[p.name], wanted.currents[p.name]
            yield f"membranes of {p.name}", found.membranes[p.name], wanted.membranes[p.name]
            yield f"activity of {p.name}", found.activity.active[p.name], wanted.active[p.name]
        for name, sent in wanted.sent.items():
            yield f"spike counts of {name}", found.activity.spikes[name], sent
        for name, output in wanted.outputs(net).items():
            yield f"output {name}", found.outputs[name], output

    return Result(first_difference(pairs()), wanted.edges)


def _quantised(seed: int) -> Case:
    """What ``quantize`` makes of a random graph, with inputs over the whole range."""
    for other in count():
        draw = Seeded(seed + (other << 32))
        sample = graphs.graph(draw, exact=False)
        try:
            net = quantize(lower(sample.graph, sample.dt_s), draw.integer(1, 12), weight_bits=draw.integer(2, 8))
        except Overflow:
            continue
        return Case(net, {s.name: draw.array((2, net.steps, *s.shape), 0, 255) for s in net.sources}, {"seed": seed})
    raise AssertionError


def _proved(case: Case) -> Result:
    """As ``_reference``; and quantize has promised that nothing wraps or saturates and that no readout fires."""
    result = _reference(case)
    broken = [edge for edge in result.edges if edge.startswith(("wrap", "saturation"))]
    return _plain(f"the proof of quantize does not hold: {broken[0]}") if broken else result


# native == Lava


BLOCK = 50
"""Networks in one Lava run; all of one block share steps and number of samples."""


def _for_lava(seed: int) -> Case:
    block = Seeded(seed // BLOCK)
    net, inputs = integer.network(Seeded(seed), steps=block.choice((4, 1, 2, 3, 6, 9)), samples=block.integer(1, 3))
    return Case(net, inputs, {"seed": seed})


def _lava(many: list[Case]) -> list[Result]:
    union = metamorphic.together([(_quant(case), case.inputs) for case in many])
    net, names = union.net, tuple(p.name for p in union.net.populations)
    theirs = lava_backend.run(net, union.inputs, schedule.balance(net), record=names, states=names)
    ours = _native(net, union.inputs)

    def pairs(k: int, case: Case) -> Iterator[tuple[str, Any, Any]]:
        for p in _quant(case).populations:
            name = f"{k}/{p.name}"
            yield f"spikes of {p.name}", ours.recorded[name], theirs.recorded[name]
            yield f"currents of {p.name}", ours.currents[name], theirs.currents[name]
            yield f"membranes of {p.name}", ours.membranes[name], theirs.membranes[name]
            yield f"activity of {p.name}", ours.activity.active[name], theirs.activity.active[name]
            yield f"spike counts of {p.name}", ours.activity.spikes[name], theirs.activity.spikes[name]
        for output in _quant(case).outputs:
            yield f"output {output}", ours.outputs[f"{k}/{output}"], theirs.outputs[f"{k}/{output}"]

    return [_plain(first_difference(pairs(k, case))) for k, case in enumerate(many)]


# relations of integer networks


def _related(relation: metamorphic.Relation) -> Suite:
    title = next(title for title, known in metamorphic.RELATIONS.items() if known is relation)

    def make(seed: int) -> Case:
        for other in count():
            net, inputs = integer.network(Seeded(seed + (other << 32)), hardware=False)
            if relation(net, inputs, Seeded(seed)) is not None:
                return Case(net, inputs, {"seed": seed})
        raise AssertionError

    def check(case: Case) -> Result:
        net = _quant(case)
        changed = relation(net, case.inputs, Seeded(case.about["seed"]))
        assert changed is not None
        before, after = _native(net, case.inputs), _native(changed.net, changed.inputs)

        def pairs() -> Iterator[tuple[str, Any, Any]]:
            for name, pieces in changed.where.items():
                for piece in pieces:
                    for what in ("recorded", "currents", "membranes"):
                        old = getattr(before, what)[name][:, : changed.net.steps, piece.old]
                        yield f"{what} of {name}", old, getattr(after, what)[piece.name][:, :, piece.new]
                    old = before.activity.active[name][: changed.net.steps, piece.old]
                    yield f"activity of {name}", old, after.activity.active[piece.name][:, piece.new]

        return _plain(first_difference(pairs()))

    return Suite(title, f"native engine: {title}", make, _each(check))


def _batches(case: Case) -> Result:
    net = _quant(case)
    inputs, which = metamorphic.resampled(net, case.inputs, Seeded(case.about["seed"]))
    return _plain(first_difference(_same_samples(net, _native(net, case.inputs), _native(net, inputs), which)))


def _chunks(case: Case) -> Result:
    net, draw = _quant(case), Seeded(case.about["seed"])
    which = draw.array((draw.integer(2, 9),), 0, len(next(iter(case.inputs.values()))) - 1)
    with patch.object(engine, "CHUNK_WORK", draw.choice((1, 1 << 6, 1 << 14))):
        inputs = {name: x[which] for name, x in case.inputs.items()}
        after = _native(net, inputs, threads=draw.integer(1, 4))
    return _plain(first_difference(_same_samples(net, _native(net, case.inputs), after, which)))


def _paths(case: Case) -> Result:
    """Every way to compute a projection, for those that have it."""
    net = _quant(case)
    whole = _native(net, case.inputs)
    everything = range(len(next(iter(case.inputs.values()))))
    for path in synapses.NAMES:
        found = first_difference(_same_samples(net, whole, _native(net, case.inputs, path=path), everything))
        if found is not None:
            return _plain(f"path {path}: {found}")
    return _plain(None)


def _one_by_one(case: Case) -> Result:
    """The simulator that is given a frame at a time, its state kept and restored on the way."""
    net = _quant(case)
    whole = _native(net, case.inputs)
    sim = Simulator(net, len(next(iter(case.inputs.values()))))

    def pairs() -> Iterator[tuple[str, Any, Any]]:
        nonlocal sim
        for t in range(net.steps):
            kept = sim.state()
            sim = Simulator(net, sim.samples)
            sim.restore(kept)
            shown = ((s, case.inputs[s.name]) for s in net.sources)
            sim.step({s.name: x if x.ndim == len(s.shape) + 1 else x[:, t] for s, x in shown})
            state = sim.state()
            for p in net.populations:
                yield f"step {t}, spikes of {p.name}", whole.recorded[p.name][:, t], state[f"{p.name}/sent"][0]
                yield f"step {t}, currents of {p.name}", whole.currents[p.name][:, t], state[f"{p.name}/current"]
                yield f"step {t}, membranes of {p.name}", whole.membranes[p.name][:, t], state[f"{p.name}/membrane"]

    return _plain(first_difference(pairs()))


def _same_samples(net: QuantNet, before: Run, after: Run, which: Any) -> Iterator[tuple[str, Any, Any]]:
    for p in net.populations:
        for what in ("recorded", "currents", "membranes"):
            yield f"{what} of {p.name}", getattr(before, what)[p.name][which], getattr(after, what)[p.name]
        counted = after.recorded[p.name].sum(0, np.int64)
        yield f"spike counts of {p.name}", after.activity.spikes[p.name], counted
    for name in net.outputs:
        yield f"output {name}", before.outputs[name][which], after.outputs[name]


# readings of NIR


def _graph(seed: int) -> Case:
    return _sampled(graphs.graph(Seeded(seed), exact=seed % 4 > 0), seed)


def _feed_forward(seed: int) -> Case:
    return _sampled(graphs.graph(Seeded(seed), recurrent=False), seed)


def _sampled(sample: graphs.Sample, seed: int) -> Case:
    return Case(sample.graph, sample.inputs, {"seed": seed, "steps": sample.steps, "dt_s": sample.dt_s})


def _readings(case: Case) -> Result:
    assert isinstance(case.net, nir.NIRGraph)
    steps, dt_s = case.about["steps"], case.about["dt_s"]
    wanted = nir_sim.run(case.net, case.inputs, steps, dt_s)
    net = lower(case.net, dt_s)
    kinds = Counter(type(node).__name__ for node in case.net.nodes.values())
    kinds["loop"] = len(nir_sim.closing(case.net, dt_s)[0])
    return _plain(_apart(wanted, net_sim.run(net, case.inputs, steps)), +kinds)


def _graph_relation(change: Callable[[nir.NIRGraph, Seeded], nir.NIRGraph]) -> Callable[[Case], Result]:
    def check(case: Case) -> Result:
        assert isinstance(case.net, nir.NIRGraph)
        steps, dt_s = case.about["steps"], case.about["dt_s"]
        changed = change(case.net, Seeded(case.about["seed"]))
        wanted = nir_sim.run(case.net, case.inputs, steps, dt_s)
        for reading in (nir_sim.run(changed, case.inputs, steps, dt_s),
                        net_sim.run(lower(changed, dt_s), case.inputs, steps)):  # fmt: skip
            difference = _apart(wanted, reading)
            if difference:
                return _plain(difference)
        return _plain(None)

    return check


def _apart(wanted: dict[str, Any], found: dict[str, Any]) -> str | None:
    """The first difference beyond rounding, where ``found`` may have lost the shape of a population and know more."""

    def pairs() -> Iterator[tuple[str, Any, Any]]:
        for name, x in wanted.items():
            y = found[name].reshape(x.shape)
            yield f"node {name}", x, np.where(np.isclose(x, y, ROUNDING, ROUNDING), x, y)

    return first_difference(pairs())


def with_identities(graph: nir.NIRGraph, draw: Seeded) -> nir.NIRGraph:
    """A Scale by 1 in the middle of some edges."""
    nodes, edges = dict(graph.nodes), []
    for k, (source, target) in enumerate(graph.edges):
        end = isinstance(nodes[source], nir.Output) or isinstance(nodes[target], nir.Output)
        if end or draw.integer(0, 1):
            edges.append((source, target))
            continue
        nodes[f"same{k}"] = nir.Scale(np.ones(np.atleast_1d(_output_shape(graph, source))))
        edges += [(source, f"same{k}"), (f"same{k}", target)]
    return nir.NIRGraph(nodes, edges, metadata=convention.kept(graph), type_check=False)


def _output_shape(graph: nir.NIRGraph, name: str) -> Any:
    """Found by sending zeros through, since NIR works out no shape behind a window."""
    node = graph.nodes[name]
    linear = nir_sim.LINEAR.get(type(node))
    if linear is None:
        return node.output_type["output"]
    before = next(source for source, target in graph.edges if target == name)
    return linear(node, np.zeros((1, *_output_shape(graph, before)))).shape[1:]


def in_another_order(graph: nir.NIRGraph, draw: Seeded) -> nir.NIRGraph:
    """The same nodes and edges listed in another order, which means the same where no edge closes a loop."""
    nodes = {name: graph.nodes[name] for name in shuffled(draw, list(graph.nodes))}
    return nir.NIRGraph(nodes, shuffled(draw, list(graph.edges)), metadata=convention.kept(graph), type_check=False)


SUITES: dict[str, Suite] = {
    suite.name: suite
    for suite in (
        Suite("native", "native engine == plain integers", _network, _each(_reference)),
        Suite("lava", "native engine == Lava, spikes and state", _for_lava, _lava, BLOCK),
        Suite("nir", "Net in float64 == NIR read independently", _graph, _each(_readings)),
        Suite("quantised", "native engine == plain integers, after quantize", _quantised, _each(_proved)),
        *(_related(relation) for relation in metamorphic.RELATIONS.values()),
        Suite("other batches", "native engine: other batches of the samples", _network, _each(_batches)),
        Suite("chunks and threads", "native engine: other chunks and threads", _network, _each(_chunks)),
        Suite("paths", "native engine == itself on every path forced", _network, _each(_paths)),
        Suite("one by one", "native engine == a frame at a time", _network, _each(_one_by_one)),
        Suite("insert identity maps", "NIR: a Scale by 1 in edges", _graph, _each(_graph_relation(with_identities))),
        Suite("reorder the file", "NIR: nodes and edges in another order", _feed_forward,
              _each(_graph_relation(in_another_order))),
    )
}  # fmt: skip
"""Every suite by its name."""


PAIRS = {"nir:net": "nir", "net:nir": "nir", "native:lava": "lava", "lava:native": "lava"}
"""The suite that compares what a pair of ``snnergy verify`` does, whose ``--shrink`` saves cases too."""


def regression(path: Path) -> str | None:
    """The first difference of a saved case under the suite, or the pair, that found it."""
    case = cases.load(path)
    name = case.about.get("suite") or PAIRS.get(case.about.get("pair", ""))
    if name not in SUITES:
        raise BadInput(f"{path} names suite '{name}'; it must be one of {', '.join(SUITES)}")
    return SUITES[name].run(case)
