"""The smallest changes with which a rule would hold, in words."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

from snnergy.deploy.fit import Layer, limit
from snnergy.export.maps import Conv
from snnergy.hardware_profiles import NAMES, Profile, load


def lighter(layer: Layer, bits: int, profile: Profile, cores: int) -> Iterator[str]:
    """The widest weights, and the mildest pruning, with which one neuron fits a core and the whole all cores."""

    def fits(bits: int, percent: int) -> bool:
        whole, one = layer.synapse_bytes(bits, core, percent)
        return one <= have and whole <= have * cores

    core = profile.core
    have = limit(core, "synapse_bytes") or 0
    if (fewer := next((b for b in range(bits - 1, 1, -1) if fits(b, 100)), None)) is not None:
        yield f"--weight-bits {fewer}"
    if (share := next((p for p in range(99, 0, -1) if fits(bits, p)), None)) is not None:
        yield f"pruning to {share} %"


def fewer(layer: Layer, sizes: list[int], need: int, have: int) -> Iterator[str]:
    """How the largest projection would leave a neuron no more than it may have: kernel, channels, inputs, pruning."""
    index = max(range(len(sizes)), key=sizes.__getitem__)
    largest, room = layer.feeds[index], have - sum(sizes) + sizes[index]
    if room < 1:
        if share := 100 * have // need:
            yield f"pruning to {share} %"
        return
    of = f" from {largest.source}" if len(sizes) > 1 else ""
    if isinstance(largest.map, Conv):
        _, channels, *sides = largest.map.weight.shape
        kernels = ([min(side, k) for side in sides] for k in range(max(sides) - 1, 0, -1))
        if kernel := next((k for k in kernels if channels * k[0] * k[1] <= room), None):
            yield f"a kernel{of} of at most {kernel[0]}x{kernel[1]}"
        if most := room // (sides[0] * sides[1]):
            each = " a group" if largest.map.groups > 1 else ""
            yield f"at most {most:,} input channels{of}{each}"
    else:
        yield f"at most {room:,} inputs{of}"
    if share := 100 * room // sizes[index]:
        yield f"pruning{of} to {share} %"


def relays(delays: list[tuple[int, str]], most: int) -> Iterator[str]:
    """How many populations that pass spikes on, a step each, leave no delay above ``most``, wherever the rest sits."""
    needed = {source: delay - most for delay, source in reversed(delays) if delay > most}
    if most >= 0:
        (source, n), *others = sorted(needed.items(), key=lambda item: -item[1])
        more = "".join(f" and {n:,} in that from {source}" for source, n in others)
        yield f"{n:,} relay population{'s' * (n > 1)} in the path from {source}{more}"


def slower(count: int, slots: int) -> Iterator[str]:
    """What the delays of so many neurons may be with so many slots."""
    if slots >= count:
        yield f"delays of at most {steps(slots // count - 1)}"
    else:
        yield f"at most {slots:,} neurons"


def steps(count: int) -> str:
    return f"{count:,} step{'s' * (count != 1)}"


def boards(profile: Profile, cores: int) -> tuple[str, ...]:
    """The smallest board of the chip with so many cores."""
    chips = ceil(cores / profile.chip.cores.whole)
    found = sorted((b.whole, name) for name, b in profile.boards.items() if b.whole >= chips)
    return (f"--target {found[0][1]}, {found[0][0]:,} chips",) if found else ()


def chips_with(name: str, least: int) -> list[str]:
    """The chips that ship with the package and state that limit, with at least so much of it."""
    found = [chip for chip in NAMES if (limit(load(chip).core, name) or 0) >= least]
    return [f"another chip: {', '.join(f'{chip}-sim' for chip in found)}"] if found else []
