"""From a file to something that can be verified, run and priced: the walk of the toolchain in two calls."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from snnergy import data
from snnergy.deploy import npz_file
from snnergy.deploy.schedule import Schedule, balance
from snnergy.errors import BadInput
from snnergy.export import convention as conventions
from snnergy.export import lava_dl, nir_file
from snnergy.export.lower import lower
from snnergy.export.net import Net
from snnergy.export.quantize import INPUT_BITS, quantize
from snnergy.export.quantnet import QuantNet
from snnergy.export.real import real

F64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Job:
    """One network in every form up to the schedule.

    graph:   None of a ``.net`` file, which holds integers
    assumed: a line for what the file does not say of how to read it
    """

    path: Path
    graph: nir.NIRGraph | None
    about: nir_file.Provenance
    net: Net
    quant: QuantNet
    schedule: Schedule
    assumed: tuple[str, ...] = ()

    @property
    def steps(self) -> int:
        """Time steps of one sample."""
        return self.quant.steps


@dataclass(frozen=True, eq=False)
class Inputs:
    """Samples to present. real: source -> float64[samples, *shape]; label: int64[samples] or None; sha256 of it all."""

    spec: str
    real: dict[str, F64]
    label: NDArray[np.int64] | None
    sha256: str

    def __len__(self) -> int:
        return len(next(iter(self.real.values())))

    def first(self, samples: int) -> Inputs:
        """The first samples only."""
        label = None if self.label is None else self.label[:samples]
        return _inputs(self.spec, {name: x[:samples] for name, x in self.real.items()}, label)


def prepare(
    path: Path | str,
    *,
    dt_s: float | None = None,
    steps: int | None = None,
    convention: str | None = None,
    weight_bits: int = 8,
    input_bits: int = INPUT_BITS,
) -> Job:
    """Read, lower, quantise and schedule a ``.nir`` file; of lava-dl's ``.net``, whose inputs are spikes, the integers.

    dt_s, steps: override what the file records; steps are needed where it records none
    convention:  how the tool that wrote the file steps its neurons, where the file does not say
    input_bits:  of an input's values from 0 to 1; 1 is spikes
    """
    path = Path(path)
    if path.suffix in (".pt", ".pth"):
        raise BadInput(f"{path} is a torch checkpoint; this command reads .nir", f"snnergy export {path} --to nir")
    if path.suffix == ".net":
        return _from_net(path, dt_s, steps, convention)
    graph = nir_file.read(path)
    return from_graph(
        path, graph, dt_s=dt_s, steps=steps, convention=convention, weight_bits=weight_bits, input_bits=input_bits
    )


def _from_net(path: Path, dt_s: float | None, steps: int | None, convention: str | None) -> Job:
    if steps is None:
        raise BadInput(f"{path} does not record how many time steps a sample takes", "pass --steps")
    if convention is not None:
        raise BadInput(f"{path} steps as Lava does; --convention is of .nir files")
    quant = lava_dl.read(path, steps, dt_s=lava_dl.DT_S if dt_s is None else dt_s)
    about = nir_file.Provenance(dt_s=quant.dt_s, steps=steps)
    return Job(path, None, about, real(quant), quant, balance(quant))


def from_graph(
    path: Path,
    graph: nir.NIRGraph,
    *,
    dt_s: float | None = None,
    steps: int | None = None,
    convention: str | None = None,
    weight_bits: int = 8,
    input_bits: int = INPUT_BITS,
) -> Job:
    """``prepare`` for a graph that is in memory already."""
    about = nir_file.provenance(graph)
    steps = about.steps if steps is None else steps
    dt_s, assumed = time_and_convention(graph, dt_s, convention)
    if steps is None:
        raise BadInput(f"{path} does not record how many time steps a sample takes", "pass --steps")
    if steps < 1 or not 0 < dt_s < float("inf"):
        raise BadInput(f"{steps} steps of {dt_s:g} s: both must be above 0")
    if steps > nir_file.MAX_STEPS or not nir_file.MIN_DT_S <= dt_s <= nir_file.MAX_DT_S:
        most, low, high = nir_file.MAX_STEPS, nir_file.MIN_DT_S, nir_file.MAX_DT_S
        raise BadInput(f"{steps} steps of {dt_s:g} s; at most {most} steps of {low:g} to {high:g} s are run")
    net = lower(graph, dt_s)
    quant = quantize(net, steps, weight_bits=weight_bits, input_bits=input_bits)
    return Job(path, graph, about, net, quant, balance(quant), assumed)


def time_and_convention(
    graph: nir.NIRGraph, dt_s: float | None, convention: str | None
) -> tuple[float, tuple[str, ...]]:
    """The time step, and a line for what neither the file nor the caller says; the convention goes into the graph.

    Raises BadInput for a convention that is not known.
    """
    if convention is not None:
        conventions.put(graph, convention)
    about = nir_file.provenance(graph)
    ours = nir_file.KEY in (graph.metadata or {})
    how, lines = conventions.of(graph), list[str]()
    if dt_s is None:
        dt_s = about.dt_s
        if not ours and (implied := conventions.implied_dt_s(graph)) is not None:
            dt_s = implied
            lines.append(f"the file names no time step; its r = tau / dt says {dt_s:g} s")
        elif not ours and conventions.depends(graph):
            lines.append(f"the file names no time step; {dt_s:g} s is assumed, --dt says otherwise")
    if not ours and not conventions.is_stated(graph) and conventions.depends(graph):
        lines.append(f"the file does not say how its neurons step; assumed: {how.title}; --convention says otherwise")
    return dt_s, tuple(lines)


def load_inputs(job: Job, spec: str | None, samples: int | None, seed: int = 0) -> Inputs:
    """The samples that ``spec`` names; None is the file's own recorded input.

    spec: "avdigits:test" and other data sets, a ``.npz`` with one array per source and perhaps ``label``, or
    "random[:RATE]", seeded spikes at that rate. samples: how many; None is all there are (of random, 64).
    """
    if spec is None and (job.about.input or "").endswith(".npz"):
        raise BadInput(f"{job.path} records a file of another machine as its input", "pass --input")
    spec = spec or job.about.input
    if spec is None:
        raise BadInput(f"{job.path} records no input", "pass --input: avdigits:test, a .npz, or random[:RATE]")
    if samples is not None and samples < 1:
        raise BadInput(f"{samples} samples asked for; at least 1 is needed")
    if spec.endswith(".npz"):
        return _from_npz(job, Path(spec), samples)
    if spec == "random" or spec.startswith("random:"):
        return _random(job, spec, 64 if samples is None else samples, seed)
    found = data.load(spec, samples, image_size=_image_size(job, spec))
    parts = {"audio": found.audio, "video": found.video}
    for s in job.net.sources:
        if parts[s.name].shape[1:] != s.shape:
            got = list(parts[s.name].shape[1:])
            raise BadInput(f"{spec} gives '{s.name}' {got}; the network reads {list(s.shape)}", "pass a .npz")
    return _inputs(spec, {s.name: parts[s.name].astype(np.float64) for s in job.net.sources}, found.label)


def _image_size(job: Job, spec: str) -> int:
    for s in job.net.sources:
        if s.name not in ("audio", "video") or len(s.shape) != 3 or s.shape[1] != s.shape[2]:
            raise BadInput(
                f"{spec} gives 'audio' and 'video'; the network reads '{s.name}' {list(s.shape)}", "pass a .npz"
            )
    return job.net.sources[0].shape[1]


def _from_npz(job: Job, path: Path, samples: int | None) -> Inputs:
    found = npz_file.read(path)
    needed = [s.name for s in job.net.sources]
    if any(name not in found for name in needed):
        raise BadInput(f"{path} has {', '.join(found)}; the network reads {', '.join(needed)}")
    count = (found[needed[0]].shape or (0,))[0]
    for s in job.net.sources:
        x = found[s.name]
        if x.shape != (count, *s.shape):
            raise BadInput(f"{path}: '{s.name}' has shape {list(x.shape)}; {[count, *s.shape]} is needed")
        if x.dtype.kind == "f" and not np.isfinite(x).all():
            raise BadInput(f"{path}: '{s.name}' holds NaN or infinite values")
    if count == 0:
        raise BadInput(f"{path} holds no samples")
    if samples is not None and samples > count:
        raise BadInput(f"{path} holds {count} samples, {samples} were asked for")
    for s in job.quant.sources:
        low, high, most = found[s.name].min(), found[s.name].max(), ((1 << s.bits) - 1) / s.scale
        if low < 0 or high > most:
            raise BadInput(f"{path}: '{s.name}' spans {low:g} .. {high:g}; the network's input holds 0 .. {most:g}")
    real = {name: found[name][:samples].astype(np.float64) for name in needed}
    label = _label(path, found.get("label"), count, job)
    return _inputs(str(path), real, None if label is None else label[:samples])


def _label(path: Path, label: NDArray[Any] | None, count: int, job: Job) -> NDArray[np.int64] | None:
    if label is None:
        return None
    if label.shape != (count,) or label.dtype.kind not in "iu":
        raise BadInput(f"{path}: 'label' is {label.dtype} {list(label.shape)}; whole numbers [{count}] are needed")
    classes = next(prod(p.shape) for p in job.net.populations if p.name == job.net.outputs[0])
    if label.min() < 0 or label.max() >= classes:
        got = f"{label.min()} .. {label.max()}"
        raise BadInput(f"{path}: 'label' spans {got}; the network has classes 0 .. {classes - 1}")
    return label.astype(np.int64)


def _random(job: Job, spec: str, samples: int, seed: int) -> Inputs:
    text = spec.partition(":")[2] or "0.1"
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0 <= rate <= 1:
        raise BadInput(f"input 'random:{text}': the rate must be a number from 0 to 1")
    rng = np.random.Generator(np.random.PCG64(seed))
    real = {s.name: (rng.random((samples, *s.shape)) < rate).astype(np.float64) for s in job.net.sources}
    return _inputs(f"random:{rate:g}, seed {seed}", real, None)


def _inputs(spec: str, real: dict[str, F64], label: NDArray[np.int64] | None) -> Inputs:
    digest = hashlib.sha256()
    for name in sorted(real):
        digest.update(name.encode() + np.ascontiguousarray(real[name]).tobytes())
    return Inputs(spec, real, label, digest.hexdigest())
