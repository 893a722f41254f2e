"""A NIR file in SpikingJelly's reader: what the last node puts out in every step."""

from __future__ import annotations

import sys

import nir
import numpy as np
import torch
from spikingjelly.activation_based.nir_exchange import import_from_nir

torch.set_default_dtype(torch.float64)
graph, samples, out = sys.argv[1:4]
net = import_from_nir(nir.read(graph), dt=float(sys.argv[5])).double()
x, state, steps = torch.tensor(np.load(samples)["x"], dtype=torch.float64), None, []
with torch.no_grad():
    for _ in range(int(sys.argv[4])):
        y, state = net(x) if state is None else net(x, state)
        steps.append(y.numpy().copy())
np.savez(out, y=np.stack(steps, axis=1))
