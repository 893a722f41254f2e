import io
import zipfile
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
from builders import DT_S, chain, graph, lif

from snnergy.deploy.job import Inputs, Job, from_graph, load_inputs, prepare
from snnergy.errors import BadInput
from snnergy.export import nir_file


def simple(shape: tuple[int, ...] = (2,)) -> nir.NIRGraph:
    return chain(
        shape, nir.Flatten({"input": np.array(shape)}, 0, -1), nir.Linear(np.ones((3, int(np.prod(shape))))), lif((3,))
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = simple()
    nir_file.describe(found, nir_file.Provenance(dt_s=DT_S, steps=5, input="random:0.5"))
    nir_file.write(found, tmp_path / "a.nir")
    return tmp_path / "a.nir"


@pytest.fixture
def job(path: Path) -> Job:
    return prepare(path)


def said(call: Any, *arguments: Any, **settings: Any) -> tuple[str, str | None]:
    with pytest.raises(BadInput) as error:
        call(*arguments, **settings)
    assert "\n" not in str(error.value)
    return str(error.value), error.value.help


def test_prepare_walks_to_the_schedule(job: Job, path: Path) -> None:
    assert (job.path, job.steps, job.net.dt_s) == (path, 5, DT_S)
    assert job.schedule.depth == {"in": 0, "n2": 1}
    assert prepare(path, steps=7, dt_s=DT_S / 2, weight_bits=4).quant.weight_bits == 4
    assert (prepare(path, steps=7).steps, prepare(path, dt_s=DT_S / 2).net.dt_s) == (7, DT_S / 2)


def test_steps_come_from_somewhere() -> None:
    assert said(from_graph, Path("x.nir"), simple()) == (
        "x.nir does not record how many time steps a sample takes", "pass --steps",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "0 steps of 0.0001 s: both must be above 0"),
        ({"steps": -2}, "-2 steps of 0.0001 s: both must be above 0"),
        ({"steps": 3, "dt_s": 0.0}, "3 steps of 0 s: both must be above 0"),
        ({"steps": 3, "dt_s": float("nan")}, "3 steps of nan s: both must be above 0"),
    ],
)
def test_impossible_times_are_not_replaced_by_the_files(settings: dict[str, Any], message: str) -> None:
    assert said(from_graph, Path("x.nir"), simple(), **settings) == (message, None)


def test_a_checkpoint_is_pointed_at_export() -> None:
    found = said(prepare, "model.pt")
    assert found == ("model.pt is a torch checkpoint; this command reads .nir", "snnergy export model.pt --to nir")


# inputs


def test_random_inputs_are_seeded(job: Job) -> None:
    first, again, other = (load_inputs(job, "random:0.5", 100, seed) for seed in (1, 1, 2))
    assert first.sha256 == again.sha256 != other.sha256 and len(first) == 100
    assert set(np.unique(first.real["in"])) == {0.0, 1.0} and 0.3 < first.real["in"].mean() < 0.7
    assert len(load_inputs(job, "random", None)) == 64
    assert load_inputs(job, None, 3).spec == "random:0.5, seed 0"


def test_the_first_samples_keep_their_labels() -> None:
    whole = Inputs("x", {"a": np.arange(6.0).reshape(3, 2)}, np.array([5, 6, 7]), "")
    part = whole.first(2)
    assert len(part) == 2 and part.label is not None and part.label.tolist() == [5, 6]


@pytest.mark.parametrize("rate", ["2", "-0.1", "nan", "x", "0.1:0.2"])
def test_a_rate_is_a_number_from_0_to_1(job: Job, rate: str) -> None:
    assert (
        said(load_inputs, job, f"random:{rate}", 1)[0]
        == f"input 'random:{rate}': the rate must be a number from 0 to 1"
    )


def test_inputs_of_a_npz(job: Job, tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((4, 2)).astype(np.float32)
    np.savez(tmp_path / "x.npz", **{"in": x, "label": np.arange(4, dtype=np.uint8) % 3, "extra": np.ones(3)})
    found = load_inputs(job, str(tmp_path / "x.npz"), 3)
    assert found.label is not None and found.label.dtype == np.int64 and found.label.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(found.real["in"], x[:3].astype(np.float64))


GOOD = np.full((4, 2), 0.5)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"audio": GOOD}, "FILE has audio; the network reads in"),
        ({"in": GOOD[:, :1]}, "FILE: 'in' has shape [4, 1]; [4, 2] is needed"),
        ({"in": np.float64(3)}, "FILE: 'in' has shape []; [0, 2] is needed"),
        ({"in": GOOD[:0]}, "FILE holds no samples"),
        ({"in": GOOD * np.nan}, "FILE: 'in' holds NaN or infinite values"),
        ({"in": GOOD * 510}, "FILE: 'in' spans 255 .. 255; the network's input holds 0 .. 1"),
        ({"in": GOOD - 1}, "FILE: 'in' spans -0.5 .. -0.5; the network's input holds 0 .. 1"),
        ({"in": GOOD, "label": np.arange(3)}, "FILE: 'label' is int64 [3]; whole numbers [4] are needed"),
        ({"in": GOOD, "label": GOOD[:, 0]}, "FILE: 'label' is float64 [4]; whole numbers [4] are needed"),
        ({"in": GOOD, "label": np.arange(4)}, "FILE: 'label' spans 0 .. 3; the network has classes 0 .. 2"),
        ({"in": GOOD, "label": np.arange(4) - 2}, "FILE: 'label' spans -2 .. 1; the network has classes 0 .. 2"),
        ({"in": np.array(["a"])}, "FILE: 'in' holds <U1; numbers and booleans are allowed"),
        ({"in": np.array([None])}, "FILE: 'in' holds object; numbers and booleans are allowed"),
    ],
)  # fmt: skip
def test_a_wrong_npz_is_one_line(job: Job, tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, **arrays)
    assert said(load_inputs, job, str(path), None)[0].replace(str(path), "FILE") == message


def test_more_samples_than_there_are_is_one_line(job: Job, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **{"in": GOOD})
    found = said(load_inputs, job, str(tmp_path / "x.npz"), 5)[0]
    assert found == f"{tmp_path / 'x.npz'} holds 4 samples, 5 were asked for"
    assert said(load_inputs, job, "random", 0)[0] == "0 samples asked for; at least 1 is needed"


def test_files_that_are_no_npz_are_one_line(job: Job, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    assert said(load_inputs, job, str(path), None)[0] == f"no file {path}"
    buffer = io.BytesIO()
    np.save(buffer, GOOD)
    for content in (b"", b"hello", b"PK\x03\x04" + b"\0" * 50, buffer.getvalue()):
        path.write_bytes(content)
        assert said(load_inputs, job, str(path), None)[0].startswith(f"{path} is not a .npz of plain arrays: ")


def test_a_zip_bomb_is_not_unpacked(job: Job, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("in.npy", bytes(70 << 20))
    message, advice = said(load_inputs, job, str(tmp_path / "x.npz"), None)
    assert message.startswith(f"{tmp_path / 'x.npz'} declares 70 MiB of contents and stores ")
    assert advice == "if you trust it, pass --max-size 1"


def test_an_array_that_declares_more_than_it_holds_is_one_line(job: Job, tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (1 << 40, 2)})
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("in.npy", header.getvalue())
    found = said(load_inputs, job, str(tmp_path / "x.npz"), None)[0]
    assert found == f"{tmp_path / 'x.npz'}: 'in' declares {1 << 44} bytes of numbers and holds 0"


def test_columns_first_and_big_endian_arrays_are_read(job: Job, tmp_path: Path) -> None:
    x = np.asfortranarray(np.random.default_rng(0).random((4, 2)), dtype=">f8")
    np.savez(tmp_path / "x.npz", **{"in": x})
    np.testing.assert_array_equal(load_inputs(job, str(tmp_path / "x.npz"), None).real["in"], x)


def test_a_file_does_not_choose_what_else_is_read(path: Path) -> None:
    graph = nir_file.read(path)
    nir_file.describe(graph, nir_file.Provenance(dt_s=DT_S, steps=5, input="/home/you/x.npz"))
    nir_file.write(graph, path)
    assert said(load_inputs, prepare(path), None, None) == (
        f"{path} records a file of another machine as its input", "pass --input",
    )  # fmt: skip


# data sets


def test_a_data_set_needs_a_network_that_reads_it(job: Job) -> None:
    assert said(load_inputs, job, "avdigits:test", 1) == (
        "avdigits:test gives 'audio' and 'video'; the network reads 'in' [2]", "pass a .npz",
    )  # fmt: skip


def av_job(channels: int) -> Job:
    nodes = {
        "video": nir.Input({"input": np.array([channels, 32, 32])}),
        "pool": nir.SumPool2d(np.array(32), np.array(32), np.array(0)),
        "n": lif((channels, 1, 1)),
        "out": nir.Output({"output": np.array([channels, 1, 1])}),
    }
    return from_graph(Path("x.nir"), graph(nodes, ("video", "pool"), ("pool", "n"), ("n", "out")), steps=2)


def test_a_data_set_is_loaded_for_the_sources_there_are() -> None:
    found = load_inputs(av_job(1), "avdigits:test", 3)
    assert list(found.real) == ["video"] and found.real["video"].shape == (3, 1, 32, 32)
    assert found.label is not None and len(found.label) == 3


def test_a_data_set_of_another_shape_is_one_line() -> None:
    assert said(load_inputs, av_job(3), "avdigits:test", 1) == (
        "avdigits:test gives 'video' [1, 32, 32]; the network reads [3, 32, 32]", "pass a .npz",
    )  # fmt: skip
