"""Tiles of one size for all of a population, as compilers cut a convolution; and files that say which size.

A tile that passes the last row or column keeps its size: the slots there hold no neuron, yet take their place on the
core, and a convolution's kernel is applied in them too. Intel's compiler for Loihi 2 does so: in its PilotNet the
chip's own counters show the synaptic events of these slots.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from math import ceil
from pathlib import Path
from typing import Any

from snnergy import limits
from snnergy.deploy.placement import Slice
from snnergy.deploy.tiles import Box, grid, whole
from snnergy.errors import BadInput, first_line
from snnergy.export.quantnet import QuantNet

MAX_FILE_BYTES = 1 << 20
Size = tuple[int, int, int]
"""Channels, rows and columns of a tile."""


def tiled(block: Box, size: Size) -> list[Box]:
    """The block in tiles of one size, whole where they pass its last row or column; channels end with the block."""
    (c0, y0, x0), (c1, y1, x1) = block.low, block.high
    corners = (
        (c, y, x)
        for c in range(c0, c1, size[0])
        for y in range(y0, y1, size[1])
        for x in range(x0, x1, size[2])
    )  # fmt: skip
    return [Box(block.shape, at, (min(at[0] + size[0], c1), at[1] + size[1], at[2] + size[2])) for at in corners]


def inside(tile: Box) -> Box:
    """What of a tile lies in its population."""
    return tile.intersect(Box(tile.shape, (0, 0, 0), tile.shape))


def fewest_slots(block: Box, parts: int) -> list[Box]:
    """At most so many tiles of one size: of all such sizes the smallest tile, of those the squarest."""
    channels, rows, columns = block.sides
    if rows == columns == 1:
        return tiled(block, (ceil(channels / parts), 1, 1))
    sizes = {(ceil(rows / n), ceil(columns / min(parts // n, columns))) for n in range(1, min(parts, rows) + 1)}
    height, width = min(sizes, key=lambda size: (size[0] * size[1], size[0] + size[1], size))
    return tiled(block, (channels, height, width))


def read(path: Path) -> dict[str, tuple[int, ...]]:
    """Population -> sides of its tiles, of a TOML or JSON file: ``conv1 = [24, 32, 4]``; all under [tiles]."""
    text = limits.read_bytes(path, MAX_FILE_BYTES).decode("utf-8", "replace")
    try:
        data: Any = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise BadInput(f"{path} is not a {kind} file: {first_line(error)}") from None
    table: Any = data.get("tiles") if isinstance(data, dict) and set(data) == {"tiles"} else None
    if not isinstance(table, dict) or not table:
        raise BadInput(f"{path} must hold one table, 'tiles', of a tile for every population: conv1 = [24, 32, 4]")
    for name, sides in table.items():
        whole_numbers = isinstance(sides, list) and all(type(n) is int and 0 < n < 1 << 31 for n in sides)
        if not whole_numbers or len(sides) not in (1, 3):
            raise BadInput(
                f"{path}: tile of '{name[:60]}' is {str(sides)[:60]}; [channels, rows, columns] or [neurons] is needed"
            )
    return {name: tuple(sides) for name, sides in table.items()}


def cores_of(net: QuantNet, tiles: Mapping[str, tuple[int, ...]]) -> list[tuple[Slice, ...]]:
    """A core for every tile, in network order. Raises BadInput unless every population has a tile of as many sides."""
    names = [p.name for p in net.populations]
    if unknown := [name for name in tiles if name not in names]:
        raise BadInput(f"the tiling names '{unknown[0]}'; the populations are {_few(names)}")
    if missing := [name for name in names if name not in tiles]:
        raise BadInput(f"the tiling has no tile for '{missing[0]}'; every population needs one")
    cores: list[tuple[Slice, ...]] = []
    for p in net.populations:
        sides = tiles[p.name]
        if len(sides) != (3 if len(p.shape) == 3 else 1):
            raise BadInput(f"the tile of '{p.name}' is {list(sides)}; '{p.name}' has shape {list(p.shape)}")
        cores += [(fixed(p.name, tile),) for tile in tiled(whole(p.shape), grid(sides))]
    return cores


def fixed(population: str, tile: Box) -> Slice:
    """The neurons of a tile, and the tile where it has room for more."""
    held = inside(tile)
    return Slice(population, held, None if held == tile else tile)


def _few(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:12]) + (" ..." if len(names) > 12 else "")
