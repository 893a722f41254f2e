import contextlib
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array, csr_matrix

from snnergy.deploy import lava_backend, lava_compat, lava_multiprocess, lava_network
from snnergy.deploy.activity import Activity, Run
from snnergy.deploy.schedule import Schedule
from snnergy.errors import BadInput, DoesNotFit, MissingPart, Stuck
from snnergy.export.maps import Conv, Dense, Map, Sparse
from snnergy.export.quantnet import THRESHOLD_LIMIT, QuantNet, QuantPopulation, QuantProjection, QuantSource, verify

pytestmark = pytest.mark.lava
if lava_compat.installed() is None:
    pytest.skip("lava-nc is not installed", allow_module_level=True)

Inputs = dict[str, Any]


def reference(net: QuantNet, inputs: Inputs, record: tuple[str, ...]) -> Run:
    """The equations of quantnet.py, one neuron layer, one step, one sample at a time; populations in order."""
    samples = len(next(iter(inputs.values())))
    sizes = {n.name: prod(n.shape) for n in (*net.sources, *net.populations)}
    spikes = {name: np.zeros((net.steps, n), np.int64) for name, n in sizes.items()}
    active = {p.name: np.zeros((net.steps, sizes[p.name]), np.int64) for p in net.populations}
    outputs = {name: np.zeros((samples, sizes[name]), np.int64) for name in net.outputs}
    recorded = {name: np.zeros((samples, net.steps, sizes[name]), np.uint8) for name in record}
    for k in range(samples):
        v = {p.name: np.zeros(sizes[p.name], np.int64) for p in net.populations}
        for t in range(net.steps):
            sent: dict[str, Any] = {}
            for s in net.sources:
                x = inputs[s.name][k]
                sent[s.name] = (x if x.shape == s.shape else x[t]).ravel().astype(np.int64)
                spikes[s.name][t] += sent[s.name] != 0
            for p in net.populations:
                a = np.zeros(sizes[p.name], np.int64)
                for e in net.projections:
                    if e.target == p.name:
                        total = e.map.matrix().toarray().astype(np.int64) @ sent[e.source]
                        a += total * 2**e.exponent if e.exponent >= 0 else total // 2**-e.exponent
                u = a * 64
                left = v[p.name] * (4096 - p.decay)
                left = np.where(left < 0, -(-left // 4096), left // 4096)
                now = left + u + p.bias_mantissa * 2**p.bias_exponent
                fires = now > p.threshold * 64
                v[p.name] = np.where(fires, 0, now)
                sent[p.name] = fires.astype(np.int64)
                spikes[p.name][t] += fires
                active[p.name][t] += (u != 0) | (p.bias_mantissa != 0)
                if p.name in record:
                    recorded[p.name][k, t] = fires
                if p.name in net.outputs and p.spiking:
                    outputs[p.name][k] += fires
        for p in net.populations:
            if p.name in net.outputs and not p.spiking:
                outputs[p.name][k] = v[p.name]
    return Run(outputs, Activity(samples, net.steps, spikes, active), recorded)


def assert_same(ours: Run, theirs: Run) -> None:
    assert (ours.activity.samples, ours.activity.steps) == (theirs.activity.samples, theirs.activity.steps)
    for a, b in (
        (ours.recorded, theirs.recorded),
        (ours.outputs, theirs.outputs),
        (ours.activity.spikes, theirs.activity.spikes),
        (ours.activity.active, theirs.activity.active),
    ):
        assert set(a) == set(b)
        for name in a:
            assert a[name].dtype == b[name].dtype, name
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def population(name: str, n: int, **changes: Any) -> QuantPopulation:
    fields: dict[str, Any] = {
        "shape": (n,),
        "decay": np.full(n, 2048),
        "current_decay": np.full(n, 4096),
        "threshold": np.full(n, 100),
        "bias_mantissa": np.zeros(n, np.int64),
        "bias_exponent": 0,
        "spiking": True,
        "scale": 1.0,
    }
    return QuantPopulation(name, **(fields | changes))


def readout(name: str, n: int, **changes: Any) -> QuantPopulation:
    fields: dict[str, Any] = {"threshold": np.full(n, THRESHOLD_LIMIT), "spiking": False, "decay": np.zeros(n, int)}
    return population(name, n, **(fields | changes))


def network(sources: Any, populations: Any, projections: Any, steps: int, outputs: Any = None) -> QuantNet:
    net = QuantNet(
        tuple(sources),
        tuple(populations),
        tuple(projections),
        tuple(outputs or (populations[-1].name,)),
        1e-3,
        steps,
        8,
        (),
    )
    verify(net)
    return net


def longest_paths(net: QuantNet) -> Schedule:
    depth = {s.name: 0 for s in net.sources}
    for p in net.populations:
        depth[p.name] = 1 + max((depth[e.source] for e in net.projections if e.target == p.name), default=0)
    return Schedule(depth, tuple(depth[e.target] - depth[e.source] - 1 for e in net.projections))


def linear(weight: Any, into: Any, out: Any) -> Dense:
    return Dense(np.asarray(weight, np.int8), into, out)


def random_net(seed: int) -> tuple[QuantNet, Inputs]:
    """Branches, joins, skips, biases, gates, dead inputs; sums stay far from 24 bits."""
    rng = np.random.default_rng(seed)
    steps, samples = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    sources = [QuantSource("image", (2, 4, 3), 8, 1.0), QuantSource("events", (5,), 1, 1.0)]
    nodes: dict[str, Any] = {s.name: s.shape for s in sources}
    populations: list[QuantPopulation] = []
    projections: list[QuantProjection] = []
    count = int(rng.integers(2, 9))
    for k in range(count):
        name, n = f"p{k}", int(rng.integers(1, 12))
        feeds = list(rng.choice(list(nodes), size=min(len(nodes), int(rng.integers(1, 4))), replace=False))
        shape: tuple[int, ...] = (n,)
        for source in map(str, feeds):
            graded = source == "image"
            limit = 30 if graded else 127
            exponent = int(rng.integers(-6, -3)) if graded else int(rng.integers(-6, 3))
            m = prod(nodes[source])
            if graded and len(feeds) == 1 and rng.random() < 0.7:
                kernel = rng.integers(-limit, limit + 1, (3, 2, 3, 2)).astype(np.int8)
                map_: Map = Conv(kernel, nodes[source], (2, 1), (1, 0))
                shape = map_.output_shape
                n = prod(shape)
            elif rng.random() < 0.4:
                weight = rng.integers(-limit - 1, limit + 1, (n, m)) * (rng.random((n, m)) < 0.3)
                map_ = Sparse(csr_array(weight.astype(np.int8)), nodes[source], shape)
            else:
                map_ = linear(rng.integers(-limit - 1, limit + 1, (n, m)), nodes[source], shape)
            projections.append(QuantProjection(source, name, map_, exponent))
        last = k == count - 1
        make = readout if last and rng.random() < 0.7 else population
        changes: dict[str, Any] = {"shape": shape, "decay": rng.choice([0, 1, 1000, 2048, 4095, 4096], n)}
        if make is population:
            changes["threshold"] = rng.integers(0, 200, n)
        if rng.random() < 0.5:
            changes |= {"bias_mantissa": rng.integers(-20, 21, n), "bias_exponent": int(rng.integers(0, 8))}
        populations.append(make(name, n, **changes))
        nodes[name] = shape
    outputs = {populations[-1].name, populations[0].name}
    net = network(sources, populations, projections, steps, sorted(outputs))
    image = rng.integers(0, 256, (samples, 2, 4, 3)) * (rng.random((samples, 2, 4, 3)) < 0.7)
    return net, {"image": image, "events": rng.integers(0, 2, (samples, steps, 5))}


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 10**6))
def test_in_process_lava_equals_the_written_equations_spike_for_spike(seed: int):
    net, inputs = random_net(seed)
    record = tuple(p.name for p in net.populations)
    ours = lava_backend.run(net, inputs, longest_paths(net), record=record)
    assert_same(ours, reference(net, inputs, record))


def diamond() -> tuple[QuantNet, Inputs]:
    """A source that branches into a short and a long path, which join under a delay; a gate and a readout."""
    rng = np.random.default_rng(3)
    into = QuantSource("image", (6,), 8, 1.0)
    gate = population("gate", 5, decay=np.full(5, 4096), threshold=np.full(5, 60))
    populations = (population("a", 7), population("b", 5), population("c", 5), gate, readout("head", 3))
    sizes = {"image": 6, "a": 7, "b": 5, "c": 5, "gate": 5, "head": 3}

    def edge(source: str, target: str, exponent: int = 0) -> QuantProjection:
        weight = rng.integers(-40, 90, (sizes[target], sizes[source]))
        return QuantProjection(source, target, linear(weight, (sizes[source],), (sizes[target],)), exponent)

    edges = (
        edge("image", "a", -7), edge("a", "b", 1), edge("b", "c", 1), edge("a", "gate"), edge("c", "gate", -1),
        edge("image", "gate", -9), edge("gate", "head"), edge("a", "head"),
    )  # fmt: skip
    return network((into,), populations, edges, 4), {"image": rng.integers(0, 256, (3, 6))}


def test_the_multiprocess_runtime_gives_the_same_run_and_leaves_nothing_behind():
    net, inputs = diamond()
    schedule = longest_paths(net)
    assert max(schedule.delays) == 3
    record = tuple(p.name for p in net.populations)
    done: list[tuple[int, int]] = []
    before = set(os.listdir("/dev/shm"))
    theirs = lava_backend.run(
        net, inputs, schedule, record=record, runtime="multiprocess", progress=lambda *at: done.append(at)
    )
    assert set(os.listdir("/dev/shm")) == before
    ours = lava_backend.run(net, inputs, schedule, record=record)
    assert_same(theirs, ours)
    assert_same(ours, reference(net, inputs, record))
    assert done == [(1, 3), (2, 3), (3, 3)]
    assert ours.activity.spikes["gate"].any() and ours.activity.spikes["c"].any()


def test_the_multiprocess_runtime_agrees_on_a_random_net():
    net, inputs = random_net(11)
    record = tuple(p.name for p in net.populations)
    theirs = lava_backend.run(net, inputs, longest_paths(net), record=record, runtime="multiprocess")
    assert_same(theirs, reference(net, inputs, record))


@pytest.mark.parametrize("exponent", range(-12, 9))
def test_every_weight_at_every_exponent_is_exact(exponent: int):
    every = np.arange(-128, 128)
    diagonal = Sparse(csr_array(np.diag(every).astype(np.int8)), (256,), (256,))
    ones = Sparse(csr_array(np.eye(256, dtype=np.int8)), (256,), (256,))
    relay = population("relay", 256, decay=np.full(256, 4096), threshold=np.zeros(256, int))
    edges = (
        QuantProjection("image", "relay", ones, 0),
        QuantProjection("relay", "binary", diagonal, exponent),
        QuantProjection("image", "graded", diagonal, min(exponent, 1)),
    )
    populations = (relay, readout("binary", 256), readout("graded", 256))
    net = network((QuantSource("image", (256,), 8, 1.0),), populations, edges, 1, ("binary", "graded"))
    image = np.stack([np.ones(256, int), np.full(256, 255), np.arange(256)])
    run = lava_backend.run(net, {"image": image}, longest_paths(net))

    def shifted(values: Any, by: int) -> Any:
        return values << by if by >= 0 else values >> -by

    np.testing.assert_array_equal(run.outputs["binary"], shifted(every * (image > 0), exponent) << 6)
    np.testing.assert_array_equal(run.outputs["graded"], shifted(every * image, min(exponent, 1)) << 6)


def test_shifts_round_the_sum_down_not_each_weight():
    weight = np.array([[-1, -1, -1], [1, 1, 1], [-3, 2, 0]], np.int8)
    edges = (QuantProjection("image", "head", linear(weight, (3,), (3,)), -2),)
    net = network((QuantSource("image", (3,), 1, 1.0),), (readout("head", 3),), edges, 1)
    run = lava_backend.run(net, {"image": np.ones((1, 3), int)}, longest_paths(net))
    np.testing.assert_array_equal(run.outputs["head"], [[-1 << 6, 0, -1 << 6]])


def test_an_input_shown_at_every_step_equals_the_same_input_written_out():
    net, inputs = diamond()
    schedule = longest_paths(net)
    once = lava_backend.run(net, inputs, schedule, record=("gate",))
    image = np.repeat(inputs["image"][:, None], net.steps, axis=1)
    assert_same(lava_backend.run(net, {"image": image}, schedule, record=("gate",)), once)


def test_samples_do_not_touch_each_other():
    net, inputs = diamond()
    schedule = longest_paths(net)
    together = lava_backend.run(net, inputs, schedule)
    for k in range(3):
        alone = lava_backend.run(net, {"image": inputs["image"][k : k + 1]}, schedule)
        np.testing.assert_array_equal(together.outputs["head"][k], alone.outputs["head"][0])


@pytest.mark.parametrize("delay", [1, 2, 5])
def test_the_delay_line_equals_the_delaysparse_of_lava(delay: int):
    lava_compat.activate()
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.io.source import PySendModelFixed, RingBuffer
    from lava.proc.sparse.models import PyDelaySparseModelBitAcc, PySparseModelBitAcc
    from lava.proc.sparse.process import DelaySparse, Sparse
    from lava.utils.weightutils import SignMode

    from snnergy.deploy.lava_in_process import InProcess

    rng = np.random.default_rng(delay)
    weight = csr_matrix(rng.integers(-127, 128, (4, 6)).astype(np.int32) * 2)
    options: Any = {"weight_exp": -1, "num_weight_bits": 8, "sign_mode": SignMode.MIXED}
    ring: Any = RingBuffer(data=rng.integers(0, 2, (6, 12)))
    stock: Any = DelaySparse(weights=weight, delays=csr_matrix(np.full((4, 6), delay)), **options)
    kind, model = lava_network.delay_line()
    line, plain = kind((6,), delay, "line"), Sparse(weights=weight, **options)
    ring.s_out.connect([stock.s_in, line.s_in])
    line.s_out.connect(plain.s_in)
    models: Any = {
        ring: PySendModelFixed, stock: PyDelaySparseModelBitAcc, line: model, plain: PySparseModelBitAcc
    }  # fmt: skip
    runner = InProcess(models, Loihi2SimCfg(select_tag="fixed_pt", exception_proc_model_map=models))
    ours: list[Any] = []
    theirs: list[Any] = []
    runner.tap(plain.a_out, ours.append)
    runner.tap(stock.a_out, theirs.append)
    runner.run(12)
    np.testing.assert_array_equal(ours, theirs)
    assert np.any(ours[-1])


def test_parts_without_a_common_projection_run_in_process_only():
    sources = (QuantSource("left", (2,), 4, 1.0), QuantSource("right", (2,), 4, 1.0))
    weight = np.array([[1, 2], [3, 4]])
    edges = (
        QuantProjection("left", "a", linear(weight, (2,), (2,)), 0),
        QuantProjection("right", "b", linear(-weight, (2,), (2,)), 0),
    )
    silent = population("alone", 2, bias_mantissa=np.array([0, 5]), bias_exponent=7, threshold=np.full(2, 9))
    net = network(sources, (readout("a", 2), silent, readout("b", 2)), edges, 2, ("a", "alone", "b"))
    inputs: Inputs = {"left": np.array([[1, 1]]), "right": np.array([[15, 0]])}
    assert_same(lava_backend.run(net, inputs, longest_paths(net)), reference(net, inputs, ()))
    with pytest.raises(BadInput) as caught:
        lava_backend.run(net, inputs, longest_paths(net), runtime="multiprocess")
    assert str(caught.value) == "'right' is joined to 'left' by no projection"
    assert caught.value.help == "the in-process runtime runs such networks"


def failing() -> tuple[QuantNet, Inputs]:
    """A decay that is no integer, which Lava's model finds out when it runs."""
    edges = (
        QuantProjection("image", "a", linear([[1]], (1,), (1,)), 0),
        QuantProjection("a", "head", linear([[1]], (1,), (1,)), 0),
    )
    broken = population("a", 1, decay=np.array([0.5]))
    net = network((QuantSource("image", (1,), 1, 1.0),), (broken, readout("head", 1)), edges, 2)
    return net, {"image": np.ones((1, 1), int)}


def test_a_failing_model_ends_the_in_process_run_with_its_own_error():
    net, inputs = failing()
    with pytest.raises(TypeError, match="right_shift") as caught:
        lava_backend.run(net, inputs, longest_paths(net))
    assert caught.value.__notes__ == ["in Lava process 'a', time step 1"]


def test_a_failing_model_ends_the_multiprocess_run_too_where_lava_would_hang():
    net, inputs = failing()
    before = set(os.listdir("/dev/shm"))
    with pytest.raises(RuntimeError, match=r"Lava process 'a' failed with \w*TypeError: .*right_shift") as caught:
        lava_backend.run(net, inputs, longest_paths(net), runtime="multiprocess")
    assert "subthr_dynamics" in caught.value.__notes__[0]
    assert set(os.listdir("/dev/shm")) == before


def test_the_time_limit_ends_either_runtime():
    net, inputs = diamond()
    before = set(os.listdir("/dev/shm"))
    with pytest.raises(Stuck) as caught:
        lava_backend.run(net, inputs, longest_paths(net), time_limit_s=0.0)
    assert str(caught.value) == "the time limit of 0 s was reached in time step 1"
    with pytest.raises(Stuck) as caught:
        lava_backend.run(net, inputs, longest_paths(net), runtime="multiprocess", time_limit_s=0.0)
    assert str(caught.value) == "Lava's multiprocess runtime had run 0 of 3 samples after its 0 s"
    assert set(os.listdir("/dev/shm")) == before


def test_a_child_that_hangs_is_killed_with_all_its_processes(monkeypatch: pytest.MonkeyPatch):
    net, inputs = diamond()
    monkeypatch.setattr(lava_multiprocess, "GRACE_S", 0.5)
    group: list[int] = []

    def stop_the_child(done: int, samples: int) -> None:
        group.append(multiprocessing.active_children()[0].pid or 0)
        os.kill(group[0], signal.SIGSTOP)

    with pytest.raises(Stuck) as caught:
        lava_backend.run(
            net, {"image": np.repeat(inputs["image"], 400, axis=0)}, longest_paths(net),
            runtime="multiprocess", time_limit_s=2.0, progress=stop_the_child,
        )  # fmt: skip
    assert str(caught.value) == "Lava's multiprocess runtime had run 1 of 1200 samples after its 2 s"
    assert multiprocessing.active_children() == []
    patience = time.monotonic() + 10  # the kernel takes a moment to end them
    while living(group[0]):
        assert time.monotonic() < patience


def living(group: int) -> list[str]:
    """Processes of the group that are not ended and merely uncollected."""
    found: list[str] = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, of_group, *_ = path.read_text().rpartition(")")[2].split()
            if int(of_group) == group and state != "Z":
                found.append(path.parent.name)
    return found


def test_too_few_file_handles_are_an_error_before_anything_starts(monkeypatch: pytest.MonkeyPatch):
    net, inputs = diamond()
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 128))
    with pytest.raises(BadInput) as caught:
        lava_backend.run(net, inputs, longest_paths(net), runtime="multiprocess")
    assert str(caught.value) == (
        "Lava's multiprocess runtime needs about 287 file handles for this network, the limit is 128"
    )
    assert caught.value.help == "use the in-process runtime, which needs none, or raise the limit"


def test_what_lava_cannot_run_is_refused_in_one_line():
    net, inputs = diamond()
    schedule = longest_paths(net)
    with pytest.raises(BadInput) as caught:
        lava_backend.run(net, inputs, schedule, record=("gates",))
    assert str(caught.value) == "no population named 'gates' to record"
    depth = schedule.depth | {"head": 70}
    late = Schedule(depth, tuple(depth[e.target] - depth[e.source] - 1 for e in net.projections))
    with pytest.raises(DoesNotFit) as caught:
        lava_backend.run(net, inputs, late)
    assert str(caught.value) == "a projection needs a delay of 68 steps, Lava's synapses have at most 63"
    wide = linear(np.full((1, 40000), 127), (40000,), (1,))
    edges = (QuantProjection("image", "head", wide, -14),)
    heavy = network((QuantSource("image", (40000,), 8, 1.0),), (readout("head", 1),), edges, 1)
    with pytest.raises(DoesNotFit) as caught:
        lava_backend.run(heavy, {"image": np.ones((1, 40000), int)}, longest_paths(heavy))
    assert str(caught.value) == "projection image -> head: graded sums exceed the 32 bits Lava adds them in"


def test_without_lava_the_run_ends_with_what_to_install(monkeypatch: pytest.MonkeyPatch):
    net, inputs = diamond()
    monkeypatch.setattr(lava_compat, "installed", lambda: None)
    with pytest.raises(MissingPart, match="Lava is not installed"):
        lava_backend.run(net, inputs, longest_paths(net))


def test_the_backend_imports_without_lava_and_without_its_needs():
    code = """
import sys
import snnergy.deploy.lava_backend, snnergy.deploy.loihi2_hardware
print(*(name for name in ("lava", "greenlet", "numba", "torch") if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parent)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")
