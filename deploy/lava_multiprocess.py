"""Lava's own runtime, one OS process per model, in a child of ours that can be ended when it hangs."""

from __future__ import annotations

import os
import signal
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from itertools import chain, pairwise
from multiprocessing import connection, get_context, set_start_method
from typing import Any

import numpy as np

from snnergy.deploy import lava_compat
from snnergy.deploy.activity import Run
from snnergy.deploy.lava_network import Job, Tally, build
from snnergy.errors import BadInput, Stuck

Progress = Callable[[int, int], None]
GRACE_S = 10.0
"""How much longer than its limit a child may take to end by itself."""


def run_in_child(job: Job, time_limit_s: float, progress: Progress | None) -> Run:
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


def _handles(job: Job) -> int:
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


def _child(there: Any, job: Job, time_limit_s: float, handles: int) -> None:
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


def _run_multiprocess(job: Job, limit: float, progress: Callable[[int], None]) -> Run:
    """Spikes and inputs come through Lava's external pipes, a segment at a time; state by ``Var.get`` at its end.

    Where the state of every step is needed, each segment is one step.
    """
    warnings.simplefilter("ignore")
    lava_compat.activate()
    network, tally = build(job), Tally(job)
    last = job.hardware_steps - 1
    stateful = {p.name for p in job.net.populations if p.cuba or p.name in job.states}
    stops = {
        s for s in range(last) if stateful or any(tally.reads(name, s) for name in network.neurons) or tally.done(s)
    }
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
                    spikes, *inputs = [port.external_pipe_csp_recv_port.recv() for port in ports]
                    current = sum(inputs, np.zeros(1, np.int64))
                    if name in stateful:
                        u, v = (var.get() for var in (network.neurons[name].u, network.neurons[name].v))  # pyright: ignore
                        tally.keep(name, step, u, v)
                        current = u
                    tally.add(name, step, spikes, current)
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
