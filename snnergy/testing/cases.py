"""One network, the inputs that matter and why it was kept, in one ``.npz`` file: a saved failure, a regression.

The file holds plain arrays and one JSON text, ``case``, that says what they are. Nothing in it is executed: types come
from a fixed table, and an integer network is verified before it is handed out.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse

from snnergy import archive, files, limits
from snnergy.errors import BadInput, first_line
from snnergy.export import convention, quantnet
from snnergy.export.maps import Conv, Dense, Sparse
from snnergy.export.quantnet import QuantNet, QuantPopulation, QuantProjection, QuantSource

Array = NDArray[Any]
FORMAT = 1
LIMIT_BYTES = 256 << 20
"""Most bytes that the arrays of one file may unpack to."""
INTEGER = (QuantNet, QuantSource, QuantPopulation, QuantProjection, Dense, Conv, Sparse)
NODES = (
    *(nir.Input, nir.Output, nir.Affine, nir.Linear, nir.Conv1d, nir.Conv2d),
    *(nir.Scale, nir.SumPool2d, nir.AvgPool2d, nir.Flatten),
    *(nir.LIF, nir.IF, nir.CubaLIF, nir.LI, nir.I, nir.CubaLI, nir.Threshold, nir.Delay),
)
TYPES: dict[str, type] = {kind.__name__: kind for kind in (*INTEGER, *NODES)}


@dataclass(frozen=True, eq=False)
class Case:
    """inputs: name -> array, for an integer network the integers that are sent to it

    about: what a JSON text can hold. To be a regression test it names its suite (``benchmarks/suites.py``: ``native``,
           ``lava`` or ``nir``, or a relation with its seed), and for a NIR graph steps and dt_s.
    """

    net: QuantNet | nir.NIRGraph
    inputs: dict[str, Array]
    about: dict[str, Any]


def save(path: Path | str, net: QuantNet | nir.NIRGraph, inputs: Mapping[str, Array], about: Mapping[str, Any]) -> None:
    """Write the case, whole or not at all; the same case gives the same bytes. Raises BadInput where it cannot."""
    arrays: list[Array] = []
    body = {
        "format": FORMAT,
        "about": dict(about),
        "net": _graph(net, arrays) if isinstance(net, nir.NIRGraph) else _packed(net, arrays),
        "inputs": _packed(dict(inputs), arrays),
    }
    members: dict[str, Any] = {f"a{k}": x for k, x in enumerate(arrays)}
    members["case"] = np.frombuffer(json.dumps(body).encode(), np.uint8)
    with files.replacing(path) as part, part.open("wb") as stream:
        np.savez_compressed(stream, **members)


def load(path: Path | str) -> Case:
    """Read a case. Raises BadInput for a file that is missing, too large, or not a valid case."""
    try:
        with zipfile.ZipFile(path) as opened, limits.allowing(LIMIT_BYTES):
            size = sum(member.file_size for member in opened.infolist())
            if size > LIMIT_BYTES:
                raise BadInput(f"{path} unpacks to {size} bytes; a case has at most {LIMIT_BYTES}")
            archive.members(Path(path), opened, compressed=True)
        with limits.memory(path, size), np.load(path, allow_pickle=False) as loaded:
            arrays = {name: loaded[name] for name in loaded.files}
        body = json.loads(arrays.pop("case").astype(np.uint8).tobytes())
        if body["format"] != FORMAT:
            raise BadInput(f"{path} is a case of format {body['format']}; this version reads format {FORMAT}")
        net, inputs = _unpacked(body["net"], arrays), _unpacked(body["inputs"], arrays)
        if not isinstance(net, (QuantNet, nir.NIRGraph)):
            raise ValueError("no network")
        if isinstance(net, QuantNet):
            quantnet.verify(net)
        return Case(net, {str(name): np.asarray(x) for name, x in inputs.items()}, dict(body["about"]))
    except BadInput:
        raise
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror or error}") from None
    except Exception as error:  # a damaged archive raises whatever its reader trips over
        raise BadInput(f"{path} is not a saved case: {type(error).__name__} {first_line(error)}") from None


def _packed(value: Any, arrays: list[Array]) -> Any:
    """The value as JSON, with every array put aside under its number."""
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {"array": f"a{len(arrays) - 1}"}
    if issparse(value):
        matrix: Any = csr_array(value)
        parts = [_packed(x, arrays) for x in (matrix.data, matrix.indices, matrix.indptr)]
        return {"csr": [*parts, [int(n) for n in matrix.shape]]}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {"table": {str(key): _packed(x, arrays) for key, x in value.items()}}
    if isinstance(value, (tuple, list)):
        return [_packed(x, arrays) for x in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    kind = type(value).__name__
    if TYPES.get(kind) is not type(value):
        raise BadInput(f"a case cannot hold a {kind}; it holds {', '.join(TYPES)}")
    return {"type": kind, "fields": {f: _packed(getattr(value, f), arrays) for f in _fields(type(value))}}


def _graph(graph: nir.NIRGraph, arrays: list[Array]) -> Any:
    nodes = {name: _packed(node, arrays) for name, node in graph.nodes.items()}
    return {"graph": nodes, "edges": [list(edge) for edge in graph.edges], "metadata": convention.kept(graph)}


def _fields(kind: type) -> list[str]:
    """What the constructor takes, the free-form metadata of NIR's nodes apart."""
    return [f.name for f in fields(kind) if f.init and f.name != "metadata"]


def _unpacked(value: Any, arrays: dict[str, Array]) -> Any:
    if isinstance(value, list):
        return tuple(_unpacked(x, arrays) for x in value)
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return arrays[value["array"]]
    if "csr" in value:
        data, indices, indptr, shape = (_unpacked(x, arrays) for x in value["csr"])
        matrix: Any = csr_array((data, indices, indptr), shape=shape)
        matrix.check_format(full_check=True)
        return matrix
    if "table" in value:
        return {name: _unpacked(x, arrays) for name, x in value["table"].items()}
    if "graph" in value:
        nodes = {name: _unpacked(node, arrays) for name, node in value["graph"].items()}
        edges, about = [(str(a), str(b)) for a, b in value["edges"]], dict(value.get("metadata", {}))
        return nir.NIRGraph(nodes, edges, metadata=about, type_check=False)
    return TYPES[value["type"]](**{name: _unpacked(x, arrays) for name, x in value["fields"].items()})
