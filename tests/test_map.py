"""``snnergy map`` as a user meets it: the page, the JSON, the picture, and explanations that are true."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import product
from math import prod
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import nir
import numpy as np
import pytest
from builders import DT_S, chain, lif

from snnergy import console
from snnergy.cli import cli
from snnergy.deploy import engine
from snnergy.deploy.activity import verify as verify_activity
from snnergy.deploy.job import Job, load_inputs, prepare
from snnergy.deploy.map_model import SCHEMA, every_neuron_alike, map_model
from snnergy.deploy.picture import METRICS, heat
from snnergy.deploy.units import si
from snnergy.errors import DoesNotFit
from snnergy.export import nir_file
from snnergy.hardware_profiles import load

Run = Callable[..., tuple[int, str, str]]
LOIHI2 = Path(__file__).parent.parent / "hardware_profiles" / "loihi2.toml"
SETTINGS: dict[str, Any] = {"dt_s": DT_S, "steps": 4}


def network() -> nir.NIRGraph:
    """2 x 8 x 8 pixels -> 4 maps -> 4 maps -> 6 neurons; weights and thresholds that let some neurons fire."""
    rng = np.random.default_rng(3)

    def conv(before: int) -> nir.Conv2d:
        return nir.Conv2d((8, 8), rng.normal(0.2, 1, (4, before, 3, 3)), 1, 1, 1, 1, np.zeros(4))

    flat, last = nir.Flatten({"input": np.array((4, 8, 8))}, 0, -1), nir.Linear(rng.normal(0, 1, (6, 256)))
    return chain((2, 8, 8), conv(2), lif((4, 8, 8)), conv(4), lif((4, 8, 8)), flat, last, lif((6,)))


def readout() -> nir.NIRGraph:
    """300 inputs -> 300 neurons -> a readout of 2, which adds up what it gets."""
    integrator = nir.LI(tau=np.full(2, 1e9), r=np.full(2, 1e9 / DT_S), v_leak=np.zeros(2))
    return chain((300,), nir.Linear(np.eye(300)), lif((300,)), nir.Linear(np.ones((2, 300))), integrator)


def toy(path: Path, barrier: float = 10, **limits: int) -> str:
    """Loihi 2 with other limits of a core and a quick barrier, as a profile of one's own."""
    text = LOIHI2.read_text(encoding="utf-8")
    for name, value in limits.items():
        text = re.sub(rf"(?m)^({name} *= {{ value =) \d+(, low = \d+, high = \d+)?", rf"\1 {value}", text)
    text = text.replace("{ value = 200, low = 12.7, high = 200,", f"{{ value = {barrier},")
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.fixture
def run(capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line in a folder with net.nir and toy.toml: arguments -> (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    nir_file.write(network(), "net.nir")
    toy(Path("toy.toml"), neurons=100)

    def call(*args: object) -> tuple[int, str, str]:
        code = console.run(cli, ["map", "net.nir", "--dt", str(DT_S), "--steps", "4", *map(str, args)])
        out = capsys.readouterr()
        return code, out.out, out.err

    return call


def mapped(folder: Path, limits: dict[str, int], graph: nir.NIRGraph | None = None, **settings: Any) -> dict[str, Any]:
    nir_file.write(graph or network(), folder / "net.nir")
    return map_model(folder / "net.nir", toy(folder / "toy.toml", **limits), **{**SETTINGS, **settings})


def job_of(folder: Path) -> Job:
    return prepare(folder / "net.nir", **SETTINGS)


# the page


def page(out: str) -> str:
    return "\n".join(line.rstrip() for line in out.splitlines())


def test_page_of_a_mapping(golden: Callable[[str], None], run: Run) -> None:
    code, out, err = run("--target", "toy.toml", "--input", "random:0.3", "--objective", "cores", "--explain")
    assert code == 0
    golden(page(out))
    assert err.splitlines()[0] == "map: read and quantise" and "map: activity of 16 samples" in err


def test_the_page_in_the_docs_is_the_one_that_is_printed() -> None:
    here = Path(__file__).parent
    shown = (here / "golden" / "test_page_of_a_mapping.txt").read_text(encoding="utf-8")
    assert f"```text\n{shown}```" in (here.parent / "docs" / "mapping.md").read_text(encoding="utf-8")


def test_a_file_without_inputs_is_mapped_with_every_neuron_alike_and_says_so(run: Run) -> None:
    code, out, err = run()
    assert code == 0
    assert "mapped for    edp, every neuron alike: net.nir records no input" in out
    assert "activity" not in err
    code, out, _ = run("--input", "random", "--profile-activity", 0, "--samples", 3)
    assert code == 0
    assert "mapped for    edp, every neuron alike: no sample is to be looked at" in out
    assert "counted on    the activity of 3 samples of random:0.1, seed 0" in out


def test_an_input_that_is_named_and_cannot_be_used_ends_the_command(run: Run) -> None:
    code, _, err = run("--input", "random:7")
    assert code == 2 and "the rate must be a number from 0 to 1" in err


def test_what_does_not_fit_ends_with_1_and_one_line(run: Run, tmp_path: Path) -> None:
    toy(tmp_path / "tiny.toml", neurons=10, cores=2)
    code, out, err = run("--target", "tiny.toml", "--chips", 1)
    assert (code, out) == (1, "")
    (line,) = [line for line in err.splitlines() if not line.startswith("map: ")]
    assert re.fullmatch(
        r"error: the network needs \d+ cores, loihi2 has 2; the largest is layer 'n[13]' with \d+ cores: "
        "make it smaller, or allow more chips",
        line,
    )


def test_a_part_of_a_readout_says_why_it_is_one(tmp_path: Path) -> None:
    doc = mapped(tmp_path, {"in_axons": 100, "neurons": 90}, readout(), explain=True)
    parts = [row for row in doc["populations"] if ".part" in row["name"]]
    assert len(parts) == 3
    assert all(
        row["why"][0].startswith("One of 3 parts of readout n3, which the host adds up: input axons 300 > 100")
        for row in parts
    )


# the document


def test_the_same_command_prints_the_same_bytes(run: Run) -> None:
    args = ("--target", "toy.toml", "--input", "random:0.3", "--iterations", 2, "--explain", "--json")
    first, again = (json.loads(run(*args)[1]) for _ in range(2))
    assert first.pop("run").keys() == again.pop("run").keys() == {"seconds"}
    assert json.dumps(first) == json.dumps(again)


def test_json_is_one_document_and_the_file_holds_the_same(run: Run) -> None:
    code, out, err = run("--target", "toy.toml", "--json", "-o", "mapping.json", "--svg", "cores.svg")
    assert (code, err) == (0, "")
    doc = json.loads(out)
    assert doc == json.loads(Path("mapping.json").read_text()) and doc["schema"] == SCHEMA == "snnergy.map/1"
    ElementTree.parse("cores.svg")
    assert run("-o", "net.nir")[0] == 2


def neurons(s: dict[str, Any], shape: tuple[int, ...]) -> list[int]:
    if "ranges" in s:
        return [k for low, high in s["ranges"] for k in range(low, high)]
    ranges = (range(low, high) for low, high in zip(s["low"], s["high"], strict=True))
    return [int(np.ravel_multi_index(at, shape)) for at in product(*ranges)]


def test_every_neuron_sits_on_one_core_and_rows_agree_with_cores(tmp_path: Path) -> None:
    doc = mapped(tmp_path, {"neurons": 100}, spec="random:0.3")
    net = job_of(tmp_path).quant
    shapes = {p.name: p.shape for p in net.populations}
    held: dict[str, list[int]] = {name: [] for name in shapes}
    for core in doc["cores"]:
        for s in core["slices"]:
            held[s["population"]] += neurons(s, shapes[s["population"]])
        assert core["usage"]["neurons"] == sum(len(neurons(s, shapes[s["population"]])) for s in core["slices"])
        assert core["usage_share"]["neurons"] == core["usage"]["neurons"] / 100
    assert {name: sorted(found) for name, found in held.items()} == {n: [*range(prod(s))] for n, s in shapes.items()}
    assert doc["placement"]["cores"] == len(doc["cores"])
    assert doc["slowest_core_ns"] == max(core["busy_ns"] for core in doc["cores"]) <= doc["step"]["nominal"]
    for row in doc["populations"]:
        mine = [core for core in doc["cores"] if any(s["population"] == row["name"] for s in core["slices"])]
        assert row["cores"] == len(mine) == sum(here["cores"] for here in row["where"])
        assert row["neurons"] == prod(row["shape"])
        assert row["busiest"]["busy_ns"] == max(core["busy_ns"] for core in mine)
        assert row["tightest"]["share"] == max(share for core in mine for share in core["usage_share"].values())
        (here,) = row["where"]
        assert here["x"] == [min(c["x"] for c in mine), max(c["x"] for c in mine)]
        assert prod(row["smallest_tile"]) <= prod(row["largest_tile"]) <= 100


def test_every_neuron_alike_is_an_activity_that_an_engine_could_return(tmp_path: Path) -> None:
    nir_file.write(readout(), tmp_path / "net.nir")
    net = job_of(tmp_path).quant
    verify_activity(net, every_neuron_alike(net))


# explanations


def rates_of(folder: Path, samples: int = 16) -> tuple[Job, dict[str, np.ndarray]]:
    job = job_of(folder)
    inputs = load_inputs(job, "random:0.3", None).first(samples)
    activity = engine.run(job.quant, job.quant.encode(inputs.real)).activity
    per = 1 / (activity.samples * activity.steps)
    return job, {name: counts.sum(axis=0) * per for name, counts in activity.spikes.items()}


def sentences(doc: dict[str, Any]) -> dict[str, str]:
    return {row["name"]: " ".join(row["why"]) for row in doc["populations"]}


def test_messages_and_hops_that_are_explained_are_those_of_a_count_neuron_by_neuron(tmp_path: Path) -> None:
    doc = mapped(tmp_path, {"neurons": 60}, spec="random:0.3", explain=True)
    job, rates = rates_of(tmp_path)
    shapes = {p.name: p.shape for p in job.quant.populations}
    on = {
        (s["population"], n): core for core in doc["cores"] for s in core["slices"]
        for n in neurons(s, shapes[s["population"]])
    }  # fmt: skip
    said = 0
    for e in job.quant.projections:
        if e.source in shapes:
            messages = hops = 0.0
            for n, rate in enumerate(rates[e.source]):
                reached = np.flatnonzero(e.map.matrix().toarray()[:, n])
                cores = {(c["chip"], c["core"]): c for c in (on[e.target, int(k)] for k in reached)}
                home = on[e.source, n]
                messages += rate * len(cores)
                hops += rate * sum(abs(c["x"] - home["x"]) + abs(c["y"] - home["y"]) for c in cores.values())
            assert messages
            says = f"All its messages go to {e.target}: {si(messages, '')} a step, {hops / messages:.1f} hops each."
            assert says in sentences(doc)[e.source]
            said += 1
    assert said == 2


def test_a_limit_that_is_given_as_the_reason_would_be_passed_with_a_tile_less(tmp_path: Path) -> None:
    doc = mapped(tmp_path, {"neurons": 100}, spec="random:0.3", objective="cores", explain=True)
    row, says = doc["populations"][0], sentences(doc)["n1"]
    assert row["cores"] == 3  # 256 neurons
    assert says.startswith("3 tiles: with 2, neurons 128 > 100 of a core.")
    last = doc["populations"][-1]
    assert last["why"][0].startswith("1 tile: ")


def test_blocks_of_channels_are_those_whose_kernels_fill_a_core(tmp_path: Path) -> None:
    conv = nir.Conv2d((8, 8), np.random.default_rng(3).uniform(0.1, 1, (4, 2, 3, 3)), 1, 1, 1, 1, np.zeros(4))
    doc = mapped(tmp_path, {"synapse_bytes": 50}, chain((2, 8, 8), conv, lif((4, 8, 8))), explain=True)
    (row,) = doc["populations"]
    each = -(-(2 + 18) // 4) * 4  # a header of 2 bytes and 2 x 3 x 3 weights, in whole words
    assert {tile[0] for tile in (row["smallest_tile"], row["largest_tile"])} == {2} and 2 * each <= 50 < 4 * each
    assert f"2 blocks of channels: with 1, one pixel has synaptic memory {4 * each} > 50 of a core." in row["why"]


def test_a_time_that_is_given_as_the_reason_is_that_of_the_neurons_themselves(tmp_path: Path) -> None:
    """The least that the busiest of n - 1 tiles can take is the n - 1st part; the most is all of it."""
    doc = mapped(tmp_path, {"barrier": 1}, spec="random:0.3", objective="latency", explain=True)
    job, rates = rates_of(tmp_path)
    time = load("loihi2").time_ns
    assert time.synop
    found = 0
    for e in job.quant.projections:
        says = re.search(r"^(\d+) tiles: with (\d+) the busiest would take ([\d.]+) (n|µ)s", sentences(doc)[e.target])
        if says:
            tiles, fewer = int(says[1]), int(says[2])
            said_ns = float(says[3]) * (1000 if says[4] == "µ" else 1)
            synops = ((e.map.matrix().toarray() != 0) @ rates[e.source]).sum() * time.synop.value
            row = next(row for row in doc["populations"] if row["name"] == e.target)
            assert row["cores"] == tiles == fewer + 1 and said_ns > 0.995 * doc["slowest_core_ns"]
            assert said_ns >= 0.995 * synops / fewer
            found += 1
    assert found


def test_cores_that_are_said_to_be_shared_are(tmp_path: Path) -> None:
    doc = mapped(tmp_path, {"neurons": 300}, spec="random:0.3", objective="cores", explain=True)
    for row in doc["populations"]:
        here = [core for core in doc["cores"] if any(s["population"] == row["name"] for s in core["slices"])]
        others = {s["population"] for core in here for s in core["slices"]} - {row["name"]}
        says = " ".join(row["why"])
        assert ("It shares no core." in says) == (not others)
        assert all(name in says for name in others)


def test_without_explain_nothing_is_explained(tmp_path: Path) -> None:
    assert not any(row["why"] for row in mapped(tmp_path, {})["populations"])


def test_chips_are_at_most_those_that_are_allowed(tmp_path: Path) -> None:
    limits = {"neurons": 40, "cores": 8}
    doc = mapped(tmp_path, limits)
    assert doc["placement"]["chips"] == 2 and {core["chip"] for core in doc["cores"]} == {0, 1}
    with pytest.raises(DoesNotFit):
        mapped(tmp_path, limits, chips=1)


# tiles of one size, dealt tiles, parts


def test_tiles_that_are_given_are_those_that_are_mapped_and_their_unused_slots_count(run: Run) -> None:
    Path("tiles.toml").write_text("[tiles]\nn1 = [4, 5, 5]\nn3 = [4, 8, 3]\nn6 = [6]\n", encoding="utf-8")
    code, out, _ = run("--target", "toy.toml", "--input", "random:0.3", "--tiling", "tiles.toml", "--explain", "--json")
    doc = json.loads(out)
    assert code == 0 and doc["partition"] == "given" and doc["placement"]["cores"] == 4 + 3 + 1
    rows = {row["name"]: row for row in doc["populations"]}
    assert rows["n1"]["why"][0] == "4 tiles of one size; 144 of their slots hold no neuron."
    assert rows["n3"]["why"][0] == "3 tiles of one size; 32 of their slots hold no neuron."
    assert sorted(core["usage"]["neurons"] for core in doc["cores"]) == [6, 96, 96, 96, *[100] * 4]
    synops = {}
    for partition in ("free", "fixed"):
        code, out, _ = run("--target", "toy.toml", "--input", "random:0.3", "--partition", partition, "--json")
        cores = json.loads(out)["cores"]
        synops[partition] = sum(core["synops"] for core in cores)
    assert code == 0 and synops["free"] <= synops["fixed"] < sum(core["synops"] for core in doc["cores"])


def test_a_tiling_of_another_network_ends_the_command(run: Run) -> None:
    Path("tiles.json").write_text('{"tiles": {"conv1": [1, 1, 1]}}', encoding="utf-8")
    code, _, err = run("--tiling", "tiles.json")
    assert code == 2 and "error: the tiling names 'conv1'; the populations are n1, n3, n6" in err


def test_a_chip_of_spikes_takes_a_network_whose_input_sends_spikes(run: Run) -> None:
    code, _, err = run("--target", "loihi1-sim", "--profile-activity", "0")
    assert (
        code == 1 and "input 'in' sends 8-bit values, loihi1 carries 1-bit spikes: encode this input as spikes" in err
    )
    code, out, _ = run("--target", "loihi1-sim", "--input", "random:0.3", "--input-bits", "1", "--json")
    assert code == 0 and json.loads(out)["input_bits"] == 1


def test_parts_of_a_hypergraph_are_mapped_and_said_to_be_dealt(run: Run) -> None:
    pytest.importorskip("mtkahypar")
    code, out, _ = run(
        "--target", "toy.toml", "--input", "random:0.3", "--partition", "hypergraph", "--explain", "--json"
    )
    doc = json.loads(out)
    assert code == 0 and doc["partition"] == "hypergraph"
    why = [row["why"][0] for row in doc["populations"]]
    assert any(line.startswith("Dealt over ") for line in why)
    assert sum(b - a for core in doc["cores"] for s in core["slices"] for a, b in s.get("ranges", [])) == 256 * 2 + 6


# the picture


def test_the_picture_in_pixels_is_that_of_the_drawing(run: Run) -> None:
    pytest.importorskip("resvg_py")
    code, _, err = run("--target", "toy.toml", "--input", "random:0.3", "--png", "cores.png", "--svg", "cores.svg")
    assert code == 0 and "wrote cores.png" in err
    found = Path("cores.png").read_bytes()
    width, height = (int(ElementTree.parse("cores.svg").getroot().get(side, "0")) for side in ("width", "height"))
    assert found[:8] == b"\x89PNG\r\n\x1a\n"
    assert [int.from_bytes(found[k : k + 4], "big") for k in (16, 20)] == [2 * width, 2 * height]


def test_without_what_draws_pixels_one_line_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snnergy.deploy.picture.find_spec", lambda _: None)
    code, _, err = run("--png", "cores.png")
    assert code == 3 and "error: cores.png needs resvg-py, not installed" in err
    assert "pip install 'snnergy[png]', or --svg" in err


@pytest.mark.parametrize("metric", sorted(METRICS))
def test_the_picture_names_the_hottest_core(metric: str, tmp_path: Path) -> None:
    doc = mapped(tmp_path, {"neurons": 100}, spec="random:0.3")
    text = " ".join(e.text or "" for e in ElementTree.fromstring(heat(doc, metric)).iter() if e.tag.endswith("text"))
    found = METRICS[metric]
    hottest = max(doc["cores"], key=found.value)
    assert f"{found.says(found.value(hottest))}: chip {hottest['chip']} core {hottest['core']}" in text
    assert found.title in text and doc["statement"] in text
