"""``snnergy map``: where every neuron of a file sits, what sets the pace there, and why."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnergy import __version__
from snnergy.deploy import engine as native
from snnergy.deploy import legality
from snnergy.deploy.activity import Activity
from snnergy.deploy.counts import Counts
from snnergy.deploy.demand import ASSUMED_RATE, pace
from snnergy.deploy.deploy_model import PROFILED, mapped
from snnergy.deploy.energy import STATEMENT
from snnergy.deploy.fit import limit
from snnergy.deploy.job import Inputs, Job, load_inputs, prepare
from snnergy.deploy.latency import loads
from snnergy.deploy.map_why import Why
from snnergy.deploy.mapped import Mapped
from snnergy.deploy.placement import Core, Slice
from snnergy.deploy.price import price
from snnergy.deploy.targets import find
from snnergy.deploy.tiles import Box
from snnergy.errors import BadInput
from snnergy.export.net import count_synapses
from snnergy.export.quantize import INPUT_BITS
from snnergy.export.quantnet import QuantNet, QuantPopulation, QuantSource
from snnergy.hardware_profiles import Profile

F64 = NDArray[np.float64]

SCHEMA = "snnergy.map/1"
UNASKED = "no sample is to be looked at"


def map_model(
    path: Path,
    target: str,
    *,
    spec: str | None = None,
    samples: int | None = None,
    chips: int | None = None,
    objective: str = "edp",
    profile_activity: int = PROFILED,
    iterations: int = 0,
    explain: bool = False,
    steps: int | None = None,
    convention: str | None = None,
    dt_s: float | None = None,
    weight_bits: int = 8,
    input_bits: int = INPUT_BITS,
    partition: str = "free",
    tiling: Path | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Map a ``.nir`` file as ``deploy`` would, and the document of it, as JSON types. Raises DoesNotFit.

    samples: that are counted; None: those of ``profile_activity``, for which the mapping is made
    partition: of ``place``; tiling: a file of ``tiling.py``, instead
    explain: also say of every population why it sits where it sits; progress: called with what begins

    A file without an input is mapped and counted with every neuron alike. What differs when the same command runs again
    stands under ``run`` and nowhere else.
    """
    start, tell = time.perf_counter(), progress or (lambda _: None)
    profile = find(target).load()
    tell("read and quantise")
    job = prepare(path, dt_s=dt_s, steps=steps, convention=convention, weight_bits=weight_bits, input_bits=input_bits)
    inputs, alike = _inputs(job, spec, samples, profile_activity, seed)
    encoded = job.quant.encode(inputs.real) if inputs else {}
    profiled = min(profile_activity, len(inputs)) if inputs else 0
    if profiled:
        tell(f"activity of {profiled} samples")
    net, schedule, placement, activity = mapped(
        job, encoded, profile, chips, objective=objective, samples=profiled, iterations=iterations, seed=seed,
        partition=partition, tiling=tiling, progress=tell,
    )  # fmt: skip
    tell("check and count")
    legality.enforce(net, schedule, profile, placement)
    if inputs and profiled < len(inputs):
        activity = native.run(net, encoded).activity
    activity = activity or every_neuron_alike(net)
    report = price(activity, placement, net, schedule, profile)
    found = Mapped(job.quant, net, schedule, profile, placement, activity, report, _busy_ns(report.counts, profile))
    if explain:
        tell("explain")
    return {
        "schema": SCHEMA,
        "statement": STATEMENT,
        "tool": f"snnergy {__version__}",
        "model": path.name,
        "target": target,
        "target_title": profile.title,
        "objective": objective,
        "iterations": iterations,
        "partition": "given" if tiling else partition,
        "seed": seed,
        "weight_bits": weight_bits,
        "input_bits": input_bits,
        "timesteps": net.steps,
        "activity": {
            "mapped_for": profiled,
            "counted": len(inputs) if inputs else 0,
            "input": inputs.spec if inputs else None,
            "input_sha256": inputs.sha256 if inputs else None,
            "alike": alike,
        },
        "network": {**report.network, "synapses": count_synapses(job.quant.projections)},
        "placement": {
            "chips": placement.chips,
            "cores": len(placement.cores),
            **{
                name: getattr(profile.chip, field).whole
                for name, field in (("cores_per_chip", "cores"), *((f, f) for f in _MESH))
            },
        },
        **_totals(found),
        "populations": list(_populations(found, explain)),
        "cores": list(_cores(found)),
        "run": {"seconds": time.perf_counter() - start},
    }


_MESH = ("mesh_width", "mesh_height", "cores_per_router")


def _inputs(
    job: Job, spec: str | None, samples: int | None, profiled: int, seed: int
) -> tuple[Inputs | None, str | None]:
    """The samples to count; or none, and the reason why."""
    if not (samples or profiled):
        return None, UNASKED
    try:
        inputs = load_inputs(job, spec, samples, seed)
    except BadInput as no:
        if spec:
            raise
        return None, str(no)
    return (inputs if samples else inputs.first(profiled)), None if profiled else UNASKED


def every_neuron_alike(net: QuantNet) -> Activity:
    """What ``place`` takes for granted where nothing was run: every input and neuron as busy as every other."""
    samples = round(1 / ASSUMED_RATE)

    def all_of(node: QuantSource | QuantPopulation, times: int) -> NDArray[np.int64]:
        return np.broadcast_to(np.int64(times), (net.steps, prod(node.shape)))

    spikes = {s.name: all_of(s, 1) for s in net.sources} | {p.name: all_of(p, int(p.spiking)) for p in net.populations}
    return Activity(samples, net.steps, spikes, {p.name: all_of(p, samples) for p in net.populations})


def _busy_ns(counts: Counts, profile: Profile) -> F64:
    load, ns = loads(counts), pace(profile)
    updates = load.updates_active * ns.active + load.updates_idle * ns.idle + load.spikes * ns.spike
    return np.maximum((load.synops * ns.synop).mean(axis=1), updates.mean(axis=1))


# the document


def _totals(m: Mapped) -> dict[str, Any]:
    counts, most = m.counts, limit(m.profile.core, "synapse_bytes")
    messages = float(m.per_step("messages").sum())
    hops = float(m.per_step("hops_ew").sum() + m.per_step("hops_ns").sum())
    worst = int(counts.links.argmax())
    link = {"name": counts.link_names[worst], "messages": float(counts.links[worst]) / counts.samples, "step": worst}
    used = sum(core.usage["synapse_bytes"] for core in m.placement.cores)
    return {
        "step": {**asdict(m.report.step_ns), "unit": "ns", "bound_by": m.report.bound_by},
        "slowest_core_ns": float(m.busy_ns.max()),
        "messages": messages,
        "hops": hops / messages if messages else 0.0,
        "busiest_link": link if counts.links[worst] else None,
        "memory": {"used_bytes": used, "have_bytes": most and most * len(m.placement.cores)},
    }


def _populations(m: Mapped, explain: bool) -> Iterator[dict[str, Any]]:
    """A row a population, in network order."""
    messages, why = m.per_step("messages"), Why(m) if explain else None
    for p in m.net.populations:
        homes = m.homes(p.name)
        tiles = sorted((s for _, s in homes), key=lambda s: s.size)
        cores = [(index, m.placement.cores[index]) for index, _ in homes]
        share, name, fullest = max(
            (_tightest(core, m.profile) for _, core in cores),
            key=lambda found: found[0],
            default=(0.0, "", cores[0][1]),
        )
        busiest = max((index for index, _ in cores), key=lambda index: m.busy_ns[index])
        yield {
            "name": p.name,
            "shape": list(p.shape),
            "neurons": prod(p.shape),
            "cores": len(homes),
            "smallest_tile": _sides(tiles[0], p),
            "largest_tile": _sides(tiles[-1], p),
            "tightest": {**_core(fullest), "limit": name, "used": fullest.usage[name], "share": share},
            "busiest": {
                **_core(m.placement.cores[busiest]),
                "busy_ns": float(m.busy_ns[busiest]),
                "share": float(m.busy_ns[busiest] / (m.busy_ns.max() or 1.0)),
            },
            "messages": float(sum(messages[i] for i, cell in enumerate(m.counts.cells) if cell.node == p.name)),
            "where": _where([core for _, core in cores]),
            "why": why.of(p) if why else [],
        }


def _core(core: Core) -> dict[str, int]:
    return {"chip": core.chip, "core": core.core}


def _shares(core: Core, profile: Profile) -> dict[str, float]:
    """Of every limit that is stated, how much the core takes of it."""
    return {name: used / most for name, used in core.usage.items() if (most := limit(profile.core, name))}


def _tightest(core: Core, profile: Profile) -> tuple[float, str, Core]:
    shares = _shares(core, profile) or {"neurons": 0.0}
    name = max(shares, key=shares.__getitem__)
    return shares[name], name, core


def _sides(tile: Slice, p: QuantPopulation) -> list[int]:
    """Channels, rows and columns; of a population without rows, or a tile that is no box, its neurons."""
    return list(tile.held.sides) if isinstance(tile.held, Box) and len(p.shape) == 3 else [tile.size]


def _where(cores: Sequence[Core]) -> list[dict[str, Any]]:
    """Of every chip, the cores on it and the rectangle of the mesh that holds them; both ends belong to it."""
    found: list[dict[str, Any]] = []
    for chip in sorted({core.chip for core in cores}):
        here = [core for core in cores if core.chip == chip]
        xs, ys = ([getattr(core, axis) for core in here] for axis in "xy")
        found.append({"chip": chip, "cores": len(here), "x": [min(xs), max(xs)], "y": [min(ys), max(ys)]})
    return found


def _cores(m: Mapped) -> Iterator[dict[str, Any]]:
    """A row a core in use: what it holds, takes and does."""
    shapes = {p.name: p.shape for p in m.net.populations}
    at = np.array([cell.core for cell in m.counts.cells], np.int64)
    synops, messages = (np.bincount(at, m.per_step(name), len(m.placement.cores)) for name in ("synops", "messages"))
    energy = m.report.per_core()[:, :, 1].sum(axis=1)
    for index, core in enumerate(m.placement.cores):
        yield {
            **_core(core),
            "x": core.x,
            "y": core.y,
            "slices": [_slice(s, len(shapes[s.population])) for s in core.slices],
            "usage": dict(core.usage),
            "usage_share": _shares(core, m.profile),
            "busy_ns": float(m.busy_ns[index]),
            "synops": float(synops[index]),
            "messages": float(messages[index]),
            "energy_pj": float(energy[index]),
        }


def _slice(s: Slice, axes: int) -> dict[str, Any]:
    """A box of channels, rows and columns, or ranges of flat indices; a high end does not belong to it."""
    if isinstance(s.held, Box) and axes == 3:
        return {"population": s.population, "low": list(s.held.low), "high": list(s.held.high)}
    neurons = s.neurons
    ends = [0, *(np.flatnonzero(np.diff(neurons) > 1) + 1).tolist(), neurons.size]
    return {
        "population": s.population,
        "ranges": [[int(neurons[a]), int(neurons[b - 1]) + 1] for a, b in pairwise(ends)],
    }
