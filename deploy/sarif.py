"""Violations as SARIF 2.1.0 (OASIS, 2020), which code review and editors show beside the file."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from snnergy import __version__
from snnergy.deploy.check_model import Checked
from snnergy.deploy.rules import RULES, Finding, title

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def document(checked: Checked) -> str:
    """The log as JSON text: one run, every rule, one result a violation of a target."""
    uri = checked.path.as_uri() if checked.path.is_absolute() else quote(checked.path.as_posix())
    results = [_result(v.target, f, uri) for v in checked.verdicts for f in v.violations]
    for v in checked.verdicts:
        if v.placed and v.placed.reason is not None:
            message = {"text": f"{v.target}: not placed: {v.placed.reason}"}
            results.append({"message": message, "level": "error", "locations": [_location(uri)]})
    run = {
        "tool": {"driver": {"name": "snnergy check", "version": __version__, "rules": [_rule(r) for r in RULES]}},
        "artifacts": [{"location": {"uri": uri}}],
        "results": results,
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, allow_nan=False) + "\n"


def _rule(rule: Any) -> dict[str, Any]:
    says = " ".join((rule.__doc__ or "").split())
    return {
        "id": rule.__name__,
        "name": title(rule.__name__),
        "shortDescription": {"text": says},
        "defaultConfiguration": {"level": "error"},
    }


def _result(target: str, f: Finding, uri: str) -> dict[str, Any]:
    return {
        "ruleId": f.rule,
        "ruleIndex": [rule.__name__ for rule in RULES].index(f.rule),
        "level": "error",
        "message": {"text": f"{target}: {f}"},
        "locations": [_location(uri, f.population)],
        "properties": {"target": target, "need": f.need, "least": f.least, "have": f.have, "fix": list(f.fix)},
    }


def _location(uri: str, population: str | None = None) -> dict[str, Any]:
    place: dict[str, Any] = {"physicalLocation": {"artifactLocation": {"uri": uri, "index": 0}}}
    if population is not None:
        place["logicalLocations"] = [{"name": population, "kind": "module"}]
    return place
