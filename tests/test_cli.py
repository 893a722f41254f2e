"""The command line as a user meets it: exit codes, one-line errors, JSON that is JSON, help everywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from snnergy import console
from snnergy.cli import cli

pytest.importorskip("torch")


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """Run the command line in an empty folder: arguments -> (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*args: object) -> tuple[int, str, str]:
        code = console.run(cli, [str(a) for a in args])
        out = capsys.readouterr()
        return code, out.out, out.err

    return call


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A tiny model whose spike rates are not trivial, without training, and its export beside it."""
    import torch

    from snnergy import checkpoint, data
    from snnergy.config import preset
    from snnergy.model import SNNergy

    torch.manual_seed(7)
    net = SNNergy(preset("tiny")).train()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
            torch.nn.init.uniform_(module.weight, 0.8, 1.6)
            torch.nn.init.uniform_(module.bias, -0.2, 0.6)
    some = data.load("avdigits:val", 32)
    with torch.no_grad():
        for _ in range(3):
            net(torch.from_numpy(some.audio), torch.from_numpy(some.video))
    path = tmp_path_factory.mktemp("model") / "model.pt"
    checkpoint.save(path, net.eval(), {"dataset": "avdigits:test"})
    assert console.run(cli, ["export", str(path), "--samples", "2"]) == 0
    return path


def lines(text: str) -> list[str]:
    return text.strip().splitlines()


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_command_has_help_with_two_examples(name, run):
    code, out, _ = run(name, "--help")
    assert code == 0
    assert out.count(f"  snnergy {name}") >= 2


def test_the_two_commands_of_the_card_work_as_typed(run, model, monkeypatch):
    monkeypatch.chdir(model.parent)
    code, out, _ = run("export", "model.pt", "--to", "nir")
    assert code == 0
    assert lines(out)[0].startswith("wrote model.nir: ")
    assert "torch == NIR: 0 of " in out
    monkeypatch.chdir(model.parent)
    code, out, _ = run("deploy", "--target", "loihi2-sim", "--samples", "8", "--cross-check", "0")
    assert code == 0
    assert lines(out)[0] == "estimate: no hardware was used"
    assert "energy per inference" in out


def test_deploy_writes_the_report_that_later_tools_rely_on(run, model):
    options = ["--samples", 6, "--cross-check", 0, "--json", "-o", "r.json", "--html", "r.html"]
    code, out, _ = run("deploy", model.with_suffix(".nir"), *options)
    assert code == 0
    document = json.loads(out)
    assert document == json.loads(Path("r.json").read_text())
    assert {"schema", "tool", "target", "engine", "samples", "timesteps", "accuracy", "network", "placement", "cores",
            "layers", "energy", "latency", "edp", "provenance", "unpriced"} <= document.keys()  # fmt: skip
    assert document["schema"] == "snnergy.report/2"
    assert set(document["network"]) >= {"neurons", "synapses", "populations", "projections", "depth"}
    assert set(document["placement"]) >= {"chips", "cores"}
    core = {"chip", "core", "x", "y", "populations", "neurons", "synops", "updates", "spikes", "messages", "hops"}
    assert all(core <= row.keys() and "total" in row["energy_pj"] for row in document["cores"])
    for part in ("total", "dynamic", "static", "host", "io"):
        e = document["energy"][part]
        assert e["low"] <= e["nominal"] <= e["high"] and e["unit"] == "pJ"
    dynamic = document["energy"]["dynamic"]["nominal"]
    for table in ("cores", "layers"):
        assert sum(row["energy_pj"]["total"] for row in document[table]) == pytest.approx(dynamic, rel=1e-9)
    assert document["samples"] == 6 and document["timesteps"] == 4
    assert Path("r.html").read_text().startswith("<!doctype html>")
    code, out, _ = run("report", "r.json")
    assert code == 0 and "estimate: no hardware was used" in out


@pytest.mark.lava
def test_deploy_on_lava_gives_the_same_counters_as_native(run, model):
    pytest.importorskip("lava.magma")
    documents = []
    for engine in ("native", "lava"):
        code, out, _ = run("deploy", model.with_suffix(".nir"), "--samples", 2, "--engine", engine, "--json")
        assert code == 0
        documents.append(json.loads(out))
    native, lava = documents
    assert native["counters"] == lava["counters"]
    assert native["cores"] == lava["cores"]
    assert "0 of " in lava["cross_check"] and "0 of " in native["cross_check"]


@pytest.mark.lava
def test_verify_proves_every_pair_and_exits_0(run, model):
    code, out, err = run("verify", model, "--samples", 2, "--lava-samples", 1)
    assert (code, err) == (0, "")
    exact = ["torch == NIR", "NIR == Net", "quant-torch == native", "native == Lava"]
    assert [line.split(":")[0] for line in lines(out) if " == " in line] == exact
    assert all(" 0 of " in line for line in lines(out) if " == " in line)


def test_verify_finds_a_changed_graph_and_exits_1(run, model, monkeypatch):
    from snnergy.deploy import export_model

    honest = export_model.graph_of

    def changed(path):
        net, graph = honest(path)
        graph.nodes["stages_1_audio_mlp_up"].v_threshold *= 0.5
        return net, graph

    monkeypatch.setattr(export_model, "graph_of", changed)
    code, out, _ = run("verify", model, "--samples", 2, "--lava-samples", 0)
    assert code == 1
    first = lines(out)[0]
    assert "first at sample 0, step 0, population 'stages_1_audio_mlp_up', neuron [" in first


def test_verify_prints_the_populations_and_their_rates(run, model):
    code, out, _ = run("verify", model, "--samples", 2, "--lava-samples", 0)
    assert code == 0
    rows = {line.split()[0]: line.split()[1:] for line in lines(out) if line.startswith(" ")}
    assert rows["readout"][0] == "10" and rows["stages_0_audio_embed_spike1"][0] == "4,096"
    assert all(cell.endswith("%") for cell in rows["stages_0_audio_embed_spike1"][1:])


def test_verify_in_json_is_one_document_and_the_same_every_time(run, model):
    command = ("verify", model, "--samples", 2, "--lava-samples", 0, "--json")
    code, out, err = run(*command)
    assert (code, err) == (0, "") and run(*command)[1] == out
    document = json.loads(out)
    assert document["equal"] is document["ok"] is True
    agreement = {(p["left"], p["right"]): p["agreement"] for p in document["pairs"]}
    assert agreement.pop(("net", "native")) < 1 and agreement.pop(("quant-float", "native")) < 1
    assert agreement == {("torch", "nir"): 1.0, ("nir", "net"): 1.0, ("quant-torch", "native"): 1.0}


def test_verify_asks_for_agreement_only_where_told_to_and_explains_what_falls_short(run, model):
    command = ("verify", model.with_suffix(".nir"), "--samples", 2, "--lava-samples", 0, "--pair", "net:native")
    code, out, _ = run(*command)
    assert code == 0 and "net and native first differ at sample 0, step " in out
    code, out, _ = run(*command, "--min-agreement", 1)
    assert code == 1 and "%, below 100.0000%" in lines(out)[0]


def test_verify_shrinks_a_difference_to_a_case_that_it_replays(run, model, monkeypatch):
    from snnergy.deploy import engine

    honest = engine.run

    def wrong(net, inputs, **settings):
        """A membrane of exactly the threshold fires."""
        from dataclasses import replace

        low = tuple(replace(p, threshold=(p.threshold - 1).clip(0)) for p in net.populations)
        return honest(replace(net, populations=low), inputs, **settings)

    command = (
        "verify",
        model,
        "--samples",
        1,
        "--lava-samples",
        0,
        "--pair",
        "quant-torch:native",
        "--shrink",
        "x.npz",
    )
    with monkeypatch.context() as broken:
        broken.setattr(engine, "run", wrong)
        code, out, err = run(*command)
        assert code == 1 and "the difference is in the neuron itself: native did not do what its step says" in out
        assert lines(err)[-1].startswith("wrote x.npz: 1 populations, ")
        assert lines(err)[-1].endswith("replay it: snnergy verify --case x.npz")
        assert run("verify", "--case", "x.npz")[0] == 1
    code, out, _ = run("verify", "--case", "x.npz")
    assert code == 0 and lines(out)[0].startswith("quant-torch == native: 0 of ")
    assert run(*command)[2] == "nothing to shrink: no pair that has to be exact differs\n"


@pytest.mark.parametrize(
    ("args", "code", "error"),
    [
        (["verify"], 2, "name a .pt or .nir file, or --case and a saved one"),
        (["verify", "--case", "none.npz"], 2, "cannot read none.npz: No such file or directory"),
        (["deploy", "none.nir"], 2, "no file none.nir"),
        (["deploy"], 2, "no file model.nir"),
        (["verify", "none.pt"], 2, "no file none.pt"),
        (["export", "none.pt"], 2, "no file none.pt"),
        (["check", "text.nir"], 2, "text.nir is not a NIR file: it is not HDF5 or is cut short at the front"),
        (["verify", "text.pt"], 2, "text.pt is not a PyTorch checkpoint (it is no zip file)"),
        (
            ["train", "--preset", "tyni"],
            2,
            "Invalid value for '--preset': 'tyni' is not one of 'tiny', 'chip', 'paper', 'paper512'.",
        ),
        (["deploy", "--nosuch"], 2, None),
        (["nosuch"], 2, "No such command 'nosuch'."),
        (["report", "text.json"], 2, None),
    ],
)
def test_a_users_mistake_is_one_line_with_the_right_exit_code(run, args, code, error):
    for name in ("text.nir", "text.pt", "text.json"):
        Path(name).write_text("hello")
    got, out, err = run(*args)
    assert got == code
    assert out == ""
    first, *rest = lines(err)
    assert first == f"error: {error}" if error else first.startswith("error: ")
    assert len(rest) <= 1 and all(line.startswith("help: ") for line in rest)


def test_targets_that_do_not_exist_or_are_not_here(run, model):
    nir = model.with_suffix(".nir")
    code, _, err = run("deploy", nir, "--target", "loihi2sim")
    assert (code, lines(err)) == (2, ["error: no target 'loihi2sim'; did you mean 'loihi2-sim'?"])
    code, _, err = run("deploy", nir, "--target", "loihi2")
    assert code == 3
    assert len(lines(err)) == 1
    assert "use --target loihi2-sim" in err


def test_a_network_that_does_not_fit_is_an_answer_not_a_failure(run, model):
    code, out, err = run("check", model.with_suffix(".nir"), "--target", "loihi1-sim")
    assert code == 1
    assert "does not fit loihi1-sim: " in out
    code, out, err = run("deploy", model.with_suffix(".nir"), "--target", "loihi1-sim")
    assert (code, out) == (1, "")
    assert lines(err)[0].startswith("error: ")


def test_a_checkpoint_given_to_deploy_is_told_how_to_become_nir(run, model):
    code, _, err = run("deploy", model)
    assert code == 2
    assert lines(err)[1] == f"help: snnergy export {model} --to nir"


def test_nan_weights_are_refused_and_nothing_is_written(run, model, tmp_path):
    import torch

    document = torch.load(model, weights_only=True)
    next(iter(document["state"].values())).view(-1)[0] = float("nan")
    torch.save(document, tmp_path / "nan.pt")
    code, _, err = run("export", "nan.pt")
    assert code == 2
    assert len(lines(err)) == 1 and "NaN" in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["nan.pt"]


def test_a_failed_export_leaves_no_file(run, model, tmp_path, monkeypatch):
    from snnergy.deploy import export_model

    honest = export_model.torch_pair

    def unequal(*args):
        from dataclasses import replace

        from snnergy.deploy.compare import Difference

        return replace(honest(*args), differing=1, first=Difference(0, 0, "x", (0,), 0.0, 1.0))

    monkeypatch.setattr(export_model, "torch_pair", unequal)
    code, _, err = run("export", model, "-o", "out.nir", "--samples", 1)
    assert code == 1
    assert lines(err)[0].startswith("error: the exported graph is not the trained network: ")
    assert list(tmp_path.iterdir()) == []


def test_our_own_bug_ends_in_a_crash_file_not_a_traceback(run, monkeypatch):
    from snnergy.deploy import doctor

    monkeypatch.setattr(doctor, "examine", lambda: 1 / 0)
    code, _, err = run("doctor")
    assert code == 4
    path = Path(lines(err)[0].rsplit(" ", 1)[1])
    assert "ZeroDivisionError" in path.read_text()
    path.unlink()


def test_an_interrupt_exits_130(run, monkeypatch):
    from snnergy.deploy import doctor

    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "examine", interrupted)
    code, _, err = run("doctor")
    assert (code, err.strip()) == (130, "error: interrupted")


def test_doctor_and_targets_speak_json(run):
    code, out, _ = run("doctor", "--json")
    assert code in (0, 3)
    assert {row["name"] for row in json.loads(out)} >= {"python", "nir", "torch", "lava-nc"}
    code, out, _ = run("targets", "--json")
    assert code == 0
    assert [row["name"] for row in json.loads(out)][:3] == ["loihi2-sim", "loihi1-sim", "loihi2"]


@pytest.mark.parametrize("args", [["--help"], ["doctor"], ["check", "model.nir"], ["deploy", "--samples", "2"]])
def test_neither_torch_nor_lava_is_needed_for(args, model, tmp_path):
    """In a fresh interpreter where importing either fails."""
    script = (
        "import sys\n"
        "class No:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'snntorch', 'lava'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, No())\n"
        "import importlib.metadata as m\n"
        "real = m.version\n"
        "def version(name):\n"
        "    if name in ('torch', 'snntorch', 'lava-nc'):\n"
        "        raise m.PackageNotFoundError(name)\n"
        "    return real(name)\n"
        "m.version = version\n"
        "from snnergy.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    environment = {**os.environ, "NO_COLOR": "1"}
    done = subprocess.run([sys.executable, "-c", script, *args], cwd=model.parent, env=environment,
                          capture_output=True, text=True, timeout=240)  # fmt: skip
    assert done.returncode == (3 if args == ["doctor"] else 0), done.stderr
    assert "Traceback" not in done.stderr
    if args == ["doctor"]:
        assert "pip install --ignore-requires-python --no-deps lava-nc==0.10.0" in done.stdout
    if args[0] == "deploy":
        assert "Lava is not installed" in done.stdout


def test_what_the_options_of_a_mapping_offer_is_what_the_mapper_has() -> None:
    from snnergy.cli import ITERATIONS, OBJECTIVE, PROFILE_ACTIVITY
    from snnergy.deploy.deploy_model import PROFILED
    from snnergy.deploy.objective import OBJECTIVES

    @click.command()
    @OBJECTIVE
    @PROFILE_ACTIVITY
    @ITERATIONS
    def command() -> None: ...

    options = {option.name: option for option in command.params}
    assert tuple(options["objective"].type.choices) == OBJECTIVES
    assert options["profile_activity"].default == PROFILED
