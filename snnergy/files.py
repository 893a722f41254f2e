"""Writing files so that a killed run leaves the old file or the new one, never half of one.

New contents grow in a folder ``.snnergy-*.part`` beside the file, which the writer locks. A run that was killed leaves
that folder, locked by nobody, and the next run that writes into the same place removes it.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from snnergy.errors import BadInput

try:
    import fcntl
except ImportError:  # Windows: nothing is locked, so nothing that a killed run left is removed
    fcntl = None

PREFIX, SUFFIX = ".snnergy-", ".part"


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path of the same name; on success it is synced and takes the place of ``path``.

    A link is followed, an old file's rights are kept, missing folders are made. Raises BadInput where the folder or
    ``path`` cannot be written.
    """
    make_folder(Path(path).parent)
    try:
        target = _target(path)
        with _room(target.parent) as room:
            part = room / target.name
            yield part
            if target.exists():
                part.chmod(stat.S_IMODE(target.stat().st_mode))
            with part.open("rb+") as stream:
                os.fsync(stream.fileno())
            part.replace(target)
            _sync_folder(target.parent)
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror or error}") from None


def check_writable(path: Path | str) -> None:
    """Raise BadInput now, not after hours of work, where ``path`` could not be written. Nothing is left behind."""
    make_folder(Path(path).parent)
    try:
        with _room(_target(path).parent):
            pass
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror or error}") from None


def check_outputs(*paths: Path | None, reads: Path) -> None:
    """``check_writable`` for each, and no two are one file; ``reads`` is what the command reads."""
    seen = {os.path.realpath(reads)}
    for path in filter(None, paths):
        check_writable(path)
        if os.path.realpath(path) in seen:
            raise BadInput(f"cannot write {path}: the same command reads or writes it already")
        seen.add(os.path.realpath(path))


def make_folder(path: Path | str) -> None:
    """Make a folder and those above it. Raises BadInput where that cannot be done."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"cannot make the folder {path}: {error.strerror}") from None


def write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    write_bytes(path, text.encode())


def write_bytes(path: Path | str, data: bytes | memoryview) -> None:
    """Write bytes, whole or not at all."""
    with replacing(path) as part:
        part.write_bytes(data)


def _target(path: Path | str) -> Path:
    """The file itself, at the end of all links; raises OSError where it is something that must not be replaced."""
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise OSError(errno.EISDIR, "Is a directory")
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "it is a device or a pipe, not a file")
    return target


@contextmanager
def _room(beside: Path) -> Iterator[Path]:
    """A locked folder for one unfinished file, removed at the end; first, what killed runs left is removed."""
    for left in beside.glob(f"{PREFIX}*{SUFFIX}"):
        with suppress(OSError), _locked(left, wait=False) as mine:
            if mine:
                shutil.rmtree(left)
    while True:
        room = beside / f"{PREFIX}{secrets.token_hex(8)}{SUFFIX}"
        try:
            room.mkdir(mode=0o700)
            with _locked(room, wait=True):
                if room.exists():  # else another run took it for a killed one's before it was locked
                    yield room
                    return
        finally:
            try:
                shutil.rmtree(room, ignore_errors=True)
            finally:  # a signal may have ended that one
                shutil.rmtree(room, ignore_errors=True)


@contextmanager
def _locked(folder: Path, *, wait: bool) -> Iterator[bool]:
    """Hold the folder's lock, which the system drops when a process dies; False where it cannot be had."""
    if fcntl is None:
        yield False
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = True
        except OSError:  # another's, or a file system without locks
            mine = False
        yield mine
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    """Make a new name last through a power cut, where the file system can."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(handle)
