"""Lets lava-nc 0.10.0 and lava-dl 0.6.0 import and run on Python 3.11 to 3.13 and numpy 2.

Both are archived and declare Python < 3.11. What breaks is a handful of lines, so an import hook patches the source
text of the modules in ``PATCHES`` while they load. Nothing changes on disk, in the standard library or in the start
method of the user's program.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import metadata
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import find_spec
from types import CodeType, ModuleType

from snnergy.errors import MissingPart

VERSION = "0.10.0"
"""The one release of lava-nc whose text the patches know; it is the last one."""
INSTALL = (
    "pip install --ignore-requires-python --no-deps lava-nc==0.10.0 lava-dl==0.6.0"
    " && pip install networkx asteval greenlet"
)
NEEDED = ("networkx", "asteval", "greenlet")
"""What Lava and the in-process runtime import, which ``--no-deps`` leaves out."""

Edits = tuple[tuple[str, str], ...]

PATCHES: dict[str, Edits] = {
    # a mutable default of a dataclass field is an error since Python 3.11
    "lava.magma.compiler.var_model": (
        ("from dataclasses import dataclass, InitVar", "from dataclasses import dataclass, field, InitVar"),
        ("= ByteEncoder()", "= field(default_factory=ByteEncoder)"),
    ),
    # numpy 2.1 renamed the argument, numpy 2.4 removed the old name; by position it works everywhere
    "lava.magma.core.process.ports.ports": (
        ("ft.partial(np.reshape, newshape=self.shape)", "(lambda a, s=self.shape: np.reshape(a, s))"),
        ("ft.partial(np.reshape, newshape=self.old_shape)", "(lambda a, s=self.old_shape: np.reshape(a, s))"),
    ),
    # int() of an array of one element is an error since numpy 2.4
    "lava.lib.dl.netx.hdf5": (
        ("int(layer_config['weight'])", "int(np.ravel(layer_config['weight'])[0])"),
        ("int(layer_config['bias'])", "int(np.ravel(layer_config['bias'])[0])"),
    ),
    # Lava sets the start method of the whole program at import, which fails where one is set already
    "lava.magma.runtime.message_infrastructure.multiprocessing": (
        ("mp.set_start_method('fork')", "pass"),
        ("class SystemProcess(mp.Process)", "class SystemProcess(mp.get_context('fork').Process)"),
        ("mp.Process.__init__(self, ", "super().__init__("),
        ("mp.Process.run(self)", "super().run()"),
    ),
    "lava.magma.runtime.message_infrastructure.shared_memory_manager": (
        ("managers.SharedMemoryManager()", "managers.SharedMemoryManager(ctx=managers.get_context('fork'))"),
        ("import multiprocessing.managers as managers", "from multiprocessing import managers"),
    ),
}

OPTIONAL = {"lava.lib.dl.slayer.object_detection": ("cv2", "torchvision", "PIL")}
"""Modules of lava-dl that it imports always and we never need: empty where their own needs are not installed."""


def installed() -> str | None:
    """The version of lava-nc that is installed, or None; nothing is imported.

    ``lava`` is a namespace package, so finding it proves nothing.
    """
    try:
        return metadata.version("lava-nc")
    except metadata.PackageNotFoundError:
        return None


def activate() -> None:
    """Make ``import lava...`` work from here on; call it before the first such import. Twice is once.

    Raises MissingPart, with the line that installs it, where Lava, a module it needs or the right version is absent.
    """
    version = installed()
    if version is None:
        raise MissingPart("Lava is not installed", help=INSTALL)
    if version != VERSION:
        raise MissingPart(f"lava-nc {version} is installed, only {VERSION} is known to work", help=INSTALL)
    absent = [name for name in NEEDED if find_spec(name) is None]
    if absent:
        raise MissingPart(f"Lava needs {', '.join(absent)}, not installed", help=f"pip install {' '.join(absent)}")
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    early = [name for name in PATCHES if name in sys.modules]
    if early:
        raise MissingPart(f"'{early[0]}' was imported before snnergy could mend it; call lava_compat.activate() first")
    sys.meta_path.insert(0, _Finder())


def patched(module: str, text: str, edits: Edits) -> str:
    """The source text with every edit made; MissingPart where one does not apply, as in any other version of Lava."""
    for old, new in edits:
        if old not in text:
            raise MissingPart(f"'{module}' is not the text of lava-nc {VERSION}: '{old}' is missing", help=INSTALL)
        text = text.replace(old, new)
    return text


class _PatchingLoader(SourceFileLoader):
    """Compiles the patched text; no cached bytecode is read or written."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        text = self.get_data(path).decode("utf-8")
        return compile(patched(fullname, text, PATCHES[fullname]), path, "exec", dont_inherit=True)


class _EmptyLoader(Loader):
    def exec_module(self, module: ModuleType) -> None:
        module.__doc__ = "Left empty by snnergy: what it imports is not installed."


class _Finder(MetaPathFinder):
    """Answers for the modules in ``PATCHES`` and ``OPTIONAL``, for no other."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in PATCHES:
            spec = PathFinder.find_spec(fullname, path, target)
            if spec is not None and spec.origin is not None:
                spec.loader = _PatchingLoader(fullname, spec.origin)
            return spec
        if any(find_spec(name) is None for name in OPTIONAL.get(fullname, ())):
            return ModuleSpec(fullname, _EmptyLoader(), is_package=True)
        return None
