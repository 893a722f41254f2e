# %% [markdown]
# # From norse to a chip
# Needs: norse, nirtorch; then snnergy, in the same environment or another.

# %% The network, as one has it
import nir
import norse.torch as norse
import torch
from norse.torch.functional.lif_box import LIFBoxParameters

torch.manual_seed(0)


def lif(n: int) -> norse.LIFBoxCell:
    """The exporter wants a value for every neuron."""
    full = torch.ones(n)
    return norse.LIFBoxCell(LIFBoxParameters(tau_mem_inv=200.0 * full, v_leak=0 * full, v_th=0.05 * full))


net = norse.SequentialState(torch.nn.Linear(64, 32), lif(32), torch.nn.Linear(32, 10), lif(10))

# %% NIR. The exporter takes the shape of the sample as that of the input, so the sample has no batch axis
nir.write("norse_network.nir", norse.to_nir(net, torch.zeros(64)))

# %% The chip. norse 1.1.0 writes tau = dt / tau_mem_inv: its step of 1 ms is 1 us in the file, so --dt 1e-6
#     snnergy verify norse_network.nir --convention nir --dt 1e-6 --steps 25 --input random:0.3
#     snnergy deploy norse_network.nir --convention nir --dt 1e-6 --steps 25 --input random:0.3 --html report.html
print("wrote norse_network.nir: --convention nir --dt 1e-6")
