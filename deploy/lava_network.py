"""A ``QuantNet`` as Lava processes, and what a run of them counts.

A source is a stock ``io.source.RingBuffer``, a population a ``LIFReset``, a projection a ``Sparse`` (``Conv`` ignores
the weight exponent); delays are a process of ours, and so are populations whose spikes do not reset to 0. Samples
follow one another without a gap, one for every ``net.steps`` time steps; each population is reset when the next sample
reaches its depth. What a projection with a delay of its own still carries then belongs to the sample before, and is
dropped; on a chip the host would have to clear it.

Lava's mixed-sign weights are even, so ``W << exponent`` is passed as ``2 * W`` with ``weight_exp = exponent - 1``:
``2a >> (1 - e) = a >> -e`` for ``e <= 0`` and ``2a << (e - 1) = a << e`` above, both exact.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from functools import cache
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from snnergy.deploy.activity import Activity, Run
from snnergy.deploy.schedule import Schedule
from snnergy.export.quantnet import QuantNet

if TYPE_CHECKING:
    from lava.magma.core.process.ports.ports import OutPort
    from lava.magma.core.process.process import AbstractProcess


@dataclass(frozen=True, eq=False)
class Job:
    """trains: per source, int32[samples, steps, n]"""

    net: QuantNet
    schedule: Schedule
    trains: dict[str, NDArray[np.int32]]
    record: tuple[str, ...]
    states: tuple[str, ...] = ()

    @property
    def samples(self) -> int:
        return next(iter(self.trains.values())).shape[0]

    @property
    def hardware_steps(self) -> int:
        """Until the last sample has left the deepest population."""
        return self.samples * self.net.steps + max(self.schedule.depth.values())


@dataclass(frozen=True, eq=False)
class Network:
    """The Lava processes of a job; models names the process model that Lava's tag fixed_pt selects for each."""

    neurons: dict[str, AbstractProcess] = field(default_factory=dict)
    synapses: dict[str, list[AbstractProcess]] = field(default_factory=dict)
    models: dict[AbstractProcess, type] = field(default_factory=dict)

    def run_config(self) -> Any:
        """Naming the models spares Lava's search, which executes every module of Lava's folder once per process."""
        from lava.magma.core.run_configs import Loihi2SimCfg

        return Loihi2SimCfg(select_tag="fixed_pt", exception_proc_model_map=self.models)  # pyright: ignore


def build(job: Job) -> Network:
    """One Lava process per source, population, projection and delayed source."""
    from lava.proc.io.source import PySendModelFixed, RingBuffer
    from lava.proc.lif.models import PyLifResetModelBitAcc
    from lava.proc.lif.process import LIFReset
    from lava.proc.sparse.models import PySparseModelBitAcc
    from lava.proc.sparse.process import Sparse
    from lava.utils.weightutils import SignMode

    net, depth = job.net, job.schedule.depth
    network = Network()
    bits = {s.name: s.bits for s in net.sources}
    sent: dict[tuple[str, int, int, int], OutPort] = {}
    for name, train in job.trains.items():
        flat = train.reshape(-1, train.shape[2])
        ring = RingBuffer(data=np.pad(flat, ((0, job.hardware_steps - len(flat)), (0, 0))).T)
        ring.name = name
        network.models[ring] = PySendModelFixed
        sent[name, 0, 0, 0] = ring.s_out
    for p in net.populations:
        kind, model = programmed() if p.programmed else (LIFReset, PyLifResetModelBitAcc)
        own: Any = {"back": p.back.astype(np.int32), "subtract": p.subtract} if p.programmed else {}
        lif: Any = kind(
            shape=(prod(p.shape),),
            du=np.subtract(p.current_decay, 1),  # pyright: ignore
            dv=p.decay,  # pyright: ignore
            vth=p.threshold,  # pyright: ignore
            bias_mant=p.bias_mantissa,
            bias_exp=p.bias_exponent,
            reset_interval=net.steps,
            reset_offset=depth[p.name] + 1,  # Lava counts time steps from 1
            name=p.name,
            **own,
        )
        network.models[lif] = model
        network.neurons[p.name], network.synapses[p.name] = lif, []
        sent[p.name, 0, 0, 0] = lif.s_out
    for e, delay in zip(net.projections, job.schedule.delays, strict=True):
        dropped = min(e.delay, net.steps)
        start = depth[e.target] if dropped else 0
        through = (e.source, delay, dropped, start)
        if through not in sent:
            kind, model = delay_line()
            name = f"{e.source} delayed {delay}" + (f" for {e.target}" if dropped else "")
            line = kind(sent[e.source, 0, 0, 0].shape, delay, name, dropped, start, net.steps)
            network.models[line] = model
            sent[e.source, 0, 0, 0].connect(line.s_in)
            sent[through] = line.s_out
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
        sent[through].connect(synapses.s_in)
        synapses.a_out.connect(network.neurons[e.target].a_in)  # pyright: ignore
    return network


@cache
def programmed() -> tuple[Any, type]:
    """A ``LIFReset`` whose spikes lead to ``back`` or take it away, and its model; on a chip that takes microcode."""
    from lava.proc.lif.models import PyLifResetModelBitAcc
    from lava.proc.lif.process import LIFReset

    class LIFProgrammed(LIFReset):
        def __init__(self, *, back: NDArray[np.int32], subtract: bool, **stock: Any) -> None:
            super().__init__(**stock)
            self.proc_params["back"], self.proc_params["subtract"] = back, subtract

    class PyLifProgrammed(PyLifResetModelBitAcc):
        implements_process = LIFProgrammed  # Lava's decorator refuses a subclass; the rest is inherited
        v: Any

        def __init__(self, proc_params: Any) -> None:
            super().__init__(proc_params)
            self._back, self._subtract = proc_params["back"], proc_params["subtract"]

        def reset_voltage(self, spike_vector: Any) -> None:
            after = self.v - self._back if self._subtract else self._back
            self.v[:] = np.where(spike_vector, after, self.v)

    return LIFProgrammed, PyLifProgrammed


@cache
def delay_line() -> tuple[Any, type]:
    """Our one own process, and its model: what arrives leaves again ``delay`` steps later.

    dropped, first, period: what would reach a population of depth ``first`` in the first ``dropped`` steps of a sample
    of ``period`` steps was sent in the sample before, and does not leave.

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
        def __init__(
            self, shape: tuple[int, ...], delay: int, name: str, dropped: int = 0, first: int = 0, period: int = 1
        ) -> None:
            super().__init__(shape=shape, delay=delay, dropped=dropped, first=first, period=period, name=name)
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
            self._dropped, self._first, self._period = (proc_params[k] for k in ("dropped", "first", "period"))

        def run_spk(self) -> None:
            if not self.held:  # no delay: a Sparse in every loop has sent before it receives
                self._pass_on(self.s_in.recv())
            else:
                self._pass_on(self.held.popleft())
                self.held.append(self.s_in.recv())

        def _pass_on(self, spikes: Any) -> None:
            arrives = self.time_step - self._first  # Lava counts from 1, and a synapse takes one step
            self.s_out.send(spikes * 0 if arrives % self._period < self._dropped else spikes)

    return DelayLine, PyDelayLine


class Tally:
    """Counts in the time of the sample: a population of depth d sees step s of sample k in hardware step d + kT + s."""

    def __init__(self, job: Job) -> None:
        net, self._depth, self.samples, self._steps = job.net, job.schedule.depth, job.samples, job.net.steps
        sizes = {p.name: prod(p.shape) for p in net.populations}
        self._bias = {p.name: p.bias != 0 for p in net.populations}
        self._spiking = {p.name: p.spiking for p in net.populations}
        self.outputs = {name: np.zeros((self.samples, sizes[name]), np.int64) for name in net.outputs}
        self.spikes = {name: np.zeros((net.steps, n), np.int64) for name, n in sizes.items()}
        self.active = {name: np.zeros((net.steps, n), np.int64) for name, n in sizes.items()}
        self.recorded = {name: np.zeros((self.samples, net.steps, sizes[name]), np.uint8) for name in job.record}
        self.currents, self.membranes = (
            {name: np.zeros((self.samples, net.steps, sizes[name]), np.int32) for name in job.states} for _ in range(2)
        )
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
        """One population's step: what it sent, and its synaptic current."""
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

    def keep(self, name: str, hardware_step: int, current: NDArray[Any], membrane: NDArray[Any]) -> None:
        """One population's state after the step, where it was asked for."""
        at = self.when(name, hardware_step)
        if at is not None and name in self.membranes:
            self.currents[name][at], self.membranes[name][at] = current, membrane

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
        return Run(self.outputs, activity, self.recorded, self.membranes, self.currents)
