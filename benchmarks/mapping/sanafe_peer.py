"""SANA-FE's side of the mapping benchmark: the DVS-gesture network of its tutorial 5 on its Loihi, under one mapping.

Runs only as a process of its own, in the environment that sanafe.py makes. SANA-FE is GPL-3: nothing of ours imports
it, and what passes between the two are files and one line of JSON. ``python -P`` keeps sanafe.py from being imported
in SANA-FE's place.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from importlib.resources import files
from pathlib import Path

import numpy as np
import sanafe
import sanafe.layers
import sanafe.tutorial
import yaml

TUTORIAL_CORES = (1, 4, 16, 16, 4, 1)
"""Cores per layer in the tutorial: every layer in equal chunks of its flattened, channel-first order."""

CONVOLUTIONS = (("conv1", 2), ("conv2", 1), ("conv3", 1), ("conv4", 1))
"""Weights, [width, height, in, out], and stride of the four convolutions; a dense layer of 11 follows."""


def build() -> tuple[object, object, list, dict[str, np.ndarray]]:
    """SANA-FE's Loihi and the tutorial's network, its layers in order, and the arrays it was built of."""
    chip, net = sanafe.load_loihi(), sanafe.Network()
    with sanafe.tutorial.get_dvs_data() as file:
        arrays = dict(np.load(file))
    thresholds = arrays["thresholds"]
    layers = [sanafe.layers.Input2D(net, 32, 32, threshold=thresholds[0])]
    for (name, stride), threshold in zip(CONVOLUTIONS, thresholds[1:], strict=False):
        layers.append(
            sanafe.layers.Conv2D(
                net, layers[-1], arrays[name], stride_width=stride, stride_height=stride, threshold=threshold
            )
        )
    layers.append(sanafe.layers.Dense(net, layers[-1], 11, arrays["dense1"], threshold=thresholds[5]))
    for neuron, bias in zip(layers[0], arrays["inputs"], strict=True):
        neuron.set_attributes(model_attributes={"bias": bias})
    return chip, net, layers, arrays


def shape_of(layer: object) -> tuple[int, int, int]:
    """Channels, height, width: neuron ``(c * height + y) * width + x``, whatever the docstrings of SANA-FE say."""
    if isinstance(layer, sanafe.layers.Dense):
        return len(layer), 1, 1
    return layer.channels, layer.height, layer.width


def tutorial_mapping(sizes: list[int]) -> list[np.ndarray]:
    """The tutorial's own: equal chunks, the last one takes the remainder."""
    mapping, first = [], 0
    for size, count in zip(sizes, TUTORIAL_CORES, strict=True):
        mapping.append(first + np.minimum(np.arange(size) // (size // count), count - 1))
        first += count
    return mapping


def place(layers: list, chip: object, mapping: list[np.ndarray]) -> None:
    """Cores as given; within a core a neuron comes after those of earlier layers and of lower index."""
    cores = chip.cores()
    for layer, places in zip(layers, mapping, strict=True):
        if len(places) != len(layer):
            sys.exit(f"the mapping names {len(places)} cores for a layer of {len(layer)} neurons")
        for neuron, core in zip(layer, places.tolist(), strict=True):
            neuron.map_to_core(cores[core])


def write_network(path: Path, layers: list, arrays: dict[str, np.ndarray]) -> None:
    """Shapes int[layers, 3], strides and kernels int[layers], thresholds, biases, and weights as [out, in, y, x]."""
    shapes = np.array([shape_of(layer) for layer in layers])
    kernels = [0, *(arrays[name].shape[0] for name, _ in CONVOLUTIONS), 0]
    strides = [0, *(stride for _, stride in CONVOLUTIONS), 0]
    weights = {f"weight_{i}": arrays[name].transpose(3, 2, 1, 0) for i, (name, _) in enumerate(CONVOLUTIONS, 1)}
    weights["weight_5"] = arrays["dense1"].T
    np.savez_compressed(
        path,
        shapes=shapes,
        kernels=kernels,
        strides=strides,
        thresholds=arrays["thresholds"],
        biases=arrays["inputs"],
        **weights,
    )


def costs() -> dict[str, object]:
    """What SANA-FE's Loihi charges, from its own architecture file: joules and seconds per event, and its limits."""
    chip = yaml.safe_load(files("sanafe.examples").joinpath("loihi.yaml").read_text())["architecture"]
    (tile,), mesh = chip["tile"], chip["attributes"]
    (core,) = tile["core"]
    return {
        "mesh_width_tiles": mesh["width"],
        "mesh_height_tiles": mesh["height"],
        "link_buffer_messages": mesh["link_buffer_size"],
        "sync_s_by_tiles": {str(tiles): float(s) for tiles, s in mesh["latency_sync"].items()},
        "cores_per_tile": 4,
        "neurons_per_core": core["attributes"]["max_neurons_supported"],
        "hop": {name: float(value) for name, value in tile["attributes"].items()},
        "message_in": {name: float(value) for name, value in core["axon_in"][0]["attributes"].items()},
        "message_out": {name: float(value) for name, value in core["axon_out"][0]["attributes"].items()},
        **{
            part: {name: float(value) for name, value in core[part][0]["attributes"].items() if name != "model"}
            for part in ("soma", "dendrite", "synapse")
        },
    }


def firings(trace: list, layers: list) -> tuple[np.ndarray, np.ndarray]:
    """Step and neuron, counted through all layers, of every firing of the run."""
    first, start = {}, 0
    for layer in layers:
        first[layer.group.get_name()] = start
        start += len(layer)
    steps = [step for step, fired in enumerate(trace) for _ in fired]
    neurons = [first[address.group_name] + address.neuron_offset for fired in trace for address in fired]
    return np.array(steps, np.int32), np.array(neurons, np.int32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--mapping", type=Path, help=".npz of layer_0, layer_1, ...: core of every neuron")
    parser.add_argument("--timing", choices=("simple", "detailed", "cycle"), default="detailed")
    parser.add_argument("--network", type=Path, help="write the network here (.npz)")
    parser.add_argument("--costs", type=Path, help="write the costs and limits of the chip here (.json)")
    parser.add_argument("--firings", type=Path, help="write step and neuron of every firing here (.npz)")
    parser.add_argument("--step-times", type=Path, help="write seconds, energies and counts of every step here (.npz)")
    args = parser.parse_args()

    line = os.dup(1)  # SANA-FE prints to the standard output of the process
    os.dup2(2, 1)
    began = time.perf_counter()
    chip, net, layers, arrays = build()
    if args.network:
        write_network(args.network, layers, arrays)
    if args.costs:
        args.costs.write_text(json.dumps(costs(), indent=1))
    if args.mapping:
        given = np.load(args.mapping)
        mapping = [given[f"layer_{i}"] for i in range(len(layers))]
    else:
        mapping = tutorial_mapping([len(layer) for layer in layers])
    place(layers, chip, mapping)
    if args.firings:
        for layer in layers:
            for neuron in layer:
                neuron.set_attributes(log_spikes=True)
    loaded = sanafe.SpikingChip(chip)
    loaded.load(net)
    built = time.perf_counter()
    result = loaded.sim(
        args.steps,
        timing_model=args.timing,
        spike_trace=True if args.firings else None,
        perf_trace=True,
    )
    if args.firings:
        steps, neurons = firings(result["spike_trace"], layers)
        np.savez_compressed(args.firings, steps=steps, neurons=neurons)
    trace = {name: np.array(values) for name, values in result["perf_trace"].items()}
    if args.step_times:
        np.savez_compressed(args.step_times, **trace)
    energy = result["energy"]
    row = {
        "steps": args.steps,
        "timing": args.timing,
        "cores": len(np.unique(np.concatenate(mapping))),
        "firings": result["neurons_fired"],
        "updates": result["neurons_updated"],
        "synapse_events": result["spikes"],
        "packets": result["packets_sent"],
        "hops": int(trace["hops"].sum()),
        "energy_j": energy,
        "time_s": result["sim_time"],
        "edp_js": energy["total"] * result["sim_time"],
        "build_wall_s": built - began,
        "run_wall_s": time.perf_counter() - built,
    }
    os.write(line, (json.dumps(row) + "\n").encode())


if __name__ == "__main__":
    main()
