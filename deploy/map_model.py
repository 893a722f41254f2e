"""``snnergy map``: where every neuron of a file sits, what sets the pace there, and why."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from math import inf, prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from scipy.sparse import csr_array

from snnergy import __version__
from snnergy.deploy import engine as native
from snnergy.deploy import legality
from snnergy.deploy.activity import Activity
from snnergy.deploy.counts import Counts
from snnergy.deploy.deploy_model import PROFILED, mapped
from snnergy.deploy.energy import STATEMENT, EnergyReport
from snnergy.deploy.fanout import destinations
from snnergy.deploy.fit import LIMITS, layers, limit
from snnergy.deploy.job import Inputs, Job, load_inputs, prepare
from snnergy.deploy.latency import loads
from snnergy.deploy.partition import ASSUMED_RATE, Demand, Tile, measured, pace
from snnergy.deploy.placement import Core, Placement, Slice
from snnergy.deploy.price import price
from snnergy.deploy.report import si
from snnergy.deploy.rules import title
from snnergy.deploy.schedule import Schedule
from snnergy.deploy.split import PART
from snnergy.deploy.targets import find
from snnergy.deploy.tiles import Box, Sums, cut, grid
from snnergy.errors import BadInput
from snnergy.export.net import count_synapses
from snnergy.export.quantnet import QuantNet, QuantPopulation, QuantSource
from snnergy.hardware_profiles import Profile

F64 = NDArray[np.float64]

SCHEMA = "snnergy.map/1"
UNASKED = "no sample is to be looked at"
CHIPS_SHOWN = 2
"""Of a population on more chips, their numbers are printed instead of its place on each."""


@dataclass(frozen=True, eq=False)
class Mapped:
    """A placement and what was counted on it.

    before: the network as it was quantised; net: with its readouts split; busy_ns: float64[cores], of a mean step
    """

    before: QuantNet
    net: QuantNet
    schedule: Schedule
    profile: Profile
    placement: Placement
    activity: Activity
    report: EnergyReport
    busy_ns: F64

    @property
    def counts(self) -> Counts:
        """The events on every core."""
        return self.report.counts

    def per_step(self, counter: str) -> F64:
        """float64[cells], events of a mean step."""
        return self.counts.by[counter].sum(axis=1) / (self.counts.samples * self.counts.steps)

    def homes(self, population: str) -> list[tuple[int, Slice]]:
        """The tiles of a population, each with the index of its core."""
        cores = enumerate(self.placement.cores)
        return [(index, s) for index, core in cores for s in core.slices if s.population == population]


def map_model(
    path: Path,
    target: str,
    *,
    spec: str | None = None,
    samples: int | None = None,
    chips: int | None = None,
    objective: str = "edp",
    profile_activity: int = PROFILED,
    iterations: int = 0,
    explain: bool = False,
    steps: int | None = None,
    dt_s: float | None = None,
    weight_bits: int = 8,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Map a ``.nir`` file as ``deploy`` would, and the document of it, as JSON types. Raises DoesNotFit.

    samples: that are counted; None: those of ``profile_activity``, for which the mapping is made
    explain: also say of every population why it sits where it sits; progress: called with what begins

    A file without an input is mapped and counted with every neuron alike. What differs when the same command runs again
    stands under ``run`` and nowhere else.
    """
    start, tell = time.perf_counter(), progress or (lambda _: None)
    profile = find(target).load()
    tell("read and quantise")
    job = prepare(path, dt_s=dt_s, steps=steps, weight_bits=weight_bits)
    inputs, alike = _inputs(job, spec, samples, profile_activity, seed)
    encoded = job.quant.encode(inputs.real) if inputs else {}
    profiled = min(profile_activity, len(inputs)) if inputs else 0
    if profiled:
        tell(f"activity of {profiled} samples")
    net, schedule, placement, activity = mapped(
        job, encoded, profile, chips, objective=objective, samples=profiled, iterations=iterations, seed=seed,
        progress=tell,
    )  # fmt: skip
    tell("check and count")
    legality.enforce(net, schedule, profile, placement)
    if inputs and profiled < len(inputs):
        activity = native.run(net, encoded).activity
    activity = activity or every_neuron_alike(net)
    report = price(activity, placement, net, schedule, profile)
    found = Mapped(job.quant, net, schedule, profile, placement, activity, report, _busy_ns(report.counts, profile))
    if explain:
        tell("explain")
    return {
        "schema": SCHEMA,
        "statement": STATEMENT,
        "tool": f"snnergy {__version__}",
        "model": path.name,
        "target": target,
        "target_title": profile.title,
        "objective": objective,
        "iterations": iterations,
        "seed": seed,
        "weight_bits": weight_bits,
        "timesteps": net.steps,
        "activity": {
            "mapped_for": profiled,
            "counted": len(inputs) if inputs else 0,
            "input": inputs.spec if inputs else None,
            "input_sha256": inputs.sha256 if inputs else None,
            "alike": alike,
        },
        "network": {**report.network, "synapses": count_synapses(job.quant.projections)},
        "placement": {
            "chips": placement.chips,
            "cores": len(placement.cores),
            **{
                name: getattr(profile.chip, field).whole
                for name, field in (("cores_per_chip", "cores"), *((f, f) for f in _MESH))
            },
        },
        **_totals(found),
        "populations": list(_populations(found, explain)),
        "cores": list(_cores(found)),
        "run": {"seconds": time.perf_counter() - start},
    }


_MESH = ("mesh_width", "mesh_height", "cores_per_router")


def _inputs(
    job: Job, spec: str | None, samples: int | None, profiled: int, seed: int
) -> tuple[Inputs | None, str | None]:
    """The samples to count; or none, and the reason why."""
    if not (samples or profiled):
        return None, UNASKED
    try:
        inputs = load_inputs(job, spec, samples, seed)
    except BadInput as no:
        if spec:
            raise
        return None, str(no)
    return (inputs if samples else inputs.first(profiled)), None if profiled else UNASKED


def every_neuron_alike(net: QuantNet) -> Activity:
    """What ``place`` takes for granted where nothing was run: every input and neuron as busy as every other."""
    samples = round(1 / ASSUMED_RATE)

    def all_of(node: QuantSource | QuantPopulation, times: int) -> NDArray[np.int64]:
        return np.broadcast_to(np.int64(times), (net.steps, prod(node.shape)))

    spikes = {s.name: all_of(s, 1) for s in net.sources} | {p.name: all_of(p, int(p.spiking)) for p in net.populations}
    return Activity(samples, net.steps, spikes, {p.name: all_of(p, samples) for p in net.populations})


def _busy_ns(counts: Counts, profile: Profile) -> F64:
    load, ns = loads(counts), pace(profile)
    updates = load.updates_active * ns.active + load.updates_idle * ns.idle + load.spikes * ns.spike
    return np.maximum((load.synops * ns.synop).mean(axis=1), updates.mean(axis=1))


# the document


def _totals(m: Mapped) -> dict[str, Any]:
    counts, most = m.counts, limit(m.profile.core, "synapse_bytes")
    messages = float(m.per_step("messages").sum())
    hops = float(m.per_step("hops_ew").sum() + m.per_step("hops_ns").sum())
    worst = int(counts.links.argmax())
    link = {"name": counts.link_names[worst], "messages": float(counts.links[worst]) / counts.samples, "step": worst}
    used = sum(core.usage["synapse_bytes"] for core in m.placement.cores)
    return {
        "step": {**asdict(m.report.step_ns), "unit": "ns", "bound_by": m.report.bound_by},
        "slowest_core_ns": float(m.busy_ns.max()),
        "messages": messages,
        "hops": hops / messages if messages else 0.0,
        "busiest_link": link if counts.links[worst] else None,
        "memory": {"used_bytes": used, "have_bytes": most and most * len(m.placement.cores)},
    }


def _populations(m: Mapped, explain: bool) -> Iterator[dict[str, Any]]:
    """A row a population, in network order."""
    messages, why = m.per_step("messages"), _Why(m) if explain else None
    for p in m.net.populations:
        homes = m.homes(p.name)
        tiles = sorted((s for _, s in homes), key=lambda s: s.size)
        cores = [(index, m.placement.cores[index]) for index, _ in homes]
        share, name, fullest = max(
            (_tightest(core, m.profile) for _, core in cores),
            key=lambda found: found[0],
            default=(0.0, "", cores[0][1]),
        )
        busiest = max((index for index, _ in cores), key=lambda index: m.busy_ns[index])
        yield {
            "name": p.name,
            "shape": list(p.shape),
            "neurons": prod(p.shape),
            "cores": len(homes),
            "smallest_tile": _sides(tiles[0], p),
            "largest_tile": _sides(tiles[-1], p),
            "tightest": {**_core(fullest), "limit": name, "used": fullest.usage[name], "share": share},
            "busiest": {
                **_core(m.placement.cores[busiest]),
                "busy_ns": float(m.busy_ns[busiest]),
                "share": float(m.busy_ns[busiest] / (m.busy_ns.max() or 1.0)),
            },
            "messages": float(sum(messages[i] for i, cell in enumerate(m.counts.cells) if cell.node == p.name)),
            "where": _where([core for _, core in cores]),
            "why": why.of(p) if why else [],
        }


def _core(core: Core) -> dict[str, int]:
    return {"chip": core.chip, "core": core.core}


def _shares(core: Core, profile: Profile) -> dict[str, float]:
    """Of every limit that is stated, how much the core takes of it."""
    return {name: used / most for name, used in core.usage.items() if (most := limit(profile.core, name))}


def _tightest(core: Core, profile: Profile) -> tuple[float, str, Core]:
    shares = _shares(core, profile) or {"neurons": 0.0}
    name = max(shares, key=shares.__getitem__)
    return shares[name], name, core


def _sides(tile: Slice, p: QuantPopulation) -> list[int]:
    """Channels, rows and columns; of a population without rows, or a tile that is no box, its neurons."""
    return list(tile.held.sides) if isinstance(tile.held, Box) and len(p.shape) == 3 else [tile.size]


def _where(cores: Sequence[Core]) -> list[dict[str, Any]]:
    """Of every chip, the cores on it and the rectangle of the mesh that holds them; both ends belong to it."""
    found: list[dict[str, Any]] = []
    for chip in sorted({core.chip for core in cores}):
        here = [core for core in cores if core.chip == chip]
        xs, ys = ([getattr(core, axis) for core in here] for axis in "xy")
        found.append({"chip": chip, "cores": len(here), "x": [min(xs), max(xs)], "y": [min(ys), max(ys)]})
    return found


def _cores(m: Mapped) -> Iterator[dict[str, Any]]:
    """A row a core in use: what it holds, takes and does."""
    shapes = {p.name: p.shape for p in m.net.populations}
    at = np.array([cell.core for cell in m.counts.cells], np.int64)
    synops, messages = (np.bincount(at, m.per_step(name), len(m.placement.cores)) for name in ("synops", "messages"))
    energy = m.report.per_core()[:, :, 1].sum(axis=1)
    for index, core in enumerate(m.placement.cores):
        yield {
            **_core(core),
            "x": core.x,
            "y": core.y,
            "slices": [_slice(s, len(shapes[s.population])) for s in core.slices],
            "usage": dict(core.usage),
            "usage_share": _shares(core, m.profile),
            "busy_ns": float(m.busy_ns[index]),
            "synops": float(synops[index]),
            "messages": float(messages[index]),
            "energy_pj": float(energy[index]),
        }


def _slice(s: Slice, axes: int) -> dict[str, Any]:
    """A box of channels, rows and columns, or ranges of flat indices; a high end does not belong to it."""
    if isinstance(s.held, Box) and axes == 3:
        return {"population": s.population, "low": list(s.held.low), "high": list(s.held.high)}
    neurons = s.neurons
    ends = [0, *(np.flatnonzero(np.diff(neurons) > 1) + 1).tolist(), neurons.size]
    return {
        "population": s.population,
        "ranges": [[int(neurons[a]), int(neurons[b - 1]) + 1] for a, b in pairwise(ends)],
    }


# why


class _Why:
    """Says of a population why it sits where it sits; of its size, from what would happen with a tile less."""

    def __init__(self, m: Mapped) -> None:
        self._m, self._rates = m, measured(m.activity)
        homes = {p.name: m.homes(p.name) for p in m.net.populations}
        self._at = {name: [index for index, _ in found] for name, found in homes.items()}
        self._slices = {name: [s.neurons for _, s in found] for name, found in homes.items()}
        width = m.profile.chip.mesh_width.whole
        self._xy = np.array([(core.chip * width + core.x, core.y) for core in m.placement.cores])

    def of(self, p: QuantPopulation) -> list[str]:
        """Sentences: how many tiles, with whom, to whom; and of a part of a readout, why it is one."""
        sent = {e.target: self._sent(p, e.target) for e in self._m.net.projections if e.source == p.name}
        reached = csr_array((prod(p.shape), len(self._xy)), dtype=np.int64)
        for to, _, _ in sent.values():
            reached = reached + to
        fan_out = np.diff(csr_array(reached).indptr).reshape(grid(p.shape))
        return [*self._part(p), *self._size(p, fan_out), self._company(p), self._talk(p, sent)]

    def _sent(self, p: QuantPopulation, target: str) -> tuple[csr_array, float, float]:
        """int64[n, cores], where spikes of each neuron go; messages in a mean step, and the hops of them all."""
        net, size = self._m.net, prod(p.shape)
        edges = tuple(e for e in net.projections if (e.source, e.target) == (p.name, target))
        to = destinations(replace(net, projections=edges), p.name, size, self._slices, self._at, len(self._xy))
        home = np.zeros(size, np.int64)
        for index, neurons in zip(self._at[p.name], self._slices[p.name], strict=True):
            home[neurons] = index
        pairs = to.tocoo()
        rate = self._rates.spikes[p.name][pairs.row]
        hops = np.abs(self._xy[home[pairs.row]] - self._xy[pairs.col]).sum(axis=1)
        return to, float(rate.sum()), float(rate @ hops)

    def _size(self, p: QuantPopulation, fan_out: NDArray[np.int64]) -> Iterator[str]:
        m, boxes = self._m, [s.held for _, s in self._m.homes(p.name) if isinstance(s.held, Box)]
        demand = Demand(p, m.net, m.schedule, m.profile, self._rates, Sums(fan_out))
        have = {name: most for name in LIMITS if (most := limit(m.profile.core, name))}
        slowest = float(m.busy_ns.max())
        against = f", the slowest core takes {si(slowest, 'ns')}"
        if len(boxes) == 1:
            tile = demand.tile(boxes[0])
            name = max(have, key=lambda name: (name != "groups", tile.usage[name] / have[name]))
            takes = f", it takes {si(_busiest_ns([tile]), 'ns')}{against}" if slowest else ""
            yield f"1 tile: {title(name)} {tile.usage[name]:,} of {have[name]:,}{takes}."
            return
        channels, longest, tiles = _blocks(boxes), 0.0, list[Tile]()
        for most_ns in (inf, slowest or inf):
            weight = demand.weight(have.get("neurons", prod(p.shape)), most_ns)
            tiles = [demand.tile(box) for box in _one_fewer(boxes, channels, weight)]
            longest = _busiest_ns(tiles)
            if over := _over(tiles, have):
                yield f"{len(boxes)} tiles: with {len(tiles)}, {over}."
                break
        else:
            would = " the busiest would take" if longest > slowest else ", which would do, the busiest takes"
            says = f"{would} {si(longest, 'ns')}{against}" if slowest else " no limit would be passed"
            yield f"{len(boxes)} tiles: with {len(tiles)}{says}."
        if len(channels) > 1 and (
            over := _over([demand.tile(_pixel(box)) for box in _merged(boxes[0], channels)], have)
        ):
            yield f"{len(channels)} blocks of channels: with {len(channels) - 1}, one pixel has {over}."

    def _company(self, p: QuantPopulation) -> str:
        mine = set(self._at[p.name])
        shared = {name: mine & set(at) for name, at in self._at.items() if name != p.name and mine & set(at)}
        if not shared:
            return "It shares no core."
        some = len(set().union(*shared.values()))
        cores = f"{some} of its {len(mine)} cores" if some < len(mine) else "its core" if some == 1 else "all its cores"
        return f"It shares {cores} with {_listed(list(shared))}."

    def _talk(self, p: QuantPopulation, sent: dict[str, tuple[csr_array, float, float]]) -> str:
        total = sum(messages for _, messages, _ in sent.values())
        if not total:
            if p.name in self._m.net.outputs and not sent:
                return "The host reads it."
            return "It sends nothing." if sent else "Nobody reads it."
        most = max(sent, key=lambda name: sent[name][1])
        _, messages, hops = sent[most]
        says, of = ("Most", f" of {si(total, '')}") if len(sent) > 1 else ("All its", "")
        return f"{says} messages go to {most}: {si(messages, '')}{of} a step, {hops / messages:.1f} hops each."

    def _part(self, p: QuantPopulation) -> Iterator[str]:
        before, bits, core = self._m.before, self._m.net.weight_bits, self._m.profile.core
        whole_one = p.name.rpartition(PART)[0]
        if p.name in {q.name for q in before.populations} or not whole_one:
            return
        layer = next(found for found in layers(before) if found.name == whole_one)
        need = {"in_axons": layer.inputs, "synapse_bytes": layer.synapse_bytes(bits, core)[0]}
        over = [f"{title(n)} {k:,} > {most:,}" for n, k in need.items() if (most := limit(core, n)) and k > most]
        parts = sum(q.name.startswith(whole_one + PART) for q in self._m.net.populations)
        reason = f": {' and '.join(over)} of a core" if over else ""
        yield f"One of {parts} parts of readout {whole_one}, which the host adds up{reason}."


def _listed(names: list[str]) -> str:
    if len(names) > 4:
        names = [*names[:3], f"{len(names) - 3} more"]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _blocks(boxes: Sequence[Box]) -> list[tuple[int, int]]:
    """The blocks of channels that a population was cut into before its rows and columns were."""
    found = sorted({(box.low[0], box.high[0]) for box in boxes})
    one_after_the_other = all(a[1] == b[0] for a, b in pairwise(found))
    return found if boxes[0].shape[1] * boxes[0].shape[2] > 1 and one_after_the_other else [(0, boxes[0].shape[0])]


def _block(box: Box, low: int, high: int) -> Box:
    """These channels of the population that the box is of."""
    return Box(box.shape, (low, 0, 0), (high, *box.shape[1:]))


def _merged(box: Box, channels: Sequence[tuple[int, int]]) -> list[Box]:
    """One block of channels less, as equal as can be."""
    count, all_of_them = len(channels) - 1, box.shape[0]
    return [_block(box, all_of_them * k // count, all_of_them * (k + 1) // count) for k in range(count)]


def _one_fewer(boxes: Sequence[Box], channels: Sequence[tuple[int, int]], weight: Sums) -> list[Box]:
    """The population as ``Cutter`` would cut it into a tile less, of several blocks of channels in each."""
    if len(channels) == 1:
        return cut(_block(boxes[0], *channels[0]), len(boxes) - 1, weight)
    parts = [sum((box.low[0], box.high[0]) == ends for box in boxes) for ends in channels]
    if max(parts) == 1:
        return _merged(boxes[0], channels)
    every = zip(channels, parts, strict=True)
    return [tile for ends, n in every for tile in cut(_block(boxes[0], *ends), max(n - 1, 1), weight)]


def _pixel(box: Box) -> Box:
    """The one in the middle, with all channels of the box."""
    y, x = box.shape[1] // 2, box.shape[2] // 2
    return Box(box.shape, (box.low[0], y, x), (box.high[0], y + 1, x + 1))


def _busiest_ns(tiles: Sequence[Tile]) -> float:
    return max(max(tile.synops_ns, tile.updates_ns) for tile in tiles)


def _over(tiles: Sequence[Tile], have: dict[str, int]) -> str | None:
    """The limit that a tile passes by most."""
    need = {name: max(tile.usage[name] for tile in tiles) for name in have}
    name = max(have, key=lambda name: need[name] / have[name])
    return f"{title(name)} {need[name]:,} > {have[name]:,} of a core" if need[name] > have[name] else None


# the page


def text(doc: dict[str, Any]) -> RenderableType:
    """The document for a terminal."""
    place, step, memory, link = doc["placement"], doc["step"], doc["memory"], doc["busiest_link"]
    did, have = doc["activity"], memory["have_bytes"]
    lines = {
        "target": doc["target_title"],
        "in use": f"chips {place['chips']:,}, cores {place['cores']:,} of {place['cores_per_chip'] * place['chips']:,}",
        "mapped for": f"{doc['objective']}, "
        + (f"every neuron alike: {did['alike']}" if did["alike"] else _samples(did["mapped_for"], did["input"])),
    }
    if did["counted"] != did["mapped_for"]:
        lines["counted on"] = _samples(did["counted"], did["input"])
    pace = f"{si(step['nominal'], 'ns')}, bound by " if step["nominal"] else ""
    of, share = (f" of {have:,}", f", {memory['used_bytes'] / have:.0%}") if have else ("", "")
    lines |= {
        "time step": f"{pace}{step['bound_by']}",
        "messages": f"{si(doc['messages'], '')} a step, {doc['hops']:.2f} hops each",
        "busiest link": f"{link['name']}, {si(link['messages'], '')} messages at most" if link else "none",
        "memory": f"{memory['used_bytes']:,}{of} bytes of synapses{share}",
    }
    head = Table.grid(padding=(0, 2))
    for name, value in lines.items():
        head.add_row(name, Text(value))
    why = [
        Text.assemble((row["name"], "bold"), f": {' '.join(row['why'])}") for row in doc["populations"] if row["why"]
    ]
    return Group(Text(doc["statement"], style="bold"), head, Text(), _table(doc), *([Text(), *why] if why else []))


def _samples(count: int, spec: str) -> str:
    return f"the activity of {count:,} sample{'s' * (count != 1)} of {spec}"


def _table(doc: dict[str, Any]) -> Table:
    """A row a population; limits and times are of the fullest and the busiest core that holds any of it."""
    table = Table(box=None, header_style="bold", padding=(0, 1))
    table.add_column("population", overflow="fold")
    for column in ("neurons", "cores", "tile", "fullest core", "busiest core"):
        table.add_column(column, justify="right")
    table.add_column("where")
    for row in doc["populations"]:
        small, large = ("x".join(map(str, row[name])) for name in ("smallest_tile", "largest_tile"))
        tightest, busiest = row["tightest"], row["busiest"]
        busy = f"{si(busiest['busy_ns'], 'ns')} {busiest['share']:.0%}" if doc["step"]["nominal"] else "not known"
        table.add_row(
            Text(row["name"]), f"{row['neurons']:,}", f"{row['cores']:,}",
            small if small == large else f"{small} .. {large}",
            f"{title(tightest['limit'])} {tightest['share']:.0%}", busy, _places(row["where"]),
        )  # fmt: skip
    return table


def _places(where: list[dict[str, Any]]) -> str:
    """``chip 0 (0,0)-(3,1)``; of many chips their numbers."""
    if len(where) > CHIPS_SHOWN:
        chips = [here["chip"] for here in where]
        return f"chips {', '.join(_ranges(chips))}"
    return "; ".join(
        f"chip {here['chip']} ({here['x'][0]},{here['y'][0]})"
        + (f"-({here['x'][1]},{here['y'][1]})" if here["cores"] > 1 else "")
        for here in where
    )


def _ranges(numbers: list[int]) -> list[str]:
    """``[0, 1, 2, 5]`` is ``0-2`` and ``5``."""
    ends = [0, *(k + 1 for k, (a, b) in enumerate(pairwise(numbers)) if b > a + 1), len(numbers)]
    return [f"{numbers[a]}-{numbers[b - 1]}" if b - a > 1 else f"{numbers[a]}" for a, b in pairwise(ends)]
