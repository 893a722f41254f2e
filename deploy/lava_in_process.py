"""Runs the process models that Lava compiles in one OS process, one greenlet for each.

Lava's own runtime forks an OS process per model, needs about 20 file handles for each, and waits for ever when a model
raises or the network deadlocks. Here the same models, built by Lava's builders, exchange arrays through queues: errors
keep their traceback, a deadlock is seen at once, and variables and ports can be read at no cost.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from snnergy.deploy import lava_compat
from snnergy.errors import BadInput, Stuck

if TYPE_CHECKING:
    from lava.magma.core.process.ports.ports import OutPort
    from lava.magma.core.process.process import AbstractProcess
    from lava.magma.core.process.variable import Var
    from lava.magma.core.run_configs import RunConfig

Array = NDArray[np.generic]
Tap = Callable[[Array], None]


@contextmanager
def no_trace() -> Iterator[None]:
    """Take back what making Lava processes leaves behind: handlers on the root logger, entries in a global list."""
    lava_compat.activate()
    from lava.magma.core.process.process import ProcessServer

    handlers, server = logging.root.handlers[:], ProcessServer()
    known = len(server.processes)
    try:
        yield
    finally:
        logging.root.handlers[:] = handlers
        del server.processes[known:]


class InProcess:
    """Every process given and all that are connected to them, compiled once and ready to step.

    Models of the Loihi protocol without learning, and without RefPorts (Monitor, Read); use ``tap`` and ``get``.
    """

    def __init__(self, processes: Iterable[AbstractProcess], run_config: RunConfig) -> None:
        lava_compat.activate()
        from greenlet import getcurrent, greenlet

        self._current, self._greenlet = getcurrent, greenlet
        self.time_step = 0
        self._broken = False
        builders: dict[AbstractProcess, Any] = {}
        channels: list[Any] = []
        with no_trace():
            for process in processes:
                if not process.is_compiled:  # Lava compiles a process together with all it is connected to
                    executable = process.compile(run_config)
                    builders |= executable.proc_builders
                    channels += executable.channel_builders
        self._ready: deque[_Task] = deque()
        self._tasks = {process: _Task(process.name, self._ready) for process in builders}
        for channel in channels:
            self._join(channel, builders)
        self._models = {process: self._build(process, builder) for process, builder in builders.items()}

    def _join(self, channel: Any, builders: dict[AbstractProcess, Any]) -> None:
        """Put a queue where Lava's runtime would put shared memory and two semaphores."""
        from lava.magma.core.process.ports.ports import create_port_id

        source, target = channel.src_port_initializer, channel.dst_port_initializer
        to = channel.dst_process
        wire = _Wire(f"{channel.src_process.name}.{source.name} -> {to.name}.{target.name}", self._tasks[to])
        receive = _Receive(target.name, wire)
        builders[channel.src_process].set_csp_ports([_Send(source.name, source.shape, source.d_type, wire)])
        builders[to].set_csp_ports([receive])
        builders[to].add_csp_port_mapping(create_port_id(channel.src_process.id, source.name), receive)

    def _build(self, process: AbstractProcess, builder: Any) -> Any:
        from lava.magma.core.model.py.model import PyLoihiProcessModel as Base

        model = builder.build()
        kind = type(model)
        plain = isinstance(model, Base) and kind.lrn_guard is Base.lrn_guard and kind.post_guard is Base.post_guard
        if not plain or model.var_ports:
            raise BadInput(f"process '{process.name}': {kind.__name__} runs only on Lava's multiprocess runtime")
        return model

    def tap(self, port: OutPort, call: Tap) -> None:
        """Call ``call`` with a copy of all that is sent through ``port``, connected or not, from the next step on."""
        end: Any = getattr(self._models[port.process], port.name)
        end.csp_ports.append(_Tap(port.name, end._d_type, call))

    def model(self, process: AbstractProcess) -> Any:
        """The live process model; its variables are its attributes."""
        return self._models[process]

    def get(self, var: Var) -> Any:
        """The present value of a variable, not a copy."""
        return getattr(self._models[var.process], var.name)

    def run(
        self, steps: int, *, time_limit_s: float | None = None, after_step: Callable[[int], None] | None = None
    ) -> None:
        """Run every model for ``steps`` time steps, all of them finishing a step before any begins the next.

        after_step: called with the number of each finished step, counted from 1 over all calls, as Lava does

        Raises Stuck where every unfinished model waits for another (a deadlock), or when the limit is reached; the
        limit is looked at between models, so it cannot end a model that itself never returns. An exception in a model
        comes out as it is, with the process and time step as a note. After either the network cannot go on.
        """
        assert not self._broken, "a run that failed cannot go on; build the network anew"
        limit = None if time_limit_s is None else time.monotonic() + time_limit_s
        self._broken = True
        for _ in range(steps):
            self.time_step += 1
            self._step(limit, time_limit_s)
            if after_step is not None:
                after_step(self.time_step)
        self._broken = False

    def _step(self, limit: float | None, time_limit_s: float | None) -> None:
        ready, here = self._ready, self._current()
        for process, task in self._tasks.items():
            task.start(self._models[process], self._greenlet, here)
            ready.append(task)
        unfinished = len(ready)
        while ready:
            task = ready.popleft()
            try:
                if task.go_on():
                    unfinished -= 1
            except Exception as error:
                error.add_note(f"in Lava process '{task.name}', time step {self.time_step}")
                raise
            if limit is not None and time.monotonic() > limit:
                raise Stuck(f"the time limit of {time_limit_s:g} s was reached in time step {self.time_step}")
        if unfinished:
            waits = sorted({t.waits_for for t in self._tasks.values() if t.waits_for is not None})
            shown = ", ".join(waits[:4]) + (f" and {len(waits) - 4} more" if len(waits) > 4 else "")
            raise Stuck(f"deadlock in time step {self.time_step}: nothing arrives on {shown}")


class _Task:
    """One model's part in the present time step."""

    def __init__(self, name: str, ready: deque[_Task]) -> None:
        self.name = name
        self.waits_for: str | None = None
        self._ready = ready
        self._thread: Any = None
        self._hub: Any = None

    def start(self, model: Any, greenlet: Any, hub: Any) -> None:
        def body() -> None:
            model.time_step += 1
            model.run_spk()

        self._hub, self._thread = hub, greenlet(body, hub)

    def go_on(self) -> bool:
        """Run until the model waits or has finished the step; whether it has finished."""
        self._thread.switch()
        return bool(self._thread.dead)

    def wait(self, wire: str) -> None:
        """Called from inside the model: give way until ``wake``."""
        self.waits_for = wire
        self._hub.switch()

    def wake(self, wire: str) -> None:
        """Called by a sender on ``wire``."""
        if self.waits_for == wire:
            self.waits_for = None
            self._ready.append(self)


class _Wire:
    """A queue from one port to another."""

    def __init__(self, name: str, reader: _Task) -> None:
        self.name, self.reader = name, reader
        self.messages: deque[Array] = deque()


class _Port:
    """What Lava's builder and ports expect of either end."""

    observer: Callable[[], Any] | None = None

    def __init__(self, name: str) -> None:
        self.name = name


class _Send(_Port):
    """Copies into the sender's dtype, as Lava's shared memory does."""

    def __init__(self, name: str, shape: tuple[int, ...], dtype: Any, wire: _Wire) -> None:
        super().__init__(name)
        self.shape, self._dtype, self._wire = shape, dtype, wire

    def send(self, data: Array) -> None:
        if data.shape != self.shape:
            raise ValueError(f"{self._wire.name}: sent shape {data.shape}, the port has {self.shape}")
        self._wire.messages.append(np.array(data, dtype=self._dtype))
        self._wire.reader.wake(self._wire.name)


class _Receive(_Port):
    """Gives way to the other models while nothing is there."""

    def __init__(self, name: str, wire: _Wire) -> None:
        super().__init__(name)
        self._wire = wire

    def probe(self) -> bool:
        return bool(self._wire.messages)

    def peek(self) -> Array:
        while not self._wire.messages:
            self._wire.reader.wait(self._wire.name)
        return self._wire.messages[0].copy()

    def recv(self) -> Array:
        while not self._wire.messages:
            self._wire.reader.wait(self._wire.name)
        return self._wire.messages.popleft()


class _Tap(_Port):
    def __init__(self, name: str, dtype: Any, call: Tap) -> None:
        super().__init__(name)
        self._dtype, self._call = dtype, call

    def send(self, data: Array) -> None:
        self._call(np.array(data, dtype=self._dtype))
