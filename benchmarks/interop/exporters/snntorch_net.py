"""snntorch's exporter beside snntorch's neurons."""

from __future__ import annotations

from typing import Any

import snntorch as snn
import torch
from common import STEPS, main, thresholds, weights
from snntorch import utils
from snntorch.export_nir import export_to_nir
from torch import nn


def leaky(shape: tuple[int, ...], reset: str, seed: int, last: bool = False) -> Any:
    beta = torch.tensor(0.6 + 0.6 * (thresholds(shape, seed + 50) - 0.31)).float()
    level = torch.tensor(thresholds(shape, seed)).float()
    return snn.Leaky(beta=beta, threshold=level, reset_mechanism=reset, init_hidden=True, output=last)


def linear(out: int, into: int, seed: int) -> nn.Linear:
    layer = nn.Linear(into, out)
    layer.weight.data = torch.tensor(weights((out, into), seed)).float()
    layer.bias.data = torch.tensor(weights((out, 1), seed + 1)[:, 0] * 0.1).float()
    return layer


def run(net: Any, x: Any, shape: tuple[int, ...]) -> Any:
    graph = export_to_nir(net, torch.zeros((1, *shape)), ignore_dims=[0])
    utils.reset(net)
    with torch.no_grad():
        found = [net(torch.tensor(x).float()) for _ in range(STEPS)]
    return graph, torch.stack([y[0] if isinstance(y, tuple) else y for y in found], 1).numpy()


def fc(reset: str) -> Any:
    def make(x: Any) -> Any:
        net = nn.Sequential(
            linear(24, 12, 1), leaky((24,), reset, 2), linear(8, 24, 3), leaky((8,), reset, 4, last=True)
        )
        return run(net, x, (12,))

    return make


def conv(x: Any) -> Any:
    kernel = nn.Conv2d(2, 4, 3, padding=1)
    kernel.weight.data = torch.tensor(weights((4, 2, 3, 3), 5)).float()
    net = nn.Sequential(
        kernel, leaky((4, 6, 6), "zero", 6), nn.Flatten(), linear(8, 144, 7), leaky((8,), "zero", 8, last=True)
    )
    return run(net, x, (2, 6, 6))


def synaptic(reset: str) -> Any:
    def neuron(n: int, seed: int, last: bool = False) -> Any:
        full = torch.ones(n)
        return snn.Synaptic(alpha=0.7 * full, beta=0.8 * full, threshold=torch.tensor(thresholds((n,), seed)).float(),
                            reset_mechanism=reset, init_hidden=True, output=last)  # fmt: skip

    return lambda x: run(
        nn.Sequential(linear(24, 12, 1), neuron(24, 2), linear(8, 24, 3), neuron(8, 4, True)), x, (12,)
    )


def recurrent(reset: str) -> Any:
    n = 16
    loop = snn.RLeaky(beta=torch.full((n,), 0.8), threshold=torch.tensor(thresholds((n,), 2)).float(), all_to_all=True,
                      linear_features=n, reset_mechanism=reset, init_hidden=True)  # fmt: skip
    loop.recurrent.weight.data = torch.tensor(weights((n, n), 9) - 0.1).float()
    loop.recurrent.bias.data = torch.zeros(n)
    net = nn.Sequential(linear(n, 12, 1), loop, linear(8, n, 3), leaky((8,), reset, 4, last=True))
    return lambda x: run(net, x, (12,))


if __name__ == "__main__":
    main(
        ("snntorch", "nirtorch", "torch"),
        {
            "fc, reset zero": ((12,), fc("zero")),
            "fc, subtract (its default)": ((12,), fc("subtract")),
            "conv, reset zero": ((2, 6, 6), conv),
            "recurrent, RLeaky, subtract (its default)": ((12,), recurrent("subtract")),
            "recurrent, RLeaky, reset zero": ((12,), recurrent("zero")),
            "fc, Synaptic, subtract (its default)": ((12,), synaptic("subtract")),
            "fc, Synaptic, reset zero": ((12,), synaptic("zero")),
        },
    )
