"""The network one step at a time: for streams that have no end, and for state that is kept and taken up again."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnergy.deploy.activity import Run
from snnergy.deploy.engine import run, train
from snnergy.deploy.layers import Space, ready
from snnergy.errors import BadInput
from snnergy.export.quantnet import QuantNet

U8 = NDArray[np.uint8]


class Simulator:
    """``for frame in stream: out = sim.step(frame)``: what ``engine.run`` gives at that step, without an end.

    Nothing is reset between steps; ``reset`` begins a new sample. Time is the network's own: the zero-delay result in
    the step of the frame, without the latency that a chip's pipeline adds.
    """

    def __init__(self, net: QuantNet, samples: int = 1) -> None:
        if samples < 1:
            raise BadInput(f"{samples} samples side by side; at least 1 is needed")
        self.net, self.samples = net, samples
        self._layers = ready(net)
        self._shapes = {n.name: n.shape for n in (*net.sources, *net.populations)}
        self._longest = dict.fromkeys(self._shapes, 0)
        for e in net.projections:
            self._longest[e.source] = max(self._longest[e.source], e.delay)
        self.reset()

    def reset(self) -> None:
        """Every neuron at rest, no spike under way, step 0."""
        self.steps_done = 0
        self._space = Space()
        self._neurons = {
            p.name: self._space.neurons(self._layers, p, self.samples, 1, False, False)
            for part in self._layers.parts
            for p in part
        }
        self._sent = {
            name: deque([np.zeros((self.samples, prod(shape)), np.uint8)] * (kept + 1), kept + 1)
            for (name, shape), kept in zip(self._shapes.items(), self._longest.values(), strict=True)
        }  # the newest first

    def step(self, frame: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """One time step. frame: source -> integers [samples, *shape] (or [*shape] of one sample).

        Returns, for each output, uint8[samples, *shape] spikes of this step or int32[samples, *shape] membranes.
        Raises BadInput for a frame of the wrong shape or range; the state is then as before.
        """
        arrived = {s.name: self._frame(s.name, frame) for s in self.net.sources}
        for name, x in arrived.items():
            self._sent[name].appendleft(x)
        pending = set(self._neurons)
        for name, neurons in self._neurons.items():
            neurons.fresh = True
            for s in self._layers.synapses[name]:
                back = s.delay - (s.source in pending)  # its newest spikes are those of the step before
                s.add(self._sent[s.source][back], neurons.current[:, 0], neurons.fresh)
                neurons.fresh = False
            neurons.step(0, 1)
            self._sent[name].appendleft(neurons.out[:, 0].copy())
            pending.remove(name)
        self.steps_done += 1
        return {name: self._read(name) for name in self.net.outputs}

    def _frame(self, name: str, frame: Mapping[str, NDArray[Any]]) -> U8:
        shape, wanted = np.shape(frame.get(name, ())), (self.samples, *self._shapes[name])
        if name in frame and shape != wanted and not (self.samples == 1 and shape == wanted[1:]):
            raise BadInput(f"frame '{name}' has shape {list(shape)}; {list(wanted)} is needed")
        x = {k: np.asarray(v).reshape(wanted) if k == name else v for k, v in frame.items()}
        return self._layers.inside(name, train(self.net, name, x)[:, 0].astype(np.uint8))

    def _read(self, name: str) -> NDArray[Any]:
        neurons = self._neurons[name]
        values = neurons.out[:, 0] if neurons.spiking else neurons.v
        return self._layers.outside(name, values).reshape(self.samples, *self._shapes[name]).copy()

    def state(self) -> dict[str, NDArray[Any]]:
        """All that the next step depends on, as arrays that ``np.savez`` can keep."""
        kept: dict[str, NDArray[Any]] = {"steps_done": np.array(self.steps_done)}
        for name, sent in self._sent.items():
            kept[f"{name}/sent"] = np.stack([self._layers.outside(name, x) for x in sent])
        for name, neurons in self._neurons.items():
            kept[f"{name}/current"] = self._layers.outside(name, neurons.u).copy()
            kept[f"{name}/membrane"] = self._layers.outside(name, neurons.v).copy()
        return kept

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what ``state`` gave for the same network and number of samples, else BadInput."""
        own = self.state()
        wrong = [k for k, x in own.items() if k not in state or state[k].shape != x.shape or state[k].dtype != x.dtype]
        if wrong or len(state) != len(own):
            raise BadInput(f"this state is of another network or number of samples; see '{min([*wrong, *state])}'")
        self.steps_done = int(state["steps_done"])
        for name, sent in self._sent.items():
            sent.extendleft(self._layers.inside(name, x) for x in state[f"{name}/sent"][::-1])
        for name, neurons in self._neurons.items():
            neurons.u[:] = self._layers.inside(name, state[f"{name}/current"])
            neurons.v[:] = self._layers.inside(name, state[f"{name}/membrane"])


def simulate(net: QuantNet, spikes: Mapping[str, NDArray[Any]] | NDArray[Any], **options: Any) -> Run:
    """Run samples from rest; the API of ``engine.run``, and one array is enough where there is one source.

    spikes: source -> integers [samples, *shape] or [samples, steps, *shape]; options: record, states, threads, progress
    """
    if not isinstance(spikes, Mapping):
        if len(net.sources) != 1:
            raise BadInput(
                f"the network reads {', '.join(s.name for s in net.sources)}; pass one array for each, by name"
            )
        spikes = {net.sources[0].name: spikes}
    return run(net, spikes, **options)
