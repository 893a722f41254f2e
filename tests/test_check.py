"""``snnergy check`` as a user meets it: the page, JSON, SARIF, exit codes, several targets, what cannot be lowered."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
from builders import DT_S, chain, graph, lif, threshold
from rich.console import Console

from snnergy import console
from snnergy.cli import cli
from snnergy.deploy import check_text, sarif
from snnergy.deploy.check_model import Checked, check_model, lowered
from snnergy.deploy.rules import RULES
from snnergy.errors import BadInput
from snnergy.export import nir_file

SCHEMA = json.loads((Path(__file__).parent.parent / "docs" / "check.schema.json").read_text(encoding="utf-8"))
Run = Callable[..., tuple[int, str, str]]


def conv(before: int, after: int, kernel: int, side: int) -> nir.Conv2d:
    weight = np.linspace(0.1, 1, after * before * kernel**2).reshape(after, before, kernel, kernel)
    return nir.Conv2d((side, side), weight, 1, kernel // 2, 1, 1, np.zeros(after))


def small() -> nir.NIRGraph:
    """2 x 6 x 6 pixels -> 4 maps -> 3 neurons."""
    return chain((2, 6, 6), conv(2, 4, 3, 6), lif((4, 6, 6)), nir.Flatten({"input": np.array((4, 6, 6))}, 0, -1),
                 nir.Linear(np.ones((3, 144))), lif((3,)))  # fmt: skip


def wide() -> nir.NIRGraph:
    """A neuron of 5,184 inputs, which no Loihi takes."""
    return chain((576, 4, 4), conv(576, 2, 3, 4), lif((2, 4, 4)))


@pytest.fixture
def run(capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line in a folder with small.nir and wide.nir: arguments -> (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    for name, found in (("small", small()), ("wide", wide())):
        nir_file.write(found, f"{name}.nir")

    def call(*args: object) -> tuple[int, str, str]:
        code = console.run(cli, ["check", *map(str, args)])
        out = capsys.readouterr()
        return code, out.out, out.err

    return call


def checked(found: nir.NIRGraph, folder: Path, *targets: str, **settings: Any) -> Checked:
    nir_file.write(found, folder / "net.nir")
    return check_model(folder / "net.nir", targets or ("loihi2-sim",), None, **{"dt_s": DT_S, "steps": 4, **settings})


def page(found: Checked) -> str:
    """What is printed, without the spaces that end a line."""
    shown = Console(width=120, highlight=False)
    with shown.capture() as text:
        shown.print(check_text.text(found))
    return "\n".join(line.rstrip() for line in text.get().splitlines())


# the page


def test_page_of_a_network_that_fits(golden: Callable[[str], None], tmp_path: Path) -> None:
    golden(page(checked(small(), tmp_path)))


def test_page_of_a_network_that_does_not_fit(golden: Callable[[str], None], tmp_path: Path) -> None:
    golden(page(checked(wide(), tmp_path, "loihi1-sim")))


def test_page_of_several_targets(golden: Callable[[str], None], tmp_path: Path) -> None:
    golden(page(checked(wide(), tmp_path, "loihi2-sim", "loihi1-sim", "speck-sim")))


def test_page_of_nodes_that_are_not_lowered(golden: Callable[[str], None], tmp_path: Path) -> None:
    golden(page(checked(strange(), tmp_path)))


# exit codes


def test_exit_codes(run: Run) -> None:
    assert run("small.nir")[0] == 0
    assert run("wide.nir", "--target", "loihi1-sim")[0] == 1
    assert run("small.nir", "--target", "loihi2-sim,hala-point")[0] == 0
    assert run("small.nir", "--target", "loihi2-sim,loihi1-sim")[0] == 1
    assert run("none.nir")[0] == 2
    assert run("small.nir", "--weight-bits", 9)[0] == 2
    code, out, err = run("small.nir", "--target", "loihi2-sim,loihi9")
    assert (code, out) == (2, "") and err.startswith("error: no target 'loihi9'")
    code, _, err = run("model.pt")
    assert code == 2 and "snnergy export model.pt" in err
    code, _, err = run("small.nir", "--dt", "1e9")
    assert (code, err) == (2, "error: steps of 1e+09 s; 1e-12 to 1e+06 s are run\n")


def test_chips_that_are_too_few_and_as_many_as_it_takes(run: Run, tmp_path: Path) -> None:
    n = 500_000  # of one input each: 123 cores of 4,096
    row = np.zeros((1, 1, 1, 1)) + 1.0
    nir_file.write(chain((1, 500, 1000), nir.Conv2d((500, 1000), row, 1, 0, 1, 1, np.zeros(1)),
                         threshold((1, 500, 1000), 0.5)), tmp_path / "many.nir")  # fmt: skip
    code, out, _ = run("many.nir", "--chips", 1)
    assert code == 1 and f"{n:,}" in out
    assert "network: chips 2 > 1, for" not in out and "network: chips 2 > 1 (2x): --chips 2, at least" in out
    assert run("many.nir", "--chips", 2)[0] == 0


def test_a_file_that_records_no_steps_is_checked_and_placed_only_with_them(run: Run) -> None:
    code, out, _ = run("small.nir", "--json")
    assert (code, json.loads(out)["steps"]) == (0, None)
    code, _, err = run("small.nir", "--place")
    assert code == 2 and "pass --steps" in err


def test_place_says_on_how_many_chips_and_cores_or_why_not(run: Run) -> None:
    code, out, _ = run("small.nir", "--place", "--steps", 4)
    assert code == 0 and "fits loihi2-sim: placed on 1 chip, 1 core; at least 1 chip, 1 core" in out
    code, out, _ = run("wide.nir", "--place", "--steps", 4, "--target", "loihi1-sim", "--json")
    (target,) = json.loads(out)["targets"]
    assert code == 1 and target["placed"]["chips"] is None
    assert "loihi1" in target["placed"]["reason"]
    _, out, _ = run("wide.nir", "--place", "--steps", 4, "--target", "loihi1-sim,loihi2-sim")
    assert "does not fit loihi1-sim: " in out and "fits loihi2-sim: placed on " in out


def test_a_network_that_no_scale_fits_is_the_mappers_to_refuse(tmp_path: Path) -> None:
    found = chain((2,), nir.Linear(np.full((1, 2), 1e-3)), lif((1,), threshold=1e6))
    fine = checked(found, tmp_path)
    assert fine.fits
    placed = checked(found, tmp_path, placing=True).verdicts[0].placed
    assert placed and placed.reason == ("population 'n1' fits no scale: its inputs can outweigh the 24-bit membrane")


# JSON


def valid(document: Any, schema: dict[str, Any] = SCHEMA) -> None:
    """By the package jsonschema where it is installed; by what of JSON Schema ours uses in any case."""
    try:
        import jsonschema  # pyright: ignore[reportMissingImports, reportMissingModuleSource]
    except ImportError:
        pass
    else:
        jsonschema.validate(document, schema)
    _valid(document, schema, "$")


def _valid(value: Any, schema: dict[str, Any], where: str) -> None:
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool, "null": type(None),
             "number": (int, float)}  # fmt: skip
    known = {"$schema", "title", "description", "type", "additionalProperties", "required", "properties", "$defs",
             "items", "minItems", "$ref", "anyOf", "enum"}  # fmt: skip
    assert schema.keys() <= known, where
    if "$ref" in schema:
        _valid(value, SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]], where)
    if "anyOf" in schema:
        assert any(_holds(value, option, where) for option in schema["anyOf"]), where
    if "enum" in schema:
        assert value in schema["enum"], where
    if "type" in schema:
        names = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
        fits = any(isinstance(value, kinds[n]) and (n == "boolean" or not isinstance(value, bool)) for n in names)
        assert fits, (where, value)
    if isinstance(value, dict) and "properties" in schema:
        assert schema["additionalProperties"] is False and value.keys() == set(schema["required"]), where
        assert value.keys() == schema["properties"].keys(), where
        for key, part in value.items():
            _valid(part, schema["properties"][key], f"{where}.{key}")
    if isinstance(value, list):
        assert len(value) >= schema.get("minItems", 0), where
        for k, part in enumerate(value):
            _valid(part, schema["items"], f"{where}[{k}]")


def _holds(value: Any, schema: dict[str, Any], where: str) -> bool:
    try:
        _valid(value, schema, where)
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize(
    "args",
    [
        ("small.nir",),
        ("wide.nir", "--target", "loihi1-sim,speck-sim,truenorth-sim,spinnaker2-sim,hala-point", "--chips", "1"),
        ("small.nir", "--place", "--steps", "3"),
        ("wide.nir", "--place", "--steps", "3", "--target", "loihi1-sim"),
        ("strange.nir",),
    ],
)
def test_the_json_has_the_published_form(args: tuple[str, ...], run: Run) -> None:
    nir_file.write(strange(), "strange.nir")
    code, out, err = run(*args, "--json")
    assert code in (0, 1) and err == ""
    document = json.loads(out)
    valid(document)
    assert document["fits"] == all(t["fits"] for t in document["targets"]) == (code == 0)
    for target in document["targets"]:
        assert target["violations"] == sum(not f["ok"] for f in target["findings"])
        for f in target["findings"]:
            assert f["ok"] == (f["says"] == "") and (f["ok"] or not f["over"] or f["over"] >= 1)
            assert f["ok"] or f["have"] is not None


def test_the_schema_names_every_rule() -> None:
    assert SCHEMA["$defs"]["finding"]["properties"]["rule"]["enum"] == [rule.__name__ for rule in RULES]


def test_a_wrong_document_is_not_of_the_published_form(tmp_path: Path) -> None:
    document = checked(small(), tmp_path).to_dict()
    valid(document)
    for change in ({"fits": 1}, {"steps": "4"}, {"targets": []}, {"more": 1}):
        with pytest.raises(AssertionError):
            _valid({**document, **change}, SCHEMA, "$")


# SARIF


def test_sarif_has_every_rule_and_a_result_a_violation(run: Run) -> None:
    code, _, err = run("wide.nir", "--target", "loihi1-sim,loihi2-sim", "--sarif", "check.sarif")
    assert (code, err) == (1, "")
    log = json.loads(Path("check.sarif").read_text(encoding="utf-8"))
    assert log["version"] == "2.1.0" and log["$schema"].endswith("sarif-schema-2.1.0.json")
    (found,) = log["runs"]
    rules = found["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == [rule.__name__ for rule in RULES]
    assert all(rule["shortDescription"]["text"] for rule in rules)
    assert found["artifacts"] == [{"location": {"uri": "wide.nir"}}]
    names = [(r["ruleId"], r["locations"][0]["logicalLocations"][0]["name"]) for r in found["results"]]
    assert names == [("in_axons", "n1"), ("spike_bits", "in")]
    for result in found["results"]:
        assert result["level"] == "error" and result["message"]["text"].startswith("loihi1-sim: ")
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        place = result["locations"][0]["physicalLocation"]["artifactLocation"]
        assert found["artifacts"][place["index"]]["location"]["uri"] == place["uri"]


def test_sarif_of_a_network_that_fits_has_no_results_and_quotes_the_path(tmp_path: Path) -> None:
    found = checked(small(), tmp_path)
    log = json.loads(sarif.document(found))
    assert log["runs"][0]["results"] == []
    assert log["runs"][0]["artifacts"][0]["location"]["uri"].startswith("file:///")


def test_sarif_of_a_network_that_was_not_placed_says_why(tmp_path: Path) -> None:
    found = checked(wide(), tmp_path, "loihi1-sim", placing=True)
    last = json.loads(sarif.document(found))["runs"][0]["results"][-1]
    assert last["message"]["text"].startswith("loihi1-sim: not placed: ")


def test_sarif_does_not_overwrite_the_network(run: Run) -> None:
    code, _, err = run("small.nir", "--sarif", "small.nir")
    assert code == 2 and "the same command reads or writes it already" in err


# what cannot be lowered


def strange() -> nir.NIRGraph:
    """in -> a -> (a step and a half later) -> b, and a -> c with a negative gain, and a -> d."""
    ones = nir.Linear(np.ones((2, 2)))
    odd = nir.Delay(np.full(2, 1.5e-4))
    return graph(
        {
            "in": nir.Input({"input": np.array([2])}), "wa": ones, "a": lif((2,)), "odd": odd, "b": lif((2,)),
            "wc": ones, "c": lif((2,), r=-2.0), "wd": ones, "d": lif((2,)),
            "out": nir.Output({"output": np.array([2])}),
        },
        ("in", "wa"), ("wa", "a"), ("a", "odd"), ("odd", "b"), ("b", "out"),
        ("a", "wc"), ("wc", "c"), ("c", "out"), ("a", "wd"), ("wd", "d"),
    )  # fmt: skip


def test_nodes_that_cannot_be_lowered_are_findings_and_the_rest_is_checked(tmp_path: Path) -> None:
    found = checked(strange(), tmp_path)
    (verdict,) = found.verdicts
    assert [(f.rule, f.population) for f in verdict.violations] == [("unsupported", "odd"), ("unsupported", "c")]
    assert str(verdict.violations[1]) == "c: node 'c' has r -2; an input gain must be > 0"
    assert {f.population for f in verdict.findings if f.rule == "neurons"} == {"a", "d"}
    assert found.not_checked == ("b", "out")


def test_neurons_behind_one_that_cannot_be_lowered_are_named_at_once(tmp_path: Path) -> None:
    ones = nir.Linear(np.ones((2, 2)))
    found = checked(chain((2,), ones, lif((2,), r=-1.0), ones, lif((2,)), ones, lif((2,), r=-2.0)), tmp_path)
    assert [f.population for f in found.verdicts[0].violations] == ["n1", "n5"]


def test_a_graph_of_which_nothing_can_be_lowered_is_an_answer_too(tmp_path: Path) -> None:
    ones = nir.Linear(np.ones((2, 2)))
    found = checked(chain((2,), ones, lif((2,), r=-1.0)), tmp_path)
    (verdict,) = found.verdicts
    assert [f.rule for f in verdict.violations] == ["unsupported"] and found.neurons == 0
    assert "does not fit loihi2-sim: 1 violation" in page(found)


def test_a_loop_without_neurons_belongs_to_the_network(tmp_path: Path) -> None:
    ones = nir.Linear(np.ones((2, 2)))
    loop = graph(
        {"in": nir.Input({"input": np.array([2])}), "w": ones, "a": lif((2,)), "x": ones, "y": ones,
         "out": nir.Output({"output": np.array([2])})},
        ("in", "w"), ("w", "a"), ("a", "out"), ("x", "y"), ("y", "x"),
    )  # fmt: skip
    (violation,) = checked(loop, tmp_path).verdicts[0].violations
    assert violation.rule == "unsupported" and "holds no neuron" in violation.says


def test_a_threshold_that_no_chip_has_is_a_finding(tmp_path: Path) -> None:
    found = chain((2,), nir.Linear(np.ones((2, 2))), threshold((2,), -1.0))
    (violation,) = checked(found, tmp_path).verdicts[0].violations
    assert str(violation) == "n1: threshold -1 < 0: thresholds of 0 or more"


def test_a_graph_that_contradicts_itself_is_bad_input_and_stays_so_beside_an_unsupported_node() -> None:
    bad = strange()
    bad.nodes["wa"] = nir.Linear(np.ones((2, 3)))
    with pytest.raises(BadInput, match="node 'wa' has weights"):
        lowered(bad, DT_S)


# what it costs


@pytest.mark.parametrize(
    ("args", "never"),
    [
        (["check", "small.nir", "--target", "loihi2-sim,loihi1-sim"], ("torch", "snntorch", "lava", "numba")),
        (["check", "--help"], ("torch", "lava", "numba", "scipy", "numpy", "nir", "h5py")),
    ],
)
def test_check_imports_no_more_than_it_needs(args: list[str], never: tuple[str, ...], run: Run, tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from snnergy import console\n"
        "from snnergy.cli import cli\n"
        "console.run(cli, sys.argv[1:])\n"
        "print('LOADED', *sorted({m.partition('.')[0] for m in sys.modules}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *args], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    loaded = done.stdout.rpartition("LOADED")[2].split()
    assert done.returncode == 0 and loaded and not set(never) & set(loaded), done.stderr
