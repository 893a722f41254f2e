# %% [markdown]
# # From snntorch to a chip
# A network of snntorch is written as NIR by snntorch's own exporter, and then asked: is it still the same network, does
# it fit, and what will it cost? Needs: snntorch, nirtorch, snnergy.

# %% The network, as one has it
import snntorch as snn
import torch
from snntorch.export_nir import export_to_nir

torch.manual_seed(0)


def leaky(n: int, **more: bool) -> snn.Leaky:
    """The exporter wants a value for every neuron."""
    full = torch.ones(n)
    return snn.Leaky(beta=0.9 * full, threshold=0.5 * full, init_hidden=True, **more)


net = torch.nn.Sequential(torch.nn.Linear(64, 32), leaky(32), torch.nn.Linear(32, 10), leaky(10, output=True))

# %% NIR. The file does not say that a spike takes the threshold away, which is snntorch's default: we say it below
import nir  # noqa: E402

nir.write("snntorch_network.nir", export_to_nir(net, torch.zeros(1, 64), ignore_dims=[0]))

# %% The chip. In a shell:
#     snnergy verify snntorch_network.nir --convention snntorch --steps 25 --input random:0.3
#     snnergy deploy snntorch_network.nir --convention snntorch --steps 25 --input random:0.3 --html report.html
print("wrote snntorch_network.nir: --convention snntorch")
