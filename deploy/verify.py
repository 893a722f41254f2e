"""Is it still the same network? Pairs of forms, compared spike for spike, and the first place where they part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nir
import numpy as np
from numpy.typing import NDArray

from snnergy.deploy import engine
from snnergy.deploy.activity import Run
from snnergy.deploy.job import Inputs, Job, from_graph, load_inputs, prepare
from snnergy.errors import NotEqual
from snnergy.export import net_sim, nir_sim

if TYPE_CHECKING:
    from torch import nn

    from snnergy.deploy.lava_backend import Runtime

Trains = Mapping[str, NDArray[Any]]
"""Population name -> [samples, steps, *shape]: spikes, or a readout's membrane."""

TOLERANCE = 1e-9
"""Largest relative difference between two float64 readouts; sums in another order differ by about 1e-15."""


@dataclass(frozen=True)
class Difference:
    """The first place where two trains part, by sample, then step, then population from input to output."""

    sample: int
    step: int
    population: str
    neuron: tuple[int, ...]
    left: float
    right: float

    def __str__(self) -> str:
        where = f"sample {self.sample}, step {self.step}, population '{self.population}', neuron {list(self.neuron)}"
        return f"{where}: {self.left:g} against {self.right:g}"


@dataclass(frozen=True)
class Pair:
    """Two forms of the network on the same samples.

    compared: neuron-steps looked at; differing: those that differ; output_error: largest difference of the readouts
    """

    left: str
    right: str
    samples: int
    populations: int
    compared: int
    differing: int
    output_error: float
    first: Difference | None

    @property
    def equal(self) -> bool:
        """No spike differs, and no readout by more than rounding."""
        return self.first is None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "equal": self.equal}

    def __str__(self) -> str:
        result = f"{self.differing} of {self.compared} neuron-steps differ"
        line = f"{self.left} == {self.right}: {result} ({self.samples} samples, {self.populations} populations)"
        return line if self.first is None else f"{line}; first at {self.first}"


def compare(left: str, right: str, a: Trains, b: Trains, names: tuple[str, ...], rounded: tuple[str, ...] = ()) -> Pair:
    """Compare the named populations, in that order; those in ``rounded`` up to ``TOLERANCE``, all others exactly."""
    compared = differing = 0
    error = 0.0
    steps = max(a[name].shape[1] for name in names)
    firsts: list[tuple[tuple[int, int, int], Difference]] = []
    for rank, name in enumerate(names):
        x, y = a[name], b[name].reshape(a[name].shape)
        wrong = x != y
        if name in rounded:
            size = max(float(abs(x).max()), 1e-300)
            error = max(error, float(abs(x - y).max()))
            wrong &= ~(abs(x - y) <= TOLERANCE * size)  # also where one of them is NaN
        compared += x.size
        differing += int(wrong.sum())
        if wrong.any():
            sample, step, *neuron = (int(i) for i in np.unravel_index(int(wrong.argmax()), wrong.shape))
            place = (sample, step, *neuron)
            step += steps - x.shape[1]  # a train of one step is what is read at the end
            first = Difference(sample, step, name, tuple(neuron), float(x[place]), float(y[place]))
            firsts.append(((sample, step, rank), first))
    first = min(firsts, key=lambda item: item[0])[1] if firsts else None
    samples = len(a[names[0]])
    return Pair(left, right, samples, len(names), compared, differing, error, first)


def torch_pair(model: nn.Module, graph: nir.NIRGraph, real: dict[str, NDArray[Any]], steps: int, dt_s: float) -> Pair:
    """The torch module == its NIR graph, both in float64: every neuron's spikes, and the logits at the end."""
    from snnergy.export import from_torch

    read = [source for source, target in graph.edges if isinstance(graph.nodes[target], nir.Output)]
    spikes, logits = from_torch.record(model, real)
    trains = nir_sim.run(graph, real, steps, dt_s)
    ends = dict.fromkeys(read, logits[:, None])
    together = {**trains, **{name: trains[name][:, -1:] for name in read}}
    return compare("torch", "NIR", {**spikes, **ends}, together, (*spikes, *ends), tuple(ends))


def net_pair(job: Job, inputs: Inputs) -> Pair:
    """The NIR graph == the lowered Net, both in float64, every population at every step."""
    names = tuple(p.name for p in job.net.populations)
    readouts = tuple(p.name for p in job.net.populations if not p.spiking)
    graph = nir_sim.run(job.graph, inputs.real, job.steps, job.net.dt_s)
    return compare("NIR", "Net", graph, net_sim.run(job.net, inputs.real, job.steps), names, readouts)


def lava_pair(
    job: Job, inputs: Inputs, *, runtime: Runtime = "in-process", progress: Callable[[int, int], None] | None = None
) -> Pair:
    """QuantNet on the native engine == QuantNet on Lava's fixed-point models, every spike and every readout."""
    from snnergy.deploy import lava_backend

    record = tuple(p.name for p in job.quant.populations if p.spiking)
    encoded = job.quant.encode(inputs.real)
    native = engine.run(job.quant, encoded, record=record)
    lava = lava_backend.run(job.quant, encoded, job.schedule, record=record, runtime=runtime, progress=progress)
    shapes = {p.name: p.shape for p in job.quant.populations}

    def trains(run: Run) -> Trains:
        spikes = {n: run.recorded[n].reshape(len(inputs), job.steps, *shapes[n]) for n in record}
        return spikes | {n: run.outputs[n].reshape(len(inputs), 1, *shapes[n]) for n in job.quant.outputs}

    order = tuple(n for n in shapes if n in record or n in job.quant.outputs)
    pair = compare("native", "Lava", trains(native), trains(lava), order)
    same = all(
        np.array_equal(native.activity.spikes[n], lava.activity.spikes[n])
        and np.array_equal(native.activity.active[n], lava.activity.active[n])
        for n in shapes
    )
    if pair.equal and not same:
        raise NotEqual("native and Lava sent the same spikes but counted their activity differently; this is a bug")
    return pair


def accuracy(outputs: NDArray[Any], label: NDArray[np.int64]) -> float:
    """Share of samples whose largest output is their label; a tie goes to the lower class."""
    return float((outputs.argmax(1) == label).mean())


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


def verify_file(
    path: Path,
    samples: int,
    lava_samples: int,
    runtime: Runtime = "in-process",
    *,
    spec: str | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> Iterator[Pair]:
    """Every pair that a ``.pt`` or ``.nir`` file allows, one after the other; Lava's only where it is installed.

    settings: ``dt_s``, ``steps``, ``weight_bits`` of ``job.prepare``
    """
    from snnergy.deploy import lava_compat

    if lava_samples:
        lava_compat.activate()
    model = None
    if path.suffix in (".pt", ".pth"):
        from snnergy.deploy.export_model import graph_of

        model, graph = graph_of(path)
        job = from_graph(path, graph, **settings)
    else:
        job = prepare(path, **settings)
    inputs = load_inputs(job, spec, max(samples, lava_samples), seed)
    if model is not None:
        yield torch_pair(model, job.graph, inputs.first(samples).real, job.steps, job.net.dt_s)
    yield net_pair(job, inputs.first(samples))
    if lava_samples:
        yield lava_pair(job, inputs.first(lava_samples), runtime=runtime, progress=progress)
