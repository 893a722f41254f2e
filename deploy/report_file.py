"""Reading ``report.json``: bounded, strict JSON of the shape that the views show, so that they need not look again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snnergy import limits
from snnergy.errors import BadInput, first_line

SCHEMA = "snnergy.report/2"
MAX_FILE_BYTES = 32 << 20
"""A report of ten thousand cores takes a quarter of it."""
MAX_TEXT = 2000
MAX_DIGITS = 18
MAX_SEATS = 1 << 18
"""Cores that the map of the chips is drawn with."""
MOST = 1e30
"""Above every number of a report, in whatever unit."""

Check = Callable[[Any], bool]
_Shape = Any
"""A Check and what it wants, Maybe, ``[shape]``, or a dict of the keys that must be there; "*" is any other."""


@dataclass(frozen=True)
class Maybe:
    """Null, or of this shape."""

    shape: _Shape


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_TEXT and value.isprintable()


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -MOST <= value <= MOST


TEXT = (_is_text, "printable text")
NUMBER = (lambda v: _is_number(v) and v >= 0, "a number, 0 or more")
COUNT = (lambda v: type(v) is int and v >= 0, "a whole number, 0 or more")
SIDE = (lambda v: type(v) is int and 1 <= v <= MAX_SEATS, f"a whole number, 1 to {MAX_SEATS}")
SHARE = (lambda v: v is None or (_is_number(v) and 0 <= v <= 1), "a number from 0 to 1, or null")
MAYBE_TEXT = (lambda v: v is None or _is_text(v), "printable text, or null")
MAYBE_COUNT = (lambda v: v is None or type(v) is int, "a whole number, or null")
UNIT = (lambda v: v in ("pJ", "ns", "J s"), "pJ, ns or J s")

_ENDS: _Shape = {"low": NUMBER, "nominal": NUMBER, "high": NUMBER}
_INTERVAL: _Shape = {**_ENDS, "unit": UNIT}
_COUNTERS = ("synops", "updates", "spikes", "messages", "hops")
_ROW: _Shape = {
    "neurons": COUNT,
    **dict.fromkeys(_COUNTERS, NUMBER),
    "energy_pj": {"total": NUMBER, "low": NUMBER, "high": NUMBER},
}
_SPREAD: _Shape = {**dict.fromkeys(("p0", "p5", "p50", "p95", "p100"), NUMBER), "unit": UNIT}
_DRAWN: _Shape = {**dict.fromkeys(("p5", "p50", "p95", "mean"), NUMBER), "unit": UNIT}
_DISTRIBUTION: _Shape = {
    **dict.fromkeys(("energy", "dynamic", "latency"), _SPREAD),
    "classes": [{"label": MAYBE_COUNT, "samples": COUNT, "energy": _SPREAD, "latency": _SPREAD}],
    "parts": [{"name": TEXT, "energy": _SPREAD}],
    "costliest": [{"sample": COUNT, "energy_pj": NUMBER, "latency_ns": NUMBER}],
    "histogram": {"low_pj": NUMBER, "high_pj": NUMBER, "samples": [COUNT]},
}
SHAPE: _Shape = {
    "statement": (lambda v: _is_text(v) and v != "", "printable text"),
    **dict.fromkeys(("tool", "target", "target_title", "engine"), TEXT),
    "samples": COUNT,
    "timesteps": COUNT,
    "accuracy": SHARE,
    "accuracy_before_quantisation": SHARE,
    "weight_bits": COUNT,
    "cross_check": MAYBE_TEXT,
    "network": {"neurons": COUNT, "synapses": COUNT, "*": COUNT},
    "baselines": Maybe({"rows": [{**dict.fromkeys(("name", "source", "leaves_out"), TEXT), "energy_pj": NUMBER}]}),
    "placement": {
        "cores": COUNT,
        **dict.fromkeys(("chips", "cores_per_chip", "mesh_width", "mesh_height", "cores_per_router"), SIDE),
    },
    "energy": dict.fromkeys(("total", "dynamic", "static", "host", "io"), _INTERVAL),
    "operations_pj": {"synops": _ENDS, "*": _ENDS},
    "latency": {**_INTERVAL, "bound_by": TEXT},
    "step": _INTERVAL,
    "edp": _INTERVAL,
    "monte_carlo": {
        "draws": COUNT,
        "seed": MAYBE_COUNT,
        **dict.fromkeys(("total", "dynamic", "latency", "edp"), _DRAWN),
    },
    "evidence": {"grade": TEXT, "rule": TEXT, "shares": {"*": NUMBER}},
    "warnings": [TEXT],
    "distribution": Maybe(_DISTRIBUTION),
    "timeline": {
        "steps": COUNT,
        "step_ns": {end: [NUMBER] for end in ("low", "nominal", "high")},
        "terms_ns": {"*": [NUMBER]},
        "bound_by": [TEXT],
        "cores": Maybe({"synops": [[NUMBER]], "energy_pj": [[NUMBER]]}),
        "left_out": MAYBE_TEXT,
    },
    "raster": Maybe(
        {
            "sample": COUNT,
            "label": MAYBE_COUNT,
            "steps": COUNT,
            "populations": [
                {
                    "name": TEXT,
                    "part": TEXT,
                    **dict.fromkeys(("neurons", "spikes", "every"), COUNT),
                    "events": [[COUNT]],
                }
            ],
        }
    ),
    "power_w": NUMBER,
    "inferences_per_s": NUMBER,
    "counters": dict.fromkeys(("synops", "spikes", "input_bytes", "output_bytes", "padded_slots"), NUMBER),
    "synops_by_form": Maybe({"*": NUMBER}),
    "neurobench": Maybe(
        {
            **dict.fromkeys(("ConnectionSparsity", "ActivationSparsity"), NUMBER),
            "SynapticOperations": dict.fromkeys(("Effective_MACs", "Effective_ACs", "Dense"), NUMBER),
        }
    ),
    "layers": [
        {**dict.fromkeys(("name", "kind", "part"), TEXT), "cores": COUNT, **_ROW, "operations_pj": {"*": _ENDS}}
    ],
    "cores": [{**dict.fromkeys(("chip", "core", "x", "y"), COUNT), "populations": [TEXT], **_ROW}],
    "tornado": [{"constant": TEXT, "low": NUMBER, "high": NUMBER, "range": TEXT}],
    "constants": [
        dict.fromkeys(("key", "unit", "evidence", "source", "note"), TEXT)
        | dict.fromkeys(("value", "low", "high"), NUMBER)
    ],
    "provenance": {"inputs": TEXT, "inputs_sha256": TEXT, "seed": MAYBE_COUNT, "packages": {"*": TEXT}},
    "lossy": [TEXT],
    "unpriced": [TEXT],
    "run": {"seconds": {"*": NUMBER}},
}
"""What the views need. Other keys are let through: a later version may write more."""


def read(path: Path) -> dict[str, Any]:
    """A document written earlier. Raises BadInput where the file is not one, or not whole."""
    try:
        text = limits.read_bytes(path, MAX_FILE_BYTES).decode("utf-8")
        with limits.memory(path, 8 * len(text)):
            data = json.loads(text, object_pairs_hook=_object, parse_constant=_constant, parse_int=_int)
            if not isinstance(data, dict) or data.get("schema") != SCHEMA:
                got = data.get("schema") if isinstance(data, dict) else None
                raise BadInput(f"{path.name}: schema is {repr(got)[:60]}, must be '{SCHEMA}'")
            _check(path.name, data, SHAPE, "")
    except ValueError as error:  # of JSON, of UTF-8, or ours
        raise BadInput(f"{path.name}: cannot be read as JSON: {first_line(error)}") from None
    place = data["placement"]
    seats = place["chips"] * place["mesh_width"] * place["mesh_height"] * place["cores_per_router"]
    if seats > MAX_SEATS:
        raise BadInput(f"{path.name}: the placement has {seats} seats; at most {MAX_SEATS} are drawn")
    return data


def check(file: str, document: dict[str, Any]) -> dict[str, Any]:
    """The document, if it has the shape that the views show; else BadInput, naming the file."""
    _check(file, document, SHAPE, "")
    return document


def _check(file: str, value: Any, shape: _Shape, where: str) -> None:
    if isinstance(shape, Maybe):
        if value is not None:
            _check(file, value, shape.shape, where)
    elif isinstance(shape, tuple):
        good, wanted = shape
        if not good(value):
            raise BadInput(f"{file}: '{where}' is {repr(value)[:60]}, must be {wanted}")
    elif isinstance(shape, list):
        if not isinstance(value, list):
            raise BadInput(f"{file}: '{where}' is {repr(value)[:60]}, must be a list")
        for k, item in enumerate(value):
            _check(file, item, shape[0], f"{where}[{k}]")
    else:
        if not isinstance(value, dict):
            raise BadInput(f"{file}: '{where}' is {repr(value)[:60]}, must be an object")
        for key in shape:
            if key not in value and key != "*":
                raise BadInput(f"{file}: '{where}{'.' if where else ''}{key}' is missing")
        for key in value if "*" in shape else shape:
            if not key.isprintable() or len(key) > MAX_TEXT:
                raise BadInput(f"{file}: the key {repr(key)[:60]} of '{where}' cannot be printed")
            _check(file, value[key], shape.get(key, shape.get("*")), f"{where}.{key}" if where else key)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {repr(twice)[:60]} stands twice in one object")
    return found


def _constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _int(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)
