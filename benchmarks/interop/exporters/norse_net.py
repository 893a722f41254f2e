"""norse's exporter beside norse's neurons."""

from __future__ import annotations

from typing import Any

import norse.torch as norse
import torch
from common import STEPS, main, thresholds, weights
from norse.torch.functional.iaf import IAFParameters
from norse.torch.functional.lif import LIFParameters
from norse.torch.functional.lif_box import LIFBoxParameters
from torch import nn

torch.set_default_dtype(torch.float64)


def linear(out: int, into: int, seed: int) -> nn.Linear:
    layer = nn.Linear(into, out)
    layer.weight.data = torch.tensor(weights((out, into), seed))
    layer.bias.data = torch.tensor(weights((out, 1), seed + 1)[:, 0] * 0.1)
    return layer


def box(shape: tuple[int, ...], seed: int) -> Any:
    full = torch.ones(shape)
    level = torch.tensor(thresholds(shape, seed))
    return norse.LIFBoxCell(LIFBoxParameters(tau_mem_inv=200.0 * full, v_leak=0 * full, v_th=level, v_reset=0 * full))


def iaf(shape: tuple[int, ...], seed: int) -> Any:
    full = torch.ones(shape)
    return norse.IAFCell(IAFParameters(v_th=torch.tensor(thresholds(shape, seed)), v_reset=0 * full))


def cuba(shape: tuple[int, ...], seed: int) -> Any:
    full = torch.ones(shape)
    return norse.LIFCell(LIFParameters(tau_syn_inv=300.0 * full, tau_mem_inv=200.0 * full, v_leak=0 * full,
                                       v_th=torch.tensor(thresholds(shape, seed)), v_reset=0 * full))  # fmt: skip


def run(net: Any, x: Any) -> Any:
    graph = norse.to_nir(net, torch.tensor(x[0]))  # its Input has the shape of the sample
    state, found = None, []
    with torch.no_grad():
        for _ in range(STEPS):
            y, state = net(torch.tensor(x), state)
            found.append(y)
    return graph, torch.stack(found, 1).numpy()


def fc(make: Any) -> Any:
    return lambda x: run(norse.SequentialState(linear(24, 12, 1), make((24,), 2), linear(8, 24, 3), make((8,), 4)), x)


def conv(x: Any) -> Any:
    kernel = nn.Conv2d(2, 4, 3, padding=1)
    kernel.weight.data = torch.tensor(weights((4, 2, 3, 3), 5))
    last = nn.Conv2d(4, 3, 3)  # its exporter has no Flatten
    last.weight.data = torch.tensor(weights((3, 4, 3, 3), 7))
    return run(norse.SequentialState(kernel, box((4, 6, 6), 6), last, box((3, 4, 4), 8)), x)


if __name__ == "__main__":
    main(
        ("norse", "nirtorch", "torch"),
        {
            "fc, LIFBoxCell": ((12,), fc(box)),
            "fc, IAFCell": ((12,), fc(iaf)),
            "fc, LIFCell": ((12,), fc(cuba)),
            "conv, LIFBoxCell": ((2, 6, 6), conv),
        },
    )
