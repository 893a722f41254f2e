#!/usr/bin/env python3
"""``kill -9`` at random moments of train, export, deploy and report: is every file whole, and does the next run go on?

    python benchmarks/kills.py                         300 trials, about twenty minutes on one core
    python benchmarks/kills.py --trials 12 --seed 3

Each trial runs the real command in a process of its own, forked from one that has imported everything, and kills it

* at any time: SIGKILL at a moment drawn from the whole run;
* between file operations: SIGKILL after one of them, drawn, and a share, drawn too, of the time until the next;
* within a file: the kernel ends it, as abruptly, at a byte that is drawn, in the middle of writing it (SIGXFSZ).

Then every file under a final name must be the old one, byte for byte, or a complete new one, and the
same command, run again, must end well, write what an undisturbed run writes, and leave nothing else behind.

Writes results/kills.json and results/kills.md; exits with 1 where a trial failed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from snnergy import checkpoint, train
from snnergy.cli import main as snnergy
from snnergy.data import avdigits
from snnergy.deploy import deploy_model, export_model, picture, report, report_file, report_page, verify  # noqa: F401
from snnergy.export import nir_file
from snnergy.files import PREFIX, write_text

RESULTS = Path(__file__).parent / "results"
OPERATIONS = {"open", "os.mkdir", "os.rename", "os.chmod", "os.remove", "os.rmdir", "shutil.rmtree"}
MOMENTS = ("any time", "between file operations", "within a file")
FIRST_BYTE = 4096  # what a command prints before it is shorter
SIGNALS = (-signal.SIGKILL, -signal.SIGXFSZ)


def _torch_file(path: Path) -> object:
    checkpoint.load(path)
    return path.read_bytes()


def _graph(path: Path) -> object:
    nir_file.read(path)
    return path.read_bytes()


def _document(path: Path) -> object:
    return {key: value for key, value in report_file.read(path).items() if key != "run"}


def _page(path: Path) -> object:
    return re.sub("<div><dt>Time to .*?</div>", "", path.read_text())


@dataclass(frozen=True)
class Command:
    """needs: files that must be there; files: what it writes -> a reader of what must be the same every time."""

    args: tuple[str, ...]
    needs: tuple[str, ...]
    files: dict[str, Callable[[Path], object]]


COMMANDS = {
    "train": Command(("train", "--modalities", "audio", "--epochs", "3"), (), {"model.pt": _torch_file}),
    "export": Command(("export", "model.pt", "--samples", "4"), ("model.pt",), {"model.nir": _graph}),
    "deploy": Command(
        ("deploy", "--samples", "32", "--cross-check", "0", "-o", "report.json", "--html", "report.html"),
        ("model.nir",),
        {"report.json": _document, "report.html": _page},
    ),
    "report": Command(
        ("report", "report.json", "--html", "page.html", "--svg", "cores.svg"),
        ("report.json",),
        {"page.html": _page, "cores.svg": Path.read_bytes},
    ),
}


@dataclass(frozen=True)
class Trial:
    """One kill.

    at_s: when; at_byte: of a file, where that was the moment
    after: file -> "old", "none" or "new"; left: what else was there; again: trouble with the next run, or None
    """

    command: str
    moment: str
    old_files: bool
    at_s: float
    at_byte: int | None
    killed: bool
    after: dict[str, str]
    left: list[str]
    resumed: bool
    again: str | None

    @property
    def good(self) -> bool:
        """No half of a file, nothing unexpected, and the next run made up for everything."""
        known = all(name.startswith(PREFIX) or name == "model.pt.resume" for name in self.left)
        return known and self.again is None and set(self.after.values()) <= {"old", "none", "new"}


class Running:
    """The command in a child process that tells of each file operation in its folder.

    limit: byte of a file at which the kernel ends it
    """

    def __init__(self, command: Command, folder: Path, *more: str, limit: int | None = None) -> None:
        self.began, self.told = time.perf_counter(), os.pipe()
        self.pid = os.fork()
        if not self.pid:
            self._be(command, folder, *more, limit=limit)
        os.close(self.told[1])

    def _be(self, command: Command, folder: Path, *more: str, limit: int | None) -> None:
        code = 4
        try:
            os.chdir(folder)
            out = os.open(folder.with_name("out"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(out, 1)
            os.dup2(out, 2)
            start = str(folder)

            def hook(event: str, args: tuple[Any, ...]) -> None:
                if event in OPERATIONS and str(args[0]).startswith(start):
                    os.write(self.told[1], b".")

            sys.addaudithook(hook)
            if limit is not None:
                signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            snnergy([*command.args, *more])
        except SystemExit as stop:
            code = int(stop.code or 0)
        finally:
            os._exit(code)

    def operations(self, count: int) -> list[float]:
        """Wait for that many file operations, or the end; when each was heard of, in seconds from the start."""
        times: list[float] = []
        while len(times) < count and (seen := os.read(self.told[0], 1 if count < 1 << 30 else 65536)):
            times += [time.perf_counter() - self.began] * len(seen)
        return times

    def end(self) -> int:
        """The exit code, negative for a signal."""
        _, status = os.waitpid(self.pid, 0)
        os.close(self.told[0])
        return os.waitstatus_to_exitcode(status)


@dataclass(frozen=True)
class Undisturbed:
    """What a run does that nobody kills."""

    seconds: float
    operations: list[float]
    files: dict[str, object]
    sizes: list[int]


def undisturbed(command: Command, folder: Path, *more: str) -> Undisturbed:
    """Run the command to its end."""
    running = Running(command, folder, *more)
    times = running.operations(1 << 30)
    code, seconds = running.end(), time.perf_counter() - running.began
    if code:
        sys.exit(f"error: {command.args[0]} ended with {code}: {folder.with_name('out').read_text()}")
    files = {name: read(folder / name) for name, read in command.files.items()}
    return Undisturbed(seconds, times, files, [(folder / name).stat().st_size for name in files])


def trial(name: str, moment: str, rng: np.random.Generator, work: Path, stock: Path, usual: Undisturbed) -> Trial:
    """One kill, and the same command again."""
    command = COMMANDS[name]
    folder = work / "trial"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for file in command.needs:
        shutil.copy(stock / "new" / file, folder)
    old_files = bool(rng.random() < 0.5)
    old = {file: (stock / "old" / file).read_bytes() if old_files else None for file in command.files}
    for file, data in old.items():
        if data is not None:
            (folder / file).write_bytes(data)
    limit = int(rng.integers(FIRST_BYTE, rng.choice(usual.sizes))) if moment == "within a file" else None
    running = Running(command, folder, limit=limit)
    if limit is None:
        if moment == "any time":
            wait = float(rng.uniform(0, usual.seconds))
        else:
            count = int(rng.integers(len(usual.operations)))
            wait = float(rng.uniform(0, np.diff([*usual.operations, usual.seconds])[count]))
            running.operations(count + 1)
        until = time.perf_counter() + wait
        while time.perf_counter() < until:
            select.select([], [], [], max(0.0, until - time.perf_counter() - 0.001))  # the last millisecond is counted
        os.kill(running.pid, signal.SIGKILL)
    else:
        running.operations(1 << 30)
    at_s = time.perf_counter() - running.began
    killed = running.end() in SIGNALS
    after = {file: _state(folder / file, old[file], usual.files[file], read) for file, read in command.files.items()}
    left = sorted({p.name for p in folder.iterdir()} - set(command.files) - set(command.needs))
    again, resumed = _again(command, folder, usual)
    return Trial(name, moment, old_files, round(at_s, 4), limit, killed, after, left, resumed, again)


def _state(path: Path, old: bytes | None, new: object, read: Callable[[Path], object]) -> str:
    if not path.exists():
        return "none" if old is None else "lost"
    if path.read_bytes() == old:
        return "old"
    try:
        return "new" if read(path) == new else "different"
    except Exception as error:
        return f"half-written: {error}"


def _again(command: Command, folder: Path, usual: Undisturbed) -> tuple[str | None, bool]:
    """What was wrong with the next run, and whether it went on where the killed one had stopped."""
    running = Running(command, folder)
    running.operations(1 << 30)
    code, said = running.end(), folder.with_name("out").read_text()
    if code:
        return f"exit code {code}: {said}", False
    for name, read in command.files.items():
        if read(folder / name) != usual.files[name]:
            return f"{name} is not what an undisturbed run writes", False
    left = sorted({p.name for p in folder.iterdir()} - set(command.files) - set(command.needs))
    return (f"left {', '.join(left)}" if left else None), command.args[0] == "train" and "epoch  1/" not in said


def markdown(trials: list[Trial], seed: int) -> str:
    """One row a command and moment."""
    lines = [
        f"{len(trials)} runs killed (`python benchmarks/kills.py --seed {seed}`), "
        f"{sum(t.at_byte is None for t in trials)} by `kill -9`; every file was opened with its reader, and every run "
        "was repeated to its end.",
        "",
        "| command | moment | kills | old file kept | no file yet | new file whole | half-written | "
        "unfinished folder left, gone after the next run | next run whole and identical |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in COMMANDS:
        for moment in MOMENTS:
            here = [t for t in trials if (t.command, t.moment) == (name, moment)]
            files = Counter(state for t in here for state in t.after.values())
            good = files["old"] + files["none"] + files["new"]
            rooms = sum(any(left.startswith(PREFIX) for left in t.left) for t in here)
            resumed = f", {sum(t.resumed for t in here)} resumed" if name == "train" else ""
            same = sum(t.again is None for t in here)
            lines.append(f"| {name} | {moment} | {len(here)} | {files['old']} | {files['none']} | {files['new']} | "
                         f"{files.total() - good} | {rooms} | {same} of {len(here)}{resumed} |")  # fmt: skip
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=300, help="kills that met a living process")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of kills.json and kills.md")
    options = parser.parse_args()
    train.Recipe = partial(train.Recipe, pairs=256)  # not 2048 an epoch, so that a trial takes seconds
    avdigits.pool("train")
    trials: list[Trial] = []
    early = 0
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        usual: dict[str, Undisturbed] = {}
        for age, more in (("old", ("--seed", "1")), ("new", ())):
            (work / age).mkdir()
            for which, command in COMMANDS.items():
                usual[which] = undisturbed(command, work / age, *(more if which == "train" else ()))
        kinds = [(which, moment) for which in COMMANDS for moment in MOMENTS]
        while len(trials) < options.trials:
            number = len(trials) + early
            rng = np.random.default_rng([options.seed, number])
            which, moment = kinds[len(trials) % len(kinds)]
            done = trial(which, moment, rng, work, work, usual[which])
            if done.killed:
                trials.append(done)
            else:
                early += 1
            print(f"\r{len(trials)}/{options.trials}", end="", file=sys.stderr)
    print(file=sys.stderr)
    bad = [t for t in trials if not t.good]
    document = {
        "trials": len(trials), "seed": options.seed, "failed": len(bad), "ended_before_the_kill": early,
        "runs": [asdict(t) for t in trials],
    }  # fmt: skip
    write_text(options.out / "kills.json", json.dumps(document, indent=1) + "\n")
    text = markdown(trials, options.seed)
    write_text(options.out / "kills.md", text)
    print(text, end="")
    for t in bad:
        print(f"error: {t}", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
