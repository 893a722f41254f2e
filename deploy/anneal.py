"""Cores on seats so that messages travel little: a spectral start, simulated annealing, and descent at the end.

The start follows Hall 1970: the two smoothest eigenvectors of the traffic's Laplacian are coordinates. The annealing is
that of VPR (Betz and Rose 1997): a window about the core's own router that keeps 44 % of the moves accepted (Lam and
Delosme 1988). To it come moves to the side of a core that is written to or read from, which are of use when it is cold.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
from numba import config, njit, uint64
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array, diags_array, eye_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import ArpackNoConvergence, eigsh

from snnergy.deploy.kernels import compiled

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

SWEEPS = 30 if config.DISABLE_JIT else 30_000  # pyright: ignore
"""Moves tried for every core, while all of them are at most ``MOVES``; few where nothing is compiled."""
MOVES = 50_000_000
STAGES = 200
"""Temperatures; the window is fitted after each."""
HOT, COLD = 4.0, 0.1
"""First and last temperature: the mean messages of two cores that talk, times the mean price of a hop."""
ACCEPTED = 0.44
TOWARDS = 0.3
"""Share of the moves to the side of a neighbour in the traffic."""
REACH = 15
"""Routers either way that the last descent looks at."""
DENSE = 64
"""Neighbours of a core above which a Laplacian is not factorised."""

inlined = njit(nogil=True, inline="always")


def anneal(
    traffic: csr_array,
    seats: I64,
    *,
    entering: F64 | None = None,
    entry: tuple[int, int] = (0, 0),
    hop: tuple[float, float] = (1.0, 1.0),
    chip_width: int | None = None,
    crossing: float = 0.0,
    seed: int = 0,
    sweeps: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> I64:
    """The seat of every core, int64[k], no seat twice: the least found of ``sum messages * price of the route``.

    traffic:    float64[k, k], messages from core to core; entering: float64[k], messages to each from router ``entry``
    seats:      int64[s, 2], x and y of the router of every seat, s >= k; several seats may share a router
    hop:        price of a hop east-west and of one north-south; crossing: added where x passes a multiple of chip_width
    sweeps:     moves tried for every core; without, SWEEPS while they are at most MOVES in all
    progress:   called with the temperatures done and all of them

    Routes are x first, then y, so a price is the L1 distance of seats whose coordinates are stretched by the prices.
    Never dearer than core i on seat i. The same seed gives the same seats.
    """
    k = traffic.indptr.size - 1
    assert k <= len(seats), "more cores than seats"
    grid = _Grid(seats, hop, chip_width, crossing)
    both = _both(traffic, np.zeros(k) if entering is None else entering)
    in_order = np.arange(k)
    if both.nnz == 0 or not grid.step:  # every seating costs the same
        return in_order
    entry_at = grid.stretch(np.array([entry], np.int64))

    def price(at: I64) -> float:
        where = np.concatenate([grid.where[at], entry_at])
        talk = both.tocoo()
        return float(talk.data @ np.abs(where[talk.row] - where[talk.col]).sum(axis=1)) / 2

    start = min([grid.rank[in_order], *_spectral(both[:k, :k].tocsr(), grid)], key=price)
    at = start.copy()
    holder = np.full(len(seats), -1)
    holder[at] = in_order
    where = np.concatenate([grid.where[at], entry_at]).T.copy()
    graph = both.indptr.astype(np.int64), both.indices.astype(np.int32), both.data
    mesh = grid.width, grid.height, grid.column, grid.row, grid.first, *grid.where.T.copy()
    state = at, holder, *where
    if sweeps is None:
        sweeps = min(SWEEPS, max(1, MOVES // k))
    random = np.array([2 * seed + 1], np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    unit, window = both.data.mean() * grid.step, float(max(grid.width, grid.height))
    for stage, heat in enumerate(unit * np.geomspace(HOT, COLD, STAGES)):
        tries = sweeps * k * (stage + 1) // STAGES - sweeps * k * stage // STAGES
        accepted = settle(graph, mesh, state, heat, int(window), tries, random)
        window = min(max(window * (1 - ACCEPTED + accepted), 1.0), float(max(grid.width, grid.height)))
        if progress:
            progress(stage + 1, STAGES)
    while descend(graph, mesh, state, REACH, 1e-9 * unit):
        pass
    return grid.seat[grid.first_seats(min([at, start], key=price))]


class _Grid:
    """Seats sorted by router, row by row.

    seat:   int64[s], the caller's number of every seat; rank: its inverse
    column, row: int64[s], of the router; first: int64[width * height + 1], the first seat of every router
    where:  float64[s, 2], coordinates stretched by the prices; step: their mean growth from router to router
    """

    def __init__(self, seats: I64, hop: tuple[float, float], chip_width: int | None, crossing: float) -> None:
        low, high = (seats.min(axis=0), seats.max(axis=0)) if len(seats) else (np.zeros(2, np.int64),) * 2
        self.width, self.height = (int(n) + 1 for n in high - low)
        router = (seats[:, 1] - low[1]) * self.width + seats[:, 0] - low[0]
        self._price, self._chip_width, self._crossing = np.array(hop, np.float64), chip_width, crossing
        self.seat = np.argsort(router, kind="stable")
        self.rank = np.argsort(self.seat)
        self.row, self.column = np.divmod(router[self.seat], self.width)
        self.first = np.searchsorted(router[self.seat], np.arange(self.width * self.height + 1))
        self.where = self.stretch(seats[self.seat])
        ends = self.stretch(np.array([low, high]))
        hops = self.width + self.height - 2
        self.step = float((ends[1] - ends[0]).sum()) / hops if hops else 0.0

    def stretch(self, xy: I64) -> F64:
        where = xy * self._price
        if self._chip_width:
            where[:, 0] += self._crossing * (xy[:, 0] // self._chip_width)
        return where

    def first_seats(self, at: I64) -> I64:
        """The same routers, the cores of each in order on its first seats. at: int64[k]"""
        router = self.row[at] * self.width + self.column[at]
        order = np.argsort(router, kind="stable")
        there = router[order]
        seat = np.empty_like(at)
        seat[order] = self.first[there] + np.arange(at.size) - np.searchsorted(there, there)
        return seat

    def block(self, k: int, snake: bool = False) -> I64:
        """k seats in the square corner at the origin, column by column; of a snake every other column turns back."""
        x, y = self.column, self.row
        near = np.lexsort((y, x, np.maximum(x, y)))[:k]
        way = 1 - 2 * (x[near] % 2) if snake else 1
        return near[np.lexsort((way * y[near], x[near]))]


def _both(traffic: csr_array, entering: F64) -> csr_array:
    """Messages either way between cores, and the entry as the last row and column."""
    k = traffic.indptr.size - 1
    sent = traffic.tocoo()
    row, column = np.concatenate([sent.row, np.arange(k)]), np.concatenate([sent.col, np.full(k, k)])
    messages = np.concatenate([sent.data, entering]).astype(np.float64)
    talk = (messages != 0) & (row != column)
    assert (messages >= 0).all(), "traffic is not negative"
    one = coo_array((messages[talk], (row[talk], column[talk])), shape=(k + 1, k + 1)).tocsr()
    both = csr_array(one + one.T)
    both.sort_indices()
    return both


def _spectral(both: csr_array, grid: _Grid) -> list[I64]:
    """Starts: columns of the block filled in the order of one eigenvector, each in that of the other; and a snake."""
    k = both.indptr.size - 1
    _, part = connected_components(both, directed=False)
    smooth = np.zeros((2, k))
    members = np.split(np.argsort(part, kind="stable"), np.cumsum(np.bincount(part))[:-1])
    for cores in members:
        if cores.size > 2:
            smooth[:, cores] = _smoothest(both if cores.size == k else both[cores][:, cores])
    block, snake = grid.block(k), np.empty(k, np.int64)
    snake[np.lexsort((smooth[0], part))] = grid.block(k, snake=True)
    starts = [snake]
    for (a, b), flip_a, flip_b in product(((0, 1), (1, 0)), (1, -1), (1, -1)):
        along = np.lexsort((flip_a * smooth[a], part))
        at = np.empty(k, np.int64)
        at[along[np.lexsort((flip_b * smooth[b][along], grid.column[block]))]] = block
        starts.append(at)
    return starts


def _smoothest(both: csr_array) -> F64:
    """Eigenvectors 2 and 3 of ``D^-1 (D - W)`` of a connected graph of 3 cores or more, float64[2, k]."""
    k = both.indptr.size - 1
    root = np.sqrt(both.sum(axis=0))
    scaled = csr_array(diags_array(1 / root) @ both @ diags_array(1 / root))
    if k <= DENSE:
        vectors = np.linalg.eigh(scaled.toarray())[1][:, ::-1]
    else:
        options: dict[str, Any] = {"v0": np.random.default_rng(0).random(k), "tol": 1e-3}
        try:
            if both.nnz > DENSE * k:
                values, vectors = eigsh(scaled, 3, which="LA", **options)
            else:
                values, vectors = eigsh((eye_array(k) - scaled).tocsc(), 3, sigma=-1e-6, **options)
                values = -values
            vectors = vectors[:, np.argsort(-values)]
        except ArpackNoConvergence:
            return np.stack([np.arange(k, dtype=np.float64)] * 2)
    return (vectors[:, 1:3] / root[:, None]).T


def _draw(random: Any, n: int) -> Any:
    """0 .. n - 1 by xorshift64 (Marsaglia 2003). random: uint64[1], not 0, the state."""
    r = random[0]
    r ^= r << uint64(13)
    r ^= r >> uint64(7)
    r ^= r << uint64(17)
    random[0] = r
    return np.int64(((r >> uint64(32)) * uint64(n)) >> uint64(32))


draw = inlined(_draw)


def _change(graph: Any, mesh: Any, state: Any, core: int, to: int) -> Any:
    """What the price grows by when a core takes a seat and who sits there takes the core's.

    graph: indptr int64[n + 1], index int32[e], weight float64[e]
    mesh:  width, height, column int64[s], row int64[s], first int64[routers + 1], x float64[s], y float64[s]
    state: at int64[k], holder int64[s] (-1: nobody), x float64[n], y float64[n] of the cores and the entry
    """
    indptr, index, weight = graph
    at, holder, x, y = state
    seat_x, seat_y = mesh[5], mesh[6]
    old, other = at[core], holder[to]
    ax, ay, bx, by = seat_x[old], seat_y[old], seat_x[to], seat_y[to]
    grows = 0.0
    for e in range(indptr[core], indptr[core + 1]):
        q = index[e]
        if q != other:
            grows += weight[e] * (abs(bx - x[q]) + abs(by - y[q]) - abs(ax - x[q]) - abs(ay - y[q]))
    if other >= 0:
        for e in range(indptr[other], indptr[other + 1]):
            q = index[e]
            if q != core:
                grows += weight[e] * (abs(ax - x[q]) + abs(ay - y[q]) - abs(bx - x[q]) - abs(by - y[q]))
    return grows


change = inlined(_change)


def _move(mesh: Any, state: Any, core: int, to: int) -> None:
    """The core takes the seat, who sits there takes the core's."""
    seat_x, seat_y = mesh[5], mesh[6]
    at, holder, x, y = state
    old, other = at[core], holder[to]
    at[core], holder[to], holder[old] = to, core, other
    x[core], y[core] = seat_x[to], seat_y[to]
    if other >= 0:
        at[other] = old
        x[other], y[other] = seat_x[old], seat_y[old]


move = inlined(_move)


def _settle(graph: Any, mesh: Any, state: Any, heat: float, window: int, tries: int, random: Any) -> float:
    """Tries at one temperature; the share of them that was accepted."""
    indptr, index, _ = graph
    width, height, column, row, first, _, _ = mesh
    at = state[0]
    k = at.size
    towards, precision = np.int64(TOWARDS * (1 << 30)), 1 << 30
    tried = accepted = 0
    for _ in range(tries):
        core = draw(random, k)
        near, reach, degree = at[core], window, indptr[core + 1] - indptr[core]
        if degree > 0 and draw(random, precision) < towards:
            q = index[indptr[core] + draw(random, degree)]
            if q < k:
                near, reach = at[q], 1
        x = column[near] - reach + draw(random, 2 * reach + 1)
        y = row[near] - reach + draw(random, 2 * reach + 1)
        if x < 0 or y < 0 or x >= width or y >= height:
            continue
        r = y * width + x
        free = first[r + 1] - first[r]
        if free == 0:
            continue
        to = first[r] + draw(random, free)
        if to == at[core]:
            continue
        tried += 1
        grows = change(graph, mesh, state, core, to)
        if grows <= 0 or draw(random, precision) < np.exp(-grows / heat) * precision:
            move(mesh, state, core, to)
            accepted += 1
    return accepted / max(tried, 1)


settle = compiled(_settle)


def _descend(graph: Any, mesh: Any, state: Any, reach: int, least: float) -> int:
    """Every core to its best seat within reach, where that saves more than ``least``; how many moved."""
    width, height, column, row, first, _, _ = mesh
    at = state[0]
    moved = 0
    for core in range(at.size):
        x0, y0 = column[at[core]], row[at[core]]
        best, best_to = -least, at[core]
        for y in range(max(y0 - reach, 0), min(y0 + reach + 1, height)):
            for to in range(first[y * width + max(x0 - reach, 0)], first[y * width + min(x0 + reach + 1, width)]):
                if to != at[core]:
                    grows = change(graph, mesh, state, core, to)
                    if grows < best:
                        best, best_to = grows, to
        if best_to != at[core]:
            move(mesh, state, core, best_to)
            moved += 1
    return moved


descend = compiled(_descend)
