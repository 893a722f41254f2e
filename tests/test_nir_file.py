import json
import os
import resource
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import pytest
from builders import DT_S, chain, lif

from snnergy import limits
from snnergy.errors import BadInput
from snnergy.export import nir_walk
from snnergy.export.nir_file import Provenance, describe, provenance, read, write
from snnergy.export.nir_walk import MAX_DEPTH


def simple() -> nir.NIRGraph:
    return chain((2,), nir.Affine(np.arange(4.0).reshape(2, 2), np.ones(2)), lif((2,)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "a.nir"
    write(simple(), found)
    return found


def refused(path: Path) -> str:
    """The one line, with the path taken out, that cost little memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BadInput) as error:
        read(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000
    assert "\n" not in str(error.value) and error.value.exit_code == 2
    return str(error.value).replace(str(path), "FILE")


def test_what_is_written_is_read(path: Path) -> None:
    graph = read(path)
    assert graph.edges == simple().edges
    for name, node in simple().nodes.items():
        for field, value in vars(node).items():
            if isinstance(value, np.ndarray):
                np.testing.assert_array_equal(getattr(graph.nodes[name], field), value)


def test_the_same_graph_is_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "a.nir", tmp_path / "b.nir"
    for target in (first, second):
        write(simple(), target)
    assert first.read_bytes() == second.read_bytes()


def test_a_failed_write_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = path.read_bytes()

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BadInput) as error:
        write(simple(), path)
    assert str(error.value) == f"cannot write {path}: No space left on device"
    assert path.read_bytes() == old and os.listdir(path.parent) == ["a.nir"]


# hostile files


def weight(file: h5py.File) -> h5py.Group:
    found = file["node/nodes/n0"]
    del found["weight"]
    return found


def external_link(file: h5py.File) -> None:
    weight(file)["weight"] = h5py.ExternalLink("/etc/passwd", "/x")


def soft_link(file: h5py.File) -> None:
    weight(file)["weight"] = h5py.SoftLink("/node/nodes/n0/bias")


def raw_storage(file: h5py.File) -> None:
    weight(file).create_dataset("weight", (2, 2), "f8", external=[("/etc/passwd", 0, 32)])


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((2, 2), "f8")
    layout[:] = h5py.VirtualSource("/other.h5", "x", (2, 2))
    weight(file).create_virtual_dataset("weight", layout)


def cycle(file: h5py.File) -> None:
    file["node/nodes/n0/again"] = file["node"]


def root_cycle(file: h5py.File) -> None:
    file["node/nodes/n0/again"] = file["/"]


def one_array_twice(file: h5py.File) -> None:
    weight(file)["weight"] = file["node/nodes/n0/bias"]


def deep(file: h5py.File) -> None:
    file.create_group("/".join(["node", *("d" for _ in range(400))]))


def references(file: h5py.File) -> None:
    found = weight(file).create_dataset("weight", (2, 2), h5py.ref_dtype)
    found[0, 0] = file["node"].ref


def compound(file: h5py.File) -> None:
    weight(file).create_dataset("weight", (2,), np.dtype([("a", "f8"), ("b", "i4")]))


def opaque(file: h5py.File) -> None:
    weight(file).create_dataset("weight", data=np.array([np.void(b"abc")]))


def ragged(file: h5py.File) -> None:
    weight(file).create_dataset("weight", (2,), h5py.vlen_dtype(np.float64))


def complex_numbers(file: h5py.File) -> None:
    weight(file).create_dataset("weight", data=np.ones((2, 2), complex))


def named_type(file: h5py.File) -> None:
    file["node/nodes/n0/kind"] = np.dtype("f8")


def huge(file: h5py.File) -> None:
    weight(file).create_dataset("weight", (1 << 16, 1 << 14), "f8", chunks=(1 << 10, 1 << 10))


def unstored(file: h5py.File) -> None:
    weight(file).create_dataset("weight", (20_000, 10_000), "f8", chunks=(1000, 1000))


def newline(file: h5py.File) -> None:
    file.move("node/nodes/n0", "node/nodes/n\n0")


def terminal_codes(file: h5py.File) -> None:
    file["node/\x1b[2J"] = 1.0


def many(file: h5py.File) -> None:
    group = file.create_group("node/many")
    for k in range(60):
        group.create_group(str(k))


def not_a_number(file: h5py.File) -> None:
    file["node/nodes/n0/weight"][0, 1] = np.nan


def infinite(file: h5py.File) -> None:
    file["node/nodes/n1/tau"][...] = np.inf


def no_node(file: h5py.File) -> None:
    del file["node"]


def unknown_type(file: h5py.File) -> None:
    del file["node/nodes/n0/type"]
    file["node/nodes/n0/type"] = "Softmax"


def missing_field(file: h5py.File) -> None:
    del file["node/nodes/n1/tau"]


def single_node(file: h5py.File) -> None:
    file.move("node/nodes/n1", "only")
    del file["node"]
    file.move("only", "node")


def one_chunk_of_2_gib(file: h5py.File) -> None:
    weight(file).create_dataset("weight", (1,), "f8", chunks=(1 << 28,), maxshape=(None,))


def one_string_many_times(file: h5py.File) -> None:
    file["node/nodes/n0"].create_dataset("many", data=["x" * 100_000] + [""] * 1999, dtype=h5py.string_dtype())


def share_the_first_string(path: Path) -> None:
    """All 2000 references of ``one_string_many_times`` to its one long string, 200 MB in all."""
    with h5py.File(path, "r") as file:
        at = file["node/nodes/n0/many"].id.get_offset()
    whole = bytearray(path.read_bytes())
    whole[at : at + 16 * 2000] = whole[at : at + 16] * 2000
    path.write_bytes(whole)


def other_filter(file: h5py.File) -> None:
    weight(file).create_dataset("weight", (64,), "f8", chunks=(8,), scaleoffset=2)


def gzip_of_gzip(file: h5py.File) -> None:
    weight(file)
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((2, 2))
    plist.set_deflate(1)
    plist.set_deflate(9)
    shape = h5py.h5s.create_simple((2, 2))
    h5py.h5d.create(file.id, b"node/nodes/n0/weight", h5py.h5t.IEEE_F64LE, shape, plist)


def gzip_bomb(file: h5py.File) -> None:
    data = weight(file).create_dataset("weight", (2, 2), "f8", chunks=(2, 2), compression="gzip")
    gzip = zlib.compressobj(1)
    data.id.write_direct_chunk((0, 0), b"".join(gzip.compress(bytes(1 << 20)) for _ in range(600)) + gzip.flush())


def long_name(file: h5py.File) -> None:
    file["node/nodes/n0"]["x" * 5000] = 1.0


def instead(file: h5py.File, name: str, data: Any) -> None:
    del file[name]
    file[name] = data


def text_for_numbers(file: h5py.File) -> None:
    instead(file, "node/nodes/n0/bias", "many")


def no_values(file: h5py.File) -> None:
    instead(file, "node/nodes/n0/bias", np.ones(0))


def half_a_neuron(file: h5py.File) -> None:
    instead(file, "node/nodes/in/shape", [2.5])


def many_axes(file: h5py.File) -> None:
    instead(file, "node/nodes/in/shape", [1] * 9)


TOO_MUCH = "FILE holds more than 64 MiB, the most that is read of a file so small, at '/node/nodes/{}'"
TWICE = "stands in the file twice; a NIR file holds each object once"
ELSEWHERE = "is a link to another place; copy the data into the file"
OTHER_FILE = "keeps its data in another file; copy the data into the file"
KINDS = "numbers, booleans and strings are allowed"
WEIGHT = "FILE: '/node/nodes/n0/weight'"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (external_link, f"{WEIGHT} {ELSEWHERE}"),
        (soft_link, f"{WEIGHT} {ELSEWHERE}"),
        (raw_storage, f"{WEIGHT} {OTHER_FILE}"),
        (virtual, f"{WEIGHT} {OTHER_FILE}"),
        (cycle, f"FILE: '/node/nodes/n0/again' {TWICE}"),
        (root_cycle, f"FILE: '/node/nodes/n0/again' {TWICE}"),
        (one_array_twice, f"{WEIGHT} {TWICE}"),
        (deep, f"FILE nests deeper than {MAX_DEPTH} groups; no NIR graph does"),
        (references, f"{WEIGHT} has type object; {KINDS}"),
        (compound, f"{WEIGHT} has type [('a', '<f8'), ('b', '<i4')]; {KINDS}"),
        (opaque, f"{WEIGHT} has type |V3; {KINDS}"),
        (ragged, f"{WEIGHT} has type object; {KINDS}"),
        (complex_numbers, f"{WEIGHT} has type complex128; {KINDS}"),
        (named_type, "FILE: '/node/nodes/n0/kind' is neither a group nor a data set"),
        (huge, TOO_MUCH.format("n0/weight")),
        (unstored, TOO_MUCH.format("n0/weight")),
        (one_chunk_of_2_gib, TOO_MUCH.format("n0/weight")),
        (one_string_many_times, TOO_MUCH.format("n0/many")),
        (other_filter, f"{WEIGHT} uses HDF5 filters [6]; gzip, szip, lzf and shuffle are read"),
        (gzip_of_gzip, f"{WEIGHT} uses HDF5 filters [1, 1]; gzip, szip, lzf and shuffle are read"),
        (long_name, f"FILE: the name '{'x' * 80}' is too long; rename it"),
        (text_for_numbers, "FILE: 'n0.bias' is 'many'; numbers are needed"),
        (no_values, "FILE: 'n0.bias' is empty"),
        (half_a_neuron, "FILE: 'in.input_type' is [2.5]; whole numbers below 2147483648 are needed"),
        (many_axes, "FILE: 'in.input_type' has shape [9]; at most 8 whole numbers are needed"),
        (newline, "FILE: the name 'n\\n0' cannot be printed; rename it"),
        (terminal_codes, "FILE: the name '\\x1b[2J' cannot be printed; rename it"),
        (not_a_number, "FILE: 'n0.weight' is NaN or infinite in 1 of 4 values"),
        (infinite, "FILE: 'n1.tau' is NaN or infinite in 2 of 2 values"),
        (no_node, "FILE is HDF5 but not NIR: it has no group 'node'"),
        (single_node, "FILE holds a single node of type b'LIF', not a graph"),
    ],
)
def test_a_hostile_file_is_one_line(path: Path, spoil: Callable[[h5py.File], None], message: str) -> None:
    with h5py.File(path, "a") as file:
        spoil(file)
    if spoil is one_string_many_times:
        share_the_first_string(path)
    assert refused(path) == message


def test_a_chunk_that_unpacks_without_end_is_stopped(path: Path) -> None:
    with h5py.File(path, "a") as file:
        gzip_bomb(file)
    assert refused(path).startswith("FILE cannot be read: Can't synchronously read data (")


def test_a_file_that_sends_hdf5_in_circles_is_stopped(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    size_of_a_string = whole.index(b"GCOL") + 24
    whole[size_of_a_string : size_of_a_string + 8] = (2**64 - 16).to_bytes(8, "little")
    path.write_bytes(whole)
    assert refused(path) == "FILE cannot be read: HDF5 hangs or crashes on it, so it is damaged"


def test_a_file_is_read_that_its_user_vouches_for(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file.create_dataset("node/metadata/zeros", data=np.zeros(9 << 20), compression="gzip")
    assert refused(path) == TOO_MUCH.format("zeros").replace("nodes", "metadata")
    with limits.allowing(1 << 30):
        assert set(read(path).nodes) == set(simple().nodes)


@pytest.mark.parametrize("spoil", [unknown_type, missing_field])
def test_what_nir_cannot_read_says_what_nir_said(path: Path, spoil: Callable[[h5py.File], None]) -> None:
    with h5py.File(path, "a") as file:
        spoil(file)
    assert refused(path).startswith(f"FILE is not a NIR graph that nir {nir.version} can read: ")


def test_too_many_objects_are_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nir_walk, "MAX_OBJECTS", 50)
    with h5py.File(path, "a") as file:
        many(file)
    with pytest.raises(BadInput) as error:
        nir_walk.walk(path, 1 << 20)
    assert str(error.value) == f"{path} holds more than 50 objects; no NIR graph does"


def test_a_file_cut_short_is_one_line(path: Path) -> None:
    whole = path.read_bytes()
    for share in (0.1, 0.5, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        assert refused(path).startswith("FILE cannot be read: ")


def test_scrambled_bytes_never_escape_as_another_error(path: Path) -> None:
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    said: list[str] = []
    for _ in range(25):
        spoilt = bytearray(whole)
        for at in rng.integers(8, len(whole), 6):
            spoilt[at] = rng.integers(256)
        path.write_bytes(spoilt)
        try:
            read(path)
        except BadInput as error:
            said.append(str(error))
    assert len(said) > 3 and not any("\n" in line for line in said)


NOT_NIR = "is not a NIR file: it is not HDF5 or is cut short at the front"


def test_other_things_than_files_are_named(tmp_path: Path) -> None:
    assert refused(tmp_path / "ghost.nir") == "no file FILE"
    assert refused(tmp_path) == "FILE is a folder, not a .nir file"
    for content in ("", "hello\n" * 100):
        (tmp_path / "a.nir").write_text(content)
        assert refused(tmp_path / "a.nir") == f"FILE {NOT_NIR}"
    os.mkfifo(tmp_path / "pipe.nir")
    assert refused(tmp_path / "pipe.nir") == "FILE is not a file"


# provenance


def test_provenance_comes_back(tmp_path: Path) -> None:
    graph = simple()
    about = Provenance(dt_s=1e-3, steps=7, input="avdigits:test", model="tiny", version="1.2")
    describe(graph, about)
    write(graph, tmp_path / "a.nir")
    assert provenance(read(tmp_path / "a.nir")) == about


def test_a_file_without_provenance_has_the_defaults(path: Path) -> None:
    assert provenance(read(path)) == Provenance(dt_s=DT_S, steps=None)


SPOILT = "the graph's snnergy metadata is not what this tool writes; remove or mend it"
STEPS = "the graph's snnergy metadata has steps {}; it must be a whole number, 1 to 65536"
TIME = "the graph's snnergy metadata has dt_s {}; it must be a number of seconds"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("not json", SPOILT),
        ("[1, 2]", SPOILT),
        ("3", SPOILT),
        ("[" * 100_000, SPOILT),
        (b"\xff\xfe", SPOILT),
        (np.array([1.0]), SPOILT),
        (json.dumps({"input": 5}), SPOILT),
        (json.dumps({"scheme": None}), SPOILT),
        (json.dumps({"steps": 0}), STEPS.format(0)),
        (json.dumps({"steps": 1.5}), STEPS.format(1.5)),
        (json.dumps({"steps": "4"}), STEPS.format(4)),
        (json.dumps({"steps": True}), STEPS.format(True)),
        ('{"steps": Infinity}', STEPS.format("inf")),
        (json.dumps({"steps": 1 << 40}), STEPS.format(1 << 40)),
        (json.dumps({"dt_s": 0}), TIME.format(0)),
        (json.dumps({"dt_s": -1e-4}), TIME.format(-1e-4)),
        (json.dumps({"dt_s": "1"}), TIME.format(1)),
        ('{"dt_s": NaN}', TIME.format("nan")),
        ('{"dt_s": Infinity}', TIME.format("inf")),
        ('{"dt_s": 1' + "0" * 400 + "}", TIME.format("1" + "0" * 39)),
    ],
)
def test_bad_provenance_is_one_line(raw: Any, message: str) -> None:
    graph = simple()
    graph.metadata["snnergy"] = raw
    with pytest.raises(BadInput) as error:
        provenance(graph)
    assert str(error.value) == message


def test_unknown_keys_of_a_later_version_are_ignored() -> None:
    graph = simple()
    graph.metadata["snnergy"] = json.dumps({"steps": 3, "invented_later": [1]})
    assert provenance(graph) == Provenance(steps=3)
