"""Whatever ends a command, every file under a final name is whole: signals, closed pipes, full and read-only disks."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import builders
import nir
import numpy as np
import pytest

from snnergy.deploy import kernels, report_file
from snnergy.export import nir_file

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc, mounts file systems")
SNNERGY = [sys.executable, "-c", "from snnergy.cli import main; main()"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "LC_ALL": "C"}
DEPLOY = ["deploy", "net.nir", "--samples", "4", "--cross-check", "0", "-o", "out/r.json", "--html", "out/r.html"]
POLL_S = 0.005


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """net.nir and the report of its deployment, report.json; what the engine compiles is compiled after this."""
    folder = tmp_path_factory.mktemp("home")
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(64, 64))
    graph = builders.chain(
        (64,), nir.Affine(weight, weight[0]), builders.lif((64,)), nir.Linear(weight), nir.I(weight[0])
    )
    nir_file.describe(graph, nir_file.Provenance(steps=8, input="random"))
    nir_file.write(graph, folder / "net.nir")
    done = snnergy("deploy", "net.nir", "--samples", "4", "--cross-check", "0", "-o", "report.json", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def place(home: Path, tmp_path: Path) -> Path:
    """A working folder with those two files and an empty folder ``out``."""
    for name in ("net.nir", "report.json"):
        shutil.copy(home / name, tmp_path)
    (tmp_path / "out").mkdir()
    return tmp_path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tiny_model: object) -> Path:
    """A trained network's file, as far as a command can tell."""
    checkpoint = pytest.importorskip("snnergy.checkpoint")
    path = tmp_path_factory.mktemp("model") / "model.pt"
    checkpoint.save(path, tiny_model, {"dataset": "avdigits:test"})
    return path


def snnergy(*args: object, cwd: Path, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run the real command to its end in its own process. before: a command line that runs it"""
    command = [*before, *SNNERGY, *map(str, args)]
    return subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=240)


@pytest.fixture
def start(place: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the real command: ``start(*args)`` -> a running process that takes signals from now on."""
    running: list[subprocess.Popen[str]] = []
    kept = {  # a shell's background jobs ignore the one, nohup's the other
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
        signal.SIGHUP: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    }

    def begin(*args: object) -> subprocess.Popen[str]:
        process = subprocess.Popen([*SNNERGY, *map(str, args)], cwd=place, env=ENVIRONMENT, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)  # fmt: skip
        running.append(process)
        until(process, lambda: catches(process.pid, signal.SIGTERM))
        return process

    yield begin
    for number, handler in kept.items():
        signal.signal(number, handler)
    for process in running:
        process.kill()
        process.communicate()


def until(process: subprocess.Popen[str], true: Callable[[], bool]) -> None:
    """Wait for something that happens while the process lives."""
    while not true():
        try:
            process.wait(POLL_S)
        except subprocess.TimeoutExpired:
            continue
        pytest.fail(f"ended with {process.returncode} before that: {process.stderr and process.stderr.read()}")


def catches(pid: int, number: int) -> bool:
    """Does the process handle this signal by now?"""
    status = Path(f"/proc/{pid}/status").read_text()
    return bool(int(status.split("SigCgt:")[1].split()[0], 16) >> (number - 1) & 1)


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def rooms(folder: Path) -> list[Path]:
    """Folders of files that are being written."""
    return list(folder.glob(".snnergy-*.part"))


# signals


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_while_a_file_is_written_leaves_the_old_one(number, code, model, place, start):
    (place / "out" / "model.nir").write_text("old")
    process = start("export", model, "-o", "out/model.nir", "--samples", 500)
    until(process, lambda: bool(rooms(place / "out")))
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (code, "", "error: interrupted\n")
    assert names(place / "out") == ["model.nir"] and (place / "out" / "model.nir").read_text() == "old"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_the_network_runs_leaves_nothing(number, code, place, start):
    process = start(*DEPLOY[:3], 50_000, *DEPLOY[4:])
    until(process, lambda: "numba" in Path(f"/proc/{process.pid}/maps").read_text())
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (code, "", "error: interrupted\n")
    assert names(place / "out") == []


def test_an_interrupted_training_goes_on_after_its_last_epoch(place, start):
    checkpoint = pytest.importorskip("snnergy.checkpoint")
    train = ["train", "--modalities", "audio", "--epochs", 2]
    (place / "m.pt").write_text("old")
    process = start(*train, "-o", "m.pt")
    assert process.stderr is not None and process.stderr.readline().startswith("epoch  1/2")
    process.send_signal(signal.SIGTERM)
    assert process.stderr.read() == "error: interrupted\n" and process.wait(120) == 143
    assert (place / "m.pt").read_text() == "old"
    assert {"m.pt", "m.pt.resume"} <= {*names(place)} and not rooms(place)
    rest = snnergy(*train, "-o", "m.pt", cwd=place)
    assert rest.returncode == 0 and rest.stderr.startswith("epoch  2/2")
    assert "m.pt.resume" not in names(place)
    model, meta = checkpoint.load(place / "m.pt")
    assert meta["epoch"] in (1, 2) and meta["recipe"]["epochs"] == 2 and not model.training


def test_what_nohup_ignores_stays_ignored(place):
    done = snnergy("targets", cwd=place, before=("nohup",))
    assert done.returncode == 0
    script = "import signal; from snnergy import console; console.stop_on_signals(); print(signal.getsignal(1).name)"
    done = subprocess.run(["nohup", sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout == "SIG_IGN\n"


# standard output


@pytest.mark.parametrize(
    "args", [["--help"], ["targets"], ["check", "net.nir"], ["report", "report.json"], DEPLOY, [*DEPLOY, "--json"]]
)
def test_a_closed_pipe_ends_the_command_quietly_and_not_with_a_yes_or_a_no(args, place):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe:
        done = subprocess.run([*SNNERGY, *args], cwd=place, env=ENVIRONMENT, stdout=pipe, stderr=subprocess.PIPE,
                              text=True, timeout=120)  # fmt: skip
    assert (done.returncode, done.stderr) == (141, "")
    if args[0] == "deploy":
        assert names(place / "out") == ["r.html", "r.json"] and report_file.read(place / "out" / "r.json")


def test_head_takes_its_line_and_the_command_ends(place):
    command = "set -o pipefail; " + " ".join(f"'{part}'" for part in [*SNNERGY, "report", "report.json"]) + " | head -1"
    done = subprocess.run(
        ["bash", "-c", command], cwd=place, env=ENVIRONMENT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "estimate: no hardware was used\n" and done.stderr == ""
    assert done.returncode in (0, 141)  # 0 where all was in the pipe before head closed it


@pytest.mark.parametrize("args", [["targets", "--json"], ["report", "report.json"], ["--help"]])
def test_a_full_disk_under_standard_output_is_one_line(args, place):
    with open("/dev/full", "w") as full:
        done = subprocess.run([*SNNERGY, *args], cwd=place, env=ENVIRONMENT, stdout=full, stderr=subprocess.PIPE,
                              text=True, timeout=60)  # fmt: skip
    assert (done.returncode, done.stderr) == (2, "error: cannot write the output: No space left on device\n")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "2>/dev/full"])
def test_no_standard_output_and_no_standard_error_are_no_failure(closed, place):
    for args, code in ((DEPLOY, 0), (["check", "none.nir"], 2)):
        script = f'exec "$@" {closed}'
        assert snnergy(*args, cwd=place, before=("sh", "-c", script, "sh")).returncode == code


# disks


@pytest.fixture
def mounted(place: Path) -> Callable[..., tuple[int, str, dict[str, bytes]]]:
    """Run with ``out`` mounted: (commands that mount it, *args) -> (exit code, stderr, files in ``out`` at the end)."""
    tried = subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"this machine lets us mount nothing: {tried.stderr.strip()}")

    def run(mount: str, *args: object) -> tuple[int, str, dict[str, bytes]]:
        script = f'{mount} && {{ "$@"; code=$?; rm -rf after; cp -a out after; exit $code; }}'
        done = snnergy(*args, cwd=place, before=("unshare", "-rm", "sh", "-c", script, "sh"))
        after = place / "after"
        return done.returncode, done.stderr, {name: (after / name).read_bytes() for name in names(after)}

    return run


FULL = "mount -t tmpfs -o size=16k none out"
READ_ONLY = "mount --bind out out && mount -o remount,bind,ro out"


@pytest.mark.parametrize(
    ("args", "path"),
    [
        (DEPLOY, "out/r.json"),
        (["report", "report.json", "--html", "out/r.html"], "out/r.html"),
        (["report", "report.json", "--svg", "out/deep/r.svg"], None),
    ],
)
def test_a_read_only_disk_is_one_line_and_nothing_runs_before_it(args, path, mounted):
    code, err, left = mounted(READ_ONLY, *args)
    what = f"cannot write {path}" if path else "cannot make the folder out/deep"
    assert (code, err, left) == (2, f"error: {what}: Read-only file system\n", {})


@pytest.mark.parametrize(
    ("args", "path"),
    [(DEPLOY, "out/r.json"), (["report", "report.json", "--html", "out/r.html"], "out/r.html")],
)
def test_a_full_disk_is_one_line_and_leaves_the_old_file(args, path, mounted):
    code, err, left = mounted(f"{FULL} && echo old >out/r.json && echo old >out/r.html", *args)
    assert (code, err) == (2, f"error: cannot write {path}: No space left on device\n")
    assert left == {"r.html": b"old\n", "r.json": b"old\n"}


def test_a_model_and_a_graph_on_a_full_disk_are_one_line(mounted, model):
    for args in (["export", model, "--samples", 1, "-o", "out/m.nir"],
                 ["train", "--modalities", "audio", "--epochs", 1, "-o", "out/m.pt"]):  # fmt: skip
        code, err, left = mounted(FULL, *args)
        last = {"export": "out/m.nir", "train": "out/m.pt.resume"}[args[0]]
        assert (code, left) == (2, {})
        assert err.splitlines()[-1] == f"error: cannot write {last}: No space left on device"
        assert err.count("error:") == 1


def test_the_engine_is_there_where_no_folder_can_be_written(mounted):
    script = "mount --bind {0} {0} && mount -o remount,bind,ro {0} && HOME=/proc {1} -c 'import snnergy.deploy.kernels'"
    line = script.format(Path(kernels.__file__).parent, sys.executable)
    done = subprocess.run(["unshare", "-rm", "sh", "-c", line], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_a_command_reads_is_never_what_it_writes(model, place):
    for args in (["deploy", "net.nir", "-o", "net.nir"], ["report", "report.json", "--html", "report.json"],
                 ["export", model, "-o", model]):  # fmt: skip
        before = (place / args[-1]).read_bytes()
        done = snnergy(*args, cwd=place)
        said = f"error: cannot write {args[-1]}: the same command reads or writes it already\n"
        assert (done.returncode, done.stderr) == (2, said) and (place / args[-1]).read_bytes() == before


def test_a_limit_on_the_size_of_files_is_one_line(place):
    done = snnergy(*DEPLOY, cwd=place, before=("sh", "-c", 'ulimit -f 4 && exec "$@"', "sh"))
    assert (done.returncode, done.stderr) == (2, "error: cannot write out/r.json: File too large\n")
    assert names(place / "out") == []


# kill -9


def test_a_few_kills_lose_nothing(tmp_path):
    """A slice of ``make kills``: each command, killed at any time, between file operations and within a file."""
    pytest.importorskip("torch")
    script = Path(__file__).parent.parent / "benchmarks" / "kills.py"
    done = subprocess.run([sys.executable, script, "--trials", "12", "--seed", "1", "--out", tmp_path], env=ENVIRONMENT,
                          capture_output=True, text=True, timeout=500)  # fmt: skip
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "kills.json").read_text())
    assert (document["trials"], document["failed"]) == (12, 0)
    assert {state for run in document["runs"] for state in run["after"].values()} <= {"old", "none", "new"}
    assert all(run["again"] is None for run in document["runs"])
