"""A graph is stepped as the tool that wrote it steps it: by hand, and beside snntorch itself."""

from __future__ import annotations

from math import exp
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
from builders import DT_S, chain, lif, threshold

from snnergy.deploy.job import from_graph, time_and_convention
from snnergy.errors import BadInput, UnsupportedLayer
from snnergy.export import convention, net_sim, nir_file, nir_sim
from snnergy.export.lower import lower

STEPS = 60


def graph(how: str, tau: float = 4 * DT_S, r: float = 2.0, leak: float = 0.1, level: float = 0.7, reset: float = 0.0):  # type: ignore[no-untyped-def]
    """x -> weight -> LIF."""
    found = chain((3,), nir.Linear(np.array([[0.9, -0.2, 0.4], [0.3, 0.8, 0.1]])),
                  lif((2,), tau=tau, r=r, threshold=level, leak=leak, reset=reset))  # fmt: skip
    convention.put(found, how)
    return found


def by_hand(how: str, x: np.ndarray[Any, Any], tau: float, r: float, leak: float, level: float, reset: float) -> Any:
    """The spikes, from the sentences of the conventions. x: [samples, n], the drive of every step"""
    rule = convention.CONVENTIONS[how]
    share = 1 - exp(-DT_S / tau) if rule.decay == "exact" else DT_S / tau
    out = np.zeros((len(x), STEPS, x.shape[1]))
    for b in range(len(x)):
        for i in range(x.shape[1]):
            v = fired = 0.0
            for t in range(STEPS):
                v = v + share * (leak - v) + (x[b, i] if rule.unit else share * r * x[b, i])
                if rule.reset == "subtract late":
                    v -= level * fired
                fired = float(v >= level if rule.compare == ">=" else v > level)
                if fired and rule.reset == "value":
                    v = reset
                if fired and rule.reset == "subtract":
                    v -= level
                out[b, t, i] = fired
    return out


@pytest.mark.parametrize("how", convention.CONVENTIONS)
@pytest.mark.parametrize("reset", [0.0, 0.3, -0.4])
def test_every_convention_does_what_it_says(how: str, reset: float) -> None:
    found = graph(how, reset=reset)
    x = {"in": np.random.default_rng(0).random((6, 3)) * 2.9}
    drive = x["in"] @ np.array([[0.9, -0.2, 0.4], [0.3, 0.8, 0.1]]).T
    wanted = by_hand(how, drive, 4 * DT_S, 2.0, 0.1, 0.7, reset)
    assert 0.02 < wanted.mean() < 1
    np.testing.assert_array_equal(nir_sim.run(found, x, STEPS, DT_S)["n1"], wanted)
    np.testing.assert_array_equal(net_sim.run(lower(found, DT_S), x, STEPS)["n1"], wanted)


def test_conventions_differ() -> None:
    x = {"in": np.random.default_rng(0).random((6, 3)) * 2.9}
    trains = [net_sim.run(lower(graph(how), DT_S), x, STEPS)["n1"] for how in convention.CONVENTIONS]
    different = {train.tobytes() for train in trains}
    assert len(different) >= len(trains) - 1  # nir and spikingjelly part only where a threshold is met exactly


def test_a_threshold_of_0_that_is_taken_away_leaves_the_membrane_as_it_is() -> None:
    found = graph("subtract", level=0.0, leak=-0.5)
    x = {"in": np.random.default_rng(4).random((6, 3)) * 0.8}
    wanted = nir_sim.run(found, x, STEPS, DT_S)["n1"]
    np.testing.assert_array_equal(net_sim.run(lower(found, DT_S), x, STEPS)["n1"], wanted)
    assert 0 < wanted.mean() < 1 and lower(found, DT_S).populations[0].subtract


def test_a_membrane_at_the_threshold_fires_where_the_convention_says_so() -> None:
    found = chain((1,), threshold((1,), 1.0), nir.IF(np.ones(1), np.ones(1)))
    for how, spikes in (("nir", [0, 1, 0, 1]), ("spikingjelly", [1, 1, 1, 1])):
        convention.put(found, how)
        x = {"in": np.array([[2.0]])}
        for got in (nir_sim.run(found, x, 4, DT_S), net_sim.run(lower(found, DT_S), x, 4)):
            assert got["n1"].ravel().tolist() == spikes


@pytest.mark.parametrize(("reset", "how"), [("subtract", "snntorch"), ("zero", "nir")])
def test_snntorch_s_own_neurons_spike_as_the_convention_says(reset: str, how: str) -> None:
    torch = pytest.importorskip("torch", reason="needs torch")
    snn = pytest.importorskip("snntorch", reason="needs snntorch")
    rng = np.random.default_rng(1)
    beta, level = rng.uniform(0.5, 0.95, 8), rng.uniform(0.5, 1.5, 8)
    weight = rng.normal(0.2, 0.5, (8, 5))
    x = rng.random((7, 5))
    layer = snn.Leaky(beta=torch.tensor(beta), threshold=torch.tensor(level), reset_mechanism=reset)
    membrane = torch.zeros(7, 8, dtype=torch.float64)
    current = torch.tensor(x @ weight.T)
    wanted = []
    for _ in range(STEPS):
        spikes, membrane = layer(current, membrane)
        wanted.append(spikes.detach().numpy())
    tau = DT_S / (1 - beta)
    zero = np.zeros(8)
    nodes = nir.Linear(weight), nir.LIF(tau=tau, r=tau / DT_S, v_leak=zero, v_threshold=level, v_reset=zero)
    found = chain((5,), *nodes)
    convention.put(found, how)
    got = net_sim.run(lower(found, DT_S), {"in": x}, STEPS)["n1"]
    differ = (got != np.stack(wanted, axis=1)).mean()
    assert 0.05 < got.mean() < 0.95 and differ == 0


def test_the_convention_travels_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.nir"
    nir_file.write(graph("subtract"), path)
    back = nir_file.read(path)
    assert convention.is_stated(back) and convention.of(back).name == "subtract"
    assert time_and_convention(back, DT_S, None) == (DT_S, ())
    assert time_and_convention(back, DT_S, "exact")[1] == () and convention.of(back).name == "exact"
    back.metadata[convention.KEY] = "hearsay"
    with pytest.raises(BadInput, match="no convention 'hearsay'; known: nir, subtract, snntorch, "):
        lower(back, DT_S)


def test_what_a_file_does_not_say_is_said() -> None:
    silent = chain((3,), nir.Linear(np.ones((2, 3))), lif((2,)))
    dt_s, lines = time_and_convention(silent, None, None)
    assert dt_s == nir_file.DT_S and len(lines) == 2
    assert "0.0001 s is assumed, --dt" in lines[0] and "assumed: NIR's equations" in lines[1]
    assert time_and_convention(silent, 2e-3, None)[1] == lines[1:]
    gates = chain((3,), nir.Linear(np.ones((2, 3))), threshold((2,), 0.5))
    assert time_and_convention(gates, None, None)[1] == ()
    nir_file.describe(silent, nir_file.Provenance(dt_s=1e-3))
    assert time_and_convention(silent, None, None) == (1e-3, ())


def test_a_gain_of_tau_over_dt_gives_the_time_step_away() -> None:
    told = chain((3,), nir.Linear(np.ones((2, 3))), lif((2,), tau=np.array([4e-3, 9e-3]), r=np.array([4.0, 9.0])))
    dt_s, lines = time_and_convention(told, None, "snntorch")
    assert dt_s == 1e-3 and lines == ("the file names no time step; its r = tau / dt says 0.001 s",)
    for tau, r in ((np.array([4e-3, 9e-3]), 1.0), (np.array([4e-3, 9e-3]), np.array([4.0, 8.0])), (1e-3, 0.5)):
        found = chain((3,), nir.Linear(np.ones((2, 3))), lif((2,), tau=tau, r=r))
        assert convention.implied_dt_s(found) is None
    assert convention.implied_dt_s(chain((3,), threshold((3,), 0.5))) is None


def test_a_neuron_that_forgets_all_cannot_lose_its_threshold_late() -> None:
    with pytest.raises(UnsupportedLayer, match="node 'n1' forgets all in a step") as error:
        lower(graph("snntorch", tau=DT_S), DT_S)
    assert error.value.help == "it needs tau > dt with this --convention"
    plain = lower(graph("subtract", tau=DT_S), DT_S)
    assert plain.populations[0].reset is None


@pytest.mark.parametrize("how", ["subtract", "snntorch", "sinabs"])
def test_what_the_threshold_is_taken_from_is_exact_on_every_engine(how: str) -> None:
    from snnergy.deploy import engine, lava_backend, lava_compat
    from snnergy.testing import reference

    job = from_graph(Path("a.nir"), graph(how), dt_s=DT_S, steps=20)
    assert all(p.programmed and p.subtract for p in job.quant.populations)
    inputs = job.quant.encode({"in": np.random.default_rng(3).random((4, 3))})
    found = engine.run(job.quant, inputs, record=("n1",)).recorded["n1"]
    np.testing.assert_array_equal(found, reference.run(job.quant, inputs).spikes["n1"])
    assert 0 < found.mean() < 1
    if lava_compat.installed():
        on_lava = lava_backend.run(job.quant, inputs, job.schedule, record=("n1",))
        np.testing.assert_array_equal(on_lava.recorded["n1"], found)
