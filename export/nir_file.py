"""``.nir`` files: written whole or not at all, and walked before anything in them is believed.

A NIR file is HDF5, which can point outside itself, declare more data than it holds and contain itself. Nothing is read
from a file until every object in it has been looked at.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import h5py
import nir
import numpy as np

from snnergy.errors import BadInput, first_line
from snnergy.files import replacing

DT_S = 1e-4
"""Time step of a file that names none: the one snntorch, SpikingJelly and the NIR paper use."""
MAX_BYTES = 4 << 30
MAX_OBJECTS = 200_000
MAX_DEPTH = 24
MAX_STEPS = 1 << 20
MAX_DT_S = 1e6
STORED_SHARE = 1100
"""A data set larger than ``SMALL_BYTES`` may declare this many times what it stores; gzip reaches 1032."""
SMALL_BYTES = 64 << 20
KEY = "snnergy"
"""Where our provenance sits in the graph's metadata, as one JSON string. The graph is right without it."""


@dataclass(frozen=True)
class Provenance:
    """What the exporter knew and NIR cannot say. Never needed to run the graph.

    dt_s:  seconds per time step; steps: time steps a sample is presented for; input: a data set specification
    """

    dt_s: float = DT_S
    steps: int | None = None
    input: str | None = None
    scheme: str = "forward Euler"
    reset: str = "to 0, in the step of the spike"
    compare: str = "v > v_threshold"
    model: str | None = None
    version: str | None = None


def provenance(graph: nir.NIRGraph) -> Provenance:
    """The provenance in the graph's metadata; defaults where another tool wrote the graph."""
    raw = (graph.metadata or {}).get(KEY)
    if raw is None:
        return Provenance()
    try:
        known = json.loads(raw if isinstance(raw, str) else raw.decode())
        found = Provenance(**{k: v for k, v in known.items() if k in Provenance.__dataclass_fields__})
    except (TypeError, ValueError, AttributeError, RecursionError):
        found = None
    texts = () if found is None else (found.scheme, found.reset, found.compare)
    maybe = () if found is None else (found.input, found.model, found.version)
    if not (found and all(isinstance(t, str) for t in texts) and all(t is None or isinstance(t, str) for t in maybe)):
        raise BadInput("the graph's snnergy metadata is not what this tool writes; remove or mend it")
    if type(found.dt_s) not in (int, float) or not 0 < found.dt_s < MAX_DT_S:
        raise BadInput(f"the graph's snnergy metadata has dt_s {str(found.dt_s)[:40]}; it must be a number of seconds")
    if found.steps is not None and (type(found.steps) is not int or not 0 < found.steps <= MAX_STEPS):
        got = str(found.steps)[:40]
        raise BadInput(f"the graph's snnergy metadata has steps {got}; it must be a whole number, 1 to {MAX_STEPS}")
    return found


def describe(graph: nir.NIRGraph, about: Provenance) -> None:
    """Put the provenance into the graph's metadata, in place."""
    graph.metadata[KEY] = json.dumps(asdict(about))


def write(graph: nir.NIRGraph, path: Path | str) -> None:
    """Write the graph; a killed run leaves the old file or none."""
    with replacing(path) as part:
        nir.write(part, graph)


def read(path: Path | str) -> nir.NIRGraph:
    """Read a ``.nir`` file from anyone. Raises BadInput, in one line, for whatever is wrong with it."""
    path = Path(path)
    if not path.exists():
        raise BadInput(f"no file {path}")
    if path.is_dir():
        raise BadInput(f"{path} is a folder, not a .nir file")
    if not path.is_file():
        raise BadInput(f"{path} is not a file")
    if not h5py.is_hdf5(path):
        raise BadInput(f"{path} is not a NIR file: it is not HDF5 or is cut short at the front")
    try:
        with h5py.File(path, "r") as file:
            _walk(path, file)
            if "node" not in file:
                raise BadInput(f"{path} is HDF5 but not NIR: it has no group 'node'")
            kind = file.get("node/type")
            named = kind[()] if isinstance(kind, h5py.Dataset) and kind.shape == () else None
            if named not in (b"NIRGraph", None):
                raise BadInput(f"{path} holds a single node of type {str(named)[:40]}, not a graph")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = nir.read(path, type_check=False)
    except BadInput:
        raise
    except (OSError, RuntimeError) as error:
        raise BadInput(f"{path} cannot be read: {first_line(error)}") from None
    except Exception as error:  # nir raises whatever its constructors raise
        raise BadInput(f"{path} is not a NIR graph that nir {nir.version} can read: {first_line(error)}") from None
    if not isinstance(graph, nir.NIRGraph):
        raise BadInput(f"{path} holds a single {type(graph).__name__} node, not a graph")
    _check_values(path, graph)
    return graph


def _walk(path: Path, file: h5py.File) -> None:
    """Visit every object through hard links only, and add up what it declares."""
    seen = {int(h5py.h5o.get_info(file.id).addr)}  # type: ignore[attr-defined]
    total = 0

    def visit(group: h5py.Group, depth: int) -> None:
        nonlocal total
        if depth > MAX_DEPTH:
            raise BadInput(f"{path} nests deeper than {MAX_DEPTH} groups; no NIR graph does")
        for name in group:
            if not str(name).isprintable():
                raise BadInput(f"{path}: the name {str(name)[:80]!r} cannot be printed; rename it")
            where = f"{str(group.name).rstrip('/')}/{name}"
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise BadInput(f"{path}: '{where}' is a link to another place; copy the data into the file")
            item = group[name]
            address = int(h5py.h5o.get_info(item.id).addr)  # type: ignore[attr-defined]
            if address in seen:
                raise BadInput(f"{path}: '{where}' stands in the file twice; a NIR file holds each object once")
            seen.add(address)
            if len(seen) > MAX_OBJECTS:
                raise BadInput(f"{path} holds more than {MAX_OBJECTS} objects; no NIR graph does")
            if isinstance(item, h5py.Group):
                visit(item, depth + 1)
            elif isinstance(item, h5py.Dataset):
                if item.external or item.is_virtual:
                    raise BadInput(f"{path}: '{where}' keeps its data in another file; copy the data into the file")
                if item.dtype.kind not in "fiubSO" or (
                    item.dtype.kind == "O" and not h5py.check_string_dtype(item.dtype)
                ):
                    raise BadInput(
                        f"{path}: '{where}' has type {item.dtype}; numbers, booleans and strings are allowed"
                    )
                declared, stored = int(item.size or 0) * item.dtype.itemsize, int(item.id.get_storage_size())
                total += declared
                if total > MAX_BYTES:
                    raise BadInput(f"{path} declares more than {MAX_BYTES >> 30} GiB of data at '{where}'")
                if declared > max(SMALL_BYTES, STORED_SHARE * stored):
                    raise BadInput(f"{path}: '{where}' declares {declared} bytes and stores {stored}")
            else:
                raise BadInput(f"{path}: '{where}' is neither a group nor a data set")

    visit(file, 0)


def _check_values(path: Path, graph: nir.NIRGraph) -> None:
    for name, node in graph.nodes.items():
        for field, value in vars(node).items():
            if isinstance(value, np.ndarray) and value.dtype.kind == "f" and not np.isfinite(value).all():
                count = int((~np.isfinite(value)).sum())
                raise BadInput(f"{path}: {count} of {value.size} values of '{name}.{field}' are NaN or infinite")
