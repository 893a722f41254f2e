"""A checkpoint comes back as it was saved; a file that is not one is refused in one line that says what it is."""

from __future__ import annotations

import os
import zipfile
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from snnergy import checkpoint  # noqa: E402
from snnergy.config import ModelConfig, preset  # noqa: E402
from snnergy.errors import BadInput  # noqa: E402
from snnergy.model import SNNergy  # noqa: E402

HELP = "save models with snnergy.checkpoint.save, or train one: snnergy train"


@pytest.fixture(scope="module")
def model() -> SNNergy:
    torch.manual_seed(0)
    return SNNergy(replace(preset("tiny"), dim=16, heads=(1, 1, 1))).eval()


@pytest.fixture
def path(tmp_path, model):
    checkpoint.save(tmp_path / "model.pt", model, {"dataset": "avdigits:test", "seed": 3})
    return tmp_path / "model.pt"


def rewrite(path, change):
    """Store the checkpoint again after ``change(document)``."""
    document = torch.load(path, weights_only=True)
    change(document)
    torch.save(document, path)


def refusal(path) -> str:
    with pytest.raises(BadInput) as error:
        checkpoint.load(path)
    message = str(error.value)
    assert "\n" not in message
    return message.replace(str(path), "FILE")


def test_a_model_comes_back_as_it_was_saved(path, model):
    loaded, meta = checkpoint.load(path)
    assert meta == {"dataset": "avdigits:test", "seed": 3, "dt_s": 1e-4}
    assert loaded.config == model.config and not loaded.training
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)
    audio, video = torch.rand(2, 2, 1, 32, 32)
    assert torch.equal(loaded(audio, video), model(audio, video))


def test_a_loaded_model_can_be_trained_on(path):
    loaded, _ = checkpoint.load(path)
    loaded.train()(*torch.rand(2, 2, 1, 32, 32)).sum().backward()
    assert all(p.requires_grad and p.grad is not None for p in loaded.parameters())


def test_saving_leaves_nothing_but_the_file(path, model):
    checkpoint.save(path, model)
    assert [p.name for p in path.parent.iterdir()] == ["model.pt"]


def test_a_failed_save_leaves_the_old_file(path, model, monkeypatch):
    before = path.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(BadInput) as error:
        checkpoint.save(path, model)
    assert str(error.value) == f"cannot write {path}: No space left on device"
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["model.pt"]


def test_saving_makes_the_folder_and_says_so_where_it_cannot(tmp_path, model):
    checkpoint.save(tmp_path / "new" / "model.pt", model)
    assert (tmp_path / "new" / "model.pt").exists()
    with pytest.raises(BadInput) as error:
        checkpoint.save(tmp_path / "new" / "model.pt" / "model.pt", model)
    assert str(error.value) == f"cannot make the folder {tmp_path}/new/model.pt: File exists"


def test_a_missing_file_a_folder_and_an_empty_file_are_named(tmp_path):
    assert refusal(tmp_path / "none.pt") == "no file FILE"
    assert refusal(tmp_path) == "FILE is not a file"
    (tmp_path / "empty.pt").touch()
    assert refusal(tmp_path / "empty.pt") == "FILE is empty"


def test_a_git_lfs_pointer_is_recognised(tmp_path):
    (tmp_path / "m.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert refusal(tmp_path / "m.pt") == "FILE is a Git LFS pointer, not the file itself"


def test_text_is_no_checkpoint(tmp_path):
    (tmp_path / "m.pt").write_text("hello")
    assert refusal(tmp_path / "m.pt") == "FILE is not a PyTorch checkpoint (it is no zip file)"


@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_file_is_damaged(path, share):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    assert refusal(path) == "FILE is truncated or damaged"


def test_a_flipped_bit_in_the_weights_fails_the_checksum(path):
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 4
    path.write_bytes(whole)
    assert "damaged" in refusal(path)


def test_a_whole_module_is_refused_without_running_it(tmp_path, model):
    torch.save(model, tmp_path / "m.pt")
    with pytest.raises(BadInput) as error:
        checkpoint.load(tmp_path / "m.pt")
    what = "holds Python objects (snnergy.model.SNNergy), which are not loaded because they could run code"
    assert str(error.value) == f"{tmp_path}/m.pt {what}"
    assert error.value.help == HELP


def test_a_torchscript_file_is_recognised(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
        archive.writestr("m/data.pkl", b"")
        archive.writestr("m/constants.pkl", b"")
    assert refusal(tmp_path / "m.pt") == "FILE is a TorchScript file, not a SNNergy checkpoint"


def test_another_zip_file_is_recognised(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert refusal(tmp_path / "m.pt") == "FILE is a zip file, but not one written by torch.save"


def members(path):
    with zipfile.ZipFile(path) as archive:
        return [(m.filename, archive.read(m)) for m in archive.infolist()]


def store(path, contents, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in contents:
            archive.writestr(zipfile.ZipInfo(name), content, method)


def test_a_zip_bomb_is_refused_by_its_declared_size(path):
    store(path, [*members(path), ("archive/data/x", bytes(70 << 20))], zipfile.ZIP_DEFLATED)
    message = refusal(path)
    assert message.startswith("FILE declares 70.1 MiB of contents and stores ")
    assert message.endswith(" KiB; at most 64 MiB are read")


def test_compressed_members_are_refused(path):
    store(path, members(path), zipfile.ZIP_DEFLATED)
    assert refusal(path) == "FILE: 'archive/data.pkl' is encrypted or compressed in a way that is not read"


def test_one_member_under_two_directory_entries_is_refused(path):
    first = members(path)[0]
    store(path, [*members(path), ("archive/DATA.PKL", first[1])])
    path.write_bytes(path.read_bytes().replace(b"DATA.PKL", b"data.pkl"))
    assert refusal(path) == "FILE holds 'archive/data.pkl' twice"


def test_members_that_share_their_bytes_are_refused(path):
    """Many entries of the directory that point at one large member unpack to more than is stored."""
    whole = bytearray(path.read_bytes())
    entries = [at for at in range(len(whole) - 4) if whole[at : at + 4] == b"PK\x01\x02"]
    whole[entries[2] + 42 : entries[2] + 46] = whole[entries[0] + 42 : entries[0] + 46]
    path.write_bytes(whole)
    assert "belong to another member too" in refusal(path) or "truncated or damaged" in refusal(path)


def test_a_member_name_that_moves_the_cursor_is_not_printed(path):
    store(path, [*members(path), ("archive/\x1b[2J", b"")])
    assert refusal(path) == "FILE: the member name 'archive/\\x1b[2J' cannot be printed or is too long"


def test_a_plain_state_dict_says_what_it_is(tmp_path, model):
    torch.save(model.state_dict(), tmp_path / "m.pt")
    count = len(model.state_dict())
    assert refusal(tmp_path / "m.pt") == f"FILE is a plain state_dict of {count} tensors; the model is not in it"


def test_another_programs_checkpoint_is_told_by_its_keys(tmp_path):
    torch.save({"epoch": 1, "model": {}}, tmp_path / "m.pt")
    assert refusal(tmp_path / "m.pt") == "FILE is not a SNNergy checkpoint; it is a dict with the keys epoch, model"
    torch.save([1, 2], tmp_path / "m.pt")
    assert refusal(tmp_path / "m.pt") == "FILE holds a list, not a SNNergy checkpoint"


def set_format(document):
    document["format"] = "snnergy.model/9"


def drop_config(document):
    del document["config"]


def bad_dt(document):
    document["dt_s"] = float("nan")


def bad_config(document):
    document["config"]["dim"] = 18


def drop_weights(document):
    del document["state"]["readout.linear.bias"]


def add_weights(document):
    document["state"]["extra"] = torch.ones(1)


def wrong_shape(document):
    document["state"]["readout.linear.bias"] = torch.ones(7)


def wrong_type(document):
    document["state"]["readout.linear.bias"] = torch.ones(10, dtype=torch.float16)


def not_a_tensor(document):
    document["state"]["readout.linear.bias"] = [0.0] * 10


def nan(document):
    document["state"]["readout.linear.bias"][3] = float("nan")


def infinite(document):
    document["state"]["stages.0.audio.embed.conv1.weight"][0] = float("inf")


def much_of_little(document):
    document["config"].update(dim=65536)
    with torch.device("meta"):
        shapes = {
            key: value.shape for key, value in SNNergy(ModelConfig.from_dict(document["config"])).state_dict().items()
        }
    document["state"] = {
        key: torch.zeros((), dtype=document["state"][key].dtype).expand(shape) for key, shape in shapes.items()
    }


def no_numbers(document):
    document["state"]["readout.linear.bias"] = torch.ones(10, device="meta")


def sparse(document):
    document["state"]["readout.linear.bias"] = torch.ones(10).to_sparse()


def nameless_data(document):
    document["meta"]["dataset"] = 5


def negative_variance(document):
    document["state"]["stages.0.audio.embed.norm1.running_var"][0] = -1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_format, "FILE has format 'snnergy.model/9', this version reads 'snnergy.model/1'"),
        (drop_config, "FILE: 'config' is missing or not a dict"),
        (bad_dt, "FILE: dt_s is nan, it must be from 1e-12 to 1e+06 s"),
        (bad_config, "FILE: model config: dim is 18, it must be a multiple of 4"),
        (drop_weights, "FILE: the weights 'readout.linear.bias' are missing"),
        (add_weights, "FILE: weights 'extra' do not belong to the model in its config"),
        (wrong_shape, "FILE: 'readout.linear.bias' has shape [7], the model needs [10]"),
        (wrong_type, "FILE: 'readout.linear.bias' has type torch.float16, the model needs torch.float32"),
        (not_a_tensor, "FILE: 'readout.linear.bias' is a list, not a tensor"),
        (no_numbers, "FILE: 'readout.linear.bias' is torch.strided on meta; a plain tensor is needed"),
        (sparse, "FILE: 'readout.linear.bias' is torch.sparse_coo on cpu; a plain tensor is needed"),
        (nameless_data, "FILE: the data set in 'meta' is a int, not text"),
        (nan, "FILE: 'readout.linear.bias' holds NaN or infinite numbers"),
        (infinite, "FILE: 'stages.0.audio.embed.conv1.weight' holds NaN or infinite numbers"),
        (negative_variance, "FILE: 'stages.0.audio.embed.norm1.running_var' holds negative variances"),
    ],
)
def test_a_spoilt_document_is_refused_with_what_is_wrong(path, change, message):
    rewrite(path, change)
    assert refusal(path) == message


def test_a_tensor_that_repeats_one_number_is_refused_by_its_size(path):
    rewrite(path, much_of_little)
    message = refusal(path)
    assert message.startswith("FILE declares ") and message.endswith(" KiB; at most 64 MiB are read")


def test_a_config_of_absurd_size_costs_no_memory(path):
    rewrite(path, lambda document: document["config"].update(dim=65536))
    assert "has shape" in refusal(path)
