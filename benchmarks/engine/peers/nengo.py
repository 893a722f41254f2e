"""nengo's core simulator with the neuron written as a nengo neuron type; connections without a filter."""

from __future__ import annotations

from typing import Any, ClassVar

import nengo
import numpy as np
from nengo.dists import Choice

from peers import measure


class CurrentLif(nengo.neurons.NeuronType):
    """The step of the benchmark, in place on numpy arrays."""

    spiking = True
    state: ClassVar[dict[str, Any]] = {"current": Choice([0]), "membrane": Choice([0])}

    def __init__(self, threshold: float, keep_u: float, keep_v: float) -> None:
        super().__init__()
        self.threshold, self.keep_u, self.keep_v = threshold, keep_u, keep_v

    def max_rates_intercepts(self, gain: Any, bias: Any) -> tuple[Any, Any]:
        """What nengo would find by running the neurons; nothing here uses it."""
        return np.ones_like(gain), np.zeros_like(gain)

    def step(self, dt: float, J: Any, output: Any, current: Any, membrane: Any) -> None:
        current *= self.keep_u
        current += J
        membrane *= self.keep_v
        membrane += current
        output[...] = membrane > self.threshold
        membrane[output > 0] = 0


def build(work: measure.Work, batch: int) -> measure.Ready:
    steps, x = work.x.shape[1], work.x[0].reshape(work.x.shape[1], -1).astype(float)
    with nengo.Network(seed=0) as network:
        before: Any = nengo.Node(lambda t: x[(round(t) - 1) % steps], size_out=x.shape[1])
        shape, layers = work.x.shape[2:], []
        for w, threshold, after in zip(work.weights, work.thresholds, work.shapes, strict=True):
            n = int(np.prod(after))
            cells = nengo.Ensemble(
                n, 1, gain=np.ones(n), bias=np.zeros(n), neuron_type=CurrentLif(threshold, work.keep_u, work.keep_v)
            ).neurons
            if w.ndim == 4:
                transform: Any = nengo.Convolution(
                    len(w), shape, kernel_size=w.shape[2:], init=w.transpose(2, 3, 1, 0), channels_last=False
                )
            else:
                transform = w
            nengo.Connection(before, cells, transform=transform, synapse=None)
            layers.append(cells)
            before, shape = cells, after
        probe = nengo.Probe(before)
    simulator = nengo.Simulator(network, dt=1.0, progress_bar=False, optimize=True)
    outputs = [simulator.model.sig[cells]["out"] for cells in layers]

    def run(rates: list[float] | None) -> Any:
        simulator.reset()
        simulator.clear_probes()
        if rates is None:
            simulator.run_steps(steps, progress_bar=False)
        else:
            fired = np.zeros(len(layers))
            for _ in range(steps):
                simulator.step()
                fired += [float(simulator.signals[out].mean()) for out in outputs]
            rates += (fired / steps).tolist()
        return simulator.data[probe][None]

    return measure.Ready(run, close=simulator.close)


if __name__ == "__main__":
    measure.main("nengo", build, ("nengo",), batches=False)
