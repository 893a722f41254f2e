"""Profiles load, every number is sourced, and a wrong file says what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from snnergy.errors import ProfileError
from snnergy.hardware_profiles import Quantity, load, names

FOLDER = Path(__file__).parents[1] / "hardware_profiles"


def quantities(name: str) -> dict[str, Quantity]:
    return dict(load(name).numbers())


def test_names_are_the_files_of_the_folder() -> None:
    assert list(names()) == sorted(p.stem for p in FOLDER.glob("*.toml"))


@pytest.mark.parametrize("name", names())
def test_every_number_has_a_source_and_lies_in_its_range(name: str) -> None:
    assert load(name).name == name
    for key, q in quantities(name).items():
        assert q.low <= q.value <= q.high, key
        assert q.source and q.unit, key


@pytest.mark.parametrize("name", names())
def test_every_source_is_cited(name: str) -> None:
    cited = {q.source for q in quantities(name).values()}
    assert cited == set(load(name).sources.values())


@pytest.mark.parametrize("name", names())
def test_the_mesh_seats_every_core(name: str) -> None:
    chip = load(name).chip
    assert chip.mesh_width.whole * chip.mesh_height.whole * chip.cores_per_router.whole >= chip.cores.whole


def test_loihi2_holds_nothing_fitted_to_the_pilotnet_lif_run() -> None:
    energy, time = load("loihi2").energy_pj, load("loihi2").time_ns
    assert energy.synop.value == load("loihi1").energy_pj.synop.value
    assert time.synop.value == pytest.approx(load("loihi1").time_ns.synop.value / 5)


def test_a_loihi2_list_has_the_two_sizes_that_the_compiler_prints() -> None:
    core = load("loihi2").core
    word, header = core.synapse_word_bytes.whole, core.synapse_header_bytes.whole
    assert 64 * -(-(header + 10) // word) == 192
    assert 2560 * -(-(header + 100) // word) == 66_560


def test_a_profile_loads_by_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text((FOLDER / "loihi2.toml").read_text())
    assert load(path) == load(str(path)) == load("loihi2")


def says(call: str | Path) -> str:
    with pytest.raises(ProfileError) as error:
        load(call)
    return str(error.value)


def test_an_unknown_name_names_the_nearest() -> None:
    assert says("lohi2") == "no hardware profile 'lohi2'; did you mean 'loihi2'?"
    assert says("cpu") == (
        "no hardware profile 'cpu'; known: loihi1, loihi2, speck, spinnaker2, truenorth, or the path of a .toml file"
    )
    assert says("no/t.toml") == "no hardware profile at 'no/t.toml'"


HOP = 'hop_ew        = { value = 3.0, from = "davies2018", evidence = "inherited" }'


@pytest.mark.parametrize(
    ("hop", "message"),
    [
        (
            'hop_ew = { value = 3, from = "rumour", evidence = "assumed" }',
            "energy_pj.hop_ew cites 'rumour', which [source] does not define",
        ),
        (
            'hop_ew = { value = 3, evidence = "assumed" }',
            'energy_pj.hop_ew has no source; add from = "...", a key of [source]',
        ),
        ('hop_ew = { from = "brief", evidence = "vendor" }', "'energy_pj.hop_ew.value' is missing"),
        (
            'hop_ew = { value = 3, low = 4, from = "brief", evidence = "vendor" }',
            "energy_pj.hop_ew has low 4, value 3, high 3; low <= value <= high must hold",
        ),
        (
            'hop_ew = { value = "3", from = "brief", evidence = "vendor" }',
            "energy_pj.hop_ew.value is '3', must be a finite number, 0 or more",
        ),
        (
            'hop_ew = { value = true, from = "brief", evidence = "vendor" }',
            "energy_pj.hop_ew.value is True, must be a finite number, 0 or more",
        ),
        (
            'hop_ew = { value = inf, from = "brief", evidence = "vendor" }',
            "energy_pj.hop_ew.value is inf, must be a finite number, 0 or more",
        ),
        ("hop_ew = 3.0", "energy_pj.hop_ew is 3.0, must be a table { value = ..., from = ... }"),
        (
            'hop_ew = { value = 3, from = "brief", evidence = "heard" }',
            "energy_pj.hop_ew has evidence 'heard'; known: measured, simulated, vendor, derived, inherited, assumed",
        ),
        (
            'hop_ew = { value = 3, unit = "pJ", from = "brief", evidence = "vendor" }',
            "unknown key 'energy_pj.hop_ew.unit'; known: value, low, high, from, evidence, note",
        ),
        (
            HOP + "\nhop_up = 3.0",
            "unknown key 'energy_pj.hop_up'; known: synop, list_fetch, update_active, update_idle, spike, message_out, "
            "message_in, hop_ew, hop_ns, reset, interchip, input_byte, output_byte, scope",
        ),
    ],
)  # fmt: skip
def test_a_wrong_number_is_named_with_its_key(tmp_path: Path, hop: str, message: str) -> None:
    good = (FOLDER / "loihi2.toml").read_text()
    assert HOP in good
    path = tmp_path / "t.toml"
    path.write_text(good.replace(HOP, hop))
    assert says(path) == f"t.toml: {message}"


def test_a_limit_is_a_whole_number(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_text(
        (FOLDER / "loihi2.toml").read_text().replace("value = 4096, low = 4096", "value = 4096.5, low = 4096")
    )
    assert says(path) == "t.toml: core.neurons.value is 4096.5, must be a whole number, 1 or more"


def test_a_file_that_is_not_toml_says_so(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_text("name =")
    assert says(path).startswith("t.toml: not a TOML file: ")
    path.write_text("name = 'x'\nspeed = 3\n")
    assert says(path) == (
        "t.toml: unknown key 'speed'; "
        "known: name, title, chip, core, energy_pj, time_ns, power_mw, boards, source, note, programmable"
    )
    path.write_text("name = 'x'\n")
    assert says(path) == "t.toml: 'title' is missing"


def spoilt(tmp_path: Path, old: str, new: str) -> str:
    good = (FOLDER / "loihi2.toml").read_text()
    assert old in good
    (tmp_path / "t.toml").write_text(good.replace(old, new))
    return says(tmp_path / "t.toml").replace(str(tmp_path), "FOLDER")


CORES = "mesh_width       = { value = 8,"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (CORES, CORES.replace("8", "7"), "t.toml: the mesh seats 112 cores; 120 to 1048576 are needed"),
        (CORES, CORES.replace("8", "1000000"), "t.toml: the mesh seats 16000000 cores; 120 to 1048576 are needed"),
        (CORES, CORES.replace("8", "0"), "t.toml: chip.mesh_width.value is 0, must be a whole number, 1 or more"),
        (CORES, CORES.replace("8", "1" + "0" * 30), "t.toml: chip.mesh_width.value is above 1e+15, as no chip is"),
        ("value = 23.6", "value = 0x" + "f" * 400, "t.toml: energy_pj.synop.value is above 1e+15, as no chip is"),
        ('name  = "loihi2"', "name = 3", "t.toml: name is 3, must be text"),
        (
            'name  = "loihi2"',
            'name = "\\u001b[2J"',
            "t.toml: name is '\\x1b[2J', which cannot be printed or is too long",
        ),
        ('name  = "loihi2"', "x = " + "[" * 9000, "FOLDER/t.toml nests too deeply to be read"),
    ],
)
def test_a_number_that_no_chip_has_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert spoilt(tmp_path, old, new) == message


MINIMAL = """
name  = "toy"
title = "Toy chip"

[chip]
cores            = { value = 4, from = "us", evidence = "assumed" }
mesh_width       = { value = 2, from = "us", evidence = "assumed" }
mesh_height      = { value = 2, from = "us", evidence = "assumed" }
cores_per_router = { value = 1, from = "us", evidence = "assumed" }
chips_max        = { value = 1, from = "us", evidence = "assumed" }

[core]
neurons = { value = 100, from = "us", evidence = "assumed" }

[energy_pj]

[time_ns]

[power_mw]

[source]
us = "ours"
"""


def changed(tmp_path: Path, old: str, new: str) -> Path:
    assert MINIMAL.count(old) == 1
    path = tmp_path / "t.toml"
    path.write_text(MINIMAL.replace(old, new))
    return path


def test_cores_a_mesh_and_neurons_make_a_profile(tmp_path: Path) -> None:
    profile = load(changed(tmp_path, "ours", "we"))
    assert [key for key, _ in profile.numbers()] == [
        "chip.cores",
        "chip.mesh_width",
        "chip.mesh_height",
        "chip.cores_per_router",
        "chip.chips_max",
        "core.neurons",
    ]
    assert (profile.scope, profile.boards, profile.note) == ("per-term", {}, "")
    assert {"core.in_axons", "energy_pj.synop", "time_ns.barrier", "power_mw.chip"} <= set(profile.missing())


@pytest.mark.parametrize("line", [line for line in MINIMAL.splitlines() if " = " in line and "us " not in line])
def test_and_nothing_of_it_can_be_missing(tmp_path: Path, line: str) -> None:
    assert says(changed(tmp_path, f"{line}\n", "")).endswith(f"{line.split()[0]}' is missing")


def test_numbers_and_missing_are_all_that_there_could_be() -> None:
    for name in names():
        profile = load(name)
        keys = [key for key, _ in profile.numbers() if not key.startswith("boards.")]
        assert not set(keys) & set(profile.missing())
        assert len(keys) + len(profile.missing()) == 43, name


Q = '{ value = 2, from = "us", evidence = "assumed" }'


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "[energy_pj]\n",
            f'[energy_pj]\nscope = "all-in"\nsynop = {Q}\nhop_ew = {Q}\n',
            "energy_pj.synop holds energy_pj.hop_ew already: all-in constants cannot be mixed with per-term ones",
        ),
        (
            "[energy_pj]\n\n[time_ns]\n\n[power_mw]\n",
            f'[energy_pj]\nscope = "all-in"\nsynop = {Q}\n[time_ns]\n[power_mw]\ncore = {Q}\n',
            "energy_pj.synop holds power_mw.core already: all-in constants cannot be mixed with per-term ones",
        ),
        (
            "[energy_pj]\n",
            f'[energy_pj]\nscope = "marginal"\nsynop = {Q}\nspike = {Q}\n',
            "energy_pj.synop holds energy_pj.spike already: marginal constants cannot be mixed with per-term ones",
        ),
        (
            "[energy_pj]\n",
            f'[energy_pj]\nscope = "all-in"\ninterchip = {Q}\n',
            "energy_pj.scope is 'all-in', which needs energy_pj.synop",
        ),
        (
            "[energy_pj]\n",
            '[energy_pj]\nscope = "all"\n',
            "energy_pj.scope is 'all'; known: per-term, marginal, all-in",
        ),
        ("[energy_pj]\n", "[energy_pj]\nscope = 3\n", "energy_pj.scope is 3; known: per-term, marginal, all-in"),
        (
            "[core]\n",
            f"[core]\nsynapse_bytes = {Q}\n",
            "core.synapse_bytes needs core.synapse_word_bytes, the length of a word",
        ),
        (
            "[source]\n",
            '[boards]\nbig = { value = 0, from = "us", evidence = "assumed" }\n[source]\n',
            "boards.big.value is 0, must be a whole number, 1 or more",
        ),
        ("[source]\n", "[boards]\nbig = 3\n[source]\n", "boards.big is 3, must be a table { value = ..., from = ... }"),
        ('title = "Toy chip"\n', 'title = "Toy chip"\nboards = 3\n', "boards is 3, must be a table"),
        ('title = "Toy chip"\n', 'title = "Toy chip"\nnote = 3\n', "note is 3, must be text"),
    ],
)  # fmt: skip
def test_numbers_that_hold_each_other_and_boards_without_chips(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert says(changed(tmp_path, old, new)) == f"t.toml: {message}"


def test_all_in_leaves_room_for_what_is_outside_the_chip(tmp_path: Path) -> None:
    table = f'[energy_pj]\nscope = "all-in"\nsynop = {Q}\ninterchip = {Q}\ninput_byte = {Q}\n'
    profile = load(changed(tmp_path, "[energy_pj]\n", table))
    assert profile.scope == "all-in" and profile.energy_pj.interchip


@pytest.mark.parametrize("name", names())
def test_what_is_inside_the_energy_of_a_synop_is_not_given_again(name: str) -> None:
    profile = load(name)
    assert profile.scope == ("marginal" if name == "truenorth" else "per-term")


def test_a_number_of_many_digits_is_no_traceback(tmp_path: Path) -> None:
    assert spoilt(tmp_path, "value = 23.6", "value = " + "9" * 6000).startswith(
        "t.toml: not a TOML file: Exceeds the limit"
    )


def test_a_large_file_is_not_parsed(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_text("#" * (129 << 10))
    assert says(path) == f"{path} is larger than 128 KiB, the most that is read of such a file"
