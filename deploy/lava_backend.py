"""Runs a ``QuantNet`` on Lava's own fixed-point process models, for the spikes that Loihi would give.

A source is a stock ``io.source.RingBuffer``, a population a ``LIFReset``, a projection a ``Sparse`` (``Conv`` ignores
the weight exponent), a delay a process of ours. Samples follow one another without a gap, one for every ``net.steps``
time steps; each population is reset when the next sample reaches its depth.

Lava's mixed-sign weights are even, so ``W << exponent`` is passed as ``2 * W`` with ``weight_exp = exponent - 1``:
``2a >> (1 - e) = a >> -e`` for ``e <= 0`` and ``2a << (e - 1) = a << e`` above, both exact.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import chain, pairwise
from math import prod
from multiprocessing import connection, get_context, set_start_method
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from snnergy.deploy import lava_compat
from snnergy.deploy.activity import Activity, Run
from snnergy.deploy.lava_in_process import InProcess, no_trace
from snnergy.deploy.schedule import Schedule, verify
from snnergy.errors import BadInput, DoesNotFit, Stuck
from snnergy.export.quantnet import QuantNet

if TYPE_CHECKING:
    from lava.magma.core.process.ports.ports import OutPort
    from lava.magma.core.process.process import AbstractProcess

Progress = Callable[[int, int], None]
Runtime = Literal["in-process", "multiprocess"]

MAX_DELAY = 63
"""Longest delay of a Lava synapse, 6 bits, beyond the one step that every synapse takes."""
NO_CURRENT_MEMORY = 4095
"""``du`` at which Lava's current forgets everything, so that u is this step's input alone."""
MULTIPROCESS_LIMIT_S = 300.0
GRACE_S = 10.0
"""How much longer than its limit a child may take to end by itself."""


def run(
    net: QuantNet,
    inputs: Mapping[str, NDArray[Any]],
    schedule: Schedule,
    *,
    record: tuple[str, ...] = (),
    runtime: Runtime = "in-process",
    time_limit_s: float | None = None,
    progress: Progress | None = None,
) -> Run:
    """The outputs, activity and asked-for spikes of every sample.

    inputs:       per source, int[samples, *shape] (shown at every step) or int[samples, steps, *shape]
    record:       populations whose spikes are kept, sample by sample
    runtime:      in-process, or Lava's own runtime with one OS process per model (slow, for cross-checks)
    time_limit_s: none in-process, 300 on Lava's runtime, which otherwise waits for ever on any mishap
    progress:     called with (samples done, samples)

    Raises MissingPart without Lava, BadInput for inputs that do not fit the net, Stuck past the limit.
    """
    lava_compat.activate()
    trains = _trains(net, inputs)
    _check(net, schedule, record)
    job = _Job(net, schedule, trains, record)
    if runtime == "in-process":
        return _run_in_process(job, time_limit_s, progress)
    return _run_in_child(job, MULTIPROCESS_LIMIT_S if time_limit_s is None else time_limit_s, progress)


@dataclass(frozen=True, eq=False)
class _Job:
    """trains: per source, int32[samples, steps, n]"""

    net: QuantNet
    schedule: Schedule
    trains: dict[str, NDArray[np.int32]]
    record: tuple[str, ...]

    @property
    def samples(self) -> int:
        return next(iter(self.trains.values())).shape[0]

    @property
    def hardware_steps(self) -> int:
        """Until the last sample has left the deepest population."""
        return self.samples * self.net.steps + max(self.schedule.depth.values())


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


@dataclass(frozen=True, eq=False)
class _Network:
    """The Lava processes of a job; models names the process model that Lava's tag fixed_pt selects for each."""

    neurons: dict[str, AbstractProcess] = field(default_factory=dict)
    synapses: dict[str, list[AbstractProcess]] = field(default_factory=dict)
    models: dict[AbstractProcess, type] = field(default_factory=dict)

    def run_config(self) -> Any:
        """Naming the models spares Lava's search, which executes every module of Lava's folder once per process."""
        from lava.magma.core.run_configs import Loihi2SimCfg

        return Loihi2SimCfg(select_tag="fixed_pt", exception_proc_model_map=self.models)  # pyright: ignore


def _build(job: _Job) -> _Network:
    """One Lava process per source, population, projection and delayed source."""
    from lava.proc.io.source import PySendModelFixed, RingBuffer
    from lava.proc.lif.models import PyLifResetModelBitAcc
    from lava.proc.lif.process import LIFReset
    from lava.proc.sparse.models import PySparseModelBitAcc
    from lava.proc.sparse.process import Sparse
    from lava.utils.weightutils import SignMode

    net, depth = job.net, job.schedule.depth
    network = _Network()
    bits = {s.name: s.bits for s in net.sources}
    sent: dict[tuple[str, int], OutPort] = {}
    for name, train in job.trains.items():
        flat = train.reshape(-1, train.shape[2])
        ring = RingBuffer(data=np.pad(flat, ((0, job.hardware_steps - len(flat)), (0, 0))).T)
        ring.name = name
        network.models[ring] = PySendModelFixed
        sent[name, 0] = ring.s_out
    for p in net.populations:
        lif: Any = LIFReset(
            shape=(prod(p.shape),),
            du=NO_CURRENT_MEMORY,
            dv=p.decay,  # pyright: ignore
            vth=p.threshold,  # pyright: ignore
            bias_mant=p.bias_mantissa,
            bias_exp=p.bias_exponent,
            reset_interval=net.steps,
            reset_offset=depth[p.name] + 1,  # Lava counts time steps from 1
            name=p.name,
        )
        network.models[lif] = PyLifResetModelBitAcc
        network.neurons[p.name], network.synapses[p.name] = lif, []
        sent[p.name, 0] = lif.s_out
    for e, delay in zip(net.projections, job.schedule.delays, strict=True):
        if (e.source, delay) not in sent:
            kind, model = _delay_line()
            line = kind(sent[e.source, 0].shape, delay, f"{e.source} delayed {delay}")
            network.models[line] = model
            sent[e.source, 0].connect(line.s_in)
            sent[e.source, delay] = line.s_out
        synapses = Sparse(
            weights=csr_matrix(e.map.matrix(), dtype=np.int32) * 2,
            weight_exp=e.exponent - 1,
            num_weight_bits=8,
            sign_mode=SignMode.MIXED,
            num_message_bits=bits.get(e.source, 0),
            name=f"{e.source} -> {e.target}",
        )
        network.models[synapses] = PySparseModelBitAcc
        network.synapses[e.target].append(synapses)
        sent[e.source, delay].connect(synapses.s_in)
        synapses.a_out.connect(network.neurons[e.target].a_in)  # pyright: ignore
    return network


@cache
def _delay_line() -> tuple[Any, type]:
    """Our one own process, and its model: what arrives leaves again ``delay`` steps later.

    Lava's DelaySparse multiplies one matrix per step of delay, anew in every time step: 1.3 ms against 0.02 ms for
    1000 neurons and 8 steps. Both give the same spikes.
    """
    from lava.magma.core.decorator import implements, requires, tag
    from lava.magma.core.model.py.model import PyLoihiProcessModel
    from lava.magma.core.model.py.ports import PyInPort, PyOutPort
    from lava.magma.core.model.py.type import LavaPyType
    from lava.magma.core.process.ports.ports import InPort, OutPort
    from lava.magma.core.process.process import AbstractProcess
    from lava.magma.core.resources import CPU
    from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

    class DelayLine(AbstractProcess):
        def __init__(self, shape: tuple[int, ...], delay: int, name: str) -> None:
            super().__init__(shape=shape, delay=delay, name=name)
            self.s_in, self.s_out = InPort(shape), OutPort(shape)

    @implements(DelayLine, protocol=LoihiProtocol)
    @requires(CPU)
    @tag("fixed_pt")
    class PyDelayLine(PyLoihiProcessModel):
        s_in: Any = LavaPyType(PyInPort.VEC_DENSE, np.int32)
        s_out: Any = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

        def __init__(self, proc_params: Any) -> None:
            super().__init__(proc_params)
            self.held = deque([np.zeros(proc_params["shape"], np.int32)] * proc_params["delay"])

        def run_spk(self) -> None:
            self.s_out.send(self.held.popleft())
            self.held.append(self.s_in.recv())

    return DelayLine, PyDelayLine


class _Tally:
    """Counts in the time of the sample: a population of depth d sees step s of sample k in hardware step d + kT + s."""

    def __init__(self, job: _Job) -> None:
        net, self._depth, self.samples, self._steps = job.net, job.schedule.depth, job.samples, job.net.steps
        sizes = {p.name: prod(p.shape) for p in net.populations}
        self._bias = {p.name: p.bias != 0 for p in net.populations}
        self._spiking = {p.name: p.spiking for p in net.populations}
        self.outputs = {name: np.zeros((self.samples, sizes[name]), np.int64) for name in net.outputs}
        self.spikes = {name: np.zeros((net.steps, n), np.int64) for name, n in sizes.items()}
        self.active = {name: np.zeros((net.steps, n), np.int64) for name, n in sizes.items()}
        self.recorded = {name: np.zeros((self.samples, net.steps, sizes[name]), np.uint8) for name in job.record}
        for name, train in job.trains.items():
            self.spikes[name] = np.count_nonzero(train, axis=0).astype(np.int64)

    def when(self, name: str, hardware_step: int) -> tuple[int, int] | None:
        """(sample, step) that the population computes in this step, or None while it has none."""
        sample, step = divmod(hardware_step - self._depth[name], self._steps)
        return (sample, step) if 0 <= sample < self.samples else None

    def reads(self, name: str, hardware_step: int) -> bool:
        """Whether the membrane is an output at the end of this step."""
        at = self.when(name, hardware_step)
        return name in self.outputs and not self._spiking[name] and at is not None and at[1] == self._steps - 1

    def add(self, name: str, hardware_step: int, spikes: NDArray[Any], current: NDArray[Any]) -> None:
        """One population's step: what it sent, and the synaptic current it received."""
        at = self.when(name, hardware_step)
        if at is None:
            return
        sample, step = at
        self.spikes[name][step] += spikes
        self.active[name][step] += (current != 0) | self._bias[name]
        if name in self.recorded:
            self.recorded[name][sample, step] = spikes
        if name in self.outputs and self._spiking[name]:
            self.outputs[name][sample] += spikes

    def read(self, name: str, hardware_step: int, membrane: NDArray[Any]) -> None:
        """One readout's membrane at the end of a sample."""
        at = self.when(name, hardware_step)
        assert at is not None
        self.outputs[name][at[0]] = membrane

    def done(self, hardware_step: int) -> int | None:
        """Number of samples that have left the network with this step, where it is the last of one."""
        sample, step = divmod(hardware_step - max(self._depth.values()), self._steps)
        return sample + 1 if sample >= 0 and step == self._steps - 1 else None

    def run(self) -> Run:
        activity = Activity(self.samples, self._steps, self.spikes, self.active)
        return Run(self.outputs, activity, self.recorded)


def _run_in_process(job: _Job, time_limit_s: float | None, progress: Progress | None) -> Run:
    with no_trace():
        network = _build(job)
    runner = InProcess(network.models, network.run_config())
    sent: dict[str, NDArray[Any]] = {}
    for name, process in network.neurons.items():
        runner.tap(process.s_out, partial(sent.__setitem__, name))  # pyright: ignore
    models = {name: runner.model(process) for name, process in network.neurons.items()}
    tally = _Tally(job)

    def collect(time_step: int) -> None:
        step = time_step - 1
        for name, model in models.items():
            tally.add(name, step, sent[name], model.u)
            if tally.reads(name, step):
                tally.read(name, step, model.v)
        if progress is not None and (done := tally.done(step)) is not None:
            progress(done, job.samples)

    runner.run(job.hardware_steps, time_limit_s=time_limit_s, after_step=collect)
    return tally.run()


def _run_in_child(job: _Job, time_limit_s: float, progress: Progress | None) -> Run:
    """Lava's own runtime in a child with a session of its own, so that whatever hangs there can be ended.

    The child is spawned: a script that calls this needs ``if __name__ == "__main__":``, as ever with spawn.
    """
    import resource  # not on Windows, where Lava's runtime does not work either

    handles = _handles(job)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and handles > hard:
        raise BadInput(
            f"Lava's multiprocess runtime needs about {handles} file handles for this network, the limit is {hard}",
            help="use the in-process runtime, which needs none, or raise the limit",
        )
    context = get_context("spawn")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(there, job, time_limit_s, handles))
    child.start()
    there.close()
    limit = time.monotonic() + time_limit_s + GRACE_S
    done = 0
    try:
        while here.poll(max(0.0, limit - time.monotonic())):
            message = here.recv()
            if isinstance(message, Run):
                return message
            if isinstance(message, TimeoutError):
                break
            if isinstance(message, Exception):
                raise message
            done = message
            if progress is not None:
                progress(done, job.samples)
        raise Stuck(
            f"Lava's multiprocess runtime had run {done} of {job.samples} samples after its {time_limit_s:g} s",
            help="the in-process runtime is faster, and names the ports where a network waits for ever",
        )
    except EOFError:
        child.join(GRACE_S)
        raise RuntimeError(f"the child that ran Lava ended with exit code {child.exitcode} and no result") from None
    finally:
        here.close()
        _end(child)


def _handles(job: _Job) -> int:
    """File handles that Lava's runtime opens at once: about 14 per process model, measured on 13 to 57 of them."""
    net, delays = job.net, job.schedule.delays
    lines = {(e.source, delay) for e, delay in zip(net.projections, delays, strict=True) if delay}
    return 15 * (len(net.sources) + len(net.populations) + len(net.projections) + len(lines)) + 32


def _end(child: Any) -> None:
    """End the child and all that it forked: politely first, so that it can remove its shared memory."""
    child.join(1.0)
    if child.is_alive():
        child.terminate()
        child.join(GRACE_S)
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.kill()
    child.join()
    child.close()


def _child(there: Any, job: _Job, time_limit_s: float, handles: int) -> None:
    """Sends numbers of samples done, then a Run or the exception that ended it."""
    import resource

    os.setsid()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    set_start_method("fork", force=True)  # as Lava expects, with semaphores that need no clean-up
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, handles), hard))
    silent = os.open(os.devnull, os.O_WRONLY)  # Lava prints; our standard output carries results only
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    try:
        there.send(_run_multiprocess(job, time.monotonic() + time_limit_s, there.send))
    except Exception as error:
        there.send(error)
    finally:
        os._exit(0)  # Lava's destructors may wait for processes that are gone


def _run_multiprocess(job: _Job, limit: float, progress: Callable[[int], None]) -> Run:
    """Spikes and currents come through Lava's external pipes, a segment at a time; membranes by ``Var.get``."""
    warnings.simplefilter("ignore")
    lava_compat.activate()
    network, tally = _build(job), _Tally(job)
    last = job.hardware_steps - 1
    stops = {s for s in range(last) if any(tally.reads(name, s) for name in network.neurons) or tally.done(s)}
    segments = list(pairwise([-1, *sorted(stops), last]))
    pipes: dict[str, list[Any]] = {
        name: [neuron.s_out, *(s.a_out for s in network.synapses[name])]  # pyright: ignore
        for name, neuron in network.neurons.items()
    }
    for port in chain(*pipes.values()):
        port.flag_external_pipe(buffer_size=max(stop - start for start, stop in segments))
    first: Any = next(iter(network.models))
    try:
        first.create_runtime(network.run_config())
        apart = [process.name for process in network.models if not process.is_compiled]
        if apart:
            raise BadInput(
                f"'{apart[0]}' is joined to '{first.name}' by no projection",
                help="the in-process runtime runs such networks",
            )
        for start, stop in segments:
            _advance(first, stop - start, limit)
            for step in range(start + 1, stop + 1):
                for name, ports in pipes.items():
                    spikes, *currents = [port.external_pipe_csp_recv_port.recv() for port in ports]
                    tally.add(name, step, spikes, sum(currents, np.zeros(1, np.int64)))
            for name, neuron in network.neurons.items():
                if tally.reads(name, stop):
                    tally.read(name, stop, neuron.v.get())  # pyright: ignore
            if done := tally.done(stop):
                progress(done)
        first.stop()
        return tally.run()
    except BaseException:
        _abandon(first.runtime)
        raise


def _advance(process: Any, steps: int, limit: float) -> None:
    """Run some steps, watching Lava's OS processes: where one fails, Lava itself would wait for ever."""
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.runtime.mgmt_token_enums import MGMT_RESPONSE, enum_equal

    runtime = process.runtime
    actors = runtime._messaging_infrastructure.actors
    names = [p.name for p in runtime._executable.proc_builders] + ["Lava's runtime service"]
    process.run(condition=RunSteps(num_steps=steps, blocking=False))
    answers = runtime.service_to_runtime
    while not all(port.probe() and enum_equal(port.peek(), MGMT_RESPONSE.DONE) for port in answers):
        ends = connection.wait([end for actor in actors for end in (actor._pconn, actor.sentinel)], timeout=0.001)
        for name, actor in zip(names, actors, strict=True):
            if actor._pconn in ends and actor.exception is not None:
                error, trace = actor.exception
                failure = RuntimeError(f"Lava process '{name}' failed with {type(error).__name__}: {error}")
                failure.add_note(trace)
                raise failure
            if actor.sentinel in ends and actor._pconn not in ends:
                raise RuntimeError(f"Lava process '{name}' was ended from outside, as when memory runs out")
        if time.monotonic() > limit:
            raise TimeoutError
    process.wait()


def _abandon(runtime: Any) -> None:
    """End Lava's OS processes and remove their shared memory; ``stop()`` would wait for those that hang."""
    infrastructure = runtime and runtime._messaging_infrastructure
    if infrastructure:
        for actor in infrastructure.actors:
            actor.kill()
        infrastructure.smm.shutdown()
