"""What a file from a stranger may cost: how large it may be unpacked, and how much memory reading it may take.

One number bounds every kind of file: ``--max-size``, 4 GiB unless it is given. Until it is given, a file may also
unpack to no more than a hundred times what is stored, so that a small file stays small in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from snnergy.errors import BadInput

try:
    import resource
except ImportError:  # Windows has no such limits; the checks of declared sizes still hold there
    resource = None

MAX_BYTES = 4 << 30
RATIO = 100
SMALL_BYTES = 64 << 20
"""What any file may unpack to, however little it stores."""
ROOM_BYTES = 256 << 20
"""Memory that reading takes besides the contents: the libraries' own tables and copies."""
_given: ContextVar[int | None] = ContextVar("max_size", default=None)


@contextmanager
def allowing(max_bytes: int | None) -> Iterator[None]:
    """Inside, a file may unpack to ``max_bytes`` and not only to a hundred times its size; None is the default."""
    token = _given.set(max_bytes)
    try:
        yield
    finally:
        _given.reset(token)


def most_unpacked(stored: int) -> int:
    """How many bytes a file that stores so many may unpack to."""
    given = _given.get()
    return min(MAX_BYTES, max(SMALL_BYTES, RATIO * stored)) if given is None else given


def check_unpacked(path: Path | str, declared: int, stored: int) -> None:
    """Raise BadInput where a file that stores ``stored`` bytes declares too many, before any of them is read."""
    most = most_unpacked(stored)
    if declared > most:
        raise BadInput(
            f"{path} declares {size(declared)} of contents and stores {size(stored)}; at most {size(most)} are read",
            f"if you trust it, pass --max-size {-(-declared // (1 << 30))}",
        )


def check_file(path: Path, folder: str = "is not a file") -> None:
    """Raise BadInput unless there is a regular file. folder: what is said of a folder"""
    if not path.exists():
        raise BadInput(f"no file {path}")
    if not path.is_file():
        raise BadInput(f"{path} {folder if path.is_dir() else 'is not a file'}")


def read_bytes(path: Path, most: int) -> bytes:
    """The contents of a regular file of at most ``most`` bytes. Raises BadInput for anything else."""
    check_file(path, "is a folder")
    try:
        with path.open("rb") as stream:
            found = stream.read(most + 1)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from None
    if len(found) > most:
        raise BadInput(f"{path} is larger than {size(most)}, the most that is read of such a file")
    return found


@contextmanager
def memory(path: Path | str, contents: int = 0) -> Iterator[None]:
    """Run what reads ``path`` with room for three copies of its contents and little more.

    Running out of it, or of stack, is a BadInput: whatever the sizes said, the file was made to do that. The limit is
    that of the process (``RLIMIT_DATA``), so other threads share it meanwhile; where there is none, nothing is limited.
    """
    room = ROOM_BYTES + 3 * contents
    before = limit_data(room)
    try:
        yield
    except MemoryError:
        raise BadInput(
            f"{path} takes more than {size(room)} of memory to read", "if you trust it, pass --max-size"
        ) from None
    except RecursionError:
        raise BadInput(f"{path} nests too deeply to be read") from None
    finally:
        if before is not None and resource is not None:
            resource.setrlimit(resource.RLIMIT_DATA, before)


def limit_data(room: int) -> tuple[int, int] | None:
    """Let this process take ``room`` bytes more than it has; the limits before. None where there are no such limits."""
    used = _data_bytes()
    if resource is None or used is None:
        return None
    before = _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    least = min([used + room, *(limit for limit in before if limit != resource.RLIM_INFINITY)])
    resource.setrlimit(resource.RLIMIT_DATA, (least, hard))
    return before


def _data_bytes() -> int | None:
    """Private writable memory of this process, what ``RLIMIT_DATA`` counts; None where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5])
    except (OSError, ValueError, IndexError):
        return None
    return pages * resource.getpagesize() if resource else None


def size(count: int) -> str:
    """``3 KiB``, ``4 GiB``: a number of bytes for people."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= unit:
            return f"{count / unit:.4g} {name}"
    return f"{count} bytes"
