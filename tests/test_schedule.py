import itertools
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import pytest
from builders import DT_S, SMALL, population, quantnet, random_quantnet, readout, samples, spiking_model
from hypothesis import given, settings
from hypothesis import strategies as st

from snnergy.deploy import engine
from snnergy.deploy.schedule import Schedule, balance, slots, verify
from snnergy.errors import UnsupportedLayer
from snnergy.export.from_torch import to_nir
from snnergy.export.lower import lower
from snnergy.export.maps import Dense
from snnergy.export.quantize import quantize
from snnergy.export.quantnet import QuantNet, QuantProjection, QuantSource


def delayed_run(net: QuantNet, schedule: Schedule, inputs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Hardware's time: a spike of step g arrives at g + 1 + delay; samples follow each other without a gap.

    A population is reset, for sample k, at ``depth + k * steps``; until then the pipeline fills and biases run.
    Returns the spikes of every population [samples, steps, n] as seen from its depth, and the readouts' last membranes.
    """
    steps, count = net.steps, len(next(iter(inputs.values())))
    size = {n.name: prod(n.shape) for n in (*net.sources, *net.populations)}
    end = count * steps + max(schedule.depth.values())
    sent = {name: np.zeros((end, n), np.int64) for name, n in size.items()}
    for s in net.sources:
        for k, t in itertools.product(range(count), range(steps)):
            x = np.asarray(inputs[s.name][k])
            sent[s.name][k * steps + t] = (x if x.shape == s.shape else x[t]).ravel()
    matrix = {id(e): e.map.matrix().toarray().astype(np.int64) for e in net.projections}
    v = {p.name: np.zeros(size[p.name], np.int64) for p in net.populations}
    membranes = {p.name: np.zeros((end, size[p.name]), np.int64) for p in net.populations}
    for now in range(end):
        for p in net.populations:
            if now >= schedule.depth[p.name] and (now - schedule.depth[p.name]) % steps == 0:
                v[p.name] = v[p.name] * 0
            a = np.zeros(size[p.name], np.int64)
            for e, delay in zip(net.projections, schedule.delays, strict=True):
                then = now - 1 - delay
                if e.target == p.name and then >= 0:
                    total = matrix[id(e)] @ sent[e.source][then]
                    a += total * 2**e.exponent if e.exponent >= 0 else total // 2**-e.exponent
            kept = v[p.name] * (4096 - p.decay)
            u = np.sign(kept) * (abs(kept) // 4096) + a * 64 + p.bias
            fires = (u > p.threshold * 64) & p.spiking
            sent[p.name][now], v[p.name], membranes[p.name][now] = fires, np.where(fires, 0, u), u
    seen = {
        p.name: sent[p.name][schedule.depth[p.name] :][: count * steps].reshape(count, steps, -1)
        for p in net.populations
    }
    last = {
        p.name: membranes[p.name][schedule.depth[p.name] + steps - 1 :: steps][:count]
        for p in net.populations
        if not p.spiking
    }
    return seen, last


def differences(net: QuantNet, schedule: Schedule, inputs: dict[str, Any]) -> int:
    names = tuple(p.name for p in net.populations)
    ours = engine.run(net, inputs, record=names)
    seen, last = delayed_run(net, schedule, inputs)
    wrong = sum(int((ours.recorded[name] != seen[name]).sum()) for name in names)
    return wrong + sum(int((ours.outputs[name] != last[name]).sum()) for name in last)


@settings(max_examples=60)
@given(st.integers(0, 2**32))
def test_balanced_delays_give_the_zero_delay_trains(seed: int) -> None:
    net, inputs = random_quantnet(seed)
    assert differences(net, balance(net), inputs) == 0


def test_unbalanced_delays_do_not() -> None:
    found = 0
    for seed in range(30):
        net, inputs = random_quantnet(seed)
        schedule = balance(net)
        if any(schedule.delays):
            found += differences(net, replace(schedule, delays=(0,) * len(schedule.delays)), inputs) > 0
    assert found >= 10


def test_a_wrong_reset_offset_is_seen() -> None:
    net, inputs = random_quantnet(3)
    schedule = balance(net)
    shifted = replace(schedule, depth={name: depth + (depth > 0) for name, depth in schedule.depth.items()})
    assert differences(net, shifted, inputs) > 0


def test_a_whole_network_runs_pipelined() -> None:
    shapes = dict.fromkeys(("audio", "video"), (1, 16, 16))
    net = quantize(lower(to_nir(spiking_model(), shapes, DT_S, SMALL.timesteps), DT_S), SMALL.timesteps)
    encoded = net.encode(samples(3, 16))
    schedule = balance(net)
    assert differences(net, schedule, encoded) == 0
    assert differences(net, replace(schedule, delays=(0,) * len(schedule.delays)), encoded) > 0


# what the schedule costs


def wires(*edges: Any, size: dict[str, int]) -> QuantNet:
    """edges: (source, target) or (source, target, delay)"""
    sources = [QuantSource(name, (n,), 1, 1.0) for name, n in size.items() if name.startswith("x")]
    populations = [population(name, (n,)) for name, n in size.items() if not name.startswith("x")]
    projections = [
        QuantProjection(a, b, Dense(np.ones((size[b], size[a]), np.int8), (size[a],), (size[b],)), 0, *delay)
        for a, b, *delay in edges
    ]
    return quantnet(sources, populations, projections, 2)


@st.composite
def small_dags(draw: st.DrawFn) -> QuantNet:
    names = ["x", *"abcd"[: draw(st.integers(2, 4))]]
    size = {name: draw(st.integers(1, 5)) for name in names}
    edges = []
    for k, target in enumerate(names[1:], 1):
        feeds = [n for n in names[:k] if draw(st.booleans())] or [names[k - 1]]
        edges += [(feed, target) for feed in feeds]
    return wires(*edges, size=size)


def longest(net: QuantNet) -> dict[str, int]:
    depth = {s.name: 0 for s in net.sources}
    for p in net.populations:
        depth[p.name] = 1 + max((depth[e.source] for e in net.projections if e.target == p.name), default=0)
    return depth


@given(small_dags())
def test_no_other_schedule_of_that_latency_is_cheaper(net: QuantNet) -> None:
    last = max(longest(net).values())
    best = None
    for depths in itertools.product(range(1, last + 1), repeat=len(net.populations)):
        depth = {"x": 0} | {p.name: d for p, d in zip(net.populations, depths, strict=True)}
        delays = tuple(depth[e.target] - depth[e.source] - 1 for e in net.projections)
        if min(delays) >= 0:
            cost = slots(net, Schedule(depth, delays))
            best = cost if best is None else min(best, cost)
    assert slots(net, balance(net)) == best


@given(st.integers(0, 2**32))
def test_latency_is_the_longest_path(seed: int) -> None:
    net, _ = random_quantnet(seed)
    schedule = balance(net)
    verify(net, schedule)
    assert max(schedule.depth.values()) == max(longest(net).values())
    assert all(isinstance(d, int) for d in (*schedule.depth.values(), *schedule.delays))


def test_a_skip_is_delayed_at_its_smaller_end() -> None:
    net = wires(("x", "a"), ("a", "b"), ("b", "c"), ("x", "c"), size={"x": 1, "a": 9, "b": 9, "c": 2})
    schedule = balance(net)
    assert (schedule.depth, schedule.delays) == ({"x": 0, "a": 1, "b": 2, "c": 3}, (0, 0, 0, 2))
    assert slots(net, schedule) == 4


def test_a_side_branch_waits_where_waiting_is_cheap() -> None:
    size = {"x": 1, "a": 1, "b": 1, "wide": 9, "thin": 1}
    edges = (("x", "a"), ("a", "b"), ("x", "thin"), ("thin", "wide"), ("b", "wide"))
    schedule = balance(wires(*edges, size=size))
    assert schedule.depth == {"x": 0, "a": 1, "b": 2, "thin": 2, "wide": 3}


def test_populations_without_projections_have_a_depth() -> None:
    net = quantnet([QuantSource("x", (1,), 1, 1.0)], [readout("r", (1,), bias_mantissa=5)], [], 2)
    assert balance(net) == Schedule({"x": 0, "r": 1}, ())


def test_verify_names_the_edge_that_is_late_or_out_of_step() -> None:
    net = wires(("x", "a"), ("a", "b"), size={"x": 1, "a": 1, "b": 1})
    with pytest.raises(AssertionError, match="a -> b would arrive late"):
        verify(net, Schedule({"x": 0, "a": 1, "b": 1}, (0, -1)))
    with pytest.raises(AssertionError, match="a -> b"):
        verify(net, Schedule({"x": 0, "a": 1, "b": 3}, (0, 0)))


# loops and delays of the network's own


def delayed_wires(*edges: tuple[str, str, int]) -> QuantNet:
    return wires(*edges, size=dict.fromkeys(("x", *(e[1] for e in edges)), 1))


def test_a_neuron_that_feeds_itself_needs_no_delay_beyond_its_synapse() -> None:
    net = delayed_wires(("x", "a", 0), ("a", "a", 1))
    assert balance(net) == Schedule({"x": 0, "a": 1}, (0, 0))
    assert balance(delayed_wires(("x", "a", 0), ("a", "a", 3))).delays == (0, 2)


def test_the_delay_of_a_loop_is_shared_with_its_synapses() -> None:
    schedule = balance(delayed_wires(("x", "a", 0), ("a", "b", 0), ("b", "a", 2)))
    assert schedule == Schedule({"x": 0, "a": 1, "b": 2}, (0, 0, 0))


def test_a_delay_of_the_network_shortens_what_the_schedule_adds() -> None:
    edges = (("x", "a", 0), ("a", "b", 0), ("b", "c", 0), ("x", "c", 1))
    assert balance(delayed_wires(*edges)).delays == (0, 0, 0, 3)
    assert balance(delayed_wires(("x", "a", 5), ("a", "b", 0))) == Schedule({"x": 0, "a": 1, "b": 2}, (5, 0))


def test_a_loop_with_less_delay_than_synapses_is_named() -> None:
    with pytest.raises(UnsupportedLayer) as error:
        balance(delayed_wires(("x", "a", 0), ("a", "b", 0), ("b", "a", 1)))
    text = "the loop {} takes a chip 2 steps, one a synapse; the network has less delay"
    assert str(error.value) in (text.format("a -> b -> a"), text.format("b -> a -> b"))


def test_a_schedule_of_another_network_is_refused() -> None:
    net = wires(("x", "a"), ("a", "b"), size={"x": 1, "a": 1, "b": 1})
    for delays in ((0,), (0, 0, 0)):
        wrong = Schedule({"x": 0, "a": 1, "b": 2}, delays)
        with pytest.raises(ValueError, match="zip"):
            verify(net, wrong)
        with pytest.raises(ValueError, match="zip"):
            slots(net, wrong)


def test_slots_are_neurons_times_their_longest_delay() -> None:
    edges = (("x", "a"), ("x", "a"), ("a", "b"), ("x", "b"))
    net = wires(*edges, size={"x": 1, "a": 3, "b": 5})
    assert slots(net, Schedule({}, (2, 1, 0, 4))) == 3 * 2 + 5 * 4
    assert slots(net, Schedule({}, (1, 2, 4, 0))) == 3 * 2 + 5 * 4
    assert Schedule.__dataclass_params__.frozen  # type: ignore[attr-defined]


def test_the_same_loop_is_named_whatever_hangs_on_it() -> None:
    edges = [("x", "a", 0), ("a", "b", 0), ("b", "c", 0), ("c", "a", 2), ("c", "d", 0), ("d", "e", 0)]
    with pytest.raises(UnsupportedLayer) as error:
        balance(wires(*edges, size=dict.fromkeys(("x", "a", "b", "c", "d", "e"), 1)))
    said = str(error.value)
    assert said.endswith(" takes a chip 3 steps, one a synapse; the network has less delay")
    loop = said.removeprefix("the loop ").split(" takes")[0].split(" -> ")
    assert loop[0] == loop[-1] and "->".join(loop[:-1] * 2).count("a->b->c") >= 1 and set(loop) == {"a", "b", "c"}
    assert error.value.help == "give the loop a Delay node, or run it on the native engine alone"
