"""Two forms of one network on the same samples: how many neuron-steps differ, where the first is, and what fires."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from math import inf, isfinite, prod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from snnergy.deploy.activity import Activity
from snnergy.errors import NotEqual
from snnergy.export.quantnet import STATE_LIMIT

if TYPE_CHECKING:
    from snnergy.deploy.explain import Explanation

Arrays = dict[str, NDArray[Any]]
Demand = Literal["exact", "agreement"]
Quantity = Literal["spike", "membrane", "current"]
QUANTITIES: tuple[Quantity, ...] = ("spike", "membrane", "current")
TITLES = {"nir": "NIR", "net": "Net", "lava": "Lava"}
"""How a form is written in a sentence, where not by its name."""
TOLERANCE = 1e-9
"""Largest relative difference between two float64 readouts; sums in another order differ by about 1e-15."""


@dataclass(frozen=True, eq=False)
class Trains:
    """What one form of the network did. Population name -> [samples, steps, *shape].

    spikes:    0 and 1, of every population that can fire
    membranes: after each step and its reset; float forms show readouts only. One step stands for the last one
    currents:  likewise; integer forms only
    real:      membrane units per real unit, by population; empty where the units are real
    activity:  the counters of an engine
    """

    spikes: Arrays
    membranes: Arrays
    currents: Arrays = field(default_factory=dict)
    real: dict[str, float] = field(default_factory=dict)
    activity: Activity | None = None

    @property
    def names(self) -> set[str]:
        """Every population that is shown."""
        return {*self.spikes, *self.membranes}

    def of(self, quantity: Quantity) -> Arrays:
        """One of the three."""
        return {"spike": self.spikes, "membrane": self.membranes, "current": self.currents}[quantity]

    def read(self, name: str) -> NDArray[Any]:
        """[samples, *shape], what an output is read as: number of spikes, or the membrane after the last step."""
        return self.spikes[name].sum(1) if name in self.spikes else self.membranes[name][:, -1]


@dataclass(frozen=True)
class Difference:
    """The first place where two forms part, by sample, then step, then population from input to output."""

    sample: int
    step: int
    population: str
    neuron: tuple[int, ...]
    left: float
    right: float
    quantity: Quantity = "spike"

    def __str__(self) -> str:
        where = f"sample {self.sample}, step {self.step}, population '{self.population}', neuron {list(self.neuron)}"
        return f"{where}: {self.quantity} {self.left:g} against {self.right:g}"


@dataclass(frozen=True)
class Row:
    """One population in one comparison.

    compared, differing:   neuron-steps
    left_rate, right_rate: spikes a neuron and step; None for a readout
    saturated:             share of neuron-steps whose membrane is at the end of its 24 bits; None in float
    extreme_weights:       share of the incoming weights at either end of their range; None in float
    """

    population: str
    neurons: int
    compared: int
    differing: int
    left_rate: float | None
    right_rate: float | None
    saturated: float | None = None
    extreme_weights: float | None = None

    @property
    def agreement(self) -> float:
        """Share of neuron-steps that are equal; 1 where none was compared."""
        return 1 - self.differing / self.compared if self.compared else 1.0


@dataclass(frozen=True)
class Pair:
    """Two forms of the network on the same samples.

    demand:       exact, or agreement, which is measured and not required
    reason:       why the two may differ; empty where they may not
    compared:     neuron-steps looked at; differing: those that differ
    output_error: largest difference of two readouts in real units; 0 where it is rounding, None where it is no number
    accuracy:     of both, where the samples have labels
    at_least:     the agreement that is asked for
    """

    left: str
    right: str
    demand: Demand
    samples: int
    compared: int
    differing: int
    output_error: float | None
    first: Difference | None
    rows: tuple[Row, ...]
    reason: str = ""
    accuracy: tuple[float, float] | None = None
    at_least: float = 0.0
    explanation: Explanation | None = None

    @property
    def name(self) -> str:
        """As ``--pair`` takes it."""
        return f"{self.left}:{self.right}"

    @property
    def equal(self) -> bool:
        """Nothing differs, readouts in float by no more than rounding."""
        return self.first is None

    @property
    def agreement(self) -> float:
        """Share of neuron-steps that are equal."""
        return 1 - self.differing / self.compared if self.compared else 1.0

    @property
    def ok(self) -> bool:
        """Whether the pair is as it has to be."""
        return self.equal if self.demand == "exact" else self.agreement >= self.at_least

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        plain = asdict(replace(self, explanation=None))
        plain |= {"equal": self.equal, "ok": self.ok, "agreement": self.agreement}
        for row, given in zip(plain["rows"], self.rows, strict=True):
            row["agreement"] = given.agreement
        if self.first:
            plain["first"] |= {"left": _finite(self.first.left), "right": _finite(self.first.right)}
        if self.accuracy:
            left, right = self.accuracy
            plain["accuracy"] = {"left": left, "right": right, "drop": left - right}
        plain["populations"] = plain.pop("rows")
        plain["explanation"] = self.explanation.to_dict() if self.explanation else None
        return plain

    def __str__(self) -> str:
        counts = f"{self.differing} of {self.compared} neuron-steps differ"
        left, right = (TITLES.get(form, form) for form in (self.left, self.right))
        line = f"{left} {'==' if self.demand == 'exact' else '~'} {right}: {counts}"
        line += f" ({self.samples} samples, {len(self.rows)} populations)"
        if self.demand == "agreement":
            line += f": agreement {self.agreement:.4%}" + ("" if self.ok else f", below {self.at_least:.4%}")
            line += f"; {self.reason}" if self.reason and self.differing else ""
        if self.accuracy and self.demand == "agreement":
            line += "; accuracy {:.2%} -> {:.2%}".format(*self.accuracy)
        return line if self.first is None or self.demand == "agreement" else f"{line}; first at {self.first}"


class Tally:
    """One comparison, added up over chunks of samples.

    order:  every population, from input to output
    demand: exact compares all that both sides show, float readouts up to rounding; agreement compares the spikes
    """

    def __init__(
        self, left: str, right: str, order: tuple[str, ...], demand: Demand, output: str | None = None
    ) -> None:
        self.left, self.right = left, right
        self.demand: Demand = demand
        self._order, self._output = order, output
        self._rows: dict[str, Row] = {}
        self._first: tuple[tuple[int, int, int], Difference] | None = None
        self._fired: dict[str, list[int]] = {}
        self._saturated: dict[str, int] = {}
        self._steps: dict[str, int] = {}
        self._samples, self._error = 0, 0.0
        self._read: tuple[list[NDArray[Any]], list[NDArray[Any]]] = ([], [])

    def add(self, a: Trains, b: Trains) -> None:
        """Compare the next samples. Raises NotEqual where two engines agree on spikes and not on their counters."""
        assert a.names <= b.names or b.names <= a.names, f"{self.left} and {self.right} show different populations"
        names = [name for name in self._order if name in a.names & b.names]
        assert names, f"{self.left} and {self.right} have no population in common"
        differed = self._first is not None
        steps = max(x.shape[1] for name in names for x in (*_shown(a, name), *_shown(b, name)))
        firsts = [found for rank, name in enumerate(names) if (found := self._compare(name, rank, a, b, steps))]
        if firsts and self._first is None:
            self._first = min(firsts, key=lambda item: item[0])
        if not differed and not firsts and a.activity and b.activity and not _same_counts(a.activity, b.activity):
            left, right = (TITLES.get(form, form) for form in (self.left, self.right))
            said = f"{left} and {right} sent the same spikes but counted their activity differently"
            raise NotEqual(said, "this is a bug")
        self._samples += len(next(iter(_shown(a, names[0]))))
        if self._output is not None:
            for kept, trains in zip(self._read, (a, b), strict=True):
                kept.append(trains.read(self._output).reshape(len(_shown(a, names[0])[0]), -1))

    def pair(self, label: NDArray[np.int64] | None = None, **extra: Any) -> Pair:
        """The result."""
        rows = tuple(self._row(row) for row in self._rows.values())
        compared, differing = sum(r.compared for r in rows), sum(r.differing for r in rows)
        scores = None
        if label is not None and self._output is not None:
            left, right = (accuracy(np.concatenate(kept), label) for kept in self._read)
            scores = (left, right)
        error = float(f"{self._error:.6g}") if isfinite(self._error) else None
        first = self._first[1] if self._first else None
        return Pair(
            self.left, self.right, self.demand, self._samples, compared, differing, error, first, rows,
            accuracy=scores, **extra,
        )  # fmt: skip

    def _row(self, row: Row) -> Row:
        name, places = row.population, row.neurons * self._steps[row.population] * self._samples
        left, right = self._fired.get(name, (None, None))
        rates = (None if left is None else left / places, None if right is None else right / places)
        saturated = self._saturated[name] / places if name in self._saturated else None
        return replace(row, left_rate=rates[0], right_rate=rates[1], saturated=saturated)

    def _compare(self, name: str, rank: int, a: Trains, b: Trains, steps: int) -> Any:
        """Add this population to its row; the first difference with its place in the order of all, or None."""
        wrong: NDArray[Any] | None = None
        parts: dict[Quantity, tuple[NDArray[Any], NDArray[Any], NDArray[Any]]] = {}
        for quantity in QUANTITIES:
            x, y = a.of(quantity).get(name), b.of(quantity).get(name)
            if x is None or y is None:
                continue
            last = -min(x.shape[1], y.shape[1])
            x, y = x[:, last:], y[:, last:].reshape(x[:, last:].shape)
            parts[quantity] = x, y, self._differ(name, quantity, x, y, a, b)
            wrong = parts[quantity][2] if wrong is None else wrong | parts[quantity][2]
        assert wrong is not None, name
        _, shown, *shape = wrong.shape
        old = self._rows.get(name, Row(name, prod(shape), 0, 0, None, None))
        counted = self.demand == "exact" or name in a.spikes
        compared = old.compared + (wrong.size if counted else 0)
        self._rows[name] = replace(old, compared=compared, differing=old.differing + int(wrong.sum()))
        self._steps[name] = steps
        if name in a.spikes and name in b.spikes:
            fired = [int(np.count_nonzero(x.spikes[name])) for x in (a, b)]
            self._fired[name] = [n + m for n, m in zip(fired, self._fired.get(name, (0, 0)), strict=True)]
        for trains in (b, a):
            if trains.real and name in trains.membranes:
                full = int(np.count_nonzero(abs(trains.membranes[name]) >= STATE_LIMIT))
                self._saturated[name] = self._saturated.get(name, 0) + full
                break
        if not wrong.any():
            return None
        sample, step, *neuron = (int(i) for i in np.unravel_index(int(wrong.argmax()), wrong.shape))
        place = (sample, step, *neuron)
        where: Quantity = next(q for q, (_, _, unequal) in parts.items() if unequal[place])
        x, y, _ = parts[where]
        step += steps - shown  # a train of one step is what is read at the end
        sample += self._samples
        values = float(x[place]), float(y[place])
        return (sample, step, rank), Difference(sample, step, name, tuple(neuron), *values, where)

    def _differ(
        self, name: str, quantity: Quantity, x: NDArray[Any], y: NDArray[Any], a: Trains, b: Trains
    ) -> NDArray[Any]:
        """Where they differ by more than they may; on the way, the largest error of a readout."""
        wrong = x != y
        if quantity != "membrane" or (name in a.spikes and name in b.spikes):
            return wrong if self.demand == "exact" or quantity == "spike" else np.zeros_like(wrong)
        left, right = x / a.real.get(name, 1.0), y / b.real.get(name, 1.0)
        with np.errstate(invalid="ignore"):
            gap = abs(left - right)
        rounding = gap <= TOLERANCE * max(float(abs(left).max()), 1e-300)  # never where one of them is NaN
        far = gap[~rounding]
        self._error = max(self._error, inf if np.isnan(far).any() else float(far.max(initial=0.0)))
        if self.demand == "agreement":
            return np.zeros_like(wrong)
        return wrong if a.real and b.real else wrong & ~rounding


def accuracy(outputs: NDArray[Any], label: NDArray[np.int64]) -> float:
    """Share of samples whose largest output is their label; a tie goes to the lower class."""
    return float((outputs.argmax(1) == label).mean())


def _shown(trains: Trains, name: str) -> list[NDArray[Any]]:
    return [trains.of(quantity)[name] for quantity in QUANTITIES if name in trains.of(quantity)]


def _same_counts(a: Activity, b: Activity) -> bool:
    return all(
        np.array_equal(counts, other[name])
        for mine, other in ((a.spikes, b.spikes), (a.active, b.active))
        for name, counts in mine.items()
    )


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None
