"""Runs a ``QuantNet`` on Lava's own fixed-point process models, for the spikes that Loihi would give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from snnergy.deploy import lava_compat, lava_multiprocess
from snnergy.deploy.activity import Run
from snnergy.deploy.lava_in_process import InProcess, no_trace
from snnergy.deploy.lava_network import Job, Tally, build
from snnergy.deploy.schedule import Schedule, verify
from snnergy.errors import BadInput, DoesNotFit
from snnergy.export.quantnet import QuantNet

Progress = Callable[[int, int], None]
Runtime = Literal["in-process", "multiprocess"]

MAX_DELAY = 63
"""Longest delay of a Lava synapse, 6 bits, beyond the one step that every synapse takes."""
MULTIPROCESS_LIMIT_S = 300.0


def run(
    net: QuantNet,
    inputs: Mapping[str, NDArray[Any]],
    schedule: Schedule,
    *,
    record: tuple[str, ...] = (),
    states: tuple[str, ...] = (),
    runtime: Runtime = "in-process",
    time_limit_s: float | None = None,
    progress: Progress | None = None,
) -> Run:
    """The outputs, activity and asked-for spikes of every sample.

    inputs:       per source, int[samples, *shape] (shown at every step) or int[samples, steps, *shape]
    record:       populations whose spikes are kept, sample by sample
    states:       populations whose currents and membranes are kept, after each step
    runtime:      in-process, or Lava's own runtime with one OS process per model (slow, for cross-checks)
    time_limit_s: none in-process, 300 on Lava's runtime, which otherwise waits for ever on any mishap
    progress:     called with (samples done, samples)

    Raises MissingPart without Lava, BadInput for inputs that do not fit the net, Stuck past the limit.
    """
    lava_compat.activate()
    trains = _trains(net, inputs)
    _check(net, schedule, (*record, *states))
    job = Job(net, schedule, trains, record, states)
    if runtime == "in-process":
        return _run_in_process(job, time_limit_s, progress)
    return lava_multiprocess.run_in_child(job, MULTIPROCESS_LIMIT_S if time_limit_s is None else time_limit_s, progress)


def _trains(net: QuantNet, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.int32]]:
    """Every input as int32[samples, steps, n], under the checks of the native engine."""
    from snnergy.deploy import engine  # numba, which the child of the multiprocess runtime can do without

    shown = {s.name: engine.train(net, s.name, inputs).astype(np.int32) for s in net.sources}
    samples = {name: len(x) for name, x in shown.items()}
    if len(set(samples.values())) != 1:
        raise BadInput(
            "the inputs differ in their number of samples: " + ", ".join(f"{k} {n}" for k, n in samples.items())
        )
    return {name: np.repeat(x, net.steps // x.shape[1], axis=1) for name, x in shown.items()}


def _check(net: QuantNet, schedule: Schedule, record: tuple[str, ...]) -> None:
    """Refuse what Lava's models would compute wrongly or hang on."""
    verify(net, schedule)
    unknown = set(record) - {p.name for p in net.populations}
    if unknown:
        raise BadInput(f"no population named '{min(unknown)}' to record")
    longest = max(schedule.delays, default=0)
    if longest > MAX_DELAY:
        raise DoesNotFit(f"a projection needs a delay of {longest} steps, Lava's synapses have at most {MAX_DELAY}")
    bits = {s.name: s.bits for s in net.sources}
    for e in (e for e in net.projections if e.source in bits):
        row = abs(e.map.matrix().astype(np.int64)).sum(axis=1)
        if 2 * int(row.max()) * ((1 << bits[e.source]) - 1) >= 1 << 31:
            raise DoesNotFit(f"projection {e.source} -> {e.target}: graded sums exceed the 32 bits Lava adds them in")


def _run_in_process(job: Job, time_limit_s: float | None, progress: Progress | None) -> Run:
    with no_trace():
        network = build(job)
    runner = InProcess(network.models, network.run_config())
    sent: dict[str, NDArray[Any]] = {}
    for name, process in network.neurons.items():
        runner.tap(process.s_out, partial(sent.__setitem__, name))  # pyright: ignore
    models = {name: runner.model(process) for name, process in network.neurons.items()}
    tally = Tally(job)

    def collect(time_step: int) -> None:
        step = time_step - 1
        for name, model in models.items():
            tally.add(name, step, sent[name], model.u)
            tally.keep(name, step, model.u, model.v)
            if tally.reads(name, step):
                tally.read(name, step, model.v)
        if progress is not None and (done := tally.done(step)) is not None:
            progress(done, job.samples)

    runner.run(job.hardware_steps, time_limit_s=time_limit_s, after_step=collect)
    return tally.run()
