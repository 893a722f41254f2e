"""What ``--target`` can name: a chip's profile, and whether a simulator or the chip runs the network."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from snnergy.errors import BadInput


@dataclass(frozen=True)
class Target:
    """profile: name for ``hardware_profiles.load``; hardware: True where the real chip is needed."""

    name: str
    profile: str
    hardware: bool
    title: str


TARGETS: dict[str, Target] = {
    t.name: t
    for t in (
        Target("loihi2-sim", "loihi2", False, "Loihi 2, simulated exactly on this machine"),
        Target("loihi1-sim", "loihi1", False, "Loihi, simulated exactly on this machine"),
        Target("loihi2", "loihi2", True, "Loihi 2, the chip itself"),
    )
}


def find(name: str) -> Target:
    """The target of that name. Raises BadInput, naming the nearest, where there is none."""
    if name in TARGETS:
        return TARGETS[name]
    near = difflib.get_close_matches(name, TARGETS, n=1)
    meant = f"did you mean '{near[0]}'?" if near else f"the targets are {', '.join(TARGETS)}"
    raise BadInput(f"no target '{name}'; {meant}")
