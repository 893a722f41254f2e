"""The report as one page that needs nothing else: no font, no image, no network, and its script is inside."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from snnergy.deploy.figures import MOST_LAYERS, OP_LABELS, figures, script
from snnergy.deploy.report_text import accuracy_line, spread
from snnergy.deploy.units import PREFIXES, si, span


def html(doc: Mapping[str, Any]) -> str:
    """The page of a document that ``report.document`` made or ``report_file.read`` let through."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}  # BokehJS reads models in the order of their use
    environment.filters.update(si=si, span=span, spread=spread, accuracy_line=accuracy_line)
    template = environment.from_string(Path(__file__).with_name("report.html").read_text(encoding="utf-8"))
    shown = {"labels": OP_LABELS, "prefixes": PREFIXES, "most_layers": MOST_LAYERS}
    return template.render(doc=doc, figures=figures(doc), script=script(), **shown)
