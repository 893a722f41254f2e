# %% [markdown]
# # From spyx to a chip
# Needs: spyx; then snnergy, in the same environment or another.

# %% The network, as one has it
import nir
import numpy as np
import spyx
import spyx.nn as snn
from flax import nnx

rngs = nnx.Rngs(0)
net = snn.Sequential(
    nnx.Linear(64, 32, rngs=rngs), snn.LIF((32,), beta=0.75, threshold=0.5, rngs=rngs),
    nnx.Linear(32, 10, rngs=rngs), snn.LIF((10,), beta=0.75, threshold=0.5, rngs=rngs),
)  # fmt: skip

# %% NIR, at a time step of 0.1 ms
nir.write("spyx_network.nir", spyx.nir.to_nir(net, {"input": np.array([64])}, {"output": np.array([10])}, dt=1e-4))

# %% The chip. In a shell:
#     snnergy verify spyx_network.nir --convention spyx --dt 1e-4 --steps 25 --input random:0.3
#     snnergy deploy spyx_network.nir --convention spyx --dt 1e-4 --steps 25 --input random:0.3 --html report.html
print("wrote spyx_network.nir: --convention spyx --dt 1e-4")
