"""Files appear whole or not at all, and nothing that the system refuses is more than a line."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from snnergy.errors import BadInput
from snnergy.files import check_outputs, check_writable, make_folder, replacing, write_bytes, write_text


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
        assert part.name == "a.txt" and part.parent.parent == tmp_path and path.read_text() == "old"
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["a.txt"]


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


def test_the_folder_is_synced_after_the_file_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    real = os.fsync

    def record(handle: int) -> None:
        synced.append((os.path.realpath(f"/proc/self/fd/{handle}"), sorted(os.listdir(tmp_path))[-1]))
        real(handle)

    monkeypatch.setattr(os, "fsync", record)
    write_bytes(tmp_path / "a.bin", b"new")
    (part, before), (folder, after) = synced
    assert part.endswith(".part/a.bin") and before.endswith(".part")
    assert (folder, after) == (str(tmp_path), "a.bin")


def test_a_folder_that_cannot_be_synced_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fsync

    def picky(handle: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            raise OSError(errno.EINVAL, "Invalid argument")
        real(handle)

    monkeypatch.setattr(os, "fsync", picky)
    write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"


def test_a_link_is_followed_and_the_rights_of_the_old_file_stay(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    real, link = tmp_path / "real" / "a.txt", tmp_path / "link.txt"
    link.symlink_to(real)
    write_text(link, "first")
    real.chmod(0o600)
    write_text(link, "second")
    assert link.is_symlink() and real.read_text() == "second" and real.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["fifo", "/dev/full", "/dev/null"])
def test_a_device_or_a_pipe_is_never_replaced(name: str, tmp_path: Path) -> None:
    path = tmp_path / name  # an absolute name stands for itself
    if name == "fifo":
        os.mkfifo(path)
    before = path.stat()
    for write in (check_writable, lambda path: write_text(path, "new")):
        with pytest.raises(BadInput) as error:
            write(path)
        assert str(error.value) == f"cannot write {path}: it is a device or a pipe, not a file"
    assert path.stat().st_mode == before.st_mode and path.stat().st_ino == before.st_ino
    assert os.listdir(tmp_path) == (["fifo"] if name == "fifo" else [])


def test_what_can_be_written_is_known_beforehand(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")
    check_writable(tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]
    (tmp_path / "b").mkdir()
    with pytest.raises(BadInput) as error:
        check_writable(tmp_path / "b")
    assert str(error.value) == f"cannot write {tmp_path / 'b'}: Is a directory"
    with pytest.raises(BadInput) as error:
        check_writable(tmp_path / "a.txt" / "c")
    assert str(error.value) == f"cannot make the folder {tmp_path / 'a.txt'}: File exists"


def test_no_file_of_a_command_is_another_one_of_it(tmp_path: Path) -> None:
    read, link = tmp_path / "a.nir", tmp_path / "link"
    read.write_text("old")
    link.symlink_to(read)
    check_outputs(None, tmp_path / "b", None, tmp_path / "c", reads=read)
    for paths in ((read,), (tmp_path / "b", link), (tmp_path / "b", None, tmp_path / "x" / ".." / "b")):
        with pytest.raises(BadInput) as error:
            check_outputs(*paths, reads=read)
        assert str(error.value) == f"cannot write {paths[-1]}: the same command reads or writes it already"
    assert read.read_text() == "old" and link.is_symlink()


KILLED = """
import os, signal, sys
from snnergy.files import replacing
with replacing(sys.argv[1]) as part:
    part.write_text("half of the n")
    if sys.argv[2] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    print("writing", flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_run_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), "kill"], timeout=60)
    assert done.returncode == -9
    left = [name for name in os.listdir(tmp_path) if name != "a.txt"]
    assert path.read_text() == "old" and len(left) == 1
    assert left[0].startswith(".snnergy-") and left[0].endswith(".part")
    write_text(tmp_path / "another.txt", "new")
    assert sorted(os.listdir(tmp_path)) == ["a.txt", "another.txt"] and path.read_text() == "old"


def test_what_a_living_run_is_writing_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    command = [sys.executable, "-c", KILLED, str(path), "wait"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "writing\n"
        write_text(path, "mine")
        assert path.read_text() == "mine" and len(os.listdir(tmp_path)) == 2
        other.communicate(timeout=60)
    assert other.returncode == 0
    assert path.read_text() == "half of the n" and os.listdir(tmp_path) == ["a.txt"]


WRITING = """
import click
from snnergy import console, files

@click.command()
def write():
    for k in range(100_000):
        files.write_text("a.txt", 1000 * str(k % 10))
        print(k, flush=True)

console.stop_on_signals()
raise SystemExit(console.run(write, []))
"""


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such signal")
def test_a_signal_at_any_moment_of_writing_leaves_one_whole_file_and_nothing_else(tmp_path: Path) -> None:
    for count in range(1, 16):
        command = [sys.executable, "-c", WRITING]
        with subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            for _ in range(count):
                child.stdout.readline()
            child.terminate()
            _, err = child.communicate(timeout=60)
        assert (child.returncode, err) == (143, "error: interrupted\n")
        assert os.listdir(tmp_path) == ["a.txt"]
        text = (tmp_path / "a.txt").read_text()
        assert len(text) == 1000 and len(set(text)) == 1


def test_a_name_like_a_temporary_one_that_is_no_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".snnergy-mine.part").write_text("a user's")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_text("precious")
    (tmp_path / ".snnergy-link.part").symlink_to(tmp_path / "elsewhere")
    write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / ".snnergy-mine.part").read_text() == "a user's"
    assert (tmp_path / "elsewhere" / "file").read_text() == "precious"


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
