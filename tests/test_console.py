"""How a command ends: signals, completion, and a crash that cannot even be written down."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from snnergy import console
from snnergy.cli import cli

SCRIPT = """
import os, signal, sys
import click
from snnergy import console

class Last:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)

@click.command()
@click.argument("what")
def command(what):
    if what == "swallow":
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except BaseException:
            raise ImportError("what C code makes of it")
    try:
        if what == "ignore":
            Last()
        else:
            print("ready", flush=True)
        sys.stdin.read()
    finally:
        print("cleaning", flush=True)
        sys.stdin.read()

console.stop_on_signals()
sys.exit(console.run(command))
"""


def script(*args: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", SCRIPT, *args], text=True, stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such signals")
def test_the_first_signal_lets_a_command_clean_up_and_the_second_does_not():
    with script("wait") as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.stdout.readline() == "cleaning\n"
        process.terminate()
        assert process.wait(60) == -signal.SIGTERM
    with script("wait") as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.stdout.readline() == "cleaning\n"
        assert process.communicate("", timeout=60) == ("", "error: interrupted\n") and process.returncode == 143


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such signals")
def test_a_signal_that_other_code_takes_for_its_own_error_is_still_an_interrupt():
    with script("swallow") as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (143, "", "error: interrupted\n")


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such signals")
def test_a_signal_that_python_ignores_in_a_callback_is_felt_a_moment_later():
    with script("ignore") as process:
        assert process.stdout is not None and process.stdout.readline() == "cleaning\n"
        assert process.communicate("", timeout=60) == ("", "error: interrupted\n") and process.returncode == 143


def test_a_command_that_ends_leaves_the_signals_as_they_are(capsys):
    before = signal.getsignal(signal.SIGTERM)
    assert console.run(cli, ["targets"]) == 0 and console.run(cli, ["nosuch"]) == 2
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_shell_can_ask_for_completions():
    line = {"_SNNERGY_COMPLETE": "bash_complete", "COMP_WORDS": "snnergy dep", "COMP_CWORD": "1"}
    done = subprocess.run([sys.executable, "-c", "from snnergy.cli import main; main()"], env={**os.environ, **line},
                          capture_output=True, text=True, timeout=60)  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "plain,deploy\n", "")


def test_a_crash_that_cannot_be_written_down_is_said_in_full(monkeypatch, capsys):
    def full(**_: object) -> None:
        raise OSError(28, "No space left on device")

    @click.command()
    def bug() -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(console.tempfile, "mkstemp", full)
    assert console.run(bug, []) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "error: this is a bug in snnergy, not in your input; what happened is in these words: snnergy "
    )
    assert line.endswith("ZeroDivisionError: ours")


def test_an_error_of_the_system_that_names_no_file_is_a_bug(capsys):
    @click.command()
    @click.argument("number", type=int)
    def fail(number: int) -> None:
        raise OSError(number, os.strerror(number))

    assert console.run(fail, ["2"]) == 4
    path = Path(capsys.readouterr().err.split()[-1])
    assert "No such file" in path.read_text()
    path.unlink()
