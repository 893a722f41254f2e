"""Loops with more synapses than steps of delay, which no chip can keep up with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from snnergy.export.net import Net, Population, Projection, components


def fast_loops(net: Net) -> Iterator[list[Projection]]:
    """A loop with more synapses than steps of delay, one of every strongly connected component that has any.

    Bellman and Ford's relaxation of how late a population is after all rounds: whoever still moves is behind a loop.
    """
    for component in components(net.populations, net.projections):
        late = {p.name: 0 for p in component}
        edges = [e for e in net.projections if e.source in late and e.target in late]
        before: dict[str, Projection] = {}
        moved = _relax(component, edges, late, before)
        if moved is None:
            continue
        name = moved
        for _ in component:
            name = before[name].source
        loop = [before[name]]
        while loop[0].source != name:
            loop.insert(0, before[loop[0].source])
        yield loop


def _relax(
    component: Sequence[Population], edges: list[Projection], late: dict[str, int], before: dict[str, Projection]
) -> str | None:
    """Relax every edge once a population and once more; who moved in the last round, or None."""
    moved: str | None = None
    for _ in range(len(component) + 1):
        moved = None
        for e in edges:
            if late[e.source] + 1 - e.delay > late[e.target]:
                late[e.target], before[e.target], moved = late[e.source] + 1 - e.delay, e, e.target
        if moved is None:
            break
    return moved
