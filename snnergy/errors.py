"""Every mistake a user can make, as one exception family; the command line turns each into a line and an exit code."""

from __future__ import annotations


class SnnergyError(Exception):
    """Base of all errors that are the user's to mend. The message is one line: got, allowed, whose limit.

    help:      what to do about it, shown on a second line; None where the message says it already
    exit_code: 2 (bad usage or bad input) unless a subclass says otherwise
    """

    exit_code = 2

    def __init__(self, message: str, help: str | None = None) -> None:
        super().__init__(message)
        self.help = help


class BadInput(SnnergyError):
    """A file, an option or a value that cannot be used."""


class UnsupportedLayer(SnnergyError):
    """A layer or node that has no exact lowering."""


class ProfileError(SnnergyError):
    """A hardware profile that does not load, or that does not exist."""


class DoesNotFit(SnnergyError):
    """The tool worked and the answer is no: the network exceeds a limit of the chip."""

    exit_code = 1


class Overflow(SnnergyError):
    """No scale was found for which every accumulator provably stays inside its register."""

    exit_code = 1


class NotEqual(SnnergyError):
    """Two forms of the same network gave different spikes."""

    exit_code = 1


class MissingPart(SnnergyError):
    """An optional part (torch, Lava, a chip) is not installed here."""

    exit_code = 3


class Stuck(SnnergyError):
    """A run passed its time limit, or no part of it can go on."""

    exit_code = 1


def first_line(error: BaseException) -> str:
    """What another library's exception says, in one short line; its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
