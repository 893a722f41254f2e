# %% [markdown]
# # From SpikingJelly to a chip
# Needs: spikingjelly, nirtorch; then snnergy, in the same environment or another.

# %% The network, as one has it
import torch
from spikingjelly.activation_based import neuron
from spikingjelly.activation_based.nir_exchange import export_to_nir

torch.manual_seed(0)
net = torch.nn.Sequential(
    torch.nn.Conv2d(2, 8, 3, stride=2, padding=1),
    neuron.LIFNode(tau=2.0, v_threshold=0.1),
    torch.nn.Flatten(),
    torch.nn.Linear(8 * 8 * 8, 10),
    neuron.LIFNode(tau=2.0, v_threshold=0.1),
)

# %% NIR. SpikingJelly fires at the threshold, NIR above it: --convention spikingjelly
export_to_nir(net, torch.zeros(1, 2, 16, 16), save_path="spikingjelly_network.nir", dt=1e-4)

# %% The chip. In a shell:
#     snnergy verify spikingjelly_network.nir --convention spikingjelly --steps 25 --input random:0.3
#     snnergy deploy spikingjelly_network.nir --convention spikingjelly --steps 25 --input random:0.3 --html report.html
print("wrote spikingjelly_network.nir: --convention spikingjelly")
