"""What other ways of counting say of the same network, each with what it leaves out; none is our estimate.

The figure of spiking papers, 0.9 pJ a synop, prices one addition in 45 nm and nothing else; beside a network of
multiplications without memory it decides nothing. So the same arithmetic stands here with memory too, and on devices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, log2, prod
from typing import Any

from snnergy.export.maps import Conv, Dense, Map
from snnergy.export.quantnet import QuantNet

HOROWITZ = "Horowitz, Computing's energy problem, ISSCC 2014, 45 nm, 0.9 V"
KERAS = "KerasSpiking 0.3.1, energy model; devices after Degnan et al. 2015, Davies et al. 2018, Hoeppner et al."
FP32_MAC_PJ, FP32_ADD_PJ, INT8_MAC_PJ = 4.6, 0.9, 0.23
SRAM_PJ = ((8 << 10, 10.0), (32 << 10, 20.0), (float("inf"), 100.0))
"""Memory of so many bytes at most -> pJ to read 64 bits of it, of the same paper; the last is of 1 MB."""
DEVICES: dict[str, tuple[bool, float, float]] = {
    "CPU, Intel i7-4960X": (False, 8.6e3, 8.6e3),
    "GPU, Nvidia Titan Black": (False, 0.3e3, 0.3e3),
    "ARM Cortex-A": (False, 0.9e3, 0.9e3),
    "Loihi": (True, 27.1, 81.0),
    "SpiNNaker": (True, 13.3e3, 26e3),
    "SpiNNaker 2 prototype": (True, 450.0, 2.19e3),
}
"""KerasSpiking's device -> whether only spikes cost, pJ of a synaptic operation, pJ of a neuron update.

Its 27.1 pJ of Loihi is 23.6 pJ and 3.5 ns of the same table added up; kept, because it is what people compare with.
"""


@dataclass(frozen=True)
class Sizes:
    """Of the network as one without time. macs: multiplications of one pass; weight_bytes: of 8-bit weights"""

    macs: int
    weight_bytes: int
    neurons: int
    inputs: int


def sizes(net: QuantNet) -> Sizes:
    """Zero weights and padding are multiplied too, as a dense accelerator does."""

    def macs(linear: Map) -> int:
        if isinstance(linear, Conv):
            return linear.weight.size * prod(linear.output_shape[1:])
        return linear.weight.size if isinstance(linear, Dense) else int(linear.weight.nnz)

    maps = [e.map for e in net.projections]
    stored = sum(m.weight.size if isinstance(m, Conv | Dense) else int(m.weight.nnz) for m in maps)
    neurons = sum(prod(p.shape) for p in net.populations)
    return Sizes(sum(map(macs, maps)), stored, neurons, sum(prod(s.shape) for s in net.sources))


def document(net: QuantNet, counters: Mapping[str, float]) -> dict[str, Any]:
    """counters: per inference, of ``EnergyReport.counters``. Energies in pJ an inference."""
    of, steps = sizes(net), net.steps
    bits = ceil(log2(steps + 1))
    per_word = next(pj for most, pj in SRAM_PJ if of.weight_bytes <= most)
    words = of.weight_bytes / 8 + 2 * (of.neurons + of.inputs) * bits / 64
    updates = counters["updates_active"] + counters["updates_idle"]
    rows = [
        _row("ANN of the same shape, fp32", of.macs * FP32_MAC_PJ, {"macs": of.macs}, HOROWITZ,
             "memory, control, static and host power"),
        _row("ANN of the same shape, int8", of.macs * INT8_MAC_PJ, {"macs": of.macs}, HOROWITZ,
             "memory, control, static and host power"),
        _row(f"quantised ANN, {bits}-bit activations, with memory",
             of.macs * INT8_MAC_PJ * bits / 8 + words * per_word, {"macs": of.macs, "words_64_bit": words},
             f"{HOROWITZ}; as many levels as {steps} steps can count; multiplication taken as linear in bits (assumed)",
             "control, static and host power; every weight is read once, activations are written and read once"),
        _row("SNN as papers count it, 0.9 pJ a synop", counters["synops"] * FP32_ADD_PJ,
             {"synops": counters["synops"]}, HOROWITZ,
             "memory, neuron updates, messages, control, static and host power"),
    ]  # fmt: skip
    for name, (spiking, synop_pj, update_pj) in DEVICES.items():
        events = counters["synops"] if spiking else float(of.macs * steps)
        cells = updates if spiking else float(of.neurons * steps)
        counts = {"synaptic_operations": events, "updates": cells}
        left = "static and host power, messages" if spiking else "nothing it knows of: every synapse in every step"
        rows.append(_row(f"KerasSpiking: {name}", events * synop_pj + cells * update_pj, counts, KERAS, left))
    return {"rows": rows}


def _row(name: str, energy_pj: float, counts: Mapping[str, float], source: str, leaves_out: str) -> dict[str, Any]:
    return {"name": name, "energy_pj": energy_pj, "counts": dict(counts), "source": source, "leaves_out": leaves_out}
