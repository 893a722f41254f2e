"""One deployment from file to report: fit, place, run, cross-check, price."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snnergy.deploy import (
    baselines,
    estimate,
    lava_backend,
    lava_compat,
    legality,
    loihi2_hardware,
    neurobench,
    report,
    timeline,
)
from snnergy.deploy import engine as native
from snnergy.deploy.activity import Activity
from snnergy.deploy.count import Counter
from snnergy.deploy.distribution import Meter, joined
from snnergy.deploy.doctor import packages
from snnergy.deploy.energy import EnergyReport
from snnergy.deploy.job import Inputs, Job, load_inputs, prepare
from snnergy.deploy.parts import parts
from snnergy.deploy.place import place
from snnergy.deploy.placement import Placement
from snnergy.deploy.price import price
from snnergy.deploy.schedule import Schedule, balance
from snnergy.deploy.split import gather, split
from snnergy.deploy.targets import find
from snnergy.deploy.tiling import read as read_tiling
from snnergy.deploy.verify import accuracy, float_accuracy, lava_pair
from snnergy.errors import BadInput
from snnergy.export.quantize import INPUT_BITS, layer_errors
from snnergy.export.quantnet import QuantNet
from snnergy.files import write_text
from snnergy.hardware_profiles import Profile

LAVA_SAMPLES = 16
"""How many samples Lava gets where nobody says: it takes about a hundred times as long as the native engine."""
PROFILED = 16
"""Samples that show the mapper who is busy, where nobody says."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Deployed:
    """The report's document and what it was made of, and whether the two engines agreed (True where only one ran)."""

    document: dict[str, Any]
    equal: bool
    priced: EnergyReport
    facts: report.RunFacts


def deploy(
    path: Path,
    target: str,
    *,
    engine: str = "native",
    samples: int | None = None,
    cross_check: int = 4,
    chips: int | None = None,
    objective: str = "edp",
    profile_activity: int = PROFILED,
    iterations: int = 0,
    partition: str = "free",
    tiling: Path | None = None,
    spec: str | None = None,
    steps: int | None = None,
    convention: str | None = None,
    dt_s: float | None = None,
    weight_bits: int = 8,
    input_bits: int = INPUT_BITS,
    seed: int = 0,
    raster_sample: int = 0,
    compare_float: bool = True,
    progress: Progress | None = None,
) -> Deployed:
    """Deploy a ``.nir`` file. Raises DoesNotFit before anything runs.

    cross_check: samples that are run on the other engine too, where Lava is installed
    chips:       at most this many; None is the fewest that hold the network
    objective, iterations, partition: of ``place``; tiling: a file of ``tiling.py``
    profile_activity: samples whose activity the mapping is made for
    raster_sample: the sample whose spikes the report shows; compare_float: whether to run the network before
                   quantisation too, for its accuracy
    """
    found = find(target)
    if found.hardware:
        loihi2_hardware.run()
    profile = found.load()
    if engine == "lava":
        lava_compat.activate()
    clock = _Clock()
    with clock("prepare"):
        job = prepare(
            path, dt_s=dt_s, steps=steps, convention=convention, weight_bits=weight_bits, input_bits=input_bits
        )
        inputs = load_inputs(job, spec, samples or (LAVA_SAMPLES if engine == "lava" else None), seed)
        encoded = job.quant.encode(inputs.real)
        if not 0 <= raster_sample < len(inputs):
            raise BadInput(
                f"raster sample {raster_sample} of {len(inputs)} samples; 0 .. {len(inputs) - 1} can be shown"
            )
    with clock("place"):
        net, schedule, placement, _ = mapped(
            job,
            encoded,
            profile,
            chips,
            objective=objective,
            samples=profile_activity,
            iterations=iterations,
            seed=seed,
            partition=partition,
            tiling=tiling,
        )
        legality.enforce(net, schedule, profile, placement)
        counter = Counter(placement, net, schedule, profile)
    with clock("run"):
        if engine == "lava":
            run = lava_backend.run(net, encoded, schedule, progress=progress)
        else:
            run = native.run(net, encoded, progress=progress, observe=Meter(counter, profile).measure)
    with clock("cross-check"):
        line, equal = _cross_check(job, inputs, engine, min(cross_check, len(inputs)))
    with clock("accuracy before quantisation"):
        before = float_accuracy(job, inputs) if compare_float else None
    after = (
        None if inputs.label is None else accuracy(gather(run.outputs, job.quant)[job.quant.outputs[0]], inputs.label)
    )
    with clock("price"):
        priced = price(run.activity, placement, net, schedule, profile, counter)
    errors = {e.population: e.weight_rms for e in layer_errors(job.net, job.quant)}
    facts = report.RunFacts(
        engine=engine,
        target=target,
        accuracy=after,
        accuracy_before=before,
        weight_bits=weight_bits,
        weight_error=errors,
        inputs=inputs.spec,
        inputs_sha256=inputs.sha256,
        seed=seed,
        cross_check=line,
        packages=packages(),
        seconds=clock.seconds,
        lossy=(*(() if job.graph is None else (_rounding(job, errors),)), *net.lossy),
        distribution=joined(run.observed) if run.observed else None,
        labels=inputs.label,
        raster=_raster(net, encoded, raster_sample, inputs.label),
        baselines=baselines.document(job.quant, priced.counters),
        assumed=job.assumed,
        programmed=tuple(p.name for p in net.populations if p.programmed),
        forms=neurobench.by_form(net, run.activity),
        neurobench=neurobench.metrics(net, run.activity),
    )
    document = report.document(priced, facts)
    document["model"] = {"file": path.name, "dt_s": job.net.dt_s, "exporter": job.about.version}
    return Deployed(document, equal, priced, facts)


def mapped(
    job: Job,
    encoded: dict[str, Any],
    profile: Profile,
    chips: int | None,
    *,
    objective: str,
    samples: int,
    iterations: int,
    seed: int,
    partition: str = "free",
    tiling: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> tuple[QuantNet, Schedule, Placement, Activity | None]:
    """The network as it is mapped, its readouts split where a core cannot feed them, and where everything sits.

    samples: of ``encoded`` that are run first, so that the mapping knows who is busy, and whose activity is returned;
    0: everyone alike, and None
    """
    net = split(job.quant, profile)
    schedule = job.schedule if net is job.quant else balance(net)
    few = {name: x[:samples] for name, x in encoded.items()}
    activity = native.run(net, few).activity if samples else None
    placement = place(
        net, schedule, profile, chips, objective=objective, activity=activity, iterations=iterations, seed=seed,
        partition=partition, tiling=read_tiling(tiling) if tiling else None, progress=progress,
    )  # fmt: skip
    return net, schedule, placement, activity


def _raster(net: QuantNet, encoded: dict[str, Any], sample: int, labels: Any) -> dict[str, Any]:
    one = {name: x[sample : sample + 1] for name, x in encoded.items()}
    names = tuple(p.name for p in net.populations if p.spiking)
    spikes = {name: x[0] for name, x in native.run(net, one, record=names).recorded.items()}
    return timeline.raster(spikes, parts(net), net.steps, sample, None if labels is None else int(labels[sample]))


def _rounding(job: Job, errors: dict[str, float]) -> str:
    worst = max(errors, key=errors.__getitem__)
    bits = ", ".join(sorted({f"{s.bits}" for s in job.quant.sources}))
    return (
        f"weights rounded to {job.quant.weight_bits} bits, inputs to {bits}; "
        f"relative rms error of the weights at most {errors[worst]:.2%} ({worst})"
    )


def write(done: Deployed, output: Path | None, html: Path | None, activity: Path | None = None) -> None:
    """Write the report as JSON and as a page, and what was counted, each whole or not at all."""
    if activity:
        estimate.save(activity, done.priced, done.facts)
    if output:
        write_text(output, json.dumps(done.document, indent=2, allow_nan=False) + "\n")
    if html:
        from snnergy.deploy import report_page  # which loads Bokeh

        write_text(html, report_page.html(done.document))


def _cross_check(job: Job, inputs: Inputs, engine: str, samples: int) -> tuple[str | None, bool]:
    if not samples:
        return None, True
    if not lava_compat.installed():
        return "not run: Lava is not installed (snnergy doctor)", True
    pair = lava_pair(job, inputs.first(samples))
    other = "native engine" if engine == "lava" else "Lava"
    line = f"{other}: {pair.differing} of {pair.compared:,} neuron-steps differ on {samples} samples"
    return (line if pair.first is None else f"{line}; first at {pair.first}"), pair.equal


class _Clock:
    """Wall-clock seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = time.perf_counter() - start
