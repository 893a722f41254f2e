"""What the command line says and where: results on stdout, progress on stderr, errors in one line, bugs in a file."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from snnergy import __version__
from snnergy.errors import SnnergyError

BUG, INTERRUPTED = 4, 130


def say(text: str) -> None:
    """A line about what is going on, on stderr."""
    click.echo(text, err=True)


def print_json(document: Any) -> None:
    """One document on stdout and nothing else."""
    click.echo(json.dumps(document, indent=2, allow_nan=False))


def show(renderable: Any) -> None:
    """A rich renderable on stdout, plain where stdout is not a terminal."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else 120
    Console(width=width, highlight=False, soft_wrap=False).print(renderable)


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


def run(command: click.Command, args: list[str] | None = None) -> int:
    """Run the command line; its exit code: 0 yes, 1 no, 2 bad input, 3 missing part, 4 our bug, 130 interrupted."""
    try:
        result = command.main(args=args, prog_name="snnergy", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except SnnergyError as error:
        fail(str(error), error.help)
        return error.exit_code
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "snnergy"
        fail(_one_line(error.format_message()), f"{where} --help")
        return 2
    except click.ClickException as error:
        fail(_one_line(error.format_message()))
        return 2
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except (click.Abort, KeyboardInterrupt):
        fail("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MemoryError:
        fail("this machine ran out of memory", "use fewer samples, or a smaller network")
        return 2
    except OSError as error:
        if error.filename is None:
            return _bug()
        fail(f"{error.filename}: {error.strerror}")
        return 2
    except Exception:
        return _bug()


def fail(message: str, help: str | None = None) -> None:
    """The one line a user's error takes, and at most one that says what to do."""
    click.echo(f"{click.style('error:', fg='red', bold=True)} {_one_line(message)}", err=True)
    if help:
        click.echo(f"{click.style('help:', fg='cyan')} {_one_line(help)}", err=True)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _bug() -> int:
    handle, name = tempfile.mkstemp(prefix="snnergy-crash-", suffix=".txt")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(f"snnergy {__version__}, Python {sys.version}\n{' '.join(sys.argv)}\n\n{traceback.format_exc()}")
    fail(f"this is a bug in snnergy, not in your input; what happened is in {Path(name)}")
    return BUG
