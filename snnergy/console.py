"""What the command line says and where: results on stdout, progress on stderr, errors in one line, bugs in a file."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click
from click.shell_completion import shell_complete

from snnergy import __version__
from snnergy.errors import SnnergyError

BUG, CLOSED = 4, 141
LINE = 1000
COMPLETE = "_SNNERGY_COMPLETE"
AGAIN_S = 0.01
"""How long after it was ignored a signal is felt again."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def say(text: str) -> None:
    """A line about what is going on, on stderr; where stderr is closed or full, the work goes on without it."""
    with suppress(OSError):
        click.echo(text, err=True)


def print_json(document: Any) -> None:
    """One document on stdout and nothing else."""
    click.echo(json.dumps(document, indent=2, allow_nan=False))


def show(renderable: Any) -> None:
    """A rich renderable on stdout, plain where stdout is not a terminal."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else 120
    console = Console(width=width, highlight=False, soft_wrap=False)
    with console.capture() as shown:  # rich, too, would end the process with 1
        console.print(renderable)
    click.echo(shown.get(), nl=False)


@contextmanager
def bar(title: str, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr; yields ``update(done, total)``. Nothing is drawn where stderr is not a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as progress:
        task = progress.add_task(title, total=None)

        def update(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield update


class Stopped(BaseException):
    """A signal asks the command to end. Not an Exception, so that no code takes it for a failure of its own."""


_stopped_by: int | None = None
"""The signal, also where the code that it met turned Stopped into an error of its own."""


def stop_on_signals() -> None:
    """Let SIGINT, SIGTERM and SIGHUP end the command in good order; a second one ends it at once."""
    for number in _signals():
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup sets it
            signal.signal(number, _stop)
    usual = sys.unraisablehook

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if unraisable.exc_type is Stopped and os.name == "posix":  # Python ignores what is raised in a callback
            signal.signal(signal.SIGALRM, _stop_again)
            signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
        else:
            usual(unraisable)

    sys.unraisablehook = hook


def _signals() -> list[int]:
    return [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


def _stop(number: int, _frame: object) -> None:
    global _stopped_by
    _stopped_by = number
    _let_go()
    raise Stopped


def _stop_again(_number: int, _frame: object) -> None:
    raise Stopped


def _let_go() -> None:
    """From here on a signal ends the process at once."""
    for number in _signals():
        if signal.getsignal(number) is _stop:
            signal.signal(number, signal.SIG_DFL)
    if _stopped_by and os.name == "posix":
        signal.setitimer(signal.ITIMER_REAL, 0)


def run(command: click.Command, args: list[str] | None = None) -> int:
    """Run the command line; its exit code.

    0 yes, 1 no, 2 bad input, 3 missing part, 4 our bug, 130 interrupted (SIGINT), 143 ended (SIGTERM), 129 hung up
    (SIGHUP), 141 standard output was closed before all was said, as by ``| head``
    """
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115  closed by the caller: >&-
    try:
        if shell := os.environ.get(COMPLETE):
            return shell_complete(command, {}, "snnergy", COMPLETE, shell)
        # not command.main: where standard output is closed, it would end the process with 1, our "no"
        with command.make_context("snnergy", sys.argv[1:] if args is None else list(args)) as context:
            result = command.invoke(context)
        sys.stdout.flush()
        _let_go()
        return result if isinstance(result, int) else 0
    except BaseException as error:
        return _explain(error)


def _explain(error: BaseException) -> int:
    """Say in a line why the command ended; its exit code."""
    _let_go()
    if _stopped_by or isinstance(error, (click.Abort, KeyboardInterrupt)):
        fail("interrupted")
        return 128 + (_stopped_by or signal.SIGINT)
    match error:
        case SnnergyError():
            fail(str(error), error.help)
            return error.exit_code
        case click.UsageError():
            where = error.ctx.command_path if error.ctx else "snnergy"
            fail(error.format_message(), f"{where} --help")
            return 2
        case click.ClickException():
            fail(error.format_message())
            return 2
        case click.exceptions.Exit():
            return error.exit_code
        case BrokenPipeError():
            _discard_output()
            return CLOSED
        case MemoryError():
            fail("this machine ran out of memory", "use fewer samples, or a smaller network")
            return 2
        case OSError() if error.filename is not None:
            fail(f"{error.filename}: {error.strerror}")
            return 2
        case OSError() if error.errno in FULL:
            _discard_output()
            fail(f"cannot write the output: {error.strerror}")
            return 2
        case Exception():
            return _bug()
    raise error


def _discard_output() -> None:
    """What is left in the buffer of standard output goes nowhere, so that its end raises nothing."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def fail(message: str, help: str | None = None) -> None:
    """The one line a user's error takes, and at most one that says what to do."""
    say(f"{click.style('error:', fg='red', bold=True)} {_one_line(message)}")
    if help:
        say(f"{click.style('help:', fg='cyan')} {_one_line(help)}")


def _one_line(text: str) -> str:
    """At most ``LINE`` characters, none of which moves a terminal's cursor."""
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(text[: 4 * LINE].split()))
    return line if len(line) <= LINE else f"{line[:LINE]} ..."


def _bug() -> int:
    what = f"snnergy {__version__}, Python {sys.version}\n{' '.join(sys.argv)}\n\n{traceback.format_exc()}"
    try:
        handle, name = tempfile.mkstemp(prefix="snnergy-crash-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(what)
    except OSError:
        name = f"these words: {what}"
    fail(f"this is a bug in snnergy, not in your input; what happened is in {name}")
    return BUG
