"""Chips as data: one TOML file each, in which every number names its source, its range and how it was obtained.

What nobody published is left out of the file and is None here; how to write one: docs/targets.md.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from snnergy import limits
from snnergy.errors import BadInput, ProfileError, first_line

NAMES = ("loihi1", "loihi2", "speck", "spinnaker2", "truenorth")
"""The chips that ship with the package."""

Evidence = Literal["measured", "simulated", "vendor", "derived", "inherited", "assumed"]
Scope = Literal["per-term", "marginal", "all-in"]
"""What the energy of a synop holds: itself alone, all that activity costs on the chip, or static power as well."""


@dataclass(frozen=True)
class Quantity:
    """One number of a chip and what is known about it; low <= value <= high, all in ``unit``."""

    value: float
    low: float
    high: float
    unit: str
    source: str
    evidence: Evidence
    note: str = ""

    @property
    def whole(self) -> int:
        """The value of a limit, which is a count."""
        return int(self.value)

    def __str__(self) -> str:
        span = "" if self.low == self.high else f" ({self.low:g}..{self.high:g})"
        return f"{self.value:g}{span} {self.unit}"


def nominal(quantity: Quantity | None) -> float:
    """Its value; 0 where the profile does not say."""
    return 0.0 if quantity is None else quantity.value


@dataclass(frozen=True)
class ChipLimits:
    """Cores of one chip and where they sit: routers in a mesh, ``cores_per_router`` cores on each."""

    cores: Quantity
    mesh_width: Quantity
    mesh_height: Quantity
    cores_per_router: Quantity
    chips_max: Quantity


@dataclass(frozen=True)
class CoreLimits:
    """What one core holds. A limit of None is not known or does not exist, and never constrains."""

    neurons: Quantity
    synapse_bytes: Quantity | None = None
    synapse_word_bytes: Quantity | None = None
    synapse_header_bytes: Quantity | None = None
    in_axons: Quantity | None = None
    out_axons: Quantity | None = None
    groups: Quantity | None = None
    weight_bits: Quantity | None = None
    state_bits: Quantity | None = None
    spike_bits: Quantity | None = None
    max_delay: Quantity | None = None
    accumulator_slots: Quantity | None = None
    fan_in: Quantity | None = None
    reset_steps: Quantity | None = None


@dataclass(frozen=True)
class EnergyCosts:
    """Picojoules per event. An energy of None is not published; the report lists it as not priced."""

    synop: Quantity | None = None
    list_fetch: Quantity | None = None
    update_active: Quantity | None = None
    update_idle: Quantity | None = None
    spike: Quantity | None = None
    message_out: Quantity | None = None
    message_in: Quantity | None = None
    hop_ew: Quantity | None = None
    hop_ns: Quantity | None = None
    reset: Quantity | None = None
    interchip: Quantity | None = None
    input_byte: Quantity | None = None
    output_byte: Quantity | None = None


@dataclass(frozen=True)
class TimeCosts:
    """Nanoseconds per event on the unit that serves it, and of the barrier that ends a step. None: not published."""

    synop: Quantity | None = None
    update_active: Quantity | None = None
    update_idle: Quantity | None = None
    spike: Quantity | None = None
    link: Quantity | None = None
    barrier: Quantity | None = None


@dataclass(frozen=True)
class PowerCosts:
    """Milliwatts that flow whatever the network does; ``chip_many`` replaces ``chip`` on boards of several chips.

    host: the embedded processors of a chip; io: the interfaces of a chip to the outside
    """

    chip: Quantity | None = None
    core: Quantity | None = None
    host: Quantity | None = None
    io: Quantity | None = None
    chip_many: Quantity | None = None


@dataclass(frozen=True)
class Profile:
    """One chip.

    sources: the [source] table: key -> citation; scope: of ``energy_pj``; boards: name -> number of chips
    note:    what of the chip is not modelled, in a sentence
    programmable: whether its cores run neuron programs of the user's, beside the stock neuron that resets to 0
    """

    name: str
    title: str
    chip: ChipLimits
    core: CoreLimits
    energy_pj: EnergyCosts
    time_ns: TimeCosts
    power_mw: PowerCosts
    sources: dict[str, str]
    scope: Scope = "per-term"
    boards: dict[str, Quantity] = field(default_factory=dict)
    note: str = ""
    programmable: bool = False

    def numbers(self) -> Iterator[tuple[str, Quantity]]:
        """Every number that the profile has, by its key in the file, as ``energy_pj.synop``."""
        for table in TABLES:
            part = getattr(self, table)
            for f in fields(part):
                if (quantity := getattr(part, f.name)) is not None:
                    yield f"{table}.{f.name}", quantity
        for name, chips in self.boards.items():
            yield f"boards.{name}", chips

    def missing(self) -> tuple[str, ...]:
        """The keys of the numbers that it could have and has not."""
        parts = ((table, getattr(self, table)) for table in TABLES)
        return tuple(f"{t}.{f.name}" for t, part in parts for f in fields(part) if getattr(part, f.name) is None)


TABLES = ("chip", "core", "energy_pj", "time_ns", "power_mw")
_KEYS = ("name", "title", *TABLES, "boards", "source", "note", "programmable")
_MAY_MISS = ("boards", "note", "programmable")
BESIDE_SYNOP = ("synop", "interchip", "input_byte", "output_byte")
"""The energies that a synop does not hold, whatever the scope: of what leaves the chip."""
UNITS = {"energy_pj": "pJ", "time_ns": "ns", "power_mw": "mW"}
"""Unit of a whole table; a limit's unit is its own key, and that of a board is chips."""
MAY_BE_0 = ("synapse_header_bytes", "max_delay")
"""Limits of which a chip may have none; all others divide something or hold something."""
MOST = 1e15
MAX_SEATS = 1 << 20
MAX_FILE_BYTES = 128 << 10
MAX_TEXT = 2000
SHOWN = 60
"""Characters of a wrong value that an error repeats."""
_QUANTITY_KEYS = ("value", "low", "high", "from", "evidence", "note")
_T = TypeVar("_T")


def names() -> tuple[str, ...]:
    """The profiles that ship with the package, sorted."""
    return NAMES


def load(name_or_path: str | Path) -> Profile:
    """The profile of that name, or of the TOML file at that path (anything with a separator or ending in .toml).

    Raises ProfileError where there is none, or where the file is not a complete, sourced profile.
    """
    text = str(name_or_path)
    if text in NAMES:
        return _read(Path(__file__).with_name(f"{text}.toml"))
    path = Path(text)
    if path.suffix == ".toml" or path.name != text:
        if not path.is_file():
            raise ProfileError(f"no hardware profile at '{text}'")
        return _read(path)
    close = difflib.get_close_matches(text, NAMES, n=1)
    hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(NAMES)}, or the path of a .toml file"
    raise ProfileError(f"no hardware profile '{text}'; {hint}")


def _read(path: Path) -> Profile:
    try:
        text = limits.read_bytes(path, MAX_FILE_BYTES).decode("utf-8")
        with limits.memory(path):
            return _profile(tomllib.loads(text), path.name)
    except BadInput as error:
        raise ProfileError(str(error)) from None
    except ValueError as error:  # of TOML, of UTF-8, or of a number of a million digits
        raise ProfileError(f"{path.name}: not a TOML file: {first_line(error)}") from None


def _profile(data: dict[str, Any], file: str) -> Profile:
    _only(data, _KEYS, "", file)
    for key in _KEYS:
        if key not in data and key not in _MAY_MISS:
            raise ProfileError(f"{file}: '{key}' is missing")
    sources = _typed(data["source"], dict, "a table", "source", file)
    sources = {key: _text(text, f"source.{key}", file) for key, text in sources.items()}
    profile = Profile(
        _text(data["name"], "name", file),
        _text(data["title"], "title", file),
        _seated(_table(ChipLimits, "chip", data, sources, file), file),
        _worded(_table(CoreLimits, "core", data, sources, file), file),
        _table(EnergyCosts, "energy_pj", data, sources, file),
        _table(TimeCosts, "time_ns", data, sources, file),
        _table(PowerCosts, "power_mw", data, sources, file),
        sources,
        _scope(data, file),
        _boards(data.get("boards", {}), sources, file),
        _text(data.get("note", ""), "note", file),
        _typed(data.get("programmable", False), bool, "true or false", "programmable", file),
    )
    _unmixed(profile, file)
    return profile


def _scope(data: dict[str, Any], file: str) -> Scope:
    scope = _typed(data["energy_pj"], dict, "a table", "energy_pj", file).get("scope", "per-term")
    if scope not in get_args(Scope):
        raise ProfileError(f"{file}: energy_pj.scope is {repr(scope)[:SHOWN]}; known: {', '.join(get_args(Scope))}")
    return scope


def _unmixed(profile: Profile, file: str) -> None:
    """Raise where an energy stands beside one that holds it already."""
    if profile.scope == "per-term":
        return
    if profile.energy_pj.synop is None:
        raise ProfileError(f"{file}: energy_pj.scope is '{profile.scope}', which needs energy_pj.synop")
    inside = [f"energy_pj.{f.name}" for f in fields(EnergyCosts) if f.name not in BESIDE_SYNOP]
    if profile.scope == "all-in":
        inside += ["power_mw.chip", "power_mw.core", "power_mw.chip_many"]
    for key, _ in profile.numbers():
        if key in inside:
            held = f"{file}: energy_pj.synop holds {key} already"
            raise ProfileError(f"{held}: {profile.scope} constants cannot be mixed with per-term ones")


def _boards(entry: Any, sources: dict[str, str], file: str) -> dict[str, Quantity]:
    table = _typed(entry, dict, "a table", "boards", file)
    return {
        _text(name, "a name in boards", file): _quantity(chips, f"boards.{name[:SHOWN]}", "chips", True, sources, file)
        for name, chips in table.items()
    }


def _table(kind: type[_T], name: str, data: dict[str, Any], sources: dict[str, str], file: str) -> _T:
    table = _typed(data[name], dict, "a table", name, file)
    columns = fields(kind)  # type: ignore[arg-type]  # every kind is a dataclass
    known = tuple(f.name for f in columns) + (("scope",) if name == "energy_pj" else ())
    _only(table, known, f"{name}.", file)
    row: dict[str, Quantity] = {}
    for f in columns:
        if f.name in table:
            unit = UNITS.get(name, f.name.replace("_", " "))
            row[f.name] = _quantity(table[f.name], f"{name}.{f.name}", unit, name not in UNITS, sources, file)
        elif f.default is MISSING:
            raise ProfileError(f"{file}: '{name}.{f.name}' is missing")
    return kind(**row)


def _quantity(entry: Any, key: str, unit: str, whole: bool, sources: dict[str, str], file: str) -> Quantity:
    entry = _typed(entry, dict, "a table { value = ..., from = ... }", key, file)
    _only(entry, _QUANTITY_KEYS, f"{key}.", file)
    if "value" not in entry:
        raise ProfileError(f"{file}: '{key}.value' is missing")
    value = _number(entry["value"], f"{key}.value", whole, file)
    low, high = (_number(entry.get(end, value), f"{key}.{end}", whole, file) for end in ("low", "high"))
    if not low <= value <= high:
        raise ProfileError(
            f"{file}: {key} has low {low:g}, value {value:g}, high {high:g}; low <= value <= high must hold"
        )
    if "from" not in entry:
        raise ProfileError(f'{file}: {key} has no source; add from = "...", a key of [source]')
    cited = _text(entry["from"], f"{key}.from", file)
    if cited not in sources:
        raise ProfileError(f"{file}: {key} cites '{cited[:SHOWN]}', which [source] does not define")
    evidence = entry.get("evidence", "")
    if evidence not in get_args(Evidence):
        got = str(evidence)[:SHOWN]
        raise ProfileError(f"{file}: {key} has evidence '{got}'; known: {', '.join(get_args(Evidence))}")
    note = _text(entry.get("note", ""), f"{key}.note", file)
    return Quantity(value, low, high, unit, sources[cited], evidence, note)


def _seated(chip: ChipLimits, file: str) -> ChipLimits:
    """The limits, where the mesh has a seat for every core and is no larger than anybody could draw."""
    seats = chip.mesh_width.whole * chip.mesh_height.whole * chip.cores_per_router.whole
    if not chip.cores.whole <= seats <= MAX_SEATS:
        raise ProfileError(f"{file}: the mesh seats {seats} cores; {chip.cores.whole} to {MAX_SEATS} are needed")
    return chip


def _worded(core: CoreLimits, file: str) -> CoreLimits:
    """The limits, where synaptic memory says how long its words are."""
    if core.synapse_bytes is not None and core.synapse_word_bytes is None:
        raise ProfileError(f"{file}: core.synapse_bytes needs core.synapse_word_bytes, the length of a word")
    return core


def _only(table: dict[str, Any], known: tuple[str, ...], prefix: str, file: str) -> None:
    for key in table:
        if key not in known:
            raise ProfileError(f"{file}: unknown key '{prefix}{key[:SHOWN]}'; known: {', '.join(known)}")


def _typed(value: Any, kind: type[_T], wanted: str, key: str, file: str) -> _T:
    if not isinstance(value, kind):
        raise ProfileError(f"{file}: {key} is {repr(value)[:SHOWN]}, must be {wanted}")
    return value


def _text(value: Any, key: str, file: str) -> str:
    text = " ".join(_typed(value, str, "text", key[:SHOWN], file).split())
    if not text.isprintable() or len(text) > MAX_TEXT:
        raise ProfileError(f"{file}: {key[:SHOWN]} is {text[:SHOWN]!r}, which cannot be printed or is too long")
    return text


def _number(value: Any, key: str, whole: bool, file: str) -> float:
    least = 1 if whole and key.endswith(".value") and key.split(".")[1] not in MAY_BE_0 else 0
    wanted = f"a whole number, {least} or more" if whole else "a finite number, 0 or more"
    good = isinstance(value, int | float) and not isinstance(value, bool) and least <= value < float("inf")
    if not good or (whole and value != int(value)):
        raise ProfileError(f"{file}: {key} is {repr(value)[:SHOWN]}, must be {wanted}")
    if value > MOST:
        raise ProfileError(f"{file}: {key} is above {MOST:g}, as no chip is")
    return float(value)
