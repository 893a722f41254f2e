"""A network that is integers from the start goes the same way as one that was quantised, and loses nothing more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import random_quantnet
from hypothesis import given
from hypothesis import strategies as st
from test_lava_dl import chain_of_convolutions, written

from snnergy.deploy.deploy_model import deploy
from snnergy.deploy.job import load_inputs, prepare
from snnergy.deploy.map_model import map_model
from snnergy.errors import BadInput
from snnergy.export import net_sim
from snnergy.export.net import verify
from snnergy.export.quantize import layer_errors
from snnergy.export.real import real
from snnergy.testing import reference
from snnergy.testing.strategies import quantnets

SHARED = Path(__file__).parents[2] / "shared" / "cases" / "pilotnet-lif-loihi2" / "network.net"


@given(quantnets())
def test_nothing_is_lost_on_the_way_to_real_numbers(drawn: Any) -> None:
    quant, _ = drawn
    net = real(quant)
    verify(net)
    for row in layer_errors(net, quant):
        assert row.weight_rms == row.bias == row.threshold == row.decay == 0
    for p, q in zip(net.populations, quant.populations, strict=True):
        assert p.spiking == q.spiking and (p.reset is not None) == q.programmed and p.subtract == q.subtract


@given(st.integers(0, 2**32))
def test_where_the_chip_does_not_round_both_spike_alike(seed: int) -> None:
    """Whole decays: nothing is truncated, so real numbers and integers are the same network."""
    from dataclasses import replace

    quant, _ = random_quantnet(seed % 50)
    whole = tuple(
        replace(p, decay=np.where(p.decay > 2048, 4096, 0), current_decay=np.full_like(p.current_decay, 4096))
        for p in quant.populations
    )
    edges = tuple(replace(e, exponent=max(e.exponent, 0)) for e in quant.projections)
    quant = replace(quant, populations=whole, projections=edges)
    rng = np.random.default_rng(seed)
    x = {s.name: rng.integers(0, 2, (2, *s.shape)) for s in quant.sources}
    trace = reference.run(quant, x)
    if trace.edges["wrap"] or trace.edges["saturation"] or trace.edges["saturation below"] or trace.edges["wrap below"]:
        return
    floats = {s.name: x[s.name] / s.scale for s in quant.sources}
    found = net_sim.run(real(quant), floats, quant.steps)
    for p in quant.populations:
        if p.spiking:
            near = trace.edges["tie"] + trace.edges["tie at 0"]  # a tie of integers may fall either way in float64
            assert near or np.array_equal(found[p.name], trace.spikes[p.name]), p.name


def test_a_net_file_is_mapped_and_deployed(tmp_path: Path) -> None:
    path = written(tmp_path / "a.net", chain_of_convolutions(np.random.default_rng(0)))
    done = deploy(path, "loihi2-sim", samples=3, cross_check=2, spec="random:0.3", steps=8)
    assert done.equal and done.document["counters"]["spikes"] > 0
    assert not any("rounded" in line for line in done.document["lossy"])
    json.dumps(done.document, allow_nan=False)
    assert map_model(path, "loihi2-sim", spec="random:0.3", steps=8)["placement"]["cores"] >= 1
    job = prepare(path, steps=8)
    x = load_inputs(job, "random:0.3", 4).real
    assert set(np.unique(job.quant.encode(x)[job.quant.sources[0].name])) == {0, 1}


def test_what_a_net_file_does_not_take_is_one_line(tmp_path: Path) -> None:
    path = written(tmp_path / "a.net", chain_of_convolutions(np.random.default_rng(0)))
    with pytest.raises(BadInput, match="does not record how many time steps"):
        prepare(path)
    with pytest.raises(BadInput, match=r"steps as Lava does; --convention is of \.nir files"):
        prepare(path, steps=4, convention="nir")


@pytest.mark.skipif(not SHARED.exists(), reason="the published PilotNet (shared/cases) is not here")
def test_pilotnet_deploys_from_its_own_file() -> None:
    done = deploy(SHARED, "loihi2-sim", samples=1, cross_check=0, spec="random:0.05", steps=4)
    assert done.document["network"]["neurons"] == 158509 and done.document["placement"]["chips"] == 1
