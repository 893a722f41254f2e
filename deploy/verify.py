"""Is it still the same network? Its forms in pairs, compared spike for spike, and why they part where they do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nir
import numpy as np
from numpy.typing import NDArray

from snnergy.deploy import forms
from snnergy.deploy.compare import Pair, Tally, accuracy
from snnergy.deploy.explain import explain
from snnergy.deploy.forms import FORMS, PAIRS, Subject
from snnergy.deploy.job import Inputs, Job, from_graph, load_inputs, prepare
from snnergy.errors import BadInput
from snnergy.export import net_sim
from snnergy.export.maps import weights
from snnergy.export.net import incoming
from snnergy.export.quantnet import QuantNet

if TYPE_CHECKING:
    from torch import nn

    from snnergy.deploy.lava_backend import Runtime

Progress = Callable[[int, int], None]
Say = Callable[[str], None]
CHUNK_BYTES = 256 << 20
"""About how much all forms together hold of the samples that are compared at a time."""
NEURON_STEP_BYTES = 128
"""Of one neuron in one step, over all forms and their working space."""


@dataclass(frozen=True)
class Settings:
    """What is compared, and on how many samples.

    pairs:        ``left:right`` names; none is every pair of ``forms.PAIRS`` that the file allows
    samples:      for every pair without Lava; lava_samples: for those with it, 0 leaves them out
    at_least:     smallest agreement, 0 to 1, of a pair that need not be exact
    spec, seed:   of ``job.load_inputs``
    dt_s, steps, convention, weight_bits: of ``job.prepare``
    """

    pairs: tuple[str, ...] = ()
    samples: int = 64
    lava_samples: int = 16
    runtime: Runtime = "in-process"
    at_least: float = 0.0
    spec: str | None = None
    seed: int = 0
    dt_s: float | None = None
    steps: int | None = None
    convention: str | None = None
    weight_bits: int = 8


def open_file(path: Path, settings: Settings) -> tuple[Subject, Inputs]:
    """The network of a ``.pt`` or ``.nir`` file in every form that it has, and its samples."""
    read: dict[str, Any] = {name: getattr(settings, name) for name in ("dt_s", "steps", "convention", "weight_bits")}
    model = None
    if path.suffix in (".pt", ".pth"):
        from snnergy.deploy.export_model import graph_of

        model, graph = graph_of(path)
        job = from_graph(path, graph, **read)
    else:
        job = prepare(path, **read)
    inputs = load_inputs(job, settings.spec, max(settings.samples, settings.lava_samples), settings.seed)
    return replace(_subject(job, settings.runtime), model=model), inputs


def open_either(path: Path | None, case: Path | None, settings: Settings) -> tuple[Subject, Inputs, Settings]:
    """The network of a file, or a saved case with, where no pair is named, the pair that it was saved for."""
    if (path is None) == (case is None):
        raise BadInput("name a .pt or .nir file, or --case and a saved one")
    if path is not None:
        return *open_file(path, settings), settings
    assert case is not None
    from snnergy.deploy.shrink import subject_of
    from snnergy.testing import cases

    saved = cases.load(case)
    if not settings.pairs and "pair" in saved.about:
        settings = replace(settings, pairs=(str(saved.about["pair"]),))
    subject, inputs = subject_of(saved)
    return replace(subject, runtime=settings.runtime), replace(inputs, spec=str(case)), settings


def choose(subject: Subject, settings: Settings, say: Say) -> list[tuple[str, str]]:
    """The pairs to compare; ``say`` gets a line for each usual one that torch, not installed here, leaves out.

    Raises BadInput or MissingPart for a pair that was asked for, or that Lava is missing for, and cannot run.
    """
    chosen: list[tuple[str, str]] = []
    for pair in map(forms.of_name, settings.pairs) if settings.pairs else PAIRS:
        if "lava" in pair and not settings.lava_samples and not settings.pairs:
            continue
        if not settings.pairs:
            if any(getattr(subject, FORMS[form].needs) is None for form in pair):
                continue
            if any(FORMS[form].part == "torch" for form in pair) and find_spec("torch") is None:
                say(f"left out {':'.join(pair)}: torch is not installed (snnergy doctor)")
                continue
        for form in pair:
            forms.check(form, subject)
        chosen.append(pair)
    return chosen


def verify(
    subject: Subject,
    inputs: Inputs,
    pairs: Sequence[tuple[str, str]],
    *,
    at_least: float = 0.0,
    explained: bool = True,
    progress: Progress | None = None,
) -> list[Pair]:
    """Compare these pairs on all samples: chunk by chunk, every form once a chunk; each first difference explained."""
    order, output = subject.order, subject.output
    tallies = [Tally(left, right, order, forms.demand(left, right), output) for left, right in pairs]
    size = chunk_samples(subject)
    for start in range(0, len(inputs), size):
        part = {name: x[start : start + size] for name, x in inputs.real.items()}
        if progress:
            subject = replace(subject, progress=lambda done, _, start=start: progress(start + done, len(inputs)))
        trains = {form: FORMS[form].run(subject, part) for form in dict.fromkeys(f for pair in pairs for f in pair)}
        for tally in tallies:
            tally.add(trains[tally.left], trains[tally.right])
        if progress:
            progress(min(start + size, len(inputs)), len(inputs))
    extreme = _extreme_weights(subject.quant) if subject.quant else {}
    found: list[Pair] = []
    for tally in tallies:
        pair = tally.pair(inputs.label, reason=forms.reason(tally.left, tally.right), at_least=at_least)
        if any(FORMS[form].needs == "quant" for form in (pair.left, pair.right)):
            rows = (replace(row, extreme_weights=extreme.get(row.population)) for row in pair.rows)
            pair = replace(pair, rows=tuple(rows))
        if pair.first is not None and explained and (subject.net or subject.quant):
            alone = {name: x[pair.first.sample : pair.first.sample + 1] for name, x in inputs.real.items()}
            pair = replace(pair, explanation=explain(subject, pair.left, pair.right, pair.first, alone))
        found.append(pair)
    return found


def verify_file(
    path: Path, settings: Settings = Settings(), *, progress: Progress | None = None, say: Say = lambda _: None
) -> Iterator[Pair]:
    """Every pair that is asked for, or that the file allows; those with Lava last, on fewer samples."""
    subject, inputs = open_file(path, settings)
    yield from walk(subject, inputs, settings, progress=progress, say=say)


def walk(
    subject: Subject, inputs: Inputs, settings: Settings, *, progress: Progress | None, say: Say
) -> Iterator[Pair]:
    """``verify_file`` for a network that is in memory already."""
    chosen = choose(subject, settings, say)
    for here, samples in ((False, settings.samples), (True, settings.lava_samples)):
        pairs = [pair for pair in chosen if ("lava" in pair) is here]
        if pairs:
            yield from verify(subject, inputs.first(samples), pairs, at_least=settings.at_least, progress=progress)


def chunk_samples(subject: Subject) -> int:
    """How many samples are compared at a time."""
    known = subject.net or subject.quant
    if known is None:
        return 32
    neurons = sum(prod(n.shape) for n in (*known.sources, *known.populations))
    return max(1, min(64, CHUNK_BYTES // (NEURON_STEP_BYTES * subject.steps * neurons)))


def torch_pair(model: nn.Module, graph: nir.NIRGraph, real: dict[str, NDArray[Any]], steps: int, dt_s: float) -> Pair:
    """The torch module == its NIR graph, both in float64: every neuron's spikes, and the logits at the end."""
    return verify(Subject(steps, dt_s, model, graph), Inputs("", real, None, ""), [("torch", "nir")])[0]


def net_pair(job: Job, inputs: Inputs) -> Pair:
    """The NIR graph == the lowered Net, both in float64, every population at every step."""
    return verify(_subject(job), inputs, [("nir", "net")])[0]


def lava_pair(job: Job, inputs: Inputs, *, runtime: Runtime = "in-process", progress: Progress | None = None) -> Pair:
    """QuantNet on the native engine == on Lava's fixed-point models: every spike, state and counter."""
    return verify(_subject(job, runtime), inputs, [("native", "lava")], progress=progress)[0]


def _subject(job: Job, runtime: Runtime = "in-process") -> Subject:
    return Subject(job.steps, job.net.dt_s, None, job.graph, job.net, job.quant, job.schedule, runtime)


def float_accuracy(job: Job, inputs: Inputs, chunk: int = 125) -> float | None:
    """Accuracy of the Net in float64, before quantisation; None without labels."""
    if inputs.label is None:
        return None

    read = next(p for p in job.net.populations if p.name == job.net.outputs[0])

    def outputs(start: int) -> NDArray[Any]:
        part = {name: x[start : start + chunk] for name, x in inputs.real.items()}
        train = net_sim.run(job.net, part, job.steps)[read.name]
        return train.sum(1) if read.spiking else train[:, -1]

    with ThreadPoolExecutor() as pool:
        return accuracy(np.concatenate(list(pool.map(outputs, range(0, len(inputs), chunk)))), inputs.label)


def _extreme_weights(quant: QuantNet) -> dict[str, float]:
    """Share of every population's incoming weights that are the largest or smallest of their bits."""
    limit = 1 << (quant.weight_bits - 1)
    shares: dict[str, float] = {}
    for name, edges in incoming(quant.projections).items():
        w = np.concatenate([weights(e.map).ravel() for e in edges]).astype(np.int64)
        shares[name] = float(((w <= 1 - limit) | (w == limit - 1)).mean()) if w.size else 0.0
    return shares
