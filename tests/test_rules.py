"""Every rule has a network that violates it alone and one at the limit that passes; what is proposed does fit."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import random_quantnet
from hypothesis import given
from hypothesis import strategies as st
from mapping import quantity
from scipy.sparse import csr_array

from snnergy.deploy.fanout import fan_in
from snnergy.deploy.fit import check, layers
from snnergy.deploy.rules import RULES, Case, Finding, Trouble, examine, title
from snnergy.deploy.schedule import balance
from snnergy.errors import UnsupportedLayer
from snnergy.export.maps import Conv, Dense, Map, Shape, Sparse
from snnergy.export.net import Net, Population, Projection, Source
from snnergy.hardware_profiles import NAMES, CoreLimits, Profile, Quantity, load

DOCS = Path(__file__).parent.parent / "docs"


@dataclass(frozen=True)
class Core(CoreLimits):
    """A core of a chip that states every limit there is a rule for."""

    fan_in: Quantity | None = None
    reset_steps: Quantity | None = None


PLENTY = {
    **{"neurons": 1000, "synapse_bytes": 10**6, "synapse_word_bytes": 1, "synapse_header_bytes": 0, "in_axons": 1000},
    **{"out_axons": 1000, "groups": 100, "weight_bits": 8, "state_bits": 24, "spike_bits": 8, "max_delay": 100},
    **{"accumulator_slots": 10**6, "fan_in": 10**6, "reset_steps": 1000},
}


def chip(cores: int = 1, chips: int = 1, **limits: int | None) -> Profile:
    """A toy chip with plenty of everything but these; None is not stated."""
    core = {n: None if v is None else quantity(v, v, v) for n, v in {**PLENTY, **limits}.items()}
    base = load("loihi2")
    sizes = {"cores": quantity(cores, cores, cores), "chips_max": quantity(chips, chips, chips)}
    boards = {"pair": quantity(2, 2, 2), "rack": quantity(64, 64, 64)}
    return replace(base, name="toy", core=Core(**core), chip=replace(base.chip, **sizes), boards=boards)  # type: ignore[arg-type]


def net(shapes: dict[str, Shape], *edges: tuple[str, str, Map] | tuple[str, str, Map, int]) -> Net:
    """Sources are the names that nothing feeds."""
    targets = {edge[1] for edge in edges}

    def population(name: str, shape: Shape) -> Population:
        n = prod(shape)
        return Population(name, shape, np.zeros(n), np.zeros(n), np.ones(n), np.zeros(n))

    return Net(
        tuple(Source(n, s) for n, s in shapes.items() if n not in targets),
        tuple(population(n, s) for n, s in shapes.items() if n in targets),
        tuple(Projection(*edge) for edge in edges),
        (list(shapes)[-1],),
        1e-3,
    )


def case(found: Net, profile: Profile, *, steps: int | None = 4, bits: int = 8, chips: int | None = None) -> Case:
    try:
        schedule = balance(found)  # type: ignore[arg-type]
    except UnsupportedLayer:
        schedule = None
    return Case(found, layers(found), schedule, (), steps, bits, profile, chips)


def violations(*args: Any, **settings: Any) -> list[Finding]:
    return [f for f in examine(case(*args, **settings)) if not f.ok]


def dense(before: Any, after: Any) -> Dense:
    before, after = ((n,) if isinstance(n, int) else n for n in (before, after))
    return Dense(np.ones((prod(after), prod(before))), before, after)


def full(inputs: int, outputs: int) -> Net:
    return net({"in": (inputs,), "fc": (outputs,)}, ("in", "fc", dense(inputs, outputs)))


def soft(found: Net) -> Net:
    """Its neurons lose their threshold instead of everything."""
    taken = tuple(replace(p, reset=p.threshold, subtract=True) for p in found.populations)
    return replace(found, populations=taken)


def conv(channels: int = 4, kernel: int = 3, keep: float = 1.0, out: int = 2) -> Net:
    weight = np.ones((out, channels, kernel, kernel))
    count = weight[0].size
    weight.reshape(out, -1)[:, int(count * keep) :] = 0
    linear = Conv(weight, (channels, 9, 9), padding=(kernel // 2, kernel // 2))
    return net({"in": (channels, 9, 9), "conv": linear.output_shape}, ("in", "conv", linear))


def skip(length: int) -> Net:
    """in -> p0 -> p1 -> ... and p0 -> the last: a delay of length - 1 steps."""
    names = ["in", *(f"p{k}" for k in range(length + 1))]
    edges = [(a, b, dense(2, 2)) for a, b in pairwise(names)]
    return net(dict.fromkeys(names, (2,)), *edges, ("p0", names[-1], dense(2, 2)))


def ring(delay: int) -> Net:
    """in -> a -> b -> a, with so many steps of delay in the loop."""
    return net(
        {"in": (2,), "a": (2,), "b": (2,)},
        ("in", "a", dense(2, 2)), ("a", "b", dense(2, 2)), ("b", "a", dense(2, 2), delay),
    )  # fmt: skip


# rule: what violates it and nothing else, what the line says, and the same at the limit
VIOLATED: dict[str, tuple[Callable[[], list[Finding]], str, Callable[[], list[Finding]]]] = {
    "neurons": (
        lambda: violations(full(2, 11), chip(neurons=10)),
        "fc: neurons 11 > 10 of the one core (1.1x): at most 10 neurons, or --target pair, 2 chips",
        lambda: violations(full(2, 10), chip(neurons=10)),
    ),
    "synapse_bytes": (  # 9 lists of 2 synapses; one neuron has 9 lists of 1
        lambda: violations(full(9, 2), chip(synapse_bytes=8, cores=3)),
        "fc: synaptic memory of one neuron 9 > 8 (1.12x): pruning to 88 %",
        lambda: violations(full(9, 1), chip(synapse_bytes=9)),
    ),
    "in_axons": (
        lambda: violations(conv(4, 3), chip(in_axons=30, cores=20)),
        "conv: input axons of one neuron 36 > 30 (1.2x): a kernel of at most 2x2, at most 3 input channels, "
        "or pruning to 83 %",
        lambda: violations(conv(4, 3), chip(in_axons=36, cores=20)),
    ),
    "out_axons": (
        lambda: violations(net({"in": (1,), "a": (5,), "b": (1,)}, ("in", "a", dense(1, 5)), ("a", "b", dense(5, 1))),
                           chip(out_axons=4)),
        "a: output axons 5 > 4 of the one core (1.25x): at most 4 neurons that send, or --target pair, 2 chips",
        lambda: violations(net({"in": (1,), "a": (4,), "b": (1,)}, ("in", "a", dense(1, 4)), ("a", "b", dense(4, 1))),
                           chip(out_axons=4)),
    ),
    "fan_in": (
        lambda: violations(full(5, 2), chip(fan_in=4)),
        "fc: fan-in 5 > 4 (1.25x): at most 4 inputs, or pruning to 80 %",
        lambda: violations(full(4, 2), chip(fan_in=4)),
    ),
    "groups": (
        lambda: violations(skip(2), chip(groups=2)),
        "network: populations 3 > 2 of the one core (1.5x): at most 2 populations, or --target pair, 2 chips",
        lambda: violations(skip(1), chip(groups=2)),
    ),
    "accumulator_slots": (
        lambda: violations(skip(4), chip(accumulator_slots=3, cores=20)),
        "p4: delay slots of one neuron 4 > 3 (1.33x): 1 relay population in the path from p0",
        lambda: violations(skip(3), chip(accumulator_slots=3, cores=20)),
    ),
    "weight_bits": (
        lambda: violations(full(2, 2), chip(weight_bits=7)),
        "network: weight bits 8 > 7 (1.14x): --weight-bits 7, or another chip: loihi1-sim, loihi2-sim, speck-sim, "
        "truenorth-sim",
        lambda: violations(full(2, 2), chip(weight_bits=7), bits=7),
    ),
    "state_bits": (
        lambda: violations(full(2, 2), chip(state_bits=23)),
        "network: state bits 24 > 23 (1.04x): another chip: loihi1-sim, loihi2-sim, spinnaker2-sim",
        lambda: violations(full(2, 2), chip(state_bits=24)),
    ),
    "spike_bits": (
        lambda: violations(full(2, 2), chip(spike_bits=1)),
        "in: payload bits 8 > 1 (8x): encoding it as spikes (--input-bits 1 says that it is), or another chip: "
        "loihi2-sim",
        lambda: violations(full(2, 2), chip(spike_bits=8)),
    ),
    "max_delay": (
        lambda: violations(skip(4), chip(max_delay=1)),
        "p4: longest delay 3 > 1 (3x): 2 relay populations in the path from p0",
        lambda: violations(skip(2), chip(max_delay=1)),
    ),
    "reset_steps": (
        lambda: violations(full(2, 2), chip(reset_steps=3)),
        "network: reset interval 4 > 3 (1.33x): --steps 3",
        lambda: violations(full(2, 2), chip(reset_steps=3), steps=3),
    ),
    "loops": (
        lambda: violations(ring(1), chip()),
        "a: the loop a -> b -> a takes a chip 2 steps and has 1 step of delay (2x): a Delay of 1 step more in it, "
        "or the native engine alone",
        lambda: violations(ring(2), chip()),
    ),
    "programs": (
        lambda: violations(soft(full(2, 2)), replace(chip(), programmable=False)),
        "fc: a spike takes the threshold away, and all neurons of toy reset to 0: training with a reset to 0, "
        "or --target loihi2-sim, whose neurons are programs",
        lambda: violations(soft(full(2, 2)), replace(chip(), programmable=True)),
    ),
    "unsupported": (
        lambda: [f for f in examine(replace(case(full(2, 2), chip()), troubles=(Trouble("x", "no", "yes"),)))
                 if not f.ok],
        "x: no: yes",
        lambda: violations(full(2, 2), chip()),
    ),
    "cores": (
        lambda: violations(net({"in": (1,), "a": (9,), "b": (3,)}, ("in", "a", dense(1, 9)), ("a", "b", dense(9, 3))),
                           chip(neurons=10)),
        "network: cores 2 > 1 (2x): 50 % of its neurons (75 % of it is a), or --target pair, 2 chips",
        lambda: violations(net({"in": (1,), "a": (7,), "b": (3,)}, ("in", "a", dense(1, 7)), ("a", "b", dense(7, 3))),
                           chip(neurons=10)),
    ),
    "chips": (
        lambda: violations(full(2, 11), chip(neurons=5, chips=4), chips=2),
        "network: chips 3 > 2 (1.5x): --chips 3, at least",
        lambda: violations(full(2, 10), chip(neurons=5, chips=4), chips=2),
    ),
}  # fmt: skip


def test_every_rule_has_a_case_here() -> None:
    assert [rule.__name__ for rule in RULES] == list(VIOLATED)


@pytest.mark.parametrize("rule", VIOLATED)
def test_a_rule_is_violated_alone_and_says_what_would_fit(rule: str) -> None:
    violated, says, _ = VIOLATED[rule]
    (finding,) = violated()
    assert (finding.rule, str(finding)) == (rule, says)


@pytest.mark.parametrize("rule", VIOLATED)
def test_a_network_at_the_limit_passes(rule: str) -> None:
    assert VIOLATED[rule][2]() == []


# what is proposed fits


def fix(finding: Finding, pattern: str) -> int:
    (found,) = (m[1] for way in finding.fix if (m := re.search(pattern, way)))
    return int(found)


@pytest.mark.parametrize("have", [5, 17, 30, 99])
def test_the_kernel_the_channels_and_the_pruning_proposed_fit_and_one_more_does_not(have: int) -> None:
    profile = chip(in_axons=have, cores=500)
    (finding,) = violations(conv(4, 5), profile)
    assert finding.least == 100
    side = fix(finding, r"kernel of at most (\d)x")
    assert not violations(conv(4, side), profile) and violations(conv(4, side + 1), profile)
    if have >= 25:
        channels = fix(finding, r"at most (\d+) input channels")
        assert not violations(conv(channels, 5), profile) and violations(conv(channels + 1, 5), profile)
    else:
        assert "input channels" not in str(finding)
    assert not violations(conv(4, 5, fix(finding, r"pruning to (\d+) %") / 100), profile)


@pytest.mark.parametrize("have", [3, 40, 150])
def test_the_weight_bits_and_the_pruning_proposed_fit(have: int) -> None:
    profile = chip(synapse_bytes=have, synapse_word_bytes=2, synapse_header_bytes=1)
    (finding,) = violations(conv(7, 5), profile)
    if any("--weight-bits" in way for way in finding.fix):
        bits = fix(finding, r"--weight-bits (\d)")
        assert not violations(conv(7, 5), profile, bits=bits) and violations(conv(7, 5), profile, bits=bits + 1)
    if any("pruning" in way for way in finding.fix):
        assert not violations(conv(7, 5, fix(finding, r"pruning to (\d+) %") / 100), profile)
    assert finding.fix or have == 3


def test_the_relays_proposed_fit_wherever_the_delay_is_put() -> None:
    profile = chip(max_delay=2)
    (finding,) = violations(skip(6), profile)
    relays = fix(finding, r"(\d+) relay populations in the path from p0")
    whole = skip(6)
    names = ["p0", *(f"r{k}" for k in range(relays)), "p6"]
    edges = [(e.source, e.target, e.map) for e in whole.projections[:-1]]
    edges += [(a, b, dense(2, 2)) for a, b in pairwise(names)]
    assert not violations(
        net(dict.fromkeys(["in", *(p.name for p in whole.populations), *names], (2,)), *edges), profile
    )


def test_every_path_that_is_too_late_gets_its_relays() -> None:
    found = skip(5)
    more = replace(found, projections=(*found.projections, Projection("p1", "p5", dense(2, 2))))
    (finding,) = violations(more, chip(max_delay=1))
    assert finding.fix == ("3 relay populations in the path from p0 and 2 in that from p1",)


def test_of_two_projections_the_largest_gives_way_and_is_named() -> None:
    found = net(
        {"x": (6,), "y": (3,), "fc": (2,)},
        ("x", "fc", dense(6, 2)), ("y", "fc", dense(3, 2)),
    )  # fmt: skip
    (finding,) = violations(found, chip(in_axons=7, cores=9))
    assert finding.fix == ("at most 4 inputs from x", "pruning from x to 66 %")
    (finding,) = violations(found, chip(in_axons=2, cores=9))
    assert finding.fix == ("pruning to 22 %",)


def test_a_limit_that_is_not_stated_is_shown_and_never_violated() -> None:
    nothing = chip(**{name: None for name in PLENTY if name != "neurons"})
    findings = examine(case(skip(50), nothing))
    assert all(f.ok for f in findings)
    assert {f.rule for f in findings if f.have is not None} == {"neurons", "cores"}
    assert {f.rule for f in findings} == {r.__name__ for r in RULES} - {"loops", "programs", "unsupported"}


@pytest.mark.parametrize("name", NAMES)
def test_the_mapper_may_ask_of_every_chip_whatever_it_leaves_out(name: str) -> None:
    found, _ = random_quantnet(3)
    report = check(found, load(name), balance(found))
    stated = {f.name for f in fields(CoreLimits) if getattr(load(name).core, f.name) is not None}
    assert {row.limit for row in report.rows} - {"cores"} <= stated


def test_a_sample_whose_length_nobody_says_is_not_held_against_the_reset_interval() -> None:
    assert "reset_steps" not in {f.rule for f in examine(case(full(2, 2), chip(), steps=None))}


def test_every_loop_that_is_too_fast_is_named_once() -> None:
    found = net(
        {"in": (1,), "a": (1,), "b": (1,), "c": (1,)},
        *(("in", name, dense(1, 1)) for name in "abc"),
        ("a", "a", dense(1, 1), 1), ("b", "c", dense(1, 1), 0), ("c", "b", dense(1, 1), 1), ("a", "b", dense(1, 1)),
    )  # fmt: skip
    (loop,) = violations(found, chip())
    assert loop.rule == "loops" and {"b", "c"} <= set(re.split(r"\W+", loop.says))
    more = replace(found, projections=(*found.projections, Projection("a", "c", dense(1, 1), 3)))
    assert [f.rule for f in violations(more, chip())] == ["loops"]


# counted as one would by unrolling


def unrolled(found: Net | Any, name: str) -> tuple[int, int, set[tuple[str, int]]]:
    """Distinct inputs, the most synapses of a neuron, and who of the population sends, from the matrices alone."""
    inputs: set[tuple[str, int]] = set()
    synapses = 0
    sends: set[tuple[str, int]] = set()
    for e in found.projections:
        matrix = e.map.matrix().toarray() != 0
        if e.target == name:
            inputs |= {(e.source, int(k)) for k in np.flatnonzero(matrix.any(axis=0))}
            synapses = synapses + matrix.sum(axis=1)
        if e.source == name:
            sends |= {(name, int(k)) for k in np.flatnonzero(matrix.any(axis=0))}
    return len(inputs), int(np.max(synapses)), sends


@given(st.integers(0, 2**32 - 1))
def test_a_network_is_counted_as_its_unrolled_matrices_are(seed: int) -> None:
    found, _ = random_quantnet(seed)
    for layer, p in zip(layers(found), found.populations, strict=True):
        inputs, most, sends = unrolled(found, p.name)
        assert (layer.neurons, layer.inputs, layer.sending) == (prod(p.shape), inputs, len(sends))
        maps = [e.map for e in found.projections if e.target == p.name]
        assert layer.fan_in == most or (layer.fan_in < most and any(isinstance(m, Conv) for m in maps))
        for feed in layer.feeds:
            whole = fan_in(feed.map, np.arange(prod(p.shape)))
            counts = np.count_nonzero(feed.map.weight, axis=(1, 2, 3)) if isinstance(feed.map, Conv) else whole.synapses
            assert sorted(feed.lists[feed.lists > 0]) == sorted(counts[counts > 0])


@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
def test_the_middle_of_a_channel_has_the_whole_kernel(kernel: int) -> None:
    (layer,) = layers(conv(3, kernel))
    assert layer.fan_in == layer.inputs_of_one == 3 * kernel**2


def test_paths_of_one_source_share_its_axons() -> None:
    half = Sparse(csr_array(np.eye(4)[:, :4]), (4,), (4,))
    found = net({"in": (4,), "fc": (4,)}, ("in", "fc", dense(4, 4)), ("in", "fc", half, 1))
    (layer,) = layers(found)
    assert (layer.inputs, layer.inputs_of_one, layer.fan_in) == (4, 4, 5)


# the page


def test_every_rule_says_in_its_docstring_what_it_is_called_and_is_on_the_page() -> None:
    page = " ".join((DOCS / "check.md").read_text(encoding="utf-8").split())
    for rule in RULES:
        says = " ".join((rule.__doc__ or "").split())
        name, colon, rest = says.partition(": ")
        assert colon and title(rule.__name__) == name.lower()
        assert f"| `{rule.__name__}` | {name} | {rest} |" in page


def test_a_stated_limit_of_every_chip_has_a_rule() -> None:
    ruled = {rule.__name__ for rule in RULES} | {"synapse_word_bytes", "synapse_header_bytes"}
    assert {f.name for f in fields(CoreLimits)} <= ruled
