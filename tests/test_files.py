import os
from pathlib import Path

import pytest

from snnergy.errors import BadInput
from snnergy.files import make_folder, replacing, write_text


def test_text_is_written_whole_with_the_usual_rights(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "a.txt"
    before = os.umask(0o022)
    try:
        write_text(path, "é\n")
    finally:
        os.umask(before)
    assert path.read_bytes() == b"\xc3\xa9\n" and path.stat().st_mode & 0o777 == 0o644
    assert os.listdir(path.parent) == ["a.txt"]


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, kind: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail() -> None:
        with replacing(path) as part:
            part.write_text("half of the n")
            raise kind

    with pytest.raises(kind):
        fail()
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_the_new_file_appears_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replacing(path) as part:
        part.write_text("new")
        assert part.parent == tmp_path and path.read_text() == "old"
    assert path.read_text() == "new"


def test_what_the_system_refuses_while_writing_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for raised, reason in (
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError("Unable to synchronously write data"), "Unable to synchronously write data"),  # as h5py does
    ):
        path.write_text("old")

        def fail(error: OSError = raised) -> None:
            with replacing(path) as part:
                part.write_text("half of the n")
                raise error

        with pytest.raises(BadInput) as found:
            fail()
        assert str(found.value) == f"cannot write {path}: {reason}"
        assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_a_failed_sync_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BadInput) as error:
        write_text(path, "new")
    assert str(error.value) == f"cannot write {path}: No space left on device"
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_a_folder_in_the_place_of_the_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(BadInput) as error:
        write_text(tmp_path / "a", "new")
    assert str(error.value) == f"cannot write {tmp_path / 'a'}: Is a directory"
    assert os.listdir(tmp_path) == ["a"]


def test_a_file_in_the_place_of_the_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(BadInput) as error:
        write_text(tmp_path / "a" / "b.txt", "new")
    assert str(error.value) == f"cannot make the folder {tmp_path / 'a'}: File exists"
    with pytest.raises(BadInput) as error:
        make_folder(tmp_path / "a" / "b")
    assert str(error.value) == f"cannot make the folder {tmp_path / 'a' / 'b'}: Not a directory"


def test_a_name_that_no_file_system_takes_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 300)
    with pytest.raises(BadInput) as error:
        write_text(path, "new")
    assert str(error.value) == f"cannot write {path}: File name too long"
