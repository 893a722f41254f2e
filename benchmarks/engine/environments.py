"""The environments of the peers: one virtual environment each, pinned, without the CUDA that some would pull."""

from __future__ import annotations

import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

ENVIRONMENTS = Path(__file__).with_name(".envs")
TORCH = ("torch==2.13.0", "numpy==2.4.6")


@dataclass(frozen=True)
class Environment:
    """alone: installed without what they ask for; others: with it."""

    others: tuple[str, ...] = ()
    alone: tuple[str, ...] = ()


HERE = Environment()
"""The interpreter that runs the benchmark: it has torch, snntorch and Lava (``make setup``)."""

PEERS: dict[str, Environment] = {
    "ours": HERE,
    "lava": HERE,
    "lava_in_process": HERE,
    "torch_loop": HERE,
    "snntorch": HERE,
    "spikingjelly": Environment((*TORCH, "scipy==1.17.1", "tqdm==4.67.1", "loguru==0.7.3"), ("spikingjelly==2.0.0",)),
    "sinabs": Environment(
        (*TORCH, "matplotlib==3.11.2", "nir==1.0.8", "pbr==7.1.3"), ("sinabs==3.1.3", "nirtorch==2.6")
    ),
    "norse": Environment((*TORCH, "nir==1.0.8"), ("norse==1.1.0", "nirtorch==2.6")),
    "jax": Environment(("jax==0.10.2", "numpy==2.4.6")),
    "spyx": Environment(
        (
            "jax==0.10.2",
            "numpy==2.4.6",
            "flax==0.12.8",
            "optax==0.2.8",
            "grain==0.2.18",
            "jax-tqdm==0.4.0",
            "nir==1.0.8",
        ),
        ("spyx==1.0.0",),
    ),
    "brian2": Environment(("brian2==2.9.0", "numpy==2.3.5", "setuptools<81")),
    "nengo": Environment(("nengo==4.1.0", "numpy==2.4.6", "scipy==1.17.1")),
}


class NotInstalled(Exception):
    """Why a peer has no environment, in one line."""


def python_of(peer: str) -> Path:
    """The interpreter of a peer, made if it is not there yet or its pins have changed. Raises NotInstalled."""
    wanted = PEERS[peer]
    if wanted == HERE:
        return Path(sys.executable)
    folder = ENVIRONMENTS / peer
    python, done = folder / "bin" / "python", folder / "installed"
    if done.exists() and done.read_text() == repr(wanted):
        return python
    print(f"installing {peer} into {folder}", file=sys.stderr)
    venv.create(folder, with_pip=True, clear=True)
    for packages, options in ((wanted.others, ()), (wanted.alone, ("--no-deps",))):
        if packages:
            command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *options]
            result = subprocess.run([*command, *packages], capture_output=True, text=True)
            if result.returncode:
                lines = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
                raise NotInstalled(lines[0] if lines else f"pip ended with {result.returncode}")
    done.write_text(repr(wanted))
    return python


if __name__ == "__main__":
    for name in sys.argv[1:] or PEERS:
        try:
            print(name, python_of(name))
        except NotInstalled as error:
            print(name, "not installed:", error)
