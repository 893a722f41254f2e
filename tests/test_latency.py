"""Loads are means per core, a step takes as long as its slowest part, and that part is named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from mapping import SEEDS, activity, looped, scattered

from snnergy.deploy.count import count
from snnergy.deploy.counts import COUNTERS, Cell, Counts
from snnergy.deploy.latency import TERMS, Loads, binding, core_name, loads, terms
from snnergy.deploy.placement import Core, Placement
from snnergy.deploy.schedule import balance
from snnergy.hardware_profiles import load

NS = {"synop": 2.0, "update_active": 5.0, "update_idle": 3.0, "spike": 7.0, "link": 11.0, "barrier": 100.0}


def counts(cells: tuple[Cell, ...], links: tuple[int, ...] = (0, 0), samples: int = 2, **by: list[list[int]]) -> Counts:
    """Two steps; counters that are not given are 0."""
    steps = len(links)
    table = {name: np.zeros((len(cells), steps), np.int64) for name in COUNTERS}
    table |= {name: np.array(rows, np.int64) for name, rows in by.items()}
    names = tuple(f"link {t}" for t in range(steps))
    nodes = tuple(dict.fromkeys(c.node for c in cells))
    cores = max(c.core for c in cells) + 1
    return Counts(nodes, cells, table, np.array(links, np.int64), names, samples, steps, 1, cores, 0, 0, 0)


CELLS = (Cell(0, "a", 4), Cell(1, "a", 2), Cell(0, "b", 3), Cell(1, "x", 0))


def test_cells_of_a_core_add_up_and_are_divided_by_the_samples() -> None:
    load = loads(
        counts(
            CELLS,
            (4, 10),
            samples=2,
            synops=[[2, 4], [6, 8], [10, 12], [0, 0]],
            updates_active=[[1, 0], [2, 0], [3, 0], [0, 0]],
            updates_idle=[[0, 1], [0, 2], [0, 3], [0, 0]],
            spikes=[[8, 0], [0, 2], [2, 2], [0, 0]],
        )
    )
    assert load.synops.tolist() == [[6, 8], [3, 4]]
    assert load.updates_active.tolist() == [[2, 0], [1, 0]]
    assert load.updates_idle.tolist() == [[0, 2], [0, 1]]
    assert load.spikes.tolist() == [[5, 1], [0, 1]]
    assert load.links.tolist() == [2, 5]


@given(SEEDS)
def test_loads_hold_every_event_of_the_mean_sample(seed: int) -> None:
    rng = np.random.default_rng(seed)
    net, profile = looped(seed), load("loihi2")
    found = count(activity(net, rng), scattered(net, rng, profile), net, balance(net), profile)
    mean = loads(found)
    for name in ("synops", "updates_active", "updates_idle", "spikes"):
        values = getattr(mean, name)
        assert values.shape == (found.cores, found.steps)
        np.testing.assert_allclose(values.sum(axis=0), found.by[name].sum(axis=0) / found.samples, rtol=1e-12)


def test_a_term_is_the_busiest_core_times_its_constants() -> None:
    load = Loads(
        synops=np.array([[3.0, 1.0], [2.0, 4.0]]),
        updates_active=np.array([[1.0, 0.0], [0.0, 2.0]]),
        updates_idle=np.array([[0.0, 4.0], [5.0, 0.0]]),
        spikes=np.array([[1.0, 0.0], [0.0, 1.0]]),
        links=np.array([3.0, 0.5]),
    )
    time, core = terms(load, NS)
    assert TERMS == ("synops", "updates", "link", "barrier")
    assert time.tolist() == [[6, 8], [15, 17], [33, 5.5], [100, 100]]
    assert core.tolist() == [[0, 1], [1, 1], [0, 0], [0, 0]]


def test_the_slowest_term_of_every_step_is_named() -> None:
    cells = (Cell(0, "a", 1), Cell(1, "b", 1))
    found = counts(
        cells,
        (0, 0, 4, 0),
        samples=1,
        synops=[[9, 0, 0, 0], [0, 0, 0, 0]],
        spikes=[[0, 0, 0, 0], [0, 3, 0, 0]],
    )
    assert binding(found, loads(found), {**NS, "barrier": 10.0}, None) == (
        "synops of core 0 (a)",
        "updates of core 1 (b)",
        "link 2",
        "barrier",
    )


def test_a_tie_goes_to_the_first_term() -> None:
    found = counts((Cell(0, "a", 1),), (0,), samples=1, synops=[[5]])
    assert binding(found, loads(found), {**NS, "barrier": 10.0}, None) == ("synops of core 0 (a)",)


def test_a_core_is_called_by_its_busiest_population_and_its_place() -> None:
    found = counts(CELLS, synops=[[1, 0], [0, 0], [0, 2], [9, 9]])
    assert core_name(found, None, 0, "synops") == "core 0 (b)"
    assert core_name(found, None, 0, "updates") == "core 0 (a)"
    assert core_name(found, None, 1, "synops") == "core 1 (a)"
    cores = (Core(0, 7, 0, 0, (), {}), Core(3, 5, 0, 0, (), {}))
    assert core_name(found, Placement("loihi2", 4, cores), 1, "updates") == "chip 3 core 5 (a)"


@pytest.mark.parametrize("name", list(NS))
def test_a_step_never_gets_faster_when_a_constant_grows(name: str) -> None:
    rng = np.random.default_rng(1)
    load = Loads(*(rng.random((3, 4)) for _ in range(4)), links=rng.random(4))
    before, _ = terms(load, NS)
    after, _ = terms(load, {**NS, name: 2 * NS[name]})
    assert (after >= before).all() and (after > before).any()


def test_loads_cannot_be_changed() -> None:
    assert Loads.__dataclass_params__.frozen and not Loads.__dataclass_params__.eq  # type: ignore[attr-defined]
