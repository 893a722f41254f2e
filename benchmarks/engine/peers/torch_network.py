"""The synapses and the walk over time that the torch simulators share; the neurons are each one's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from peers.measure import Ready, Work

Step = Callable[[torch.Tensor], torch.Tensor]


def synapses(work: Work, gain: list[float] | None = None) -> list[torch.nn.Module]:
    """One torch layer each, its weights times ``gain``."""
    found: list[torch.nn.Module] = []
    for k, w in enumerate(work.weights):
        if w.ndim == 4:
            layer: Any = torch.nn.Conv2d(w.shape[1], w.shape[0], w.shape[2:], bias=False)
        else:
            layer = torch.nn.Linear(w.shape[1], w.shape[0], bias=False)
        layer.weight = torch.nn.Parameter(torch.from_numpy(w) * (gain[k] if gain else 1.0), requires_grad=False)
        found.append(layer)
    return found


def flat(x: torch.Tensor, layer: torch.nn.Module, lead: int) -> torch.Tensor:
    """What ``layer`` takes: rows for a matrix."""
    return x.flatten(lead) if isinstance(layer, torch.nn.Linear) else x


def steps_first(work: Work) -> torch.Tensor:
    """The input as float32[steps, batch, *shape]."""
    return torch.from_numpy(work.x).float().transpose(0, 1).contiguous()


def one_by_one(work: Work, fresh: Callable[[], list[Step]], gain: list[float] | None = None) -> Ready:
    """Step after step through all layers. fresh: gives the neurons of each layer, at rest."""
    layers, x = synapses(work, gain), steps_first(work)

    @torch.no_grad()
    def run(rates: list[float] | None) -> Any:
        neurons, out = fresh(), list[torch.Tensor]()
        fired = [0.0] * len(layers)
        for now in x:
            for k, (layer, neuron) in enumerate(zip(layers, neurons, strict=True)):
                now = neuron(layer(flat(now, layer, 1)))
                if rates is not None:
                    fired[k] += float((now > 0).float().mean())
            out.append(now)
        if rates is not None:
            rates += [f / len(x) for f in fired]
        return torch.stack(out, 1).numpy()

    return Ready(run)


def all_at_once(work: Work, fresh: Callable[[], list[Step]], gain: list[float] | None = None) -> Ready:
    """Layer after layer, each over all steps. fresh: gives neurons that take [steps, batch, ...]."""
    layers, x = synapses(work, gain), steps_first(work)

    @torch.no_grad()
    def run(rates: list[float] | None) -> Any:
        now = x
        for layer, neuron in zip(layers, fresh(), strict=True):
            rows = flat(now, layer, 2)
            sums = layer(rows.flatten(0, 1))
            now = neuron(sums.view(*rows.shape[:2], *sums.shape[1:]))
            if rates is not None:
                rates.append(float((now > 0).float().mean()))
        return now.transpose(0, 1).numpy()

    return Ready(run)
