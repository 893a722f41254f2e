"""Tiles of one size cover a population, count the slots that hold no neuron, and come from a file that is checked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import population, quantnet
from hypothesis import given, settings
from hypothesis import strategies as st
from mapping import SEEDS, activity, small

from snnergy.deploy.count import count
from snnergy.deploy.demand import phantom_synops
from snnergy.deploy.legality import violations
from snnergy.deploy.place import place
from snnergy.deploy.schedule import balance
from snnergy.deploy.tiles import Box, whole
from snnergy.deploy.tiling import cores_of, fewest_slots, fixed, inside, read, tiled
from snnergy.errors import BadInput, DoesNotFit
from snnergy.export.maps import Conv, Dense
from snnergy.export.quantnet import QuantNet, QuantProjection, QuantSource
from snnergy.hardware_profiles import load

LOIHI2 = load("loihi2")


def network(rng: np.random.Generator) -> QuantNet:
    """in -> conv -> dense; the image is 7 rows by 9 columns of 4 channels."""
    conv = Conv(rng.integers(1, 9, (4, 2, 3, 3)).astype(np.int8), (2, 9, 11))
    dense = Dense(rng.integers(1, 9, (6, 4 * 7 * 9)).astype(np.int8), conv.output_shape, (6,))
    return quantnet(
        [QuantSource("in", conv.input_shape, 1, 1.0)],
        [population("a", conv.output_shape), population("b", (6,))],
        [QuantProjection("in", "a", conv, 0), QuantProjection("a", "b", dense, 0)],
        3,
    )


@given(st.tuples(*[st.integers(1, 9)] * 3), st.tuples(*[st.integers(1, 9)] * 3))
def test_tiles_of_one_size_hold_every_neuron_once(shape: tuple[int, int, int], size: tuple[int, int, int]) -> None:
    tiles = tiled(whole(shape), size)
    assert len({tile.sides[1:] for tile in tiles}) == 1
    held = np.concatenate([inside(tile).neurons for tile in tiles])
    assert np.array_equal(np.sort(held), np.arange(np.prod(shape)))


@given(st.tuples(*[st.integers(1, 12)] * 3), st.integers(1, 20))
def test_the_fewest_slots_take_no_more_tiles_than_asked(shape: tuple[int, int, int], parts: int) -> None:
    tiles = fewest_slots(whole(shape), parts)
    assert len(tiles) <= parts
    assert sum(inside(tile).size for tile in tiles) == np.prod(shape)
    if parts >= shape[1] * shape[2] > 1:
        assert {tile.sides[1:] for tile in tiles} == {(1, 1)}


def test_a_tile_that_passes_the_border_is_counted_slot_by_slot() -> None:
    """Against a convolution over a wider image of zeros, whose further outputs read what the slots read."""
    rng = np.random.default_rng(0)
    net = network(rng)
    conv = net.projections[0].map
    assert isinstance(conv, Conv)
    schedule, act = balance(net), activity(net, rng)
    placed = place(net, schedule, LOIHI2, tiling={"a": (4, 4, 5), "b": (6,)})
    assert violations(net, schedule, LOIHI2, placed) == []
    bare = replace(
        placed, cores=tuple(replace(c, slices=tuple(replace(s, tile=None) for s in c.slices)) for c in placed.cores)
    )
    full, held = (count(act, p, net, schedule, LOIHI2) for p in (placed, bare))
    wide = Conv(conv.weight, (2, 19, 21))
    image = np.zeros((2, 19, 21))
    image[:, :9, :11] = act.spikes["in"].sum(axis=0).reshape(2, 9, 11)
    reached = ((wide.matrix() != 0) @ image.ravel()).reshape(wide.output_shape)
    cells = {cell.core: k for k, cell in enumerate(full.cells) if cell.node == "a"}
    for index, core in enumerate(placed.cores):
        for s in core.slices:
            if s.population == "a":
                y, x = s.held.low[1:]  # type: ignore[union-attr]
                assert full.by["synops"][cells[index]].sum() == reached[:, y : y + 4, x : x + 5].sum()
                assert full.cells[cells[index]].neurons == 4 * 4 * 5 == core.usage["neurons"]
                assert held.cells[cells[index]].neurons == s.size
    assert full.by["synops"].sum() > held.by["synops"].sum()
    assert full.by["updates_idle"].sum() > held.by["updates_idle"].sum()
    assert (full.by["messages"] == held.by["messages"]).all() and (full.by["spikes"] == held.by["spikes"]).all()


@pytest.mark.parametrize("seed", range(6))
def test_phantom_synops_are_those_of_the_outputs_that_a_larger_image_would_have(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = 1 + seed % 2
    stride, padding, dilation = (
        (int(rng.integers(a, b)), int(rng.integers(a, b))) for a, b in ((1, 3), (0, 2), (1, 3))
    )
    conv = Conv(rng.integers(-1, 2, (4, 6 // groups, 2, 3)), (6, 7, 8), stride, padding, dilation, groups)
    spikes = rng.integers(0, 5, 6 * 7 * 8)
    _, rows, columns = conv.output_shape
    tile = Box((4, rows, columns), (1, rows - 2, columns - 1), (4, rows + 3, columns + 2))
    room = 20  # zeros below and to the right: the outputs there read nothing but what the image holds
    wide = Conv(conv.weight, (6, 7 + room, 8 + room), stride, padding, dilation, groups)
    image = np.zeros(wide.input_shape, np.int64)
    image[:, :7, :8] = spikes.reshape(6, 7, 8)
    reads = wide.matrix()
    reads.data[:] = reads.data != 0
    reached = (reads @ image.ravel()).reshape(wide.output_shape)
    part = reached[1:4, rows - 2 : rows + 3, columns - 1 : columns + 2].sum()
    real = reached[1:4, rows - 2 : rows, columns - 1 : columns].sum()
    assert part > real > 0
    assert phantom_synops(conv, tile, spikes) == part - real


def test_a_dense_layer_has_no_slot_that_receives() -> None:
    dense = Dense(np.ones((3, 4), np.int8), (4,), (3,))
    assert phantom_synops(dense, Box((3, 1, 1), (0, 0, 0), (9, 1, 1)), np.ones(4)) == 0
    conv = Conv(np.ones((2, 1, 2, 2), np.int8), (1, 4, 4))
    assert phantom_synops(conv, whole(conv.output_shape), np.ones(16)) == 0


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(8, 120), st.sampled_from(["cores", "latency"]))
def test_a_mapper_that_keeps_one_size_a_population_is_legal_and_says_what_it_takes(
    seed: int, neurons: int, objective: str
) -> None:
    rng = np.random.default_rng(seed)
    net = network(rng)
    schedule, profile = balance(net), small(LOIHI2, neurons=neurons)
    placed = place(net, schedule, profile, partition="fixed", objective=objective, activity=activity(net, rng))
    assert violations(net, schedule, profile, placed) == []
    sides = {(s.tile or s.held).sides[1:] for c in placed.cores for s in c.slices if s.population == "a"}  # type: ignore[union-attr]
    assert len(sides) == 1


def test_a_tile_whose_neurons_are_others_is_not_legal() -> None:
    net = network(np.random.default_rng(0))
    placed = place(net, balance(net), LOIHI2, tiling={"a": (4, 4, 5), "b": (6,)})
    (wrong,) = (s for s in placed.cores[-1].slices)
    moved = replace(wrong, tile=Box((6, 1, 1), (0, 0, 0), (6, 3, 1)), held=Box((6, 1, 1), (0, 0, 0), (5, 1, 1)))
    cores = (*placed.cores[:-1], replace(placed.cores[-1], slices=(moved,)))
    says = violations(net, balance(net), LOIHI2, replace(placed, cores=cores))
    assert any("holds a tile of b whose neurons are not those inside it" in line for line in says)


def test_tiles_inside_the_population_are_boxes_like_any() -> None:
    assert fixed("a", Box((2, 4, 4), (0, 0, 0), (2, 2, 2))).tile is None
    assert fixed("a", Box((2, 3, 3), (0, 2, 2), (2, 4, 4))).slots == 8


def test_a_tiling_names_every_population_with_its_sides() -> None:
    net = network(np.random.default_rng(0))
    for tiles, says in (
        ({"a": (4, 4, 5)}, "the tiling has no tile for 'b'; every population needs one"),
        ({"a": (4, 4, 5), "b": (6,), "c": (1,)}, "the tiling names 'c'; the populations are a, b"),
        ({"a": (80,), "b": (6,)}, "the tile of 'a' is [80]; 'a' has shape [4, 7, 9]"),
    ):
        with pytest.raises(BadInput) as refused:
            cores_of(net, tiles)
        assert str(refused.value) == says


def test_a_tile_too_large_for_a_core_is_refused_with_its_limit() -> None:
    net = network(np.random.default_rng(0))
    with pytest.raises(DoesNotFit) as refused:
        place(net, balance(net), small(LOIHI2, neurons=79), tiling={"a": (4, 4, 5), "b": (6,)})
    assert str(refused.value) == "a tile of 'a' takes 80 neurons, a core of loihi2 has 79: give it a smaller tile"
    with pytest.raises(DoesNotFit) as refused:
        place(net, balance(net), small(LOIHI2, cores=4), 1, tiling={"a": (4, 4, 5), "b": (6,)})
    assert str(refused.value) == "the tiling has 5 tiles, loihi2 has 4 cores: use larger tiles"


def test_tiles_of_one_size_are_not_halved() -> None:
    net = network(np.random.default_rng(0))
    with pytest.raises(BadInput) as refused:
        place(net, balance(net), LOIHI2, partition="fixed", iterations=5)
    assert str(refused.value) == "--iterations 5 halves cores; tiles of one size stay as they are, with 0 iterations"


def test_a_file_may_be_toml_or_json(tmp_path: Path) -> None:
    toml, json = tmp_path / "t.toml", tmp_path / "t.json"
    toml.write_text("[tiles]\na = [4, 4, 5]\nb = [6]\n")
    json.write_text('{"tiles": {"a": [4, 4, 5], "b": [6]}}')
    assert read(toml) == read(json) == {"a": (4, 4, 5), "b": (6,)}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[tiles", "{} is not a TOML file: "),
        ("a = [1]", "{} must hold one table, 'tiles', of a tile for every population: conv1 = [24, 32, 4]"),
        ("[tiles]\na = [4, 0, 5]", "{}: tile of 'a' is [4, 0, 5]; [channels, rows, columns] or [neurons] is needed"),
        ("[tiles]\na = [4, 5]", "{}: tile of 'a' is [4, 5]; [channels, rows, columns] or [neurons] is needed"),
        ("[tiles]\na = 'x'", "{}: tile of 'a' is x; [channels, rows, columns] or [neurons] is needed"),
    ],
)
def test_a_file_that_says_nothing_of_use_is_refused(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_text(text)
    with pytest.raises(BadInput) as refused:
        read(path)
    assert str(refused.value).startswith(says.format(path))
