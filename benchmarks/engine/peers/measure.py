"""What every peer does alike: read the workload, run it until the time is up, print one line of JSON. Needs numpy.

A peer gives ``build(work, batch) -> Ready``; run it as ``python -m peers.NAME --data FILE --cases fc:1 conv:1``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Work:
    """One network and its input, the same for all.

    weights:    float32, of each layer [n_out, n_in] or [c_out, c_in, kh, kw] (valid cross-correlation, stride 1)
    thresholds: of each layer, in units of the weights
    keep_u, keep_v: what a step keeps of the current and of the membrane
    x:          uint8[batch, steps, *shape]; expected: uint8[batch, steps, n_out], the exact output spikes
    """

    name: str
    weights: list[Array]
    thresholds: list[float]
    keep_u: float
    keep_v: float
    x: Array
    expected: Array

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Of each layer, without the batch."""
        found, shape = list[tuple[int, ...]](), self.x.shape[2:]
        for w in self.weights:
            kept = (len(w), shape[1] - w.shape[2] + 1, shape[2] - w.shape[3] + 1) if w.ndim == 4 else (len(w),)
            found.append(kept)
            shape = kept
        return found


@dataclass(frozen=True, eq=False)
class Ready:
    """A network that was built.

    run:    -> output spikes [batch, steps, n_out]; the timed part; a list that is passed receives each layer's rate
    delay:  steps by which the output comes later than the input that causes it
    took:   -> seconds of the last run, where the peer starts a program or more samples than are counted
    close:  called at the end; notes: to be shown
    """

    run: Callable[[list[float] | None], Array]
    delay: int = 0
    took: Callable[[], float] | None = None
    close: Callable[[], None] = lambda: None
    notes: dict[str, Any] = field(default_factory=dict)


class NotHere(Exception):
    """Why a peer cannot run a case."""


def load(path: Path, name: str, batch: int) -> Work:
    """The first ``batch`` samples of one workload."""
    data = np.load(path)
    key = name.partition("@")[0]
    weights = [data[f"{key}/weight{k}"].astype(np.float32) * 2 for k in range(3)]
    keep_u, keep_v = data["keep"].tolist()
    thresholds = data[f"{name}/threshold"].astype(float).tolist()
    return Work(
        name, weights, thresholds, keep_u, keep_v, data[f"{name}/input"][:batch], data[f"{name}/expected"][:batch]
    )


def since_start_s() -> float:
    """Seconds since this process began."""
    began = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - began


def cpu_s() -> float:
    """CPU seconds of this process and of all that descend from it, the ended ones included."""
    parents, used = dict[int, int](), dict[int, float]()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        pid = int(stat.parent.name)
        parents[pid], used[pid] = int(fields[1]), sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    total, family = 0.0, [os.getpid()]
    while family:
        pid = family.pop()
        total += used.get(pid, 0.0)
        family += [child for child, parent in parents.items() if parent == pid]
    return total


def agreement(found: Array, expected: Array, delay: int) -> dict[str, Any]:
    """How many output spikes are the same: common / either, and whether all are."""
    a, b = found[:, delay:] > 0, expected[:, : expected.shape[1] - delay] > 0
    either = int((a | b).sum())
    return {"agreement": int((a & b).sum()) / either if either else 1.0, "exact": bool((a == b).all())}


def measured(ready: Ready, work: Work, seconds: float, least: int) -> dict[str, Any]:
    """Run once for the spikes, then again and again for the time."""
    begin = time.perf_counter()
    spikes = np.asarray(ready.run(None))
    first = time.perf_counter() - begin
    result: dict[str, Any] = {"first_s": first, **agreement(spikes, work.expected, ready.delay)}
    walls: list[float] = []
    cpu, begin = cpu_s(), time.perf_counter()
    while len(walls) < least or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        ready.run(None)
        walls.append(ready.took() if ready.took else time.perf_counter() - start)
    cpu = (cpu_s() - cpu) / len(walls)
    amount = work.x.shape[0] * work.x.shape[1]
    rates: list[float] = []
    ready.run(rates)
    result |= {
        "best": amount / min(walls),
        "median": amount / median(walls),
        "per_cpu_s": amount / cpu if cpu > 0 else None,
        "repeats": len(walls),
        "rates": [float(r) for r in rates],
        "delay": ready.delay,
        **ready.notes,
    }
    return result


def main(peer: str, build: Callable[[Work, int], Ready], packages: tuple[str, ...], batches: bool = True) -> None:
    """Run the cases of the command line; a case that fails says why and the next one runs."""
    ready_s = since_start_s()
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cases", nargs="+", required=True, help="workload:batch")
    parser.add_argument("--seconds", type=float, default=3.0, help="at least this long a case")
    parser.add_argument("--least", type=int, default=3, help="at least so many repeats")
    options = parser.parse_args()
    cases: dict[str, Any] = {}
    for case in options.cases:
        name, batch = case.split(":")
        try:
            if int(batch) > 1 and not batches:
                raise NotHere("runs one sample at a time")
            begin = time.perf_counter()
            work = load(options.data, name, int(batch))
            ready = build(work, int(batch))
            built = time.perf_counter() - begin
            cases[case] = {"build_s": built, **measured(ready, work, options.seconds, options.least)}
            ready.close()
        except NotHere as reason:
            cases[case] = {"skipped": str(reason)}
        except Exception as error:  # a peer's own failure is a result
            cases[case] = {"error": f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"}
    versions = {name: version(name) for name in ("numpy", *packages)}
    print(json.dumps({"peer": peer, "versions": versions, "start_s": ready_s, "cases": cases}), flush=True)
    sys.stdout.flush()
    os._exit(0)  # some leave threads and children that do not end
