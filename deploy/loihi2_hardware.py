"""The ``loihi2`` target: a Loihi 2 board, reached through Intel's extension of Lava for Loihi (INRC members only).

Without the extension, Lava itself ends in a NameError deep in its compiler and, without SLURM, in a FileNotFoundError;
so what is missing is found out first, without importing Lava.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from importlib.util import find_spec
from typing import NoReturn

from snnergy.deploy import lava_compat
from snnergy.errors import MissingPart

EXTENSION = "lava.utils.loihi2_profiler"
"""A module that only the extension brings; Lava tells by it too."""
SIMULATE = "use --target loihi2-sim, which runs the same fixed-point models here"
TIMEOUT_S = 10.0


def board() -> str:
    """The board that a run would use: the host that NXSDKHOST names, or an idle node of SLURM.

    Raises MissingPart, naming the first thing that is missing: Lava, the extension, or a board.
    """
    if lava_compat.installed() is None:
        raise _missing("Lava, which is not installed")
    if find_spec(EXTENSION) is None:
        raise _missing("Intel's extension of Lava for Loihi (lava-loihi), which is not installed")
    host = os.environ.get("NXSDKHOST")
    if host:
        return host
    if shutil.which("sinfo") is None:
        raise _missing("a board: NXSDKHOST is not set, and SLURM (sinfo) is not installed")
    nodes = _nodes()
    idle = sorted(name for name, state in nodes.items() if state.startswith("idle"))
    if not idle:
        raise _missing(f"a board: SLURM lists {len(nodes)}, none of them idle")
    return idle[0]


def run() -> NoReturn:
    """Raise MissingPart: what keeps this machine from a board or, where nothing does, that this version stops here."""
    raise MissingPart(f"board '{board()}' is there, but this version runs no network on a board; {SIMULATE}")


def _missing(what: str) -> MissingPart:
    return MissingPart(f"target 'loihi2' needs {what}; {SIMULATE}")


def _nodes() -> dict[str, str]:
    """State by node, from ``sinfo -N``, whose columns are NODELIST NODES PARTITION STATE; empty where SLURM fails."""
    try:
        listing = subprocess.run(["sinfo", "-N"], capture_output=True, text=True, check=True, timeout=TIMEOUT_S)
    except (subprocess.SubprocessError, OSError):
        return {}
    rows = [line.split() for line in listing.stdout.splitlines()[1:]]
    return {row[0]: row[3] for row in rows if len(row) >= 4}
