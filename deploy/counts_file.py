"""Saved activity: the counters of a run in a ``.npz``, to be priced without network, engine or mapper."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from snnergy.deploy import npz_file
from snnergy.deploy.counts import COUNTERS, Cell, Counts, verify
from snnergy.errors import BadInput, first_line
from snnergy.files import write_bytes

SCHEMA = "snnergy.activity/2"
_NUMBERS = ("samples", "steps", "chips", "cores", "input_bytes", "output_bytes", "depth")
MOST_TEXT = 1 << 24


@dataclass(frozen=True)
class Seat:
    """A core in use, as ``placement.Core`` without its neurons."""

    chip: int
    core: int
    x: int
    y: int
    usage: dict[str, int]


@dataclass(frozen=True, eq=False)
class Saved:
    """Counters, and what a report says of the run that they do not.

    mesh:    of the chip that they were counted on: width, height, cores per router; target: as it was asked for
    cores:   where each sits, in the order of the counts
    network, parts: of ``EnergyReport``; facts: JSON types, fields of ``RunFacts``
    """

    counts: Counts
    mesh: tuple[int, int, int]
    cores: tuple[Seat, ...]
    target: str
    network: dict[str, int]
    parts: dict[str, str]
    facts: dict[str, Any]


def write(path: Path, saved: Saved) -> None:
    """Whole or not at all."""
    counts = saved.counts
    text = {
        "schema": SCHEMA,
        "mesh": list(saved.mesh),
        "target": saved.target,
        "seats": [asdict(seat) for seat in saved.cores],
        "network": saved.network,
        "parts": saved.parts,
        "facts": saved.facts,
        "nodes": list(counts.nodes),
        "link_names": list(counts.link_names),
        **{name: getattr(counts, name) for name in _NUMBERS},
    }
    place = {name: k for k, name in enumerate(counts.nodes)}
    cells = np.array([(c.core, place[c.node], c.neurons) for c in counts.cells], np.int64).reshape(-1, 3)
    encoded = np.frombuffer(json.dumps(text, allow_nan=False).encode(), np.uint8)
    whole = io.BytesIO()
    arrays: dict[str, Any] = {f"by_{name}": counts.by[name] for name in COUNTERS}
    np.savez_compressed(whole, text=encoded, cells=cells, links=counts.links, **arrays)
    write_bytes(path, whole.getvalue())


def read(path: Path) -> Saved:
    """Raises BadInput, in one line, where the file is not one, or its counters could not be of a chip."""
    arrays = npz_file.read(path)
    try:
        text = json.loads(arrays["text"][:MOST_TEXT].tobytes().decode())
        if text["schema"] != SCHEMA:
            raise BadInput(f"{path}: schema is {text['schema']!r:.60}, must be '{SCHEMA}'")
        nodes = tuple(map(str, text["nodes"]))
        counts = Counts(
            nodes=nodes,
            cells=tuple(Cell(int(core), nodes[node], int(n)) for core, node, n in arrays["cells"]),
            by={name: arrays[f"by_{name}"] for name in COUNTERS},
            links=arrays["links"],
            link_names=tuple(map(str, text["link_names"])),
            **{name: int(text[name]) for name in _NUMBERS},
        )
        verify(counts)
        width, height, per_router = map(int, text["mesh"])
        network = {str(k): int(v) for k, v in text["network"].items()}
        parts = {str(k): str(v) for k, v in text["parts"].items()}
        seats = tuple(_seat(row) for row in text["seats"])
        if len(seats) != counts.cores:
            raise BadInput(f"{path} has {len(seats)} seats for {counts.cores} cores")
        return Saved(
            counts, (width, height, per_router), seats, str(text["target"]), network, parts, dict(text["facts"])
        )
    except BadInput:
        raise
    except Exception as error:  # whatever a spoilt file brings about
        raise BadInput(f"{path} is not saved activity: {first_line(error) or type(error).__name__}") from None


def _seat(row: dict[str, Any]) -> Seat:
    usage = {str(k): int(v) for k, v in row["usage"].items()}
    return Seat(int(row["chip"]), int(row["core"]), int(row["x"]), int(row["y"]), usage)
