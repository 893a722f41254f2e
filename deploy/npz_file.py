"""``.npz`` inputs: zip archives of ``.npy`` arrays, of which headers and sizes are checked before numbers are read."""

from __future__ import annotations

import warnings
import zipfile
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from snnergy import archive, limits
from snnergy.errors import BadInput, first_line

HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
"""Version 3 names the fields of records, which no input has."""
MAX_AXES = 8


def read(path: Path) -> dict[str, NDArray[Any]]:
    """Every array of the file, by name. Raises BadInput, in one line, for whatever is wrong with it."""
    limits.check_file(path)
    try:
        with limits.memory(path):
            opened = zipfile.ZipFile(path)
        with opened:
            members = archive.members(path, opened, compressed=True)
            with limits.memory(path, sum(m.file_size for m in members)), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return {m.filename.removesuffix(".npy"): _array(path, opened, m) for m in members}
    except BadInput:
        raise
    except Exception as error:  # numpy and zipfile raise many kinds
        raise BadInput(f"{path} is not a .npz of plain arrays: {first_line(error)}") from None


def _array(path: Path, opened: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    where = f"{path}: '{member.filename.removesuffix('.npy')}'"
    with opened.open(member) as stream:
        shape, by_column, dtype, header = _header(stream)
        if dtype.kind not in "biuf":
            raise BadInput(f"{where} holds {dtype}; numbers and booleans are allowed")
        if len(shape) > MAX_AXES or any(n < 0 for n in shape):
            raise BadInput(
                f"{where} has shape {list(shape)[:MAX_AXES]}; at most {MAX_AXES} axes of 0 or more are allowed"
            )
        declared, stored = prod(shape) * dtype.itemsize, member.file_size - header
        if declared != stored:
            raise BadInput(f"{where} declares {declared} bytes of numbers and holds {stored}")
        flat = np.frombuffer(stream.read(declared + 1), dtype)
    return flat.reshape(shape, order="F" if by_column else "C")


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, whether the first axis changes fastest, type, and how many bytes said so."""
    version = npy.read_magic(stream)
    if version not in HEADERS:
        raise ValueError(f"version {version[0]}.{version[1]} of the array format; 1.0 and 2.0 are read")
    shape, by_column, dtype = HEADERS[version](stream)
    return shape, by_column, dtype, stream.tell()
