import subprocess
import sys
from importlib import metadata

import pytest

from snnergy.deploy import lava_compat, loihi2_hardware
from snnergy.errors import MissingPart

needs_lava = pytest.mark.skipif(lava_compat.installed() is None, reason="lava-nc is not installed")


def python(code: str) -> str:
    """Standard output of a fresh interpreter, with warnings as errors."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def without_lava(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)


@pytest.mark.lava
@needs_lava
def test_lava_imports_and_runs_under_the_hook_and_the_start_method_stays_unset():
    code = """
import multiprocessing
from snnergy.deploy import lava_compat
lava_compat.activate()
from lava.magma.compiler.var_model import CoreEncoder
import lava.magma.core.process.ports.ports, lava.proc.lif.models, lava.proc.sparse.models
import lava.magma.compiler.compiler
import lava.magma.runtime.message_infrastructure.multiprocessing as messages
assert type(CoreEncoder().x).__name__ == "ByteEncoder"
print(multiprocessing.get_start_method(allow_none=True), messages.SystemProcess.__bases__[0].__name__)
"""
    assert python(code) == "None ForkProcess"


@pytest.mark.lava
@needs_lava
def test_the_hook_works_where_a_start_method_was_chosen_before():
    code = """
import multiprocessing
multiprocessing.set_start_method("spawn")
from snnergy.deploy import lava_compat
lava_compat.activate()
import lava.magma.runtime.runtime
print(multiprocessing.get_start_method())
"""
    assert python(code) == "spawn"


@pytest.mark.lava
@needs_lava
def test_a_reshaped_port_carries_data_on_any_numpy():
    code = """
import numpy as np
from snnergy.deploy import lava_compat
lava_compat.activate()
from lava.magma.core.process.ports.ports import InPort, OutPort
out, into = OutPort((2, 3)), InPort((6,))
view = out.reshape((6,))
view.connect(into)
print(*view.get_transform_func_fwd()(np.arange(6).reshape(2, 3)))
"""
    assert python(code) == "0 1 2 3 4 5"


@pytest.mark.lava
@needs_lava
def test_activating_twice_installs_one_hook_and_foreign_modules_are_left_alone():
    lava_compat.activate()
    before = list(sys.meta_path)
    lava_compat.activate()
    assert sys.meta_path == before
    finders = [finder for finder in sys.meta_path if isinstance(finder, lava_compat._Finder)]
    assert len(finders) == 1
    assert finders[0].find_spec("json", None) is None


@pytest.mark.lava
@needs_lava
def test_lava_imported_before_the_hook_is_refused():
    code = """
import sys, types
from snnergy.deploy import lava_compat
from snnergy.errors import MissingPart
sys.modules["lava.magma.core.process.ports.ports"] = types.ModuleType("ports")
try:
    lava_compat.activate()
except MissingPart as error:
    print(error)
"""
    assert python(code) == (
        "'lava.magma.core.process.ports.ports' was imported before snnergy could mend it; "
        "call lava_compat.activate() first"
    )


def test_text_of_another_lava_version_is_refused_and_not_half_patched():
    edits = (("x = 1", "x = 2"), ("y = 1", "y = 2"))
    assert lava_compat.patched("lava.m", "x = 1; y = 1", edits) == "x = 2; y = 2"
    with pytest.raises(MissingPart) as caught:
        lava_compat.patched("lava.m", "x = 1; z = 1", edits)
    assert str(caught.value) == "'lava.m' is not the text of lava-nc 0.10.0: 'y = 1' is missing"


def test_without_lava_the_error_carries_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch):
    without_lava(monkeypatch)
    assert lava_compat.installed() is None
    with pytest.raises(MissingPart) as caught:
        lava_compat.activate()
    assert str(caught.value) == "Lava is not installed"
    assert caught.value.help == (
        "pip install --ignore-requires-python --no-deps lava-nc==0.10.0 lava-dl==0.6.0"
        " && pip install networkx asteval greenlet"
    )


def test_another_release_of_lava_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metadata, "version", lambda name: "0.9.0")
    with pytest.raises(MissingPart) as caught:
        lava_compat.activate()
    assert str(caught.value) == "lava-nc 0.9.0 is installed, only 0.10.0 is known to work"


def test_what_no_deps_leaves_out_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metadata, "version", lambda name: "0.10.0")
    monkeypatch.setattr(lava_compat, "NEEDED", ("sys", "no_such_module_a", "no_such_module_b"))
    with pytest.raises(MissingPart) as caught:
        lava_compat.activate()
    assert str(caught.value) == "Lava needs no_such_module_a, no_such_module_b, not installed"
    assert caught.value.help == "pip install no_such_module_a no_such_module_b"


# The hardware target rests on the same look at what is installed.

SIMULATE = "; use --target loihi2-sim, which runs the same fixed-point models here"


def test_the_board_target_without_lava_points_to_the_simulator(monkeypatch: pytest.MonkeyPatch):
    without_lava(monkeypatch)
    with pytest.raises(MissingPart) as caught:
        loihi2_hardware.run()
    assert str(caught.value) == "target 'loihi2' needs Lava, which is not installed" + SIMULATE


def test_the_board_target_names_the_extension_then_the_board(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metadata, "version", lambda name: "0.10.0")
    monkeypatch.setattr(loihi2_hardware, "EXTENSION", "no_such_module")
    with pytest.raises(MissingPart) as caught:
        loihi2_hardware.board()
    assert str(caught.value) == (
        "target 'loihi2' needs Intel's extension of Lava for Loihi (lava-loihi), which is not installed" + SIMULATE
    )
    monkeypatch.setattr(loihi2_hardware, "EXTENSION", "json")
    monkeypatch.delenv("NXSDKHOST", raising=False)
    monkeypatch.setattr(loihi2_hardware.shutil, "which", lambda name: None)
    with pytest.raises(MissingPart) as caught:
        loihi2_hardware.board()
    assert str(caught.value) == (
        "target 'loihi2' needs a board: NXSDKHOST is not set, and SLURM (sinfo) is not installed" + SIMULATE
    )


def test_an_idle_node_or_a_named_host_is_the_board(monkeypatch: pytest.MonkeyPatch):
    listing = "NODELIST NODES PARTITION STATE\nncl-2 1 kp alloc\nncl-3 1 kp idle~\n"
    monkeypatch.setattr(metadata, "version", lambda name: "0.10.0")
    monkeypatch.setattr(loihi2_hardware, "EXTENSION", "json")
    monkeypatch.delenv("NXSDKHOST", raising=False)
    monkeypatch.setattr(loihi2_hardware.shutil, "which", lambda name: "/bin/sinfo")
    monkeypatch.setattr(
        loihi2_hardware.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, stdout=listing)
    )
    assert loihi2_hardware.board() == "ncl-3"
    monkeypatch.setenv("NXSDKHOST", "kapoho")
    assert loihi2_hardware.board() == "kapoho"
    with pytest.raises(MissingPart, match="board 'kapoho' is there, but this version runs no network on a board"):
        loihi2_hardware.run()


def test_busy_nodes_are_no_board(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metadata, "version", lambda name: "0.10.0")
    monkeypatch.setattr(loihi2_hardware, "EXTENSION", "json")
    monkeypatch.delenv("NXSDKHOST", raising=False)
    monkeypatch.setattr(loihi2_hardware.shutil, "which", lambda name: "/bin/sinfo")
    monkeypatch.setattr(loihi2_hardware, "_nodes", lambda: {"ncl-2": "alloc", "ncl-4": "down"})
    with pytest.raises(MissingPart) as caught:
        loihi2_hardware.board()
    assert str(caught.value) == "target 'loihi2' needs a board: SLURM lists 2, none of them idle" + SIMULATE
