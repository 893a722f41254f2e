#!/usr/bin/env python3
"""Other tools' networks, exported by themselves and read by us: do the same neurons spike? docs/nir.md has the table.

    python benchmarks/interop/run.py [--only norse sinabs] [--check]

Every tool is installed into an environment of its own (``.envs``), builds small networks with its own neurons, runs
them in its own simulator and writes them with its own NIR exporter (``exporters/``). Our float reading of the file, by
the convention of the tool, then gets the same inputs; compared is every spike of the last neurons. ``--check`` runs
nothing, and ends with 1 where the page does not say what the results do.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "engine")]
RESULTS, PAGE = HERE.parent / "results" / "interop.json", HERE.parents[1] / "docs" / "nir.md"
PINNED = {
    "snntorch": ((), ("snntorch==1.0.0", "nirtorch==2.6")),
    "spikingjelly": (("scipy==1.17.1", "tqdm==4.67.1", "loguru==0.7.3"), ("spikingjelly==2.0.0", "nirtorch==2.6")),
    "norse": ((), ("norse==1.1.0", "nirtorch==2.6")),
    "sinabs": (("matplotlib==3.11.2", "pbr==7.1.3"), ("sinabs==3.1.3", "nirtorch==2.6")),
}
"""Tool -> what is installed beside torch and nir, and what is installed without asking what it needs."""
READ: dict[str, dict[str, tuple[str, float | None, str]]] = {
    "snntorch": {
        "fc, reset zero": ("nir", None, ""),
        "fc, subtract (its default)": ("snntorch", None, ""),
        "conv, reset zero": ("nir", None, ""),
        "recurrent, RLeaky, subtract (its default)": ("snntorch", 1e-4, ""),
        "recurrent, RLeaky, reset zero": ("nir", 1e-4, "its RLeaky holds the membrane at 0 in the step after a spike, "
                                          "as Synaptic below"),
        "fc, Synaptic, subtract (its default)": ("snntorch", 1e-4, ""),
        "fc, Synaptic, reset zero": ("nir", 1e-4, "its Synaptic holds the membrane at 0 in the step after a spike, "
                                     "whatever arrives; its Leaky, and NIR, do not"),
    },
    "spikingjelly": {
        "fc, LIFNode": ("spikingjelly", 1e-4, ""),
        "fc, LIFNode, undecayed input": ("spikingjelly", None, ""),
        "fc, LIFNode, v_reset -0.1": ("spikingjelly", 1e-4, "its membranes begin at v_reset, those of a graph at 0; it "
                                      "wears off where neurons forget"),
        "fc, IFNode": ("spikingjelly", 1e-4, ""),
        "conv, LIFNode": ("spikingjelly", 1e-4, ""),
        "fc, CUBALIFNode": ("spikingjelly", 1e-4, ""),
    },
    "norse": {
        "fc, LIFBoxCell": ("nir", 1e-6, "norse writes tau = dt / tau_mem_inv where NIR's seconds are 1 / tau_mem_inv: "
                           "its step of 1 ms is 1 us in the file"),
        "fc, IAFCell": ("nir", 1e-3, ""),
        "fc, LIFCell": ("nir", 1e-6, "as above; norse steps the membrane with the current of the step before and adds "
                        "inputs to the current as they are; its exporter writes neither, w_in should be tau_syn / dt"),
        "conv, LIFBoxCell": ("nir", 1e-6, "as above"),
    },
    "sinabs": {
        "fc, LIF": ("sinabs", 1.0, "tau in steps; single-spike neurons"),
        "fc, LIF, reset to 0": ("sinabs-reset", 1.0, "tau in steps; the file does not say that the reset is to 0"),
        "fc, IAF": ("sinabs", 1.0, "float32; the file does not say that the membrane is clamped at -threshold"),
    },
    "spyx": {
        "fc, LIF": ("spyx", 2.0**-13, "its file is float32; every layer sends a step late: two steps in all"),
        "fc, LIF, all layers biased": ("spyx", 2.0**-13, "as above; so the second layer has felt its bias once more"),
    },
}  # fmt: skip
"""Tool -> network -> convention, time step (None: as the file implies), and what there is to explain."""
READERS = ("spikingjelly", "snntorch")
SAMPLES, EPOCHS = 16, 3
LATE = {"spyx": 2}
"""Steps that a tool's spikes come later than ours."""


def python_of(tool: str) -> Path:
    """The interpreter of a tool, made if need be."""
    import environments

    environments.ENVIRONMENTS = HERE / ".envs"
    if tool in PINNED:
        others, alone = PINNED[tool]
        environments.PEERS[tool] = environments.Environment((*environments.TORCH, "nir==1.0.8", *others), alone)
    return environments.python_of(tool)


def read(folder: Path, tool: str, kind: str) -> dict[str, Any]:
    """One cell: how the file was read, how many spikes there were, how many differ."""
    from snnergy.export import convention, net_sim, nir_file, nir_sim
    from snnergy.export.lower import lower

    how, dt_s, note = READ[tool][kind]
    with np.load(folder / f"{kind}.npz") as kept:
        x, wanted = kept["x"], kept["spikes"]
    graph = nir_file.read(folder / f"{kind}.nir")
    convention.put(graph, how)
    dt_s = dt_s or convention.implied_dt_s(graph) or nir_file.DT_S
    steps, (source,) = wanted.shape[1], [n for n, node in graph.nodes.items() if type(node).__name__ == "Input"]
    net = lower(graph, dt_s)
    (output,) = net.outputs
    late = LATE.get(tool, 0)
    wanted = wanted.reshape(*wanted.shape[:2], -1)[:, late:]
    row: dict[str, Any] = {"convention": how, "dt_s": dt_s, "note": note, "spikes": int(wanted.sum())}
    for name, found in (
        ("net", net_sim.run(net, {source: x}, steps)),
        ("nir", nir_sim.run(graph, {source: x}, steps, dt_s)),
    ):
        got = found[output].reshape(*found[output].shape[:2], -1)[:, : wanted.shape[1]]
        row[f"{name}_differ"] = int((got != wanted).sum())
    return {**row, "compared": int(wanted.size)}


def our_network(folder: Path) -> tuple[Path, Any, Any]:
    """SNNergy ``tiny``, briefly trained, as portable NIR; samples of AV digits; its readout in float64."""
    from dataclasses import replace

    from snnergy.config import PRESETS
    from snnergy.deploy.export_model import export_model
    from snnergy.deploy.job import load_inputs, prepare
    from snnergy.export import net_sim
    from snnergy.export.portable import fused
    from snnergy.train import train

    model = folder / "tiny.pt"
    train(replace(PRESETS["tiny"]), model, seed=0, epochs=EPOCHS)
    for name, portable in (("tiny.nir", False), ("portable.nir", True)):
        export_model(model, folder / name, 4, portable=portable)
    job = prepare(folder / "tiny.nir")
    x = load_inputs(job, None, SAMPLES).real
    assert job.graph is not None
    return folder / "portable.nir", fused(job.graph, x), net_sim.run(job.net, x, job.steps)[job.net.outputs[0]]


def readers() -> dict[str, Any]:
    """What other tools make of our portable export."""
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        graph, x, wanted = our_network(folder)
        np.savez(folder / "x.npz", x=x)
        for tool in READERS:
            script = HERE / "readers" / f"{tool}_read.py"
            command = [python_of(tool), script, graph, folder / "x.npz", folder / "y.npz", str(wanted.shape[1]), "1e-4"]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                rows[tool] = {"failed": done.stderr.strip().splitlines()[-1]}
                continue
            with np.load(folder / "y.npz") as kept:
                y = kept["y"].reshape(wanted.shape).cumsum(axis=1)
            off = abs(y - wanted).max(axis=(1, 2)) / abs(wanted).max()
            rows[tool] = {"samples": len(off), "same": int((off < 1e-5).sum()), "off": float(off.max())}
    return rows


def readers_table(found: dict[str, Any]) -> str:
    lines = [
        "| reader | samples | outputs the same in every step | largest difference, relative |",
        "|---|---:|---:|---:|",
    ]
    for tool, row in found.items():
        if "failed" in row:
            lines.append(f"| {tool} | - | - | {row['failed']} |")
        else:
            lines.append(f"| {tool} | {row['samples']} | {row['same']} | {row['off']:.0e} |")
    return "\n".join(lines) + "\n"


def table(found: dict[str, Any]) -> str:
    """For the page."""
    lines = [
        "| tool | network, by its exporter | read with | spikes | differ | remark |",
        "|---|---|---|---:|---:|---|",
    ]
    for tool, of in ((tool, found[tool]) for tool in READ if tool in found):
        versions = ", ".join(f"{name} {version}" for name, version in of["versions"].items() if name == tool)
        for kind, row in of["cells"].items():
            if "failed" in row:
                lines.append(f"| {versions} | {kind} | - | - | - | its exporter: {row['failed']} |")
                continue
            options = f"`--convention {row['convention']} --dt {row['dt_s']:g}`"
            differ = f"{row['net_differ']:,} of {row['compared']:,}"
            lines.append(f"| {versions} | {kind} | {options} | {row['spikes']:,} | {differ} | {row['note']} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    import readme

    from snnergy.files import write_text

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(READ), default=list(READ))
    parser.add_argument("--check", action="store_true", help="run nothing; 1 where the page is out of date")
    options = parser.parse_args()
    found = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    if options.check:
        same = readme.put("interop", table(found), check=True, page=PAGE)
        sys.exit(not (same and readme.put("readers", readers_table(found["readers"]), check=True, page=PAGE)))
    for tool in options.only:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            script = HERE / "exporters" / f"{tool}_net.py"
            done = subprocess.run([python_of(tool), script, folder], cwd=script.parent, capture_output=True, text=True)
            if not (folder / "made.json").exists():
                sys.exit(f"{tool}: {done.stderr.strip()[-800:]}")
            said = json.loads((folder / "made.json").read_text(encoding="utf-8"))
            cells = {
                kind: {"failed": said["failed"][kind]} if kind in said["failed"] else read(folder, tool, kind)
                for kind in READ[tool]
            }
        found[tool] = {"versions": said["versions"], "cells": cells}
    found["readers"] = readers()
    write_text(RESULTS, json.dumps(found, indent=1) + "\n")
    if PAGE.exists():
        readme.put("interop", table(found), page=PAGE)
        readme.put("readers", readers_table(found["readers"]), page=PAGE)
    print(table(found), readers_table(found["readers"]), sep="\n")


if __name__ == "__main__":
    main()
