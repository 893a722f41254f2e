"""SpikingJelly's exporter beside SpikingJelly's neurons."""

from __future__ import annotations

from typing import Any

import torch
from common import STEPS, main, weights
from spikingjelly.activation_based import functional, neuron
from spikingjelly.activation_based.nir_exchange import export_to_nir
from torch import nn

torch.set_default_dtype(torch.float64)


def linear(out: int, into: int, seed: int) -> nn.Linear:
    layer = nn.Linear(into, out)
    layer.weight.data = torch.tensor(weights((out, into), seed))
    layer.bias.data = torch.tensor(weights((out, 1), seed + 1)[:, 0] * 0.1)
    return layer


def run(net: Any, x: Any) -> Any:
    graph = export_to_nir(net, torch.tensor(x[:1]))
    functional.reset_net(net)
    with torch.no_grad():
        return graph, torch.stack([net(torch.tensor(x)) for _ in range(STEPS)], 1).numpy()


def fc(make: Any) -> Any:
    return lambda x: run(nn.Sequential(linear(24, 12, 1), make(), linear(8, 24, 3), make()), x)


def conv(x: Any) -> Any:
    kernel = nn.Conv2d(2, 4, 3, padding=1)
    kernel.weight.data = torch.tensor(weights((4, 2, 3, 3), 5))
    lif = neuron.LIFNode(tau=2.7, decay_input=False, v_threshold=0.71)
    return run(
        nn.Sequential(kernel, lif, nn.Flatten(), linear(8, 144, 7), neuron.LIFNode(tau=2.7, v_threshold=0.13)), x
    )


if __name__ == "__main__":
    main(
        ("spikingjelly", "nirtorch", "torch"),
        {
            "fc, LIFNode": ((12,), fc(lambda: neuron.LIFNode(tau=2.7, v_threshold=0.23))),
            "fc, LIFNode, undecayed input": (
                (12,), fc(lambda: neuron.LIFNode(tau=2.7, decay_input=False, v_threshold=0.71))),
            "fc, LIFNode, v_reset -0.1": ((12,), fc(lambda: neuron.LIFNode(tau=2.7, v_threshold=0.23, v_reset=-0.1))),
            "fc, IFNode": ((12,), fc(lambda: neuron.IFNode(v_threshold=0.83))),
            "conv, LIFNode": ((2, 6, 6), conv),
            "fc, CUBALIFNode": (
                (12,), fc(lambda: neuron.CUBALIFNode(c_decay=0.6, v_decay=0.7, v_threshold=1.3, v_reset=0.0))),
        },
    )  # fmt: skip
