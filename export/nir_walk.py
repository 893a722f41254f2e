"""Looking at every object of an HDF5 file before anything in it is believed, in a process that may die of it.

HDF5 can point outside itself, declare more than it holds, contain itself and unpack without end, and its library hangs
and crashes on damaged files. So a child process under limits of memory and time goes first: it walks the file through
hard links only, checks what every object declares, and then reads each once. The caller reads what the child survived.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from math import prod
from pathlib import Path

import h5py
import numpy as np

from snnergy import limits
from snnergy.errors import BadInput, first_line

MAX_OBJECTS = 20_000
MAX_DEPTH = 24
MAX_NAME = 400
FILTERS = (h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32, h5py.h5z.FILTER_SZIP,
           h5py.h5z.FILTER_LZF)  # fmt: skip
"""Those that nir writes. Any other would load a plugin from this machine, or is rare enough to be an attack."""
STRING_BYTES = 100
"""What a Python string takes besides its text."""
CPU_S = 1
BYTES_PER_S = 2 << 20
"""The child has ``CPU_S`` seconds and one more for this much of the file; a tenth of it suffices."""


def inspect(path: Path, max_bytes: int) -> int:
    """How many bytes the contents take in memory, at most ``max_bytes``. Raises BadInput, in one line, for the rest."""
    seconds = CPU_S + path.stat().st_size // BYTES_PER_S
    command = [sys.executable, "-X", "utf8", "-m", __name__, str(path), str(max_bytes), str(seconds)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONWARNINGS": "ignore"}
    try:
        child = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60 * seconds, env=environment, check=False
        )
        said = json.loads(child.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        raise BadInput(f"{path} cannot be read: HDF5 hangs or crashes on it, so it is damaged") from None
    if "error" in said:
        raise BadInput(said["error"], said["help"])
    return said["bytes"]


def walk(path: Path, max_bytes: int) -> int:
    """What ``inspect`` does, in this process; without ``inspect``'s limits it may hang."""
    try:
        with h5py.File(path, "r") as file:
            return _Walk(path, max_bytes, path.stat().st_size).visit(file, 0)
    except BadInput:
        raise
    except RecursionError:
        raise BadInput(f"{path} nests too deeply to be read") from None
    except MemoryError:
        raise BadInput(f"{path} unpacks to more than it declares") from None
    except Exception as error:  # h5py raises many kinds
        raise BadInput(f"{path} cannot be read: {first_line(error)}") from None


class _Walk:
    """The sums so far. bytes: what the contents take in memory; stored: what they take in the file."""

    def __init__(self, path: Path, max_bytes: int, file_bytes: int) -> None:
        self.path, self.max_bytes, self.file_bytes = path, max_bytes, file_bytes
        self.seen: set[int] = set()
        self.objects = self.bytes = self.stored = 0

    def visit(self, group: h5py.Group, depth: int) -> int:
        """Add up everything below the group; the sum of the bytes so far."""
        self.enter(group, str(group.name))
        if depth > MAX_DEPTH:
            raise BadInput(f"{self.path} nests deeper than {MAX_DEPTH} groups; no NIR graph does")
        self.objects += len(group)
        if self.objects > MAX_OBJECTS:
            raise BadInput(f"{self.path} holds more than {MAX_OBJECTS} objects; no NIR graph does")
        for name in group:
            if not str(name).isprintable() or len(str(name)) > MAX_NAME:
                what = "is too long" if str(name).isprintable() else "cannot be printed"
                raise BadInput(f"{self.path}: the name {str(name)[:80]!r} {what}; rename it")
            where = f"{str(group.name).rstrip('/')}/{name}"
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise BadInput(f"{self.path}: '{where}' is a link to another place; copy the data into the file")
            item = group[name]
            if isinstance(item, h5py.Group):
                self.visit(item, depth + 1)
            elif isinstance(item, h5py.Dataset):
                self.enter(item, where)
                self.data(item, where)
            else:
                raise BadInput(f"{self.path}: '{where}' is neither a group nor a data set")
        return self.bytes

    def enter(self, item: h5py.Group | h5py.Dataset, where: str) -> None:
        """Refuse an object that the walk has met before: a cycle, or one array under two names."""
        address = int(h5py.h5o.get_info(item.id).addr)  # type: ignore[attr-defined]
        if address in self.seen:
            raise BadInput(f"{self.path}: '{where}' stands in the file twice; a NIR file holds each object once")
        self.seen.add(address)

    def data(self, item: h5py.Dataset, where: str) -> None:
        """Check what a data set declares, then read it."""
        text = bool(h5py.check_string_dtype(item.dtype))
        if item.external or item.is_virtual:
            raise BadInput(f"{self.path}: '{where}' keeps its data in another file; copy the data into the file")
        if item.dtype.kind not in "fiubS" and not text:
            raise BadInput(f"{self.path}: '{where}' has type {item.dtype}; numbers, booleans and strings are allowed")
        plist = item.id.get_create_plist()
        filters = [plist.get_filter(k)[0] for k in range(plist.get_nfilters())]
        if any(f not in FILTERS for f in filters) or len(set(filters)) < len(filters):
            raise BadInput(f"{self.path}: '{where}' uses HDF5 filters {filters}; gzip, szip, lzf and shuffle are read")
        chunk = prod(item.chunks or ()) * item.dtype.itemsize
        self.add(max(int(item.size or 0) * item.dtype.itemsize, chunk), where)
        self.stored += int(item.id.get_storage_size())
        if self.stored > self.file_bytes:
            raise BadInput(f"{self.path}: '{where}' shares its bytes with other data; each byte is read once")
        if not text:
            item[()]
            return
        with limits.memory(self.path):  # how long strings are shows when they are read
            strings = np.asarray(item[()], object).ravel()
        self.add(sum(len(s) if isinstance(s, str | bytes) else 0 for s in strings) + STRING_BYTES * len(strings), where)

    def add(self, count: int, where: str) -> None:
        """Count so many bytes of contents."""
        self.bytes += count
        if self.bytes > self.max_bytes:
            raise BadInput(
                f"{self.path} holds more than {limits.size(self.max_bytes)}, the most that is read of a file so small, "
                f"at '{where}'",
                "if you trust it, pass --max-size",
            )


def _limited(max_bytes: int, seconds: int) -> None:
    """This process may use so much memory and processor time from here on, and dies of more."""
    with suppress(ImportError):
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        most = int(used.ru_utime + used.ru_stime) + 1 + seconds
        resource.setrlimit(resource.RLIMIT_CPU, (most, most + 1))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limits.limit_data(limits.ROOM_BYTES + 3 * max_bytes)


def main(path: str, max_bytes: str, seconds: str) -> None:
    """Walk under limits and print what came of it as JSON."""
    _limited(int(max_bytes), int(seconds))
    try:
        said = {"bytes": walk(Path(path), int(max_bytes))}
    except BadInput as error:
        said = {"error": str(error), "help": error.help}
    print(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
