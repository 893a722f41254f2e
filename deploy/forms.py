"""Every form of a network that can be run, in one table: torch, NIR, Net, and the integers on each engine.

A form takes the real inputs of some samples and gives ``Trains``. Forms of one arithmetic must be equal; between two
arithmetics the spikes agree more or less, and ``reason`` says why they may not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from inspect import signature
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import nir
import numpy as np
from numpy.typing import NDArray

from snnergy.deploy import engine, lava_compat
from snnergy.deploy.activity import Run
from snnergy.deploy.compare import Arrays, Demand, Trains
from snnergy.deploy.schedule import Schedule, balance
from snnergy.errors import BadInput, MissingPart
from snnergy.export import net_sim, nir_sim
from snnergy.export.lower import READOUTS
from snnergy.export.net import Net
from snnergy.export.quantnet import STATE_SHIFT, QuantNet

if TYPE_CHECKING:
    from torch import nn

    from snnergy.deploy.lava_backend import Runtime

Real = Mapping[str, NDArray[Any]]
"""Source name -> float64[samples, *shape], the same at every step, or [samples, steps, *shape]."""
Arithmetic = Literal["float", "integer", "unrounded"]


@dataclass(frozen=True, eq=False)
class Subject:
    """One network in the forms that are at hand; None where there is no such form.

    schedule: of ``quant``, where it is known; runtime, progress: Lava's
    """

    steps: int
    dt_s: float
    model: nn.Module | None = None
    graph: nir.NIRGraph | None = None
    net: Net | None = None
    quant: QuantNet | None = None
    schedule: Schedule | None = None
    runtime: Runtime = "in-process"
    progress: Callable[[int, int], None] | None = None

    @property
    def order(self) -> tuple[str, ...]:
        """Every population, from input to output."""
        known = self.net or self.quant
        if known is not None:
            return tuple(p.name for p in known.populations)
        assert self.graph is not None
        return tuple(self.graph.nodes)

    @property
    def output(self) -> str | None:
        """The population that is read first."""
        known = self.net or self.quant
        return known.outputs[0] if known is not None else None


@dataclass(frozen=True)
class Form:
    """One row of the table. needs: the field of ``Subject`` that it runs; part: the package it needs, or None."""

    title: str
    arithmetic: Arithmetic
    needs: Literal["model", "graph", "net", "quant"]
    run: Callable[[Subject, Real], Trains]
    part: Literal["torch", "lava"] | None = None

    def missing(self, subject: Subject) -> str | None:
        """Why it cannot run here, in one line; None where it can."""
        if getattr(subject, self.needs) is None:
            return f"the file has no form '{self.title}'"
        if self.part == "torch" and find_spec("torch") is None:
            return "torch is not installed (snnergy doctor)"
        if self.part == "lava" and lava_compat.installed() is None:
            return "Lava is not installed (snnergy doctor)"
        return None


def demand(left: str, right: str) -> Demand:
    """What a pair has to be: forms of one arithmetic are exactly equal."""
    return "exact" if FORMS[left].arithmetic == FORMS[right].arithmetic else "agreement"


def reason(left: str, right: str) -> str:
    """Why two forms may differ; empty where they may not."""
    kinds = {FORMS[left].arithmetic, FORMS[right].arithmetic}
    if kinds == {"integer", "unrounded"}:
        return "the chip truncates membranes and currents toward zero and shifted sums down; torch keeps the fractions"
    return "" if len(kinds) == 1 else "weights, inputs, decays and thresholds are rounded to the chip's integers"


def of_name(name: str) -> tuple[str, str]:
    """``left:right`` as its two forms. Raises BadInput for anything else."""
    left, _, right = name.partition(":")
    if left not in FORMS or right not in FORMS or left == right:
        raise BadInput(f"no pair '{name}'; a pair is two of {', '.join(FORMS)}, as in nir:net")
    return left, right


def check(name: str, subject: Subject) -> None:
    """Raise BadInput or MissingPart where this form cannot run."""
    form = FORMS[name]
    why = form.missing(subject)
    if why is not None:
        raise BadInput(why) if getattr(subject, form.needs) is None else MissingPart(f"'{name}' cannot run: {why}")


def _torch(subject: Subject, real: Real) -> Trains:
    """Every neuron's spikes, and the logits, which stand for the last step of the readout."""
    from snnergy.export import from_torch

    assert subject.model is not None and subject.graph is not None
    read = [source for source, target in subject.graph.edges if isinstance(subject.graph.nodes[target], nir.Output)]
    unused = set(signature(subject.model.forward).parameters) - set(real)  # such an argument has no node in the graph
    given = {**real, **{name: np.zeros(len(next(iter(real.values())))) for name in unused}}
    spikes, logits = from_torch.record(subject.model, given)
    return Trains(spikes, dict.fromkeys(read, logits[:, None]))


def _nir(subject: Subject, real: Real) -> Trains:
    assert subject.graph is not None
    found = nir_sim.run(subject.graph, dict(real), subject.steps, subject.dt_s)
    silent = {name for name in found if isinstance(subject.graph.nodes[name], READOUTS)}
    return Trains({n: x for n, x in found.items() if n not in silent}, {n: found[n] for n in found if n in silent})


def _net(subject: Subject, real: Real) -> Trains:
    assert subject.net is not None
    shapes = {p.name: p.shape for p in subject.net.populations}
    found = _shaped(net_sim.run(subject.net, dict(real), subject.steps), shapes)
    spiking = {p.name for p in subject.net.populations if p.spiking}
    return Trains({n: x for n, x in found.items() if n in spiking}, {n: found[n] for n in found if n not in spiking})


def _native(subject: Subject, real: Real) -> Trains:
    quant, everything, encoded = _encoded(subject, real)
    return _trains(quant, engine.run(quant, encoded, record=everything, states=everything))


def _lava(subject: Subject, real: Real) -> Trains:
    from snnergy.deploy import lava_backend

    quant, everything, encoded = _encoded(subject, real)
    run = lava_backend.run(
        quant, encoded, subject.schedule or balance(quant), record=everything, states=everything,
        runtime=subject.runtime, progress=subject.progress,
    )  # fmt: skip
    return _trains(quant, run)


def _quant_torch(truncate: bool) -> Callable[[Subject, Real], Trains]:
    def run(subject: Subject, real: Real) -> Trains:
        from snnergy.export import to_torch

        quant, _, encoded = _encoded(subject, real)
        spikes, membranes, currents = to_torch.record(to_torch.to_torch(quant, truncate), encoded)
        return _integers(quant, spikes, membranes, currents)

    return run


def _encoded(subject: Subject, real: Real) -> tuple[QuantNet, tuple[str, ...], dict[str, NDArray[np.int32]]]:
    quant = subject.quant
    assert quant is not None
    return quant, tuple(p.name for p in quant.populations), quant.encode(real)


def _trains(quant: QuantNet, run: Run) -> Trains:
    trains = _integers(quant, run.recorded, run.membranes, run.currents)
    return Trains(trains.spikes, trains.membranes, trains.currents, trains.real, run.activity)


def _integers(quant: QuantNet, spikes: Arrays, membranes: Arrays, currents: Arrays) -> Trains:
    shapes = {p.name: p.shape for p in quant.populations}
    spiking = {p.name: spikes[p.name] for p in quant.populations if p.spiking}
    unit = {p.name: float(p.scale * (1 << STATE_SHIFT)) for p in quant.populations}
    return Trains(_shaped(spiking, shapes), _shaped(membranes, shapes), _shaped(currents, shapes), unit)


def _shaped(arrays: Arrays, shapes: dict[str, tuple[int, ...]]) -> Arrays:
    assert all(x.shape[2] == prod(shapes[name]) for name, x in arrays.items())
    return {name: x.reshape(*x.shape[:2], *shapes[name]) for name, x in arrays.items()}


FORMS: dict[str, Form] = {
    "torch": Form("torch", "float", "model", _torch, "torch"),
    "nir": Form("NIR", "float", "graph", _nir),
    "net": Form("Net", "float", "net", _net),
    "quant-torch": Form("torch with the quantised weights", "integer", "quant", _quant_torch(True), "torch"),
    "quant-float": Form("the same without truncation", "unrounded", "quant", _quant_torch(False), "torch"),
    "native": Form("QuantNet on the native engine", "integer", "quant", _native),
    "lava": Form("QuantNet on Lava", "integer", "quant", _lava, "lava"),
}
"""Every form by the name that ``--pair`` takes."""

PAIRS: tuple[tuple[str, str], ...] = (
    ("torch", "nir"),
    ("nir", "net"),
    ("net", "native"),
    ("quant-float", "native"),
    ("quant-torch", "native"),
    ("native", "lava"),
)
"""What ``verify`` compares where nobody says: each step of the toolchain with the one before it."""
