"""Write ``docs/report.schema.json`` from what ``report_file`` demands, or with ``--check`` fail where it differs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from snnergy.deploy import report_file as shapes
from snnergy.files import write_text

FILE = Path(__file__).with_name("report.schema.json")
_TEXT = {"type": "string", "maxLength": shapes.MAX_TEXT}
_NULL = {"type": "null"}
WORDS: dict[str, dict[str, Any]] = {
    shapes.TEXT[1]: _TEXT,
    shapes.NUMBER[1]: {"type": "number", "minimum": 0, "maximum": shapes.MOST},
    shapes.COUNT[1]: {"type": "integer", "minimum": 0},
    shapes.SIDE[1]: {"type": "integer", "minimum": 1, "maximum": shapes.MAX_SEATS},
    shapes.SHARE[1]: {"anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, _NULL]},
    shapes.MAYBE_TEXT[1]: {"anyOf": [_TEXT, _NULL]},
    shapes.MAYBE_COUNT[1]: {"type": ["integer", "null"]},
    shapes.UNIT[1]: {"enum": ["pJ", "ns", "J s"]},
}
"""What a check wants, in its own words -> the same in JSON Schema."""


def schema(shape: Any) -> dict[str, Any]:
    """Of one shape of ``report_file``."""
    if isinstance(shape, shapes.Maybe):
        return {"anyOf": [schema(shape.shape), _NULL]}
    if isinstance(shape, tuple):
        return WORDS[shape[1]]
    if isinstance(shape, list):
        return {"type": "array", "items": schema(shape[0])}
    properties = {key: schema(value) for key, value in shape.items() if key != "*"}
    rest = schema(shape["*"]) if "*" in shape else True
    return {"type": "object", "required": list(properties), "properties": properties, "additionalProperties": rest}


def document() -> str:
    """The whole file."""
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "snnergy deploy --json",
        "description": "What the commands that read a report need of it; it holds more. Energies in pJ and times in ns "
        "per inference, as docs/energy.md defines them; every number is an estimate.",
    }
    whole = schema(shapes.SHAPE)
    whole["properties"] = {"schema": {"const": shapes.SCHEMA}, **whole["properties"]}
    return json.dumps({**head, **whole, "required": ["schema", *whole["required"]]}, indent=1) + "\n"


def main() -> None:
    if "--check" not in sys.argv[1:]:
        write_text(FILE, document())
    elif not FILE.exists() or FILE.read_text(encoding="utf-8") != document():
        sys.exit(f"error: {FILE.name} is out of date\nhelp: python docs/schemas.py")


if __name__ == "__main__":
    main()
