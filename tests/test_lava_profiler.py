"""Code that profiles on a board runs on Lava's simulator, and counts what Lava's own processes sent."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from snnergy.deploy import lava_compat, lava_profiler, loihi2_hardware
from snnergy.deploy.energy import EnergyReport
from snnergy.errors import BadInput, ProfileError, UnsupportedLayer

pytestmark = [
    pytest.mark.lava,
    pytest.mark.skipif(lava_compat.installed() is None, reason="needs lava-nc"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
STEPS = 12


@pytest.fixture(scope="module", autouse=True)
def active() -> None:
    lava_profiler.activate("loihi2-sim")


class Net:
    """16 inputs, 24 neurons that also feed themselves, 5 readers; one image of a convolution if asked for."""

    def __init__(self, conv: bool = False) -> None:
        from lava.proc.conv.process import Conv
        from lava.proc.dense.process import Dense
        from lava.proc.io.sink import RingBuffer as Sink
        from lava.proc.io.source import RingBuffer as Source
        from lava.proc.lif.process import LIF

        rng = np.random.default_rng(0)
        shape = (4, 4, 1) if conv else (16,)
        hidden = (3, 3, 2) if conv else (24,)
        self.data = rng.integers(0, 2, (*shape, STEPS))
        n = int(np.prod(hidden))
        self.source = Source(data=self.data)
        if conv:
            self.kernel = 2 * rng.integers(-3, 9, (2, 2, 2, 1))
            first: Any = Conv(weight=self.kernel, input_shape=shape)
        else:
            self.first = 2 * rng.integers(-3, 9, (24, 16))
            first = Dense(weights=self.first)
        self.hidden = LIF(shape=hidden, du=4095, dv=100, vth=40, name="hidden")
        self.loop, self.second = 2 * rng.integers(-2, 2, (n, n)), 2 * rng.integers(-3, 9, (5, n))
        loop, second = Dense(weights=self.loop), Dense(weights=self.second)
        self.head = LIF(shape=(5,), du=4095, dv=100, vth=40, name="head")
        self.sinks = Sink(shape=hidden, buffer=STEPS), Sink(shape=(5,), buffer=STEPS)
        self.source.s_out.connect(first.s_in)
        first.a_out.connect(self.hidden.a_in)
        flat = self.hidden.s_out.reshape((n,)) if conv else self.hidden.s_out
        flat.connect(second.s_in)
        if not conv:
            self.hidden.s_out.connect(loop.s_in)
            loop.a_out.connect(self.hidden.a_in)
        second.a_out.connect(self.head.a_in)
        self.hidden.s_out.connect(self.sinks[0].a_in)
        self.head.s_out.connect(self.sinks[1].a_in)

    def run(self, config: Any) -> list[np.ndarray[Any, Any]]:
        """Spikes of hidden and head, [n, steps] each, as Lava's own sinks have them."""
        from lava.magma.core.run_conditions import RunSteps

        try:
            self.head.run(condition=RunSteps(num_steps=STEPS), run_cfg=config)
            return [sink.data.get().reshape(-1, STEPS).astype(int) for sink in self.sinks]
        finally:
            self.head.stop()


def of(report: EnergyReport, counter: str) -> int:
    return int(report.counts.by[counter].sum())


def test_the_profiler_of_a_board_counts_what_lava_sent() -> None:
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.utils.profiler import Profiler

    net = Net()
    config = Loihi2SimCfg(select_tag="fixed_pt")
    profiler: Any = Profiler.init(config)
    profiler.execution_time_probe(num_steps=STEPS)
    profiler.energy_probe(num_steps=STEPS)
    activity, memory = profiler.activity_probe(), profiler.memory_probe()
    hidden, head = net.run(config)
    assert hidden.any() and head.any()
    wanted = ((net.first != 0).sum(axis=0) @ net.data).sum() + (
        ((net.loop != 0).sum(axis=0) + (net.second != 0).sum(axis=0)) @ hidden
    ).sum()
    report = profiler.report
    assert of(report, "synops") == wanted == activity.syn_ops.sum()
    assert of(report, "spikes") == hidden.sum() + head.sum()
    assert of(report, "updates_active") + of(report, "updates_idle") == 29 * STEPS == activity.dendrite_updates.sum()
    assert profiler.execution_time.shape == (STEPS,) and (profiler.execution_time > 0).all()
    energy = (profiler.power * profiler.execution_time).sum()
    assert energy == pytest.approx(profiler.energy, rel=1e-9)
    assert profiler.energy == pytest.approx(profiler.static_energy + profiler.dynamic_energy, rel=1e-12)
    assert (profiler.dynamic_power > 0).any() and profiler.num_alloc_chips == 1
    assert list(memory.core_idx) == list(activity.core_idx) and memory.used["neurons"].sum() == 29
    assert (memory.used["neurons"] <= memory.total["neurons"]).all()
    with pytest.raises(AttributeError, match="vddm_power is not modelled"):
        _ = lava_profiler.Loihi2Power().vddm_power


def test_callbacks_of_a_board_work_with_convolutions() -> None:
    from snnergy.deploy.lava_profiler import Loihi2Activity, Loihi2ExecutionTime, Loihi2Power

    config = lava_profiler.activate()
    probes = Loihi2Power(num_steps=STEPS), Loihi2ExecutionTime(), Loihi2Activity()
    net = Net(conv=True)
    hidden, head = net.run(config(select_tag="fixed_pt", callback_fxs=list(probes)))
    power, time, activity = probes
    spikes = net.data.reshape(4, 4, STEPS)
    wanted = sum(
        int(spikes[x + dx, y + dy].sum()) * int((net.kernel[:, dx, dy, 0] != 0).sum())
        for x in range(3) for y in range(3) for dx in range(2) for dy in range(2)
    ) + int(((net.second != 0).sum(axis=0) @ hidden).sum())  # fmt: skip
    assert activity.syn_ops.sum() == wanted
    assert time.avg_time_per_step == pytest.approx(time.execution_time_per_step.mean())
    assert (power.total_power >= power.static_total_power).all()
    assert head.shape == (5, STEPS)


def test_what_cannot_be_counted_is_said_in_one_line() -> None:
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.utils.profiler import Profiler

    with pytest.raises(BadInput, match="nothing was counted; run the processes"):
        _ = Profiler.init(Loihi2SimCfg()).energy  # pyright: ignore
    with pytest.raises(BadInput, match="was not given to a run configuration"):
        _ = lava_profiler.Loihi2ExecutionTime().avg_time_per_step
    with pytest.raises((BadInput, ProfileError)):
        lava_profiler.activate("no-such-chip")
    net = Net()
    odd = net.hidden.s_out.transpose((0,)) if hasattr(net.hidden.s_out, "transpose") else None
    assert odd is not None
    from lava.proc.dense.process import Dense

    extra = Dense(weights=net.second)
    odd.connect(extra.s_in)
    extra.a_out.connect(net.head.a_in)
    sent = {p: np.zeros((STEPS, int(np.prod(p.s_out.shape))), np.int32) for p in (net.source, net.hidden, net.head)}
    with pytest.raises(UnsupportedLayer, match="goes through TransposePort"):
        lava_profiler.network(sent)


def test_no_board_appears_where_there_is_none() -> None:
    from lava.utils import loihi

    assert not loihi.is_installed() and loihi2_hardware.EXTENSION not in sys.modules
