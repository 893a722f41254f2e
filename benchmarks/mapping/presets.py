"""SNNergy's own presets: ``chip`` on one Loihi 2, ``paper`` checked, mapped and placed over a board of them.

    python benchmarks/mapping/presets.py [--json]

The models are untrained: their shapes are those of the trained ones, and no activity is run. Every command is the one
that a user would give, in a process of its own, whose time on the wall and largest resident size are taken; reading the
file and starting Python are in it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BOARDS = {"chip": "oheo-gulch", "paper": "alia-point"}
LIMITS = {"check_s": 5.0, "map_s": 120.0, "peak_gib": 8.0}
"""Of ``paper``."""


def export(name: str, path: Path) -> None:
    """The preset as a .nir file."""
    from snnergy import config, model
    from snnergy.export import from_torch, nir_file

    preset = config.preset(name)
    size = (1, preset.image_size, preset.image_size)
    graph = from_torch.to_nir(model.SNNergy(preset), {"audio": size, "video": size}, 1e-4, preset.timesteps)
    nir_file.describe(graph, nir_file.Provenance(steps=preset.timesteps))
    nir_file.write(graph, path)


def timed(*words: str) -> tuple[dict[str, Any], int, float, float]:
    """A snnergy command's JSON, its exit code, seconds, and GiB of its largest resident size."""
    began = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-c", "from snnergy.cli import main; main()", *words, "--json"], stdout=subprocess.PIPE
    )
    out = child.stdout.read() if child.stdout else b""
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - began
    unit = 1 if sys.platform == "darwin" else 1024
    return json.loads(out) if out else {}, child.returncode, seconds, usage.ru_maxrss * unit / 2**30


def measure(name: str, folder: Path) -> dict[str, Any]:
    path, board = folder / f"{name}.nir", BOARDS[name]
    if not os.fork():  # what torch takes is not the mapper's
        export(name, path)
        os._exit(0)
    os.wait()
    checked, code, check_s, check_gib = timed("check", str(path), "--target", board)
    found, mapped, map_s, map_gib = timed("map", str(path), "--target", board, "--profile-activity", "0")
    place = found.get("placement", {})
    return {
        "preset": name,
        "board": board,
        "neurons": checked["neurons"],
        "synapses": checked["synapses"],
        "fits": code == mapped == 0,
        "chips": place.get("chips"),
        "cores": place.get("cores"),
        "check_s": round(check_s, 2),
        "map_s": round(map_s, 1),
        "peak_gib": round(max(check_gib, map_gib), 2),
    }


def faults(rows: list[dict[str, Any]]) -> list[str]:
    """What does not hold."""
    found = [f"{row['preset']} does not fit {row['board']}" for row in rows if not row["fits"]]
    paper = next(row for row in rows if row["preset"] == "paper")
    found += [
        f"paper: {name} is {paper[name]}, {most:g} is allowed" for name, most in LIMITS.items() if paper[name] > most
    ]
    chips = next(row["chips"] for row in rows if row["preset"] == "chip")
    return found + ([f"chip takes {chips} chips"] if chips != 1 else [])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one document and nothing else")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(name, Path(folder)) for name in BOARDS]
    found = {"rows": rows, "faults": faults(rows)}
    if chosen.json:
        print(json.dumps(found, indent=1))
    else:
        for row in rows:
            print(", ".join(f"{name} {value}" for name, value in row.items()))
        print("\n".join(found["faults"]))
    return 1 if found["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
