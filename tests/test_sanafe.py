"""Our side of the SANA-FE benchmark: its chip as a profile, its network as ours, cores by its numbers."""

from __future__ import annotations

import json
import sys
from importlib import util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from snnergy.deploy.place import place
from snnergy.deploy.schedule import balance
from snnergy.hardware_profiles import load


def _loaded() -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks/mapping/sanafe.py"
    spec = util.spec_from_file_location("mapping_sanafe", path)
    assert spec and spec.loader
    module = util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


sanafe: Any = _loaded()

COSTS = {
    "mesh_width_tiles": 3, "mesh_height_tiles": 2, "cores_per_tile": 4, "neurons_per_core": 50,
    "sync_s_by_tiles": {"1": 6e-7, "4": 1.4e-6},
    "hop": {"energy_north_hop": 4.2e-12, "energy_south_hop": 4.2e-12,
            "energy_east_hop": 3e-12, "energy_west_hop": 3e-12},
    "message_in": {"energy_message_in": 0.0, "latency_message_in": 1.6e-8},
    "message_out": {"energy_message_out": 1.11e-10, "latency_message_out": 5.1e-9},
    "soma": {"energy_access_neuron": 5e-11, "latency_access_neuron": 6e-9, "energy_update_neuron": 2e-11,
             "latency_update_neuron": 3e-9, "energy_spike_out": 6.9e-11, "latency_spike_out": 3e-8},
    "synapse": {"energy_process_spike": 3.5e-11, "latency_process_spike": 3.8e-9},
}  # fmt: skip


@pytest.fixture
def exported(tmp_path: Path) -> dict[str, Path]:
    """A network of three layers as sanafe_peer.py writes it: an image, a convolution, a dense layer."""
    paths = {
        name: tmp_path / f"{name}.{end}" for name, end in (("network", "npz"), ("costs", "json"), ("firings", "npz"))
    }
    np.savez(paths["network"], shapes=np.array([(1, 8, 8), (4, 3, 3), (6, 1, 1)]), kernels=[0, 3, 0], strides=[0, 2, 0])
    paths["costs"].write_text(json.dumps(COSTS))
    np.savez(paths["firings"], steps=np.array([0, 0, 1, 9]), neurons=np.array([3, 64, 100, 5]))
    return paths


def test_its_chip_is_a_profile(exported: dict[str, Path], tmp_path: Path) -> None:
    sanafe.write_profile(exported["costs"], tmp_path / "chip.toml")
    profile = load(tmp_path / "chip.toml")
    assert (profile.chip.cores.whole, profile.core.neurons.whole) == (24, 50)
    found = {name: quantity.value for name, quantity in profile.numbers() if name.startswith(("energy", "time"))}
    assert found == pytest.approx(
        {
            "energy_pj.synop": 35, "energy_pj.update_active": 70, "energy_pj.update_idle": 70, "energy_pj.spike": 69,
            "energy_pj.message_out": 111, "energy_pj.message_in": 0, "energy_pj.hop_ew": 3, "energy_pj.hop_ns": 4.2,
            "time_ns.synop": 3.8, "time_ns.update_active": 9, "time_ns.update_idle": 9, "time_ns.spike": 35.1,
            "time_ns.barrier": 1400,
        }
    )  # fmt: skip


def test_its_network_and_its_firings_are_ours(exported: dict[str, Path]) -> None:
    net = sanafe.read_network(exported["network"], 4)
    assert [p.shape for p in net.populations] == [(1, 8, 8), (4, 3, 3), (6,)]
    assert [(e.source, e.target) for e in net.projections] == [
        ("bias", "layer_0"),
        ("layer_0", "layer_1"),
        ("layer_1", "layer_2"),
    ]
    act = sanafe.read_activity(exported["firings"], net)
    assert [int(act.spikes[f"layer_{k}"].sum()) for k in range(3)] == [1, 1, 1]  # the one at step 9 is past the end
    assert act.spikes["layer_1"][0, 0] == act.spikes["layer_2"][1, 0] == 1
    assert not act.spikes["bias"].any() and all(counts.all() for counts in act.active.values())


def test_cores_are_numbered_down_the_columns_of_its_mesh(exported: dict[str, Path], tmp_path: Path) -> None:
    sanafe.write_profile(exported["costs"], tmp_path / "chip.toml")
    profile, net = load(tmp_path / "chip.toml"), sanafe.read_network(exported["network"], 4)
    placed = place(net, balance(net), profile, objective="edp", activity=sanafe.read_activity(exported["firings"], net))
    sanafe.write_mapping(tmp_path / "mapping.npz", net, placed, profile)
    homes = np.load(tmp_path / "mapping.npz")
    for core in placed.cores:
        for s in core.slices:
            at = set(homes[s.population][s.neurons].tolist())
            assert at == {4 * (2 * core.x + core.y) + core.core % 4}
    assert all(homes[f"layer_{k}"].min() >= 0 for k in range(3))
