"""A NIR file in snntorch's reader: what the last node puts out in every step."""

from __future__ import annotations

import sys

import nir
import numpy as np
import torch
from snntorch.import_nir import import_from_nir

graph, samples, out = sys.argv[1:4]
net = import_from_nir(nir.read(graph))
x, found = torch.tensor(np.load(samples)["x"], dtype=torch.float32), []
with torch.no_grad():
    for one in x:
        for module in net.modules():
            if hasattr(module, "reset_mem"):
                module.reset_mem()
        state, steps = None, []
        for _ in range(int(sys.argv[4])):
            y, state = net(one) if state is None else net(one, state)
            steps.append(y.numpy().copy())
        found.append(steps)
np.savez(out, y=np.array(found))
