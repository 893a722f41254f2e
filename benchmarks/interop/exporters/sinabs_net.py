"""sinabs' exporter beside sinabs' neurons."""

from __future__ import annotations

from typing import Any

import sinabs.activation as act
import sinabs.layers as sl
import torch
from common import STEPS, main, thresholds, weights
from sinabs.nir import to_nir
from torch import nn


def linear(out: int, into: int, seed: int) -> nn.Linear:
    layer = nn.Linear(into, out)
    layer.weight.data = torch.tensor(weights((out, into), seed)).float()
    layer.bias.data = torch.tensor(weights((out, 1), seed + 1)[:, 0] * 0.1).float()
    return layer


def lif(shape: tuple[int, ...], seed: int, **settings: Any) -> Any:
    return sl.LIFSqueeze(tau_mem=torch.full(shape, 4.0), spike_threshold=torch.tensor(thresholds(shape, seed)).float(),
                         spike_fn=act.SingleSpike, norm_input=False, batch_size=1, **settings)  # fmt: skip


def iaf(shape: tuple[int, ...], seed: int) -> Any:
    return sl.IAFSqueeze(
        spike_threshold=torch.tensor(thresholds(shape, seed)).float(), spike_fn=act.SingleSpike, batch_size=1
    )


def run(net: Any, x: Any) -> Any:
    found = []
    with torch.no_grad():
        for one in torch.tensor(x).float():
            for layer in net:
                if hasattr(layer, "reset_states"):
                    layer.reset_states()
            found.append(net(one.unsqueeze(0).expand(STEPS, *one.shape)))
        graph = to_nir(net, torch.tensor(x[:1]).float())
    return graph, torch.stack(found).numpy()


def fc(make: Any) -> Any:
    return lambda x: run(nn.Sequential(linear(24, 12, 1), make((24,), 2), linear(8, 24, 3), make((8,), 4)), x)


if __name__ == "__main__":
    main(
        ("sinabs", "nirtorch", "torch"),
        {
            "fc, LIF": ((12,), fc(lif)),
            "fc, LIF, reset to 0": ((12,), fc(lambda shape, seed: lif(shape, seed, reset_fn=act.MembraneReset()))),
            "fc, IAF": ((12,), fc(iaf)),
        },
    )
