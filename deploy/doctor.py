"""What is installed here, and the one line that installs what is not."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from snnergy.deploy import lava_compat, loihi2_hardware
from snnergy.errors import MissingPart

CORE = ("click", "h5py", "jinja2", "nir", "numba", "numpy", "rich", "scipy")
TORCH = ("torch", "snntorch")
LAVA = ("lava-nc", "greenlet", "networkx", "asteval")


def installed(package: str) -> str | None:
    """The version of a distribution, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def packages() -> dict[str, str]:
    """Version of everything that can change a number in a report."""
    found = {name: installed(name) for name in (*CORE, *TORCH, *LAVA)}
    return {"python": platform.python_version(), **{name: v for name, v in found.items() if v}}


def examine() -> list[dict[str, Any]]:
    """One row a part: name, version or None, the line that installs it, and whether the tool is whole without it."""
    rows = [_row("python", ".".join(map(str, sys.version_info[:3])), "", True)]
    rows += [_row(name, installed(name), "pip install snnergy", True) for name in CORE]
    rows += [_row(name, installed(name), "pip install 'snnergy[torch]'", True) for name in TORCH]
    rows += [_row("lava-nc", lava_compat.installed(), lava_compat.INSTALL, True)]
    rows += [_row(name, installed(name), "pip install 'snnergy[lava]'", True) for name in LAVA[1:]]
    reason = _no_board()
    rows.append(_row("loihi2 chip", None if reason else loihi2_hardware.board(), reason, False))
    return rows


def _no_board() -> str:
    """Why there is no Loihi 2 here; empty where there is one."""
    try:
        loihi2_hardware.board()
    except MissingPart as error:
        return str(error)
    return ""


def _row(name: str, found: str | None, install: str, wanted: bool) -> dict[str, Any]:
    return {"name": name, "version": found, "install": install, "wanted": wanted}
