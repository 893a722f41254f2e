"""spikingjelly's CUBALIFNode in multi-step mode: layer after layer, each over all steps."""

from __future__ import annotations

from spikingjelly.activation_based.neuron.lif_variants import CUBALIFNode

from peers import measure
from peers.torch_network import Step, all_at_once


def neurons(threshold: float, keep_u: float, keep_v: float) -> Step:
    node = CUBALIFNode(c_decay=keep_u, v_decay=keep_v, v_threshold=threshold, v_reset=0.0)
    node.step_mode = "m"
    return node


def build(work: measure.Work, batch: int) -> measure.Ready:
    return all_at_once(work, lambda: [neurons(t, work.keep_u, work.keep_v) for t in work.thresholds])


if __name__ == "__main__":
    measure.main("spikingjelly", build, ("spikingjelly", "torch"))
