"""NeuroBench's names mean here what its harness makes of the same network in PyTorch."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import pytest

from snnergy.deploy import engine
from snnergy.deploy.neurobench import by_form, metrics
from snnergy.deploy.place import place
from snnergy.deploy.price import price
from snnergy.deploy.schedule import balance
from snnergy.export.maps import Conv, Dense, Map, Sparse
from snnergy.export.quantnet import QuantNet, QuantPopulation, QuantProjection, QuantSource
from snnergy.hardware_profiles import load

STEPS, SAMPLES = 6, 5


def population(name: str, shape: tuple[int, ...], threshold: int) -> QuantPopulation:
    """Integrators, whose float membrane is a whole number too."""
    n = prod(shape)
    zero = np.zeros(n, np.int64)
    return QuantPopulation(name, shape, zero, zero + 4096, zero + threshold, zero, 0, True, 1.0)


def network(bits: int = 1) -> tuple[QuantNet, dict[str, np.ndarray[Any, Any]]]:
    rng = np.random.default_rng(3)
    conv = Conv(rng.integers(-3, 5, (4, 2, 3, 3)).astype(np.int8), (2, 8, 8), (2, 2), (1, 1))
    dense = Dense(rng.integers(-2, 4, (10, 64)).astype(np.int8), (64,), (10,))
    net = QuantNet(
        (QuantSource("in", (2, 8, 8), bits, 1.0),),
        (population("conv", conv.output_shape, 5), population("head", (10,), 9)),
        (QuantProjection("in", "conv", conv, 0), QuantProjection("conv", "head", dense, 0)),
        ("head",), 1e-3, STEPS, 8, (),
    )  # fmt: skip
    return net, {"in": rng.integers(0, 2, (SAMPLES, STEPS, 2, 8, 8)).astype(np.uint8) * ((1 << bits) - 1)}


def test_the_harness_says_the_same() -> None:
    torch = pytest.importorskip("torch", reason="needs torch")
    snn = pytest.importorskip("snntorch", reason="needs snntorch")
    harness: Any = pytest.importorskip("neurobench.benchmarks", reason="needs neurobench==2.3.0: pip install --no-deps")
    from neurobench.metrics.static import ConnectionSparsity
    from neurobench.metrics.workload import ActivationSparsity, SynapticOperations
    from neurobench.models import SNNTorchModel

    net, inputs = network()
    conv, dense = (e.map for e in net.projections)
    assert isinstance(conv, Conv) and isinstance(dense, Dense)

    def leaky(threshold: float, last: bool = False) -> Any:
        return snn.Leaky(beta=1.0, threshold=threshold, reset_mechanism="zero", init_hidden=True, output=last)

    model = torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3, stride=2, padding=1, bias=False), leaky(5), torch.nn.Flatten(),
        torch.nn.Linear(64, 10, bias=False), leaky(9, last=True),
    )  # fmt: skip
    model[0].weight.data = torch.tensor(conv.weight, dtype=torch.float32)
    model[3].weight.data = torch.tensor(dense.weight, dtype=torch.float32)
    data = torch.utils.data.TensorDataset(torch.tensor(inputs["in"], dtype=torch.float32), torch.zeros(SAMPLES))
    loader = torch.utils.data.DataLoader(data, batch_size=SAMPLES)
    kinds = [ConnectionSparsity], [ActivationSparsity, SynapticOperations]
    told = harness.Benchmark(SNNTorchModel(model), loader, [], [], list(kinds)).run(quiet=True)
    found = metrics(net, engine.run(net, inputs).activity)
    assert 0 < found["ActivationSparsity"] < 1 and 0 < found["ConnectionSparsity"] < 1
    assert round(found["ConnectionSparsity"], 4) == told["ConnectionSparsity"]
    assert found["ActivationSparsity"] == pytest.approx(told["ActivationSparsity"], rel=1e-12)
    for name, value in told["SynapticOperations"].items():
        assert found["SynapticOperations"][name] == pytest.approx(float(value), rel=1e-6), name


def test_graded_inputs_are_multiplied_and_spikes_are_added() -> None:
    net, inputs = network(bits=8)
    found = metrics(net, engine.run(net, inputs).activity)["SynapticOperations"]
    first = int(
        (inputs["in"] > 0).reshape(-1, 128).sum(axis=0) @ np.asarray((net.projections[0].map.matrix() != 0).sum(axis=0))
    )
    assert found["Effective_MACs"] == first / SAMPLES and found["Effective_ACs"] > 0


@pytest.mark.parametrize("padding", [(0, 0), (1, 1), (2, 1)])
def test_dense_operations_are_all_synapses_there_are(padding: tuple[int, int]) -> None:
    conv = Conv(np.ones((3, 2, 3, 3), np.int8), (2, 7, 9), (2, 1), padding)
    net = QuantNet(
        (QuantSource("in", (2, 7, 9), 1, 1.0),), (population("conv", conv.output_shape, 5),),
        (QuantProjection("in", "conv", conv, 0),), ("conv",), 1e-3, STEPS, 8, (),
    )  # fmt: skip
    run = engine.run(net, {"in": np.ones((1, 2, 7, 9), np.uint8)})
    told = metrics(net, run.activity)["SynapticOperations"]
    assert told["Dense"] == told["Effective_ACs"] == STEPS * conv.matrix().nnz


def test_forms_add_up_to_the_synops_of_the_report() -> None:
    net, inputs = network()
    one = next(e for e in net.projections if e.source == "conv")
    listed: Map = Sparse(one.map.matrix(), one.map.input_shape, one.map.output_shape)
    for linear, form in ((one.map, "dense"), (listed, "sparse")):
        other = QuantNet(
            net.sources, net.populations, (net.projections[0], QuantProjection("conv", "head", linear, 0)),
            net.outputs, net.dt_s, net.steps, 8, (),
        )  # fmt: skip
        activity = engine.run(other, inputs).activity
        found = by_form(other, activity)
        profile, schedule = load("loihi2"), balance(other)
        priced = price(activity, place(other, schedule, profile), other, schedule, profile)
        assert sum(found.values()) == pytest.approx(priced.counters["synops"], rel=1e-12)
        assert found["convolution"] > 0 and found[form] > 0
