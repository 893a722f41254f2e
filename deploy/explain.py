"""Why two forms part: one neuron at the first difference, with everything that reaches it, on both sides.

The neuron's step is done again here, from its definition, with the spikes that each side really sent to it. So one
sees whether a side was given other inputs, has other weights, or does not do what the step says.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import isfinite, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnergy.deploy.compare import Difference, Trains
from snnergy.deploy.forms import FORMS, Arithmetic, Real, Subject, reason
from snnergy.export.net import Net, Population, Projection, incoming
from snnergy.export.quantnet import DECAY_ONE, STATE_LIMIT, STATE_SHIFT, QuantNet, QuantPopulation, QuantProjection

LISTED = 5
"""How many differing inputs of a projection are listed."""


@dataclass(frozen=True)
class Side:
    """The neuron in the step of the difference, in one form.

    before:   membrane after the step before; current_before likewise
    arrived:  what its projections bring in this step; current: with what is left of the current before
    membrane: before the comparison, by the step's definition
    fires:    by the definition; fired: what the form did, None where it does not say
    after:    membrane after the step as the form shows it, None where it does not; expected: by the definition
    """

    form: str
    before: float
    current_before: float
    arrived: float
    current: float
    bias: float
    membrane: float
    threshold: float | None
    fires: bool
    fired: bool | None
    after: float | None
    expected: float


@dataclass(frozen=True)
class Input:
    """One input that is not the same on both sides, and its weights."""

    neuron: tuple[int, ...]
    left: float
    right: float
    left_weight: float
    right_weight: float


@dataclass(frozen=True)
class Feed:
    """One incoming projection: its contribution on both sides; differing: how many of its inputs; the largest first."""

    source: str
    delay: int
    left: float
    right: float
    inputs: int
    differing: int
    listed: tuple[Input, ...]


@dataclass(frozen=True)
class Explanation:
    """The whole of it. unit: real, or membrane units of the chip; verdict: one sentence."""

    first: Difference
    unit: str
    left: Side
    right: Side
    feeds: tuple[Feed, ...]
    verdict: str

    def to_dict(self) -> dict[str, Any]:
        """For JSON; a number that is none is null."""
        plain = asdict(self)
        del plain["first"]
        return _clean(plain)

    def __str__(self) -> str:
        a, b = self.left, self.right
        rows = [
            ("", a.form, b.form),
            ("membrane before", _number(a.before), _number(b.before)),
            ("synaptic current", _number(a.current), _number(b.current)),
            ("bias", _number(a.bias), _number(b.bias)),
            ("membrane", _number(a.membrane), _number(b.membrane)),
            ("threshold", _number(a.threshold), _number(b.threshold)),
            ("fires by definition", _yes(a.fires), _yes(b.fires)),
            ("fired", _yes(a.fired), _yes(b.fired)),
            ("membrane after", _number(a.after), _number(b.after)),
        ]
        lines = [f"{self.left.form} and {self.right.form} first differ at {self.first}", f"  in {self.unit}:"]
        shown = [row for row in rows if row[1:] != ("-", "-")]
        feeds = [(f"from '{f.source}'" + f" {f.delay} steps ago" * (f.delay > 0), f) for f in self.feeds]
        width = max(len(title) for title in (*(row[0] for row in shown), *(title for title, _ in feeds)))
        lines += [f"    {title:<{width}}  {left:>16}  {right:>16}" for title, left, right in shown]
        for title, f in feeds:
            equal = f"{f.differing} of {f.inputs} inputs differ" if f.differing else f"{f.inputs} inputs, all equal"
            lines.append(f"    {title:<{width}}  {_number(f.left):>16}  {_number(f.right):>16}  {equal}")
            for x in f.listed:
                where = f"  {list(x.neuron)}"
                lines.append(f"    {where:<{width}}  {_number(x.left):>16}  {_number(x.right):>16}  {_weights(x)}")
        return "\n".join([*lines, f"  {self.verdict}"])


def explain(subject: Subject, left: str, right: str, first: Difference, real: Real) -> Explanation:
    """Both forms again on the one sample. real: the inputs of sample ``first.sample`` alone."""
    trains = FORMS[left].run(subject, real), FORMS[right].run(subject, real)
    kinds = FORMS[left].arithmetic, FORMS[right].arithmetic
    scaled = "float" in kinds and kinds[0] != kinds[1]
    sides: list[Side] = []
    parts: list[list[_Part]] = []
    for mine, other, form in ((trains[0], trains[1], left), (trains[1], trains[0], right)):
        side, contributions = _side(subject, form, mine, other, first, real, scaled)
        sides.append(side)
        parts.append(contributions)
    feeds = tuple(_feed(subject, a, b) for a, b in zip(parts[0], parts[1], strict=True))
    unit = "real units" if scaled or kinds[0] == "float" else f"membrane units, {1 << STATE_SHIFT} a unit of weight"
    return Explanation(first, unit, sides[0], sides[1], feeds, _verdict(sides[0], sides[1], feeds, reason(left, right)))


@dataclass(frozen=True, eq=False)
class _Part:
    """What one projection brings, and its row of weights. sent: of its non-zero weights' inputs."""

    source: str
    delay: int
    total: float
    index: NDArray[Any]
    weight: NDArray[Any]
    sent: NDArray[Any]


def _side(
    subject: Subject, form: str, mine: Trains, other: Trains, first: Difference, real: Real, scaled: bool
) -> tuple[Side, list[_Part]]:
    arithmetic = FORMS[form].arithmetic
    net: Net | QuantNet | None = subject.net if arithmetic == "float" else subject.quant
    assert net is not None
    p = next(p for p in net.populations if p.name == first.population)
    i = int(np.ravel_multi_index(first.neuron, p.shape))
    shown = dict(real) if isinstance(net, Net) else net.encode(real)
    edges = incoming(net.projections).get(p.name, [])
    rows = [_row(e, i) for e in edges]
    states = [_State(0.0, 0.0, 0.0)]
    parts: list[_Part] = []
    for t in range(first.step + 1):
        parts = []
        for e, (index, weight) in zip(edges, rows, strict=True):
            sent = _sent(net, e.source, mine, other, shown, t - e.delay)[index]
            parts.append(_Part(e.source, e.delay, _brings(e, sent, weight, arithmetic), index, weight, sent))
        states.append(_step(p, i, states[-1], sum(part.total for part in parts), arithmetic))
        if t < first.step:
            states[-1] = states[-1].known(mine, p, i, first.neuron, t)
    now, past = states[-1], states[-2]
    spikes, after = mine.spikes.get(p.name), mine.membranes.get(p.name)
    fired = None if spikes is None else bool(spikes[(0, first.step, *first.neuron)])
    shown_step = first.step - (subject.steps - after.shape[1]) if after is not None else -1
    seen = float(after[(0, shown_step, *first.neuron)]) if after is not None and shown_step >= 0 else None
    unit = 1.0
    if isinstance(p, QuantPopulation) and scaled:
        unit = p.scale * (1 << STATE_SHIFT)
        parts = [_real(part, net, p, e) for part, e in zip(parts, edges, strict=True)]
    limit = float(p.threshold[i]) * (1 << STATE_SHIFT if isinstance(p, QuantPopulation) else 1)
    side = Side(
        form,
        before=past.v / unit,
        current_before=past.i / unit,
        arrived=sum(part.total for part in parts) if parts else 0.0,
        current=now.i / unit,
        bias=float(p.bias[i]) / unit,
        membrane=now.reached / unit,
        threshold=limit / unit if p.spiking else None,
        fires=p.spiking and now.reached > limit,
        fired=fired,
        after=None if seen is None else seen / unit,
        expected=now.v / unit,
    )
    return side, parts


@dataclass(frozen=True)
class _State:
    """Current, membrane after the reset, and membrane before it."""

    i: float
    v: float
    reached: float

    def known(self, trains: Trains, p: Population | QuantPopulation, i: int, neuron: tuple[int, ...], t: int) -> _State:
        """The same with what the form itself shows after step ``t``, so that only one step is judged."""
        v, u = trains.membranes.get(p.name), trains.currents.get(p.name)
        if v is not None and u is not None:
            return _State(float(u[(0, t, *neuron)]), float(v[(0, t, *neuron)]), self.reached)
        spikes = trains.spikes.get(p.name)
        if spikes is not None and spikes[(0, t, *neuron)]:
            return _State(self.i, _back(p, i, self.reached), self.reached)
        return _State(self.i, self.reached if spikes is not None else self.v, self.reached)


def _step(p: Population | QuantPopulation, i: int, past: _State, arrived: float, arithmetic: Arithmetic) -> _State:
    if isinstance(p, Population):
        current = float(p.current_decay[i]) * past.i + arrived
        v = float(p.decay[i]) * past.v + (current + float(p.bias[i]))
        return _State(current, _back(p, i, v) if p.spiking and v > p.threshold[i] else v, v)
    if arithmetic == "unrounded":
        current = past.i * (DECAY_ONE - int(p.current_decay[i])) / DECAY_ONE + arrived
        v = past.v * (DECAY_ONE - int(p.decay[i])) / DECAY_ONE + current + int(p.bias[i])
    else:
        current = _truncated(past.i, int(p.current_decay[i])) + int(arrived)
        if current > STATE_LIMIT + 1:
            current -= 2 * (STATE_LIMIT + 1)
        elif current <= -(STATE_LIMIT + 1):
            current += 2 * (STATE_LIMIT + 1)
        v = _truncated(past.v, int(p.decay[i])) + current + int(p.bias[i])
        v = max(-STATE_LIMIT, min(STATE_LIMIT, v))
    fires = p.spiking and v > int(p.threshold[i]) << STATE_SHIFT
    return _State(current, _back(p, i, v) if fires else v, v)


def _back(p: Population | QuantPopulation, i: int, v: float) -> float:
    """The membrane after a spike."""
    reset = 0 if p.reset is None else p.reset[i].item()
    return v - reset if p.subtract else reset


def _truncated(value: float, decay: int) -> int:
    kept = abs(int(value)) * (DECAY_ONE - decay) // DECAY_ONE
    return kept if value >= 0 else -kept


def _row(e: Projection | QuantProjection, i: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Inputs and weights of the synapses that end at neuron ``i``."""
    matrix: Any = e.map.matrix()
    span = slice(int(matrix.indptr[i]), int(matrix.indptr[i + 1]))
    by_input = np.argsort(matrix.indices[span], kind="stable")
    index, weight = matrix.indices[span][by_input], matrix.data[span][by_input]
    return index, weight.astype(np.float64 if weight.dtype.kind == "f" else np.int64)


def _sent(
    net: Net | QuantNet, name: str, mine: Trains, other: Trains, shown: dict[str, NDArray[Any]], t: int
) -> NDArray[Any]:
    """What a node sent in step ``t``; a population that this form does not show is taken from the other."""
    source = next((s for s in net.sources if s.name == name), None)
    if source is None:
        train = mine.spikes[name] if name in mine.spikes else other.spikes[name]
        return train[0, t].ravel() if t >= 0 else np.zeros(prod(train.shape[2:]), train.dtype)
    x = shown[name][0]
    if t < 0:
        return np.zeros(prod(source.shape), x.dtype)
    return (x if x.shape == source.shape else x[t]).ravel()


def _brings(e: Projection | QuantProjection, sent: NDArray[Any], weight: NDArray[Any], arithmetic: Arithmetic) -> float:
    if isinstance(e, Projection):
        return float(weight @ sent)
    total = int(weight @ sent.astype(np.int64)) << STATE_SHIFT
    if arithmetic == "unrounded":
        return total * 2.0**e.exponent
    return total << e.exponent if e.exponent >= 0 else total >> STATE_SHIFT >> -e.exponent << STATE_SHIFT


def _real(part: _Part, net: Any, p: QuantPopulation, e: Any) -> _Part:
    """The same in real units."""
    gain = next((s.scale for s in net.sources if s.name == e.source), 1.0)
    weight = part.weight * 2.0**e.exponent / p.scale * gain
    total = part.total / (p.scale * (1 << STATE_SHIFT))
    return _Part(part.source, part.delay, total, part.index, weight, part.sent / gain)


def _feed(subject: Subject, a: _Part, b: _Part) -> Feed:
    """Both sides of a projection; a synapse that one side does not have has weight 0 there."""
    assert (a.source, a.delay) == (b.source, b.delay)
    size = 1 + int(max(a.index.max(initial=0), b.index.max(initial=0)))
    left, right, left_weight, right_weight = (np.zeros(size) for _ in range(4))
    left[a.index], left_weight[a.index], right[b.index], right_weight[b.index] = a.sent, a.weight, b.sent, b.weight
    only = np.setxor1d(a.index, b.index)
    wrong = np.setdiff1d(np.flatnonzero(left != right), only)
    gap = abs(left * left_weight - right * right_weight)[wrong]
    known = subject.net or subject.quant
    assert known is not None
    shape = next(n.shape for n in (*known.sources, *known.populations) if n.name == a.source)
    listed = tuple(
        Input(
            tuple(int(n) for n in np.unravel_index(int(k), shape)),
            float(left[k]), float(right[k]), float(left_weight[k]), float(right_weight[k]),
        )
        for k in wrong[np.argsort(-gap, kind="stable")][:LISTED]
    )  # fmt: skip
    return Feed(
        a.source, a.delay, float(a.total), float(b.total), len(np.union1d(a.index, b.index)), len(wrong), listed
    )


def _verdict(a: Side, b: Side, feeds: tuple[Feed, ...], why: str) -> str:
    said = ", ".join(f"{f.differing} of {f.inputs} from '{f.source}'" for f in feeds if f.differing)
    parts = [f"inputs of this neuron differ: {said}" if said else "all inputs of this neuron in this step are equal"]
    unequal = [f"'{f.source}'" for f in feeds if not f.differing and f.left != f.right]
    if unequal:
        parts.append(f"the same inputs bring something else from {', '.join(unequal)}")
    if (a.before, a.current_before) != (b.before, b.current_before):
        parts.append("its state before this step differs")
    if (a.bias, a.threshold) != (b.bias, b.threshold):
        parts.append("its bias or threshold differs")
    strays = [side.form for side in (a, b) if _strays(side)]
    if strays:
        parts.append(f"the difference is in the neuron itself: {' and '.join(strays)} did not do what its step says")
    elif why:
        parts.append(why)
    elif len(parts) == 1 and not said:
        parts.append("the difference is in the neuron itself")
    return "; ".join(parts)


def _strays(side: Side) -> bool:
    if side.fired is not None and side.fired != side.fires:
        return True
    return side.after is not None and not np.isclose(side.after, side.expected, rtol=1e-9, atol=0.0)


def _weights(x: Input) -> str:
    if x.left_weight == x.right_weight:
        return f"weight {_number(x.left_weight)}"
    return f"weights {_number(x.left_weight)} and {_number(x.right_weight)}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.9g}"


def _yes(value: bool | None) -> str:
    return "-" if value is None else "yes" if value else "no"


def _clean(value: Any) -> Any:
    """Nine digits of every number: what lies below is rounding, which no two machines share."""
    if isinstance(value, dict):
        return {key: _clean(x) for key, x in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(x) for x in value]
    if isinstance(value, float):
        return float(f"{value:.9g}") if isfinite(value) else None
    return value
