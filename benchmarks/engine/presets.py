"""SNNergy's own networks on real samples of AV digits: what one of them costs in time and memory.

    python presets.py tiny --model model.pt        prints one line of JSON
    python presets.py chip                         untrained but lively: random gains, biases and alphas

Without --model, ``tiny`` is trained for two short epochs: its speed does not need more.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from snnergy import data
from snnergy.config import preset
from snnergy.deploy import engine
from snnergy.deploy.count import Counter
from snnergy.deploy.distribution import Meter, joined
from snnergy.deploy.job import Job, prepare
from snnergy.deploy.place import place
from snnergy.export import nir_file
from snnergy.hardware_profiles import load

TESTS = Path(__file__).parents[2] / "tests"


def peak_mib() -> float:
    """Most memory so far; ru_maxrss would count what the parent held when it started this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def trained(name: str, folder: Path) -> Path:
    """A model of the preset: a little training for tiny, random and lively for those too large for that."""
    from snnergy import checkpoint

    path = folder / f"{name}.pt"
    if name == "tiny":
        from snnergy.train import Recipe, train

        train(preset(name), path, seed=0, recipe=Recipe(epochs=2, pairs=256), resume=False)
    else:
        sys.path.insert(0, str(TESTS))
        from builders import lively

        checkpoint.save(path, lively(preset(name)))
    return path


def distribution(job: Job, inputs: dict[str, Any], threads: int | None) -> dict[str, float]:
    """The same run with every sample priced on Loihi 2: its time, and percentiles of the energy over the samples."""
    profile = load("loihi2")
    placement = place(job.quant, job.schedule, profile)
    meter = Meter(Counter(placement, job.quant, job.schedule, profile), profile)
    begin = time.perf_counter()
    run = engine.run(job.quant, inputs, threads=threads, observe=meter.measure)
    took = time.perf_counter() - begin
    energy = joined(run.observed).energy_pj[:, 1] * 1e-6
    percentiles = {f"energy_uj_p{q}": float(np.percentile(energy, q)) for q in (0, 5, 50, 95, 100)}
    return {"cores": len(placement.cores), "priced_seconds": took, **percentiles}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("preset")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--nir", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.nir is None:  # measured in a process that never held torch
        with tempfile.TemporaryDirectory() as folder:
            from snnergy.deploy.export_model import graph_of

            path = options.model or trained(options.preset, Path(folder))
            nir = Path(folder) / "model.nir"
            nir_file.write(graph_of(path)[1], nir)
            sys.exit(subprocess.run([sys.executable, __file__, *sys.argv[1:], "--nir", str(nir)]).returncode)
    begin = time.perf_counter()
    job = prepare(options.nir)
    net = job.quant
    prepared = time.perf_counter() - begin
    samples = data.load("avdigits:test", options.samples, image_size=preset(options.preset).image_size)
    real: dict[str, Any] = {"audio": samples.audio, "video": samples.video}
    inputs = net.encode({s.name: real[s.name] for s in net.sources})
    before = peak_mib()
    one = {name: x[:1] for name, x in inputs.items()}
    begin = time.perf_counter()
    engine.run(net, one)
    first = time.perf_counter() - begin
    begin = time.perf_counter()
    run = engine.run(net, inputs, threads=options.threads)
    took = time.perf_counter() - begin
    energy = distribution(job, inputs, options.threads) if options.preset != "paper" else {}
    count = len(next(iter(inputs.values())))
    neurons = sum(len(p.threshold) for p in net.populations)
    spikes = sum(int(run.activity.spikes[p.name].sum()) for p in net.populations)
    out = {
        "preset": options.preset,
        "model": "given" if options.model else "made here",
        "samples": count,
        "steps": net.steps,
        "neurons": neurons,
        "spikes_per_neuron_step": spikes / (count * net.steps * neurons),
        "prepare_s": prepared,
        "first_s": first,
        "seconds": took,
        "samples_s": count / took,
        "st_s": count * net.steps / took,
        "peak_mib_before": before,
        "peak_mib": peak_mib(),
        **energy,
    }
    print(json.dumps(out))


if __name__ == "__main__":
    main()
