"""Spoilt files through the real command line, each in a process of its own under a limit of memory and time."""

from __future__ import annotations

import io
import os
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import nir
import numpy as np
from builders import DT_S, chain, graph, lif, spiking_model
from mutations import Spoilt

from snnergy import checkpoint
from snnergy.cli import main
from snnergy.export import nir_file
from snnergy.hardware_profiles import names

MEMORY_BYTES = 1 << 30
"""Address space of a case, besides what the interpreter and the libraries have mapped before it."""
SECONDS = 10.0
"""Processor time of a case and of what it started: what it takes on a machine that does nothing else."""
KILL_S = 120
"""A case that takes longer by the clock hangs."""
SHARED = Path(__file__).resolve().parents[2] / "shared" / "cases" / "nir"
FEW = ["--samples", "1"]
QUICK = [*FEW, "--lava-samples", "0"]
DEPLOY = ["--cross-check", "0"]
Originals = dict[str, dict[str, bytes]]


@dataclass(frozen=True)
class Outcome:
    """What became of a file.

    verdict: ``rejected``, ``valid``, or what is wrong with how it ended; seconds: of processor time
    """

    verdict: str
    code: int
    seconds: float
    peak_bytes: int
    said: str


def originals(folder: Path) -> Originals:
    """One file or more of every kind, written by the tool itself; in ``folder`` stay those that the commands need."""
    nets = {"tiny.nir": _tiny(), "conv.nir": _conv(), "loop.nir": _loop()}
    for name, net in nets.items():
        nir_file.describe(net, nir_file.Provenance(dt_s=DT_S, steps=4, input="random:0.3"))
        nir_file.write(net, folder / name)
    checkpoint.save(folder / "model.pt", spiking_model(), {"seed": 1})
    _quietly("export", folder / "model.pt", "-o", folder / "model.nir", *FEW)
    _quietly("deploy", folder / "tiny.nir", *FEW, *DEPLOY, "-o", folder / "tiny.json")
    _quietly("deploy", folder / "model.nir", *FEW, *DEPLOY, "--input", "random", "-o", folder / "model.json")
    x, label = np.random.default_rng(0).random((5, 2)), np.arange(5) % 3
    np.savez(folder / "plain.npz", **{"in": x, "label": label})
    np.savez_compressed(folder / "packed.npz", **{"in": x.astype(np.float32).round(), "label": label.astype(np.uint8)})
    found: Originals = {
        "nir": {p.name: p.read_bytes() for p in (*folder.glob("*.nir"), *_accepted(folder))},
        "pt": {"model.pt": (folder / "model.pt").read_bytes()},
        "npz": {p.name: p.read_bytes() for p in folder.glob("*.npz")},
        "toml": {f"{n}.toml": Path(nir_file.__file__).parents[1].joinpath("hardware_profiles", f"{n}.toml").read_bytes()
                 for n in names()},
        "json": {p.name: p.read_bytes() for p in folder.glob("*.json")},
    }  # fmt: skip
    return found


def _accepted(folder: Path) -> list[Path]:
    """Files of other tools, where they are here, that this tool reads."""
    return [p for p in SHARED.glob("*.nir") if _run(["check", str(p), "--steps", "4"], folder).verdict == "valid"]


def _tiny() -> nir.NIRGraph:
    return chain((2,), nir.Affine(np.array([[1.0, 0.5], [0.5, 1.0], [0.25, 0.75]]), np.zeros(3)), lif((3,)))


def _conv() -> nir.NIRGraph:
    rng = np.random.default_rng(0)
    kernel = nir.Conv2d((6, 6), rng.normal(size=(2, 1, 3, 3)), (1, 1), (1, 1), (1, 1), 1, np.zeros(2))
    pool = nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))
    flat = nir.Flatten({"input": np.array([2, 3, 3])}, 0, -1)
    readout = nir.LI(np.full(3, 2 * DT_S), np.ones(3), np.zeros(3))
    return chain((1, 6, 6), kernel, lif((2, 6, 6)), pool, flat, nir.Linear(rng.normal(size=(3, 18))), readout)


def _loop() -> nir.NIRGraph:
    n, tau = np.ones(3), np.full(3, 4 * DT_S)
    cuba = nir.CubaLIF(tau, 2 * tau, n, 0 * n, 0.5 * n, 0 * n, n)
    nodes = {
        "in": nir.Input({"input": np.array([2])}), "w": nir.Linear(np.ones((3, 2))), "cuba": cuba,
        "back": nir.Linear(-0.5 * np.eye(3)), "later": nir.Delay(2 * DT_S * n),
        "out": nir.Output({"output": np.array([3])}),
    }  # fmt: skip
    edges = (("in", "w"), ("w", "cuba"), ("cuba", "back"), ("back", "later"), ("later", "cuba"), ("cuba", "out"))
    return graph(nodes, *edges)


def _quietly(*args: object) -> None:
    with redirect_stdout(io.StringIO()):
        _exit_code(lambda: main([str(a) for a in args]), wanted=(0,))


def command(spoilt: Spoilt, folder: Path, file: Path) -> list[str]:
    """A command line that reads the file."""
    rng, out = Random(f"command {spoilt.seed}"), folder / f"out-{os.getpid()}"
    net, chip = str(folder / "tiny.nir"), str(file)
    steps, random = ["--steps", "4"], ["--input", "random"]
    choices: dict[str, list[list[str]]] = {
        "nir": [["check", chip, *steps], ["check", chip, "--json", *steps], ["verify", chip, *QUICK, *random, *steps],
                ["deploy", chip, *FEW, *DEPLOY, *random, *steps]],
        "pt": [["export", chip, *FEW, "-o", f"{out}.nir"], ["verify", chip, *QUICK, *random]],
        "npz": [["verify", net, *QUICK, "--input", chip], ["deploy", net, *DEPLOY, "--input", chip]],
        "toml": [["check", net, "--target", chip], ["deploy", net, "--target", chip, *FEW, *DEPLOY]],
        "json": [["report", chip], ["report", chip, "--html", f"{out}.html"], ["report", chip, "--svg", f"{out}.svg"]],
    }  # fmt: skip
    return rng.choice(choices[spoilt.kind])


def run(spoilt: Spoilt, folder: Path) -> Outcome:
    """Run the file's command on it."""
    file = folder / f"{os.getpid()}.{spoilt.kind}"
    file.write_bytes(spoilt.data)
    return _run(command(spoilt, folder, file), folder)


def _run(args: list[str], folder: Path) -> Outcome:
    said = [folder / f"{os.getpid()}.{name}" for name in ("stdout", "stderr")]
    child = os.fork()
    if child == 0:
        _become(args, said)
    _, status, used = os.wait4(child, 0)
    seconds = used.ru_utime + used.ru_stime
    code = os.waitstatus_to_exitcode(status)
    out, err = (path.read_text("utf-8", "replace") for path in said)
    peak = used.ru_maxrss << 10
    return Outcome(_verdict(code, seconds, out, err), code, seconds, peak, err[-2000:])


def _become(args: list[str], said: list[Path]) -> None:
    """In the child: be the command, and end with its exit code."""
    code = 70
    try:
        signal.alarm(KILL_S)
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most = pages * resource.getpagesize() + MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, path in enumerate(said, 1):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
        sys.stdout, sys.stderr = (open(n, "w", encoding="utf-8", errors=e, closefd=False)  # noqa: SIM115
                                  for n, e in ((1, "strict"), (2, "backslashreplace")))  # fmt: skip
        code = _exit_code(lambda: main(args))
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _exit_code(call: Callable[[], Any], wanted: tuple[int, ...] = ()) -> int:
    try:
        call()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    assert not wanted or code in wanted, f"exit code {code}"
    return code


def _verdict(code: int, seconds: float, out: str, err: str) -> str:
    lines = err.splitlines()
    errors, helps = (sum(line.startswith(f"{word}:") for line in lines) for word in ("error", "help"))
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    if "Traceback" in out + err:
        return "traceback"
    if seconds > SECONDS:
        return "too slow"
    if code in (0, 1):
        return "valid"
    if code != 2:
        return f"exit code {code}"
    return "rejected" if errors == 1 and helps <= 1 and len(lines) == errors + helps else "more than one line"
