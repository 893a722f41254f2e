"""The report as one document, ``report.json``; ``report_text`` and ``report_page`` show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from snnergy import __version__
from snnergy.deploy import evidence, monte_carlo
from snnergy.deploy.energy import OPS, STATEMENT, EnergyReport, Interval
from snnergy.deploy.report_file import SCHEMA
from snnergy.deploy.timeline import timeline
from snnergy.hardware_profiles import Profile, Quantity

if TYPE_CHECKING:
    from snnergy.deploy.distribution import Distribution

PERCENTILES = (0, 5, 50, 95, 100)
COSTLIEST, BINS = 5, 24


@dataclass(frozen=True)
class RunFacts:
    """What a report says besides energy: how the counters were obtained, and with what.

    engine:        what ran the network; target: as it was asked for
    accuracy:      share of correct samples, None without labels; accuracy_before: the same before quantisation
    weight_bits:   of every weight; weight_error: population -> rms error of its weights, relative to their rms
    inputs:        the input as it was asked for; inputs_sha256: of the integers that were sent
    cross_check:   outcome of running a second engine, None where there was none
    packages:      name -> version; seconds: stage -> wall-clock time; lossy: what quantisation changed
    distribution:  energy and time of every sample, None where the engine does not say; labels: of the samples, or None
    raster:        ``timeline.raster`` of one sample, None where none was recorded; baselines: ``baselines.document``
    assumed: how the file was read where it does not say; programmed: populations that need a neuron program
    forms, neurobench: ``by_form`` and ``metrics`` of the module ``neurobench``
    """

    engine: str
    target: str = ""
    accuracy: float | None = None
    accuracy_before: float | None = None
    weight_bits: int = 8
    weight_error: Mapping[str, float] = field(default_factory=dict)
    inputs: str = ""
    inputs_sha256: str = ""
    seed: int | None = None
    cross_check: str | None = None
    packages: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    lossy: tuple[str, ...] = ()
    distribution: Distribution | None = None
    labels: Any = None
    raster: Mapping[str, Any] | None = None
    baselines: Mapping[str, Any] | None = None
    assumed: tuple[str, ...] = ()
    programmed: tuple[str, ...] = ()
    forms: Mapping[str, float] | None = None
    neurobench: Mapping[str, Any] | None = None


def document(report: EnergyReport, facts: RunFacts) -> dict[str, Any]:
    """Everything the report says, as JSON types; energies in pJ and times in ns, per inference.

    What differs when the same command runs again stands under ``run`` and nowhere else.
    """
    counts, profile, kinds = report.counts, report.profile, evidence.shares(report)
    seconds = report.period_ns.nominal * 1e-9
    return {
        "schema": SCHEMA,
        "statement": STATEMENT,
        "tool": f"snnergy {__version__}",
        "target": facts.target or profile.name,
        "target_title": profile.title,
        "engine": facts.engine,
        "samples": counts.samples,
        "timesteps": counts.steps,
        "accuracy": facts.accuracy,
        "accuracy_before_quantisation": facts.accuracy_before,
        "weight_bits": facts.weight_bits,
        "cross_check": facts.cross_check,
        "network": dict(report.network),
        "placement": {
            "chips": counts.chips,
            "cores": counts.cores,
            "cores_per_chip": profile.chip.cores.whole,
            "mesh_width": profile.chip.mesh_width.whole,
            "mesh_height": profile.chip.mesh_height.whole,
            "cores_per_router": profile.chip.cores_per_router.whole,
        },
        "energy": {
            "total": _interval(report.total_pj, "pJ"),
            "dynamic": _interval(report.dynamic_pj, "pJ"),
            "static": _interval(report.static_pj, "pJ"),
            "host": _interval(report.host_pj, "pJ"),
            "io": _interval(report.io_pj, "pJ"),
        },
        "operations_pj": {op: _three(report.energy_pj[:, k].sum(axis=0)) for k, op in enumerate(OPS)},
        "latency": {**_interval(report.latency_ns, "ns"), "bound_by": report.bound_by},
        "step": {**_interval(report.step_ns, "ns"), "bound_by": list(report.binding)},
        "period": _interval(report.period_ns, "ns"),
        "power_w": report.total_pj.nominal * 1e-12 / seconds if seconds else 0.0,
        "inferences_per_s": 1 / seconds if seconds else 0.0,
        "edp": _interval(report.edp_js, "J s"),
        "monte_carlo": _monte_carlo(monte_carlo.draw(counts, profile)),
        "evidence": {"grade": evidence.grade(kinds), "rule": evidence.RULE, "shares": kinds},
        "warnings": [*evidence.warnings(report), *_programs(facts.programmed), *facts.assumed],
        "programmed": list(facts.programmed),
        "distribution": None if facts.distribution is None else _distribution(facts.distribution, facts.labels),
        "timeline": timeline(report),
        "raster": facts.raster,
        "baselines": facts.baselines,
        "counters": {
            **report.counters,
            "input_bytes": counts.input_bytes / counts.samples,
            "output_bytes": counts.output_bytes / counts.samples,
            "padded_slots": sum(cell.neurons for cell in counts.cells) - report.network.get("neurons", 0),
        },
        "synops_by_form": None if facts.forms is None else dict(facts.forms),
        "neurobench": None if facts.neurobench is None else dict(facts.neurobench),
        "layers": [{**row, "weight_error": facts.weight_error.get(row["name"])} for row in _layers(report)],
        "cores": _cores(report),
        "tornado": [
            {"constant": d.constant, "low": d.low, "high": d.high, "unit": "pJ", "range": str(d.quantity)}
            for d in report.tornado
        ],
        "constants": _constants(profile),
        "provenance": {
            "version": __version__,
            "inputs": facts.inputs,
            "inputs_sha256": facts.inputs_sha256,
            "seed": facts.seed,
            "packages": dict(facts.packages),
        },
        "lossy": list(facts.lossy),
        "unpriced": list(report.unpriced),
        "run": {"seconds": dict(facts.seconds)},
    }


def _programs(names: tuple[str, ...]) -> list[str]:
    if not names:
        return []
    first, *more = names
    said = f"{first} and {len(more)} more" if more else first
    return [f"neurons of {said} do not reset to 0: a chip needs a program of its own for them, priced as stock neurons"]


def _interval(value: Interval, unit: str) -> dict[str, Any]:
    return {**asdict(value), "unit": unit}


def _monte_carlo(draws: monte_carlo.Draws) -> dict[str, Any]:
    def spread(values: NDArray[np.float64], unit: str) -> dict[str, Any]:
        at = {f"p{q}": float(np.percentile(values, q)) for q in (5, 50, 95)}
        return {**at, "mean": float(values.mean()), "unit": unit}

    return {
        "draws": len(draws.total_pj),
        "seed": draws.seed,
        "total": spread(draws.total_pj, "pJ"),
        "dynamic": spread(draws.dynamic_pj, "pJ"),
        "latency": spread(draws.latency_ns, "ns"),
        "edp": spread(draws.edp_js, "J s"),
    }


def _spread(values: NDArray[np.float64], unit: str) -> dict[str, Any]:
    return {**{f"p{q}": float(np.percentile(values, q)) for q in PERCENTILES}, "unit": unit}


def _distribution(samples: Distribution, labels: Any) -> dict[str, Any]:
    """Nominal values over the samples, the samples that cost most, and how many fall into each of BINS."""
    energy = samples.energy_pj[:, 1]
    costliest = np.argsort(-energy, kind="stable")[:COSTLIEST]
    counts, edges = np.histogram(energy, BINS)
    classes = [] if labels is None else np.unique(labels).tolist()
    return {
        "energy": _spread(energy, "pJ"),
        "dynamic": _spread(samples.dynamic_pj[:, 1], "pJ"),
        "latency": _spread(samples.latency_ns[:, 1], "ns"),
        "classes": [
            {
                "label": k,
                "samples": int((labels == k).sum()),
                "energy": _spread(energy[labels == k], "pJ"),
                "latency": _spread(samples.latency_ns[labels == k, 1], "ns"),
            }
            for k in classes
        ],
        "parts": [
            {"name": name, "energy": _spread(samples.part_pj[:, k], "pJ")} for k, name in enumerate(samples.parts)
        ],
        "costliest": [
            {"sample": int(k), "energy_pj": float(energy[k]), "latency_ns": float(samples.latency_ns[k, 1])}
            for k in costliest
        ],
        "histogram": {"low_pj": float(edges[0]), "high_pj": float(edges[-1]), "samples": counts.tolist()},
    }


def _three(values: NDArray[np.float64]) -> dict[str, float]:
    low, nominal, high = (float(v) for v in values)
    return {"low": low, "nominal": nominal, "high": high}


def _row(report: EnergyReport, here: list[int], energy: NDArray[np.float64]) -> dict[str, Any]:
    """Counters and energy of the cells ``here``; energy: [ops, 3]."""
    by = {name: float(values[here].sum()) / report.counts.samples for name, values in report.counts.by.items()}
    return {
        "neurons": sum(report.counts.cells[i].neurons for i in here),
        "synops": by["synops"],
        "updates": by["updates_active"] + by["updates_idle"],
        "spikes": by["spikes"],
        "messages": by["messages"],
        "hops": by["hops_ew"] + by["hops_ns"],
        "energy_pj": {
            **{op: float(energy[k, 1]) for k, op in enumerate(OPS)},
            "total": float(energy[:, 1].sum()),
            "low": float(energy[:, 0].sum()),
            "high": float(energy[:, 2].sum()),
        },
    }


def _layers(report: EnergyReport) -> list[dict[str, Any]]:
    cells = report.counts.cells
    rows: list[dict[str, Any]] = []
    for name, energy in report.per_layer().items():
        here = [i for i, cell in enumerate(cells) if cell.node == name]
        kind = "population" if any(cells[i].neurons for i in here) else "input"
        cores = len({cells[i].core for i in here}) if kind == "population" else 0
        operations = {op: _three(energy[k]) for k, op in enumerate(OPS)}
        head = {"name": name, "kind": kind, "part": report.parts.get(name, ""), "cores": cores}
        rows.append({**head, **_row(report, here, energy), "operations_pj": operations})
    return rows


def _cores(report: EnergyReport) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    limits = report.profile.core
    for index, energy in enumerate(report.per_core()):
        here = [i for i, cell in enumerate(report.counts.cells) if cell.core == index]
        row = _row(report, here, energy)
        names = [report.counts.cells[i].node for i in here if report.counts.cells[i].neurons]
        if report.placement is not None:
            core = report.placement.cores[index]
            where = {"chip": core.chip, "core": core.core, "x": core.x, "y": core.y}
            share = {
                name: used / getattr(limits, name).value for name, used in core.usage.items() if getattr(limits, name)
            }
            rows.append({**where, "populations": names, **row, "usage": dict(core.usage), "usage_share": share})
        else:
            rows.append({"chip": 0, "core": index, "x": 0, "y": 0, "populations": names, **row})
    return rows


def _constants(profile: Profile) -> list[dict[str, Any]]:
    return [
        {"key": f"{name}.{f.name}", **asdict(quantity)}
        for name in ("energy_pj", "time_ns", "power_mw", "core", "chip")
        for f in fields(getattr(profile, name))
        if isinstance(quantity := getattr(getattr(profile, name), f.name), Quantity)
    ]
