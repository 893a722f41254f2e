# %% [markdown]
# # From sinabs to a chip
# Needs: sinabs, nirtorch; then snnergy, in the same environment or another.

# %% The network, as one has it. Neurons that send one spike a step at most: others have no form on a chip of spikes
import nir
import sinabs.activation as act
import sinabs.layers as sl
import torch
from sinabs.nir import to_nir

torch.manual_seed(0)


def lif(n: int) -> sl.LIFSqueeze:
    """The exporter wants a value for every neuron."""
    return sl.LIFSqueeze(tau_mem=torch.full((n,), 5.0), spike_threshold=torch.full((n,), 0.5),
                         spike_fn=act.SingleSpike, norm_input=False, batch_size=1)  # fmt: skip


net = torch.nn.Sequential(torch.nn.Linear(64, 32), lif(32), torch.nn.Linear(32, 10), lif(10))
with torch.no_grad():
    net(torch.zeros(1, 64))

# %% NIR. Time constants are in steps: --dt 1
nir.write("sinabs_network.nir", to_nir(net, torch.zeros(1, 64)))

# %% The chip. In a shell:
#     snnergy verify sinabs_network.nir --convention sinabs --dt 1 --steps 25 --input random:0.3
#     snnergy deploy sinabs_network.nir --convention sinabs --dt 1 --steps 25 --input random:0.3 --html report.html
print("wrote sinabs_network.nir: --convention sinabs --dt 1")
