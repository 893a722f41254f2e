import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import torch
from builders import DT_S, SMALL, chain, graph, lif, samples, spiking_model

from snnergy.deploy import forms, verify, verify_table
from snnergy.deploy.compare import Pair
from snnergy.deploy.job import Inputs, Job, from_graph
from snnergy.deploy.verify import Settings, float_accuracy, net_pair, torch_pair
from snnergy.errors import BadInput, MissingPart
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
        assert pair.samples == 3 and len(pair.rows) == len(job.net.populations)
    neurons = sum(p.bias.size for p in job.net.populations)
    assert pair.compared == 3 * STEPS * neurons
    assert str(pair) == (
        f"NIR == Net: 0 of {pair.compared} neuron-steps differ (3 samples, {len(pair.rows)} populations)"
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
            found = engine.run(quant, encoded, record=settings["record"], states=settings["states"])
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
    assert pair.equal and len(pair.rows) == 3


def subject(job: Job) -> forms.Subject:
    return forms.Subject(job.steps, DT_S, spiking_model(), job.graph, job.net, job.quant)


def everything(job: Job, count: int = 3) -> dict[str, Pair]:
    label = np.arange(count) % SMALL.classes
    pairs = verify.verify(subject(job), inputs(samples(count, SMALL.image_size), label), forms.PAIRS[:-1])
    return {pair.name: pair for pair in pairs}


def test_every_form_is_compared_with_the_one_before_it(job: Job) -> None:
    found = everything(job)
    assert {name for name, pair in found.items() if pair.demand == "exact"} == {
        "torch:nir",
        "nir:net",
        "quant-torch:native",
    }
    assert all(pair.equal for pair in found.values() if pair.demand == "exact")
    rounded = found["net:native"]
    assert rounded.demand == "agreement" and rounded.ok and 0.5 < rounded.agreement < 1
    assert rounded.reason == "weights, inputs, decays and thresholds are rounded to the chip's integers"
    assert rounded.accuracy is not None and rounded.output_error is not None and rounded.output_error > 0


def test_the_readout_of_the_chip_is_compared_in_real_units() -> None:
    rng = np.random.default_rng(0)
    nodes = chain((5,), nir.Linear(rng.normal(size=(3, 5))), nir.LI(np.full(3, 4 * DT_S), np.full(3, 2.0), np.zeros(3)))
    job = from_graph(Path("x.nir"), nodes, steps=6)
    real = {"in": rng.random((8, 5))}
    trace = forms.FORMS["net"].run(verify._subject(job), real).membranes["n1"]
    [pair] = verify.verify(verify._subject(job), inputs(real), [("net", "native")])
    assert pair.output_error is not None and 0 < pair.output_error < 0.02 * np.ptp(trace)


def test_rates_are_counted_from_the_trains(job: Job) -> None:
    real = samples(3, SMALL.image_size)
    train = forms.FORMS["native"].run(subject(job), real).spikes
    rows = {row.population: row for row in everything(job)["quant-torch:native"].rows}
    for name, x in train.items():
        assert rows[name].left_rate == rows[name].right_rate == pytest.approx(x.mean())
        assert rows[name].neurons == x[0, 0].size
    assert rows["readout"].left_rate is None


def test_weights_at_the_ends_of_their_range_are_counted() -> None:
    nodes = chain((4,), nir.Linear(np.array([[1.0, -1.0, 0.1, 0.2]])), lif((1,)))
    job = from_graph(Path("x.nir"), nodes, steps=2)
    net = job.quant
    full = replace(net.projections[0], map=with_weights(net.projections[0].map, lambda w: w * 0 + [127, -128, -127, 0]))
    changed = replace(job, quant=replace(net, projections=(full,)))
    real = inputs({"in": np.ones((1, 4))})
    found = verify.verify(verify._subject(changed), real, [("quant-torch", "native")])
    assert [row.extreme_weights for row in found[0].rows] == [0.75]
    assert [row.extreme_weights for row in net_pair(job, real).rows] == [None]


def test_the_chunks_are_not_seen_in_the_result(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = everything(job, 5)
    monkeypatch.setattr(verify, "CHUNK_BYTES", 1)
    assert verify.chunk_samples(subject(job)) == 1
    assert everything(job, 5) == whole


def test_progress_is_told_in_samples(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "CHUNK_BYTES", 1)
    told: list[tuple[int, int]] = []
    real = inputs(samples(3, SMALL.image_size))
    verify.verify(subject(job), real, [("nir", "net")], progress=lambda done, of: told.append((done, of)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_single_stream_leaves_the_other_input_unused(tmp_path: Path) -> None:
    from snnergy import checkpoint

    checkpoint.save(tmp_path / "m.pt", spiking_model(modalities="audio"))
    np.savez(tmp_path / "x.npz", audio=samples(2, SMALL.image_size)["audio"])
    chosen = Settings(samples=2, lava_samples=0, spec=str(tmp_path / "x.npz"))
    pairs = list(verify.verify_file(tmp_path / "m.pt", chosen))
    assert pairs[0].name == "torch:nir" and all(pair.ok for pair in pairs)


def test_the_pairs_asked_for_are_compared_and_no_others(job: Job) -> None:
    chosen = Settings(pairs=("net:quant-torch", "torch:net"), lava_samples=0)
    real = inputs(samples(2, SMALL.image_size))
    pairs = list(verify.walk(subject(job), real, chosen, progress=None, say=pytest.fail))
    assert [(pair.name, pair.demand) for pair in pairs] == [("net:quant-torch", "agreement"), ("torch:net", "exact")]
    assert pairs[1].equal


@pytest.mark.parametrize("name", ["nir", "nir:nir", "nir:chip", ":", "a:b:c"])
def test_a_pair_that_is_none_is_refused_with_the_forms_there_are(name: str) -> None:
    with pytest.raises(BadInput) as error:
        forms.of_name(name)
    listed = "torch, nir, net, quant-torch, quant-float, native, lava"
    assert str(error.value) == f"no pair '{name}'; a pair is two of {listed}, as in nir:net"


def test_without_torch_its_pairs_are_left_out_with_a_line_each(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "find_spec", lambda _: None)
    monkeypatch.setattr(forms, "find_spec", lambda _: None)
    said: list[str] = []
    chosen = verify.choose(replace(subject(job), model=None), Settings(lava_samples=0), said.append)
    assert chosen == [("nir", "net"), ("net", "native")]
    assert said == [
        f"left out {name}: torch is not installed (snnergy doctor)"
        for name in ("quant-float:native", "quant-torch:native")
    ]
    with pytest.raises(MissingPart) as error:
        verify.choose(subject(job), Settings(pairs=("quant-torch:native",)), said.append)
    assert str(error.value) == "'quant-torch' cannot run: torch is not installed (snnergy doctor)"


def test_a_form_that_the_file_does_not_have_is_refused(job: Job) -> None:
    with pytest.raises(BadInput) as error:
        verify.choose(replace(subject(job), model=None), Settings(pairs=("torch:nir",)), pytest.fail)
    assert str(error.value) == "the file has no form 'torch'"


def test_without_lava_the_answer_is_not_yes(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms.lava_compat, "installed", lambda: None)
    with pytest.raises(MissingPart):
        verify.choose(subject(job), Settings(lava_samples=1), pytest.fail)
    assert ("native", "lava") not in verify.choose(subject(job), Settings(lava_samples=0), pytest.fail)


def test_a_file_or_a_case_is_needed_and_not_both() -> None:
    for path, case in ((None, None), (Path("a.nir"), Path("b.npz"))):
        with pytest.raises(BadInput) as error:
            verify.open_either(path, case, Settings())
        assert str(error.value) == "name a .pt or .nir file, or --case and a saved one"


def test_the_table_has_a_row_a_population_and_a_column_a_pair_that_differs(job: Job) -> None:
    pairs = list(everything(job).values())
    table = verify_table.table(pairs)
    assert table.row_count == len(job.net.populations)
    titles = [str(column.header) for column in table.columns]
    differing = [pair.name.replace(":", ":\n") for pair in pairs if pair.differing]
    assert titles == [
        *("population", "neurons", *differing, "float\nrate", "integer\nrate", "at 24\nbits", "at ends of\nweights")
    ]
    assert verify_table.table([]).row_count == 0
    exact = verify_table.table([pair for pair in pairs if pair.name == "nir:net"])
    assert [str(column.header) for column in exact.columns] == ["population", "neurons", "float\nrate"]


def test_the_document_is_the_same_every_time(job: Job) -> None:
    texts = set()
    for _ in range(2):
        found = inputs(samples(3, SMALL.image_size))
        document = verify_table.document(found, list(everything(job).values()), ["left out x"])
        texts.add(json.dumps(document, allow_nan=False))
    assert len(texts) == 1
    plain = json.loads(texts.pop())
    assert plain["equal"] is plain["ok"] is True and plain["left_out"] == ["left out x"]
    assert plain["inputs"]["samples"] == 3


def test_a_pair_that_fails_is_explained_in_the_text_and_others_where_asked(job: Job) -> None:
    pair = everything(job)["net:native"]
    assert verify_table.text(pair, explained=False) == str(pair)
    assert verify_table.text(pair, explained=True) == f"{pair}\n{pair.explanation}"
    failed = replace(pair, at_least=1.0)
    assert verify_table.text(failed, explained=False) == f"{failed}\n{pair.explanation}"
