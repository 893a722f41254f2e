"""Lava's profilers on Lava's simulator: what Intel's tools measure on a board, here counted and estimated.

``activate()`` gives ``lava.utils.profiler.Profiler.init`` an answer for ``Loihi2SimCfg``; ``Loihi2Power`` and its kin
stand here, for their imports from Intel's ``lava.utils.loihi2_profiler``, which cannot be given their place: Lava takes
that module for the sign of a board. A model of every process that sends spikes is watched while Lava runs it;
afterwards the processes are placed on a chip, counted and priced as any network of this package. Intel's modules are
not public: the names follow code that uses them, and where a name is not modelled it says so. Every energy and time is
an estimate, of the profile that ``activate`` was told.
"""

from __future__ import annotations

import os
from functools import cached_property
from math import prod
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any
from weakref import finalize

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from snnergy.deploy import lava_compat
from snnergy.deploy.activity import Activity
from snnergy.deploy.energy import EnergyReport, step_ns
from snnergy.deploy.latency import loads
from snnergy.deploy.place import place
from snnergy.deploy.price import price
from snnergy.deploy.schedule import balance
from snnergy.deploy.targets import find
from snnergy.deploy.timeline import core_energy
from snnergy.errors import BadInput, UnsupportedLayer
from snnergy.export.maps import Conv, Dense, Map, Sparse
from snnergy.export.quantnet import DECAY_ONE, QuantNet, QuantPopulation, QuantProjection, QuantSource
from snnergy.hardware_profiles import Profile

WORD = np.dtype(np.int32)
F64 = NDArray[np.float64]


def activate(target: str = "loihi2-sim") -> type:
    """Register the profiler with Lava; returned is a ``Loihi2SimCfg`` that takes ``callback_fxs``, as that of boards.

    Raises MissingPart without Lava, BadInput for an unknown target.
    """
    lava_compat.activate()
    profile = find(target).load()
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that there is no profiler, which is about to change
        from lava.utils import profiler
    from lava.magma.core.run_configs import Loihi2SimCfg as Stock

    class Loihi2SimCfg(Stock):
        """Lava's, which also takes ``callback_fxs``, as ``Loihi2HwCfg`` does: probes of this module."""

        def __init__(self, *args: Any, callback_fxs: list[Any] | None = None, **settings: Any) -> None:
            super().__init__(*args, **settings)
            self.callback_fxs = list(callback_fxs or ())
            watch(self, profile)
            for probe in self.callback_fxs:
                probe.attach(self)

    def init(run_cfg: Any) -> Loihi2SimProfiler:
        return Loihi2SimProfiler(run_cfg, profile)

    for kind in (Stock, Loihi2SimCfg):
        profiler.run_cfg_dict[kind] = init  # pyright: ignore[reportArgumentType]
    return Loihi2SimCfg


def watch(run_cfg: Any, profile: Profile) -> Watch:
    """The ``Watch`` of a run configuration; the same one, whoever asks."""
    if not hasattr(run_cfg, "snnergy_watch"):
        run_cfg.snnergy_watch = Watch(run_cfg, profile)
    return run_cfg.snnergy_watch


class Watch:
    """Keeps what every process sends while Lava runs, and prices it afterwards."""

    def __init__(self, run_cfg: Any, profile: Profile) -> None:
        self._profile, self._folder = profile, Path(mkdtemp(prefix="snnergy-profile-"))
        finalize(self, _remove, self._folder, os.getpid())
        self._senders: dict[Any, Path] = {}
        select = run_cfg.select

        def counted(process: Any, models: list[type]) -> type:
            return self._watched(process, select(process, models))

        run_cfg.select = counted

    def _watched(self, process: Any, model: type) -> type:
        """The model, or one that also writes down what leaves through ``s_out``."""
        if not hasattr(process, "s_out") or not hasattr(model, "run_spk"):
            return model
        path = self._folder / str(len(self._senders))
        self._senders[process] = path

        def run_spk(self: Any) -> None:
            if not hasattr(self, "snnergy_file"):
                self.snnergy_file = path.open("ab", buffering=0)
                send = self.s_out.send

                def keep(data: Any) -> None:
                    self.snnergy_file.write(np.ascontiguousarray(data, WORD).tobytes())
                    send(data)

                self.s_out.send = keep
            model.run_spk(self)  # pyright: ignore[reportAttributeAccessIssue]

        return type(model.__name__, (model,), {"run_spk": run_spk, "__module__": model.__module__})

    def __getstate__(self) -> dict[str, Any]:
        raise BadInput("a run configuration that is watched stays in the process that made it")

    @property
    def report(self) -> EnergyReport:
        """Counts and costs of the run, from its first step to its last; of one inference that takes all of them."""
        return self._priced[0]

    @property
    def step_us(self) -> F64:
        """float64[steps], nominal time of every step."""
        return step_ns(loads(self.report.counts), self._profile)[1] / 1e3

    @cached_property
    def _priced(self) -> tuple[EnergyReport]:
        sent = {p: np.fromfile(path, WORD) for p, path in self._senders.items() if path.exists()}
        steps = {len(x) // prod(p.s_out.shape) for p, x in sent.items()}
        if not steps or len(steps) > 1 or 0 in steps:
            raise BadInput("nothing was counted; run the processes with this run configuration first, once")
        net, trains = network({p: x.reshape(steps.copy().pop(), -1) for p, x in sent.items()})
        schedule = balance(net)
        shifted = {name: np.roll(x, -schedule.depth[name], axis=0) for name, x in trains.items()}
        activity = Activity(1, net.steps, shifted, _active(net, shifted))
        return (price(activity, place(net, schedule, self._profile), net, schedule, self._profile),)


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # Lava's processes are forks of it
        rmtree(folder, ignore_errors=True)


def network(sent: dict[Any, NDArray[np.int32]]) -> tuple[QuantNet, dict[str, NDArray[np.int64]]]:
    """The processes that sent something as a network, and 1 for every message of every neuron.

    sent: process -> int32[steps, n]; returned trains: name -> int64[steps, n]
    What counts is there: neurons, non-zero synapses, who sends to whom. Weights are ones, neurons remember nothing:
    the network is for counting, not for running. Raises UnsupportedLayer for a process between neurons that is not a
    connection, and for ports that are transposed or concatenated.
    """
    names = {p: _name(p, k) for k, p in enumerate(sent)}
    sources = tuple(QuantSource(names[p], _shape(p), 8, 1.0) for p in sent if not hasattr(p, "a_in"))
    populations = tuple(_population(names[p], _shape(p)) for p in sent if hasattr(p, "a_in"))
    projections: list[QuantProjection] = []
    for p in sent:
        for port in p.s_out.get_dst_ports():
            link = port.process
            if not list(link.out_ports):
                continue  # a sink
            found = getattr(link, "weights", None) or getattr(link, "weight", None)
            if found is None or not hasattr(link, "a_out"):
                raise UnsupportedLayer(f"{type(link).__name__} '{link.name}' stands between neurons and has no weights")
            for ends in (port, *link.a_out.get_dst_ports()):
                _straight(ends)
            for target in (end.process for end in link.a_out.get_dst_ports()):
                if target in names:
                    linear = _map(link, found.init, p, target)
                    projections.append(QuantProjection(names[p], names[target], linear, 0, delay=1))
    if not populations or not projections:
        raise UnsupportedLayer("no neurons with synapses were run; what is priced has an s_out, an a_in and weights")
    used = {e.source for e in projections}
    last = tuple(p.name for p in populations if p.name not in used) or (populations[-1].name,)
    steps = len(next(iter(sent.values())))
    net = QuantNet(sources, populations, tuple(projections), last, 1e-3, steps, 8, ())
    trains = {names[p]: (x[:, _order(p.s_out.shape)] != 0).astype(np.int64) for p, x in sent.items()}
    return net, trains


def _name(process: Any, k: int) -> str:
    return f"{process.name or type(process).__name__}#{k}"


def _straight(port: Any) -> None:
    kinds = {type(v).__name__ for v in port.get_incoming_virtual_ports()[1]} - {"ReshapePort"}
    if kinds:
        raise UnsupportedLayer(f"port '{port.name}' of '{port.process.name}' goes through {', '.join(sorted(kinds))}")


def _order(shape: tuple[int, ...]) -> NDArray[np.intp]:
    """Lava has channels last, (x, y, c); here they come first. Index in Lava of every neuron here."""
    index = np.arange(prod(shape))
    return index.reshape(shape).transpose(2, 0, 1).ravel() if len(shape) == 3 else index


def _shape(process: Any) -> tuple[int, ...]:
    shape = tuple(process.s_out.shape)
    return (shape[2], *shape[:2]) if len(shape) == 3 else shape


def _population(name: str, shape: tuple[int, ...]) -> QuantPopulation:
    whole = np.full(prod(shape), DECAY_ONE)
    return QuantPopulation(name, shape, whole, whole, np.zeros_like(whole), np.zeros_like(whole), 0, True, 1.0)


def _map(link: Any, weights: Any, source: Any, target: Any) -> Map:
    if type(link).__name__ == "Conv":
        width, height, channels = link.input_shape
        pair = {name: tuple(int(v) for v in getattr(link, name).init) for name in ("stride", "padding", "dilation")}
        kernel = (np.asarray(weights).transpose(0, 3, 1, 2) != 0).astype(np.int8)
        return Conv(kernel, (channels, width, height), **pair, groups=int(np.ravel(link.groups.init)[0]))  # pyright: ignore
    rows, columns = _order(target.s_out.shape), _order(source.s_out.shape)
    shapes = _shape(source), _shape(target)
    if hasattr(weights, "tocsr"):
        ones: Any = csr_array(weights).astype(bool).astype(np.int8)
        return Sparse(csr_array(ones[rows][:, columns]), *shapes)
    return Dense((np.asarray(weights) != 0).astype(np.int8)[np.ix_(rows, columns)], *shapes)


def _active(net: QuantNet, trains: dict[str, NDArray[np.int64]]) -> dict[str, NDArray[np.int64]]:
    """1 where a synapse of the neuron got a message in the step before; sums that cancel count as active."""
    found = {p.name: trains[p.name] > 0 for p in net.populations}
    for e in net.projections:
        found[e.target] |= trains[e.source] @ e.map.matrix().T > 0
    return {name: x.astype(np.int64) for name, x in found.items()}


class _Probe:
    """What is asked for by ``callback_fxs``; results are there after the run."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self._watch: Watch | None = None

    def attach(self, run_cfg: Any) -> None:
        self._watch = run_cfg.snnergy_watch

    @property
    def watched(self) -> Watch:
        if self._watch is None:
            raise BadInput(f"{type(self).__name__} was not given to a run configuration, as one of its callback_fxs")
        return self._watch

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{type(self).__name__}.{name} is not modelled")


class Loihi2ExecutionTime(_Probe):
    """Time in microseconds, nominal."""

    @property
    def execution_time_per_step(self) -> F64:
        """float64[steps]"""
        return self.watched.step_us

    time_per_step = execution_time_per_step

    @property
    def avg_time_per_step(self) -> float:
        return float(self.watched.step_us.mean())


class Loihi2Power(_Probe):
    """Power in watts, nominal, of every step; the rails of a board are not told apart."""

    @property
    def total_power(self) -> F64:
        """float64[steps]"""
        return self.static_total_power + _dynamic_pj(self.watched) * 1e-12 / (self.watched.step_us * 1e-6)

    @property
    def static_total_power(self) -> F64:
        """float64[steps], with the embedded processors"""
        report = self.watched.report
        watts = (report.static_pj.nominal + report.host_pj.nominal) / report.period_ns.nominal * 1e-3
        return np.full(report.counts.steps, watts)


class Loihi2Activity(_Probe):
    """Events of every core in use, over the whole run."""

    @property
    def core_idx(self) -> NDArray[np.int64]:
        """int64[cores], chip times cores of a chip plus core"""
        return _core_idx(self.watched)

    @property
    def syn_ops(self) -> NDArray[np.int64]:
        return _per_core(self.watched, "synops")

    @property
    def dendrite_updates(self) -> NDArray[np.int64]:
        return _per_core(self.watched, "updates_active") + _per_core(self.watched, "updates_idle")

    @property
    def axon_out(self) -> NDArray[np.int64]:
        return _per_core(self.watched, "messages")

    @property
    def spikes_in(self) -> NDArray[np.int64]:
        """Lists of synapses that a message fetched."""
        return _per_core(self.watched, "lists")


class Loihi2Memory(_Probe):
    """What every core in use holds, and what it has."""

    @property
    def core_idx(self) -> NDArray[np.int64]:
        return _core_idx(self.watched)

    @property
    def used(self) -> dict[str, NDArray[np.int64]]:
        """Resource -> int64[cores], by the names of the profile's limits"""
        cores = _cores(self.watched)
        return {name: np.array([c.usage[name] for c in cores]) for name in cores[0].usage}

    @property
    def total(self) -> dict[str, float]:
        """Resource -> what one core has; those without a published limit are left out"""
        limits = self.watched.report.profile.core
        return {name: getattr(limits, name).value for name in self.used if getattr(limits, name)}


class Loihi2SimProfiler:
    """What ``Profiler.init(Loihi2SimCfg())`` returns; SI units, as of the profiler of a board."""

    def __init__(self, run_cfg: Any, profile: Profile) -> None:
        self._run_cfg, self._watch = run_cfg, watch(run_cfg, profile)

    def execution_time_probe(
        self, num_steps: int | None = None, t_start: int = 1, t_end: int | None = None, dt: int = 1, **_: Any
    ) -> None:
        """Steps t_start to t_end, counted from 1, every dt-th."""
        self._steps = slice(t_start - 1, t_end or num_steps, dt)

    def energy_probe(self, num_steps: int | None = None, **_: Any) -> None:
        """Everything is counted anyway."""

    def activity_probe(self) -> Loihi2Activity:
        return self._probe(Loihi2Activity())

    def memory_probe(self) -> Loihi2Memory:
        return self._probe(Loihi2Memory())

    def _probe(self, probe: Any) -> Any:
        probe.attach(self._run_cfg)
        return probe

    @property
    def report(self) -> EnergyReport:
        """All of it, with intervals: what the names below take their nominal values from."""
        return self._watch.report

    @property
    def execution_time(self) -> F64:
        """float64[steps], seconds"""
        return self._watch.step_us[getattr(self, "_steps", slice(None))] * 1e-6

    @property
    def power(self) -> F64:
        """float64[steps], watts"""
        return self._probe(Loihi2Power()).total_power

    @property
    def static_power(self) -> F64:
        return self._probe(Loihi2Power()).static_total_power

    @property
    def dynamic_power(self) -> F64:
        return self.power - self.static_power

    @property
    def energy(self) -> float:
        """Joules of the whole run"""
        return self.report.total_pj.nominal * 1e-12

    @property
    def static_energy(self) -> float:
        return (self.report.static_pj.nominal + self.report.host_pj.nominal) * 1e-12

    @property
    def dynamic_energy(self) -> float:
        return self.report.dynamic_pj.nominal * 1e-12

    @property
    def num_alloc_chips(self) -> int:
        return self.report.counts.chips


def _dynamic_pj(of: Watch) -> F64:
    return core_energy(of.report).sum(axis=0)


def _cores(of: Watch) -> Any:
    assert of.report.placement is not None
    return of.report.placement.cores


def _core_idx(of: Watch) -> NDArray[np.int64]:
    per_chip = of.report.profile.chip.cores.whole
    return np.array([core.chip * per_chip + core.core for core in _cores(of)])


def _per_core(of: Watch, counter: str) -> NDArray[np.int64]:
    counts = of.report.counts
    total = np.zeros(counts.cores, np.int64)
    np.add.at(total, [cell.core for cell in counts.cells], counts.by[counter].sum(axis=1))
    return total
