import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import torch
from builders import DT_S, SMALL, chain, graph, lif, samples, spiking_model

from snnergy.deploy import verify
from snnergy.deploy.job import Inputs, Job, from_graph
from snnergy.deploy.verify import Difference, Pair, accuracy, compare, float_accuracy, net_pair, torch_pair
from snnergy.export import net_sim, nir_sim
from snnergy.export.from_torch import record, to_nir
from snnergy.export.maps import with_weights

pytestmark = pytest.mark.usefixtures("one_thread")
STEPS = SMALL.timesteps
SHAPES = dict.fromkeys(("audio", "video"), (1, SMALL.image_size, SMALL.image_size))


def inputs(real: dict[str, Any], label: Any = None) -> Inputs:
    return Inputs("test", real, label, "")


def first_by_hand(
    left: dict[str, Any], right: dict[str, Any], names: Any
) -> tuple[int, int, str, tuple[int, ...]] | None:
    """Sample by sample, step by step, population by population, neuron by neuron."""
    for sample in range(len(left[names[0]])):
        for step in range(left[names[0]].shape[1]):
            for name in names:
                x, y = left[name][sample, step], right[name][sample, step].reshape(left[name].shape[2:])
                if (x != y).any():
                    return sample, step, name, tuple(int(i) for i in np.argwhere(x != y)[0])
    return None


def place(pair: Pair) -> tuple[int, int, str, tuple[int, ...]]:
    assert pair.first is not None
    return pair.first.sample, pair.first.step, pair.first.population, pair.first.neuron


@pytest.fixture(scope="module")
def job() -> Job:
    found = to_nir(spiking_model(), SHAPES, DT_S, STEPS)
    return from_graph(Path("small.nir"), found, steps=STEPS)


def test_equal_forms_differ_nowhere(job: Job) -> None:
    real = samples(3, SMALL.image_size)
    for pair in (torch_pair(spiking_model(), job.graph, real, STEPS, DT_S), net_pair(job, inputs(real))):
        assert pair.equal and (pair.differing, pair.first) == (0, None) and pair.output_error < 1e-12
        assert pair.samples == 3 and pair.populations == len(job.net.populations)
    neurons = sum(p.bias.size for p in job.net.populations)
    assert pair.compared == 3 * STEPS * neurons
    assert str(pair) == (
        f"NIR == Net: 0 of {pair.compared} neuron-steps differ (3 samples, {pair.populations} populations)"
    )


def flip_largest(w: Any) -> Any:
    return np.where(abs(w) == abs(w).max(), -w, w)


@pytest.mark.parametrize(
    "layer", ["stages_0_audio_embed_spike2", "stages_1_video_from_audio_q", "stages_2_video_mlp_down"]
)
@pytest.mark.parametrize("change", ["weight", "threshold"])
def test_a_changed_net_is_found_where_it_first_shows(job: Job, layer: str, change: str) -> None:
    net = job.net
    if change == "weight":
        changed = next(e for e in net.projections if e.target == layer)
        flipped = replace(changed, map=with_weights(changed.map, flip_largest))
        net = replace(net, projections=tuple(flipped if e is changed else e for e in net.projections))
    else:
        lower = [replace(p, threshold=p.threshold * 0.8) if p.name == layer else p for p in net.populations]
        net = replace(net, populations=tuple(lower))
    real = samples(8, SMALL.image_size)
    pair = net_pair(replace(job, net=net), inputs(real))
    names = tuple(p.name for p in net.populations if p.spiking)
    left, right = nir_sim.run(job.graph, real, STEPS, DT_S), net_sim.run(net, real, STEPS)
    assert not pair.equal and pair.differing > 0 and place(pair) == first_by_hand(left, right, names)
    assert pair.first is not None and pair.first.population == layer
    assert {pair.first.left, pair.first.right} == {0.0, 1.0}
    assert str(pair).endswith(f"; first at {pair.first}")


def test_a_changed_graph_is_found_by_torch_before_its_readout(job: Job) -> None:
    """The logits are compared once, at the end: that must not make them come first."""
    changed = copy.deepcopy(job.graph)
    layer = "stages_1_audio_mlp_up"
    node: Any = changed.nodes[layer]
    node.v_threshold = node.v_threshold * 0.7
    real = samples(4, SMALL.image_size)
    pair = torch_pair(spiking_model(), changed, real, STEPS, DT_S)
    spikes, _ = record(spiking_model(), real)
    assert place(pair) == first_by_hand(spikes, nir_sim.run(changed, real, STEPS, DT_S), tuple(spikes))
    assert place(pair)[2] == layer and pair.output_error > 1e-6


def test_a_changed_readout_is_named_at_the_last_step(job: Job) -> None:
    model = copy.deepcopy(spiking_model())
    with torch.no_grad():
        model.readout.linear.bias[2] += 0.25
    pair = torch_pair(model, job.graph, samples(2, SMALL.image_size), STEPS, DT_S)
    assert place(pair) == (0, STEPS - 1, "readout", (2,))
    assert pair.differing == 2 and abs(pair.output_error - 0.25) < 1e-12


def trains(**values: Any) -> dict[str, Any]:
    return {name: np.asarray(v, np.float64) for name, v in values.items()}


def test_the_first_difference_is_by_sample_then_step_then_rank() -> None:
    a = trains(p=np.zeros((2, 3, 2)), q=np.zeros((2, 3, 2)))
    b = copy.deepcopy(a)
    b["q"][1, 0, 1] = b["p"][0, 2, 0] = b["q"][0, 1, 1] = b["q"][0, 1, 0] = b["p"][0, 1, 1] = 1
    assert compare("l", "r", a, b, ("p", "q")).first == Difference(0, 1, "p", (1,), 0.0, 1.0)
    assert compare("l", "r", a, b, ("q", "p")).first == Difference(0, 1, "q", (0,), 0.0, 1.0)
    assert compare("l", "r", a, b, ("p", "q")).differing == 5


def test_only_what_is_rounded_may_differ_by_rounding() -> None:
    a, b = trains(r=[[[1.0, 2.0]]]), trains(r=[[[1.0, 2.0 + 1e-12]]])
    assert not compare("l", "r", a, b, ("r",)).equal
    assert compare("l", "r", a, b, ("r",), ("r",)).equal
    assert not compare("l", "r", a, trains(r=[[[1.0, 2.0 + 1e-6]]]), ("r",), ("r",)).equal


def test_a_readout_that_is_not_a_number_is_not_equal() -> None:
    pair = compare("l", "r", trains(r=[[[1.0]]]), trains(r=[[[np.nan]]]), ("r",), ("r",))
    assert not pair.equal and pair.differing == 1


def test_a_difference_prints_where_it_is() -> None:
    text = str(Difference(3, 1, "conv", (0, 2, 5), 1.0, 0.0))
    assert text == "sample 3, step 1, population 'conv', neuron [0, 2, 5]: 1 against 0"


def test_a_pair_goes_to_json() -> None:
    plain = compare("l", "r", trains(p=[[[0.0]]]), trains(p=[[[1.0]]]), ("p",)).to_dict()
    assert plain["equal"] is False and plain["first"]["population"] == "p" and plain["first"]["neuron"] == (0,)


def test_accuracy_gives_a_tie_to_the_lower_class() -> None:
    assert accuracy(np.array([[1, 1], [0, 2], [5, 1]]), np.array([0, 1, 1])) == 2 / 3


def test_the_accuracy_of_a_readout_is_that_of_the_model(job: Job) -> None:
    real = samples(6, SMALL.image_size)
    logits = record(spiking_model(), real)[1]
    label = logits.argmax(1)
    label[0] = (label[0] + 1) % SMALL.classes
    assert float_accuracy(job, inputs(real, label), chunk=4) == 5 / 6
    assert float_accuracy(job, inputs(real)) is None


def test_the_accuracy_of_a_spiking_output_counts_all_its_spikes() -> None:
    """Neuron 0 fires at steps 0 and 1 and rests at 2, where neuron 1 fires for the first time."""
    nodes = chain(
        (1,),
        nir.Affine(np.array([[0.0], [0.4]]), np.array([0.6, 0.0])),
        nir.IF(np.ones(2), np.array([1.0, 1.0]), np.zeros(2)),
    )
    job = from_graph(Path("x.nir"), nodes, steps=4)
    assert float_accuracy(job, inputs({"in": np.ones((1, 1))}, np.array([0]))) == 1.0
    spikes = net_sim.run(job.net, {"in": np.ones((1, 1))}, 4)["n1"][0]
    assert spikes.sum(0).tolist() == [2.0, 1.0]


def test_net_pair_compares_readouts_up_to_rounding_in_nirs_unit() -> None:
    full = np.ones(2)
    for node in (nir.I(full * 0.3), nir.LI(full * 3 * DT_S, full * 0.7, full * 0.1)):
        nodes = chain(
            (3,), nir.Affine(np.ones((2, 3)) * 0.37, full), lif((2,)), nir.Linear(np.ones((2, 2)) * 0.11), node
        )
        job = from_graph(Path("x.nir"), nodes, steps=5)
        pair = net_pair(job, inputs({"in": np.random.default_rng(0).random((4, 3))}))
        assert pair.equal and pair.compared == 4 * 5 * 4


def test_lava_pair_notices_counters_that_disagree(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    from snnergy.deploy import engine
    from snnergy.errors import NotEqual

    small = from_graph(Path("x.nir"), chain((2,), nir.Linear(np.eye(2)), lif((2,))), steps=3)
    real = inputs({"in": np.random.default_rng(0).random((3, 2))})

    class Twin:
        @staticmethod
        def run(quant: Any, encoded: Any, _schedule: Any, **settings: Any) -> Any:
            found = engine.run(quant, encoded, record=settings["record"])
            found.activity.active["n1"][0, 0] += wrong
            return found

    monkeypatch.setattr("snnergy.deploy.lava_backend.run", Twin.run)
    wrong = 0
    assert verify.lava_pair(small, real).equal
    wrong = 1
    with pytest.raises(NotEqual) as error:
        verify.lava_pair(small, real)
    assert "counted their activity differently" in str(error.value)


def test_branches_and_two_outputs_are_compared_too() -> None:
    nodes = {
        "in": nir.Input({"input": np.array([2])}),
        "a": lif((2,)),
        "b": lif((2,), r=2.0),
        "w": nir.Linear(np.array([[1.0, -1.0], [0.5, 0.5]])),
        "c": lif((2,), threshold=0.2),
        "out_a": nir.Output({"output": np.array([2])}),
        "out_c": nir.Output({"output": np.array([2])}),
    }
    edges = [("in", "a"), ("in", "b"), ("a", "w"), ("b", "w"), ("w", "c"), ("in", "c"), ("c", "out_c"), ("a", "out_a")]
    job = from_graph(Path("x.nir"), graph(nodes, *edges), steps=6)
    assert set(job.quant.outputs) == {"a", "c"}
    pair = net_pair(job, inputs({"in": np.random.default_rng(0).random((5, 2)) * 3}))
    assert pair.equal and pair.populations == 3
