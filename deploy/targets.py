"""What ``--target`` can name: a chip's profile, and whether a simulator or the chip runs the network."""

from __future__ import annotations

from dataclasses import dataclass

from snnergy.config import did_you_mean
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
    """The target of that name, or the chip of a ``.toml`` profile, simulated. Raises BadInput, naming the nearest."""
    if name in TARGETS:
        return TARGETS[name]
    if name.endswith(".toml"):
        return Target(name, name, False, "a chip of your own, simulated exactly on this machine")
    raise BadInput(f"no target '{name}'{did_you_mean(name, TARGETS)}")
