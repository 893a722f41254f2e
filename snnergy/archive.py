"""Zip archives (``.pt`` and ``.npz`` are such): their table of contents is checked before a member is unpacked."""

from __future__ import annotations

import zipfile
from pathlib import Path

from snnergy import limits
from snnergy.errors import BadInput

MAX_MEMBERS = 20_000
MAX_NAME = 400
HEADER_BYTES = 30
"""Of a member, before its name and contents."""
DEFLATE_SHARE = 1032
"""Deflate makes nothing larger than this many times what is stored."""


def members(path: Path, archive: zipfile.ZipFile, compressed: bool) -> list[zipfile.ZipInfo]:
    """The members of an open archive, where each is what it declares. Raises BadInput otherwise.

    compressed: whether members may be deflated; no other method is read
    """
    found = archive.infolist()
    if len(found) > MAX_MEMBERS:
        raise BadInput(f"{path} has {len(found)} members; at most {MAX_MEMBERS} are read")
    limits.check_unpacked(path, sum(m.file_size for m in found), path.stat().st_size)
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) if compressed else (zipfile.ZIP_STORED,)
    names: set[str] = set()
    end = 0
    for m in sorted(found, key=lambda m: m.header_offset):
        shown = repr(m.filename[:80])
        if not m.filename.isprintable() or len(m.filename) > MAX_NAME:
            raise BadInput(f"{path}: the member name {shown} cannot be printed or is too long")
        if m.filename in names:
            raise BadInput(f"{path} holds {shown} twice")
        if m.header_offset < end:
            raise BadInput(f"{path}: the bytes of {shown} belong to another member too")
        if m.flag_bits & 1 or m.compress_type not in methods:
            raise BadInput(f"{path}: {shown} is encrypted or compressed in a way that is not read")
        most = m.compress_size * (DEFLATE_SHARE if m.compress_type else 1)
        if m.file_size > most:
            raise BadInput(f"{path}: {shown} declares {m.file_size} bytes and stores {m.compress_size}")
        names.add(m.filename)
        end = m.header_offset + HEADER_BYTES + m.compress_size
    return found
