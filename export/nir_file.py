"""``.nir`` files: written whole or not at all, and walked before anything in them is believed.

A NIR file is HDF5. Nothing is read from one until every object in it has been looked at (``nir_walk``), and nothing is
returned until every value has (``nir_values``).
"""

from __future__ import annotations

import io
import json
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import h5py
import nir

from snnergy import limits
from snnergy.errors import BadInput, first_line
from snnergy.export import nir_values, nir_walk
from snnergy.export.flatten import flat
from snnergy.files import write_bytes

DT_S = 1e-4
"""Time step of a file that names none: the one snntorch, SpikingJelly and the NIR paper use."""
MAX_STEPS = 1 << 16
MIN_DT_S, MAX_DT_S = 1e-12, 1e6
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
    if type(found.dt_s) not in (int, float) or not MIN_DT_S <= found.dt_s <= MAX_DT_S:
        raise BadInput(f"the graph's snnergy metadata has dt_s {str(found.dt_s)[:40]}; it must be a number of seconds")
    if found.steps is not None and (type(found.steps) is not int or not 0 < found.steps <= MAX_STEPS):
        got = str(found.steps)[:40]
        raise BadInput(f"the graph's snnergy metadata has steps {got}; it must be a whole number, 1 to {MAX_STEPS}")
    return found


def describe(graph: nir.NIRGraph, about: Provenance) -> None:
    """Put the provenance into the graph's metadata, in place."""
    graph.metadata[KEY] = json.dumps(asdict(about))


def write(graph: nir.NIRGraph, path: Path | str) -> None:
    """Write the graph, whole or not at all."""
    write_bytes(path, to_bytes(graph))


def to_bytes(graph: nir.NIRGraph) -> memoryview:
    """The file's contents, the same for the same graph. Made in memory, as a full disk leaves HDF5's writer broken."""
    buffer = io.BytesIO()
    nir.write(buffer, graph)  # type: ignore[arg-type]  h5py takes any binary file
    return buffer.getbuffer()


def read(path: Path | str) -> nir.NIRGraph:
    """Read a ``.nir`` file from anyone. Raises BadInput, in one line, for whatever is wrong with it."""
    path = Path(path)
    limits.check_file(path, "is a folder, not a .nir file")
    if not h5py.is_hdf5(path):
        raise BadInput(f"{path} is not a NIR file: it is not HDF5 or is cut short at the front")
    contents = nir_walk.inspect(path, limits.most_unpacked(path.stat().st_size))
    with limits.memory(path, contents):
        graph = _graph(path)
        nir_values.check(path, graph)
        return flat(graph)


def _graph(path: Path) -> nir.NIRGraph:
    """What nir reads from a file that has been inspected."""
    try:
        with h5py.File(path, "r") as file:
            if "node" not in file:
                raise BadInput(f"{path} is HDF5 but not NIR: it has no group 'node'")
            kind = file.get("node/type")
            named = kind[()] if isinstance(kind, h5py.Dataset) and kind.shape == () else None
            if named not in (b"NIRGraph", None):
                raise BadInput(f"{path} holds a single node of type {str(named)[:40]}, not a graph")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = nir.read(path, type_check=False)
    except (BadInput, MemoryError):
        raise
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {first_line(error)}") from None
    except Exception as error:  # nir raises whatever its constructors raise
        raise BadInput(f"{path} is not a NIR graph that nir {nir.version} can read: {first_line(error)}") from None
    if not isinstance(graph, nir.NIRGraph):
        raise BadInput(f"{path} holds a single {type(graph).__name__} node, not a graph")
    return graph
