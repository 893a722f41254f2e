"""Chips as data: one TOML file each, in which every number names its source, its range and how it was obtained."""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from snnergy import limits
from snnergy.errors import BadInput, ProfileError, first_line

NAMES = ("loihi1", "loihi2")
"""The chips that ship with the package."""

Evidence = Literal["measured", "simulated", "vendor", "derived", "inherited", "assumed"]


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
    """What one core holds. A limit of None is not known or does not exist."""

    neurons: Quantity
    synapse_bytes: Quantity
    synapse_word_bytes: Quantity
    synapse_header_bytes: Quantity
    in_axons: Quantity
    out_axons: Quantity
    groups: Quantity
    weight_bits: Quantity
    state_bits: Quantity
    spike_bits: Quantity
    max_delay: Quantity
    accumulator_slots: Quantity | None = None


@dataclass(frozen=True)
class EnergyCosts:
    """Picojoules per event. An energy of None is not published; the report lists it as not priced."""

    synop: Quantity
    list_fetch: Quantity
    update_active: Quantity
    update_idle: Quantity
    spike: Quantity
    message_out: Quantity
    message_in: Quantity
    hop_ew: Quantity
    hop_ns: Quantity
    reset: Quantity
    interchip: Quantity | None = None
    input_byte: Quantity | None = None
    barrier: Quantity | None = None


@dataclass(frozen=True)
class TimeCosts:
    """Nanoseconds per event on the unit that serves it, and of the barrier that ends a time step."""

    synop: Quantity
    update_active: Quantity
    update_idle: Quantity
    spike: Quantity
    link: Quantity
    barrier: Quantity


@dataclass(frozen=True)
class PowerCosts:
    """Milliwatts that flow whatever the network does; ``chip_many`` replaces ``chip`` on boards of several chips."""

    chip: Quantity
    core: Quantity
    host: Quantity
    chip_many: Quantity | None = None


@dataclass(frozen=True)
class Profile:
    """One chip. ``sources`` is the [source] table: key -> citation."""

    name: str
    title: str
    chip: ChipLimits
    core: CoreLimits
    energy_pj: EnergyCosts
    time_ns: TimeCosts
    power_mw: PowerCosts
    sources: dict[str, str]


UNITS = {"energy_pj": "pJ", "time_ns": "ns", "power_mw": "mW"}
"""Unit of a whole table; a limit's unit is its own key."""
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
    known = tuple("source" if f.name == "sources" else f.name for f in fields(Profile))
    _only(data, known, "", file)
    for key in known:
        if key not in data:
            raise ProfileError(f"{file}: '{key}' is missing")
    sources = _typed(data["source"], dict, "a table", "source", file)
    sources = {key: _text(text, f"source.{key}", file) for key, text in sources.items()}
    return Profile(
        _text(data["name"], "name", file),
        _text(data["title"], "title", file),
        _seated(_table(ChipLimits, "chip", data, sources, file), file),
        _table(CoreLimits, "core", data, sources, file),
        _table(EnergyCosts, "energy_pj", data, sources, file),
        _table(TimeCosts, "time_ns", data, sources, file),
        _table(PowerCosts, "power_mw", data, sources, file),
        sources,
    )


def _table(kind: type[_T], name: str, data: dict[str, Any], sources: dict[str, str], file: str) -> _T:
    table = _typed(data[name], dict, "a table", name, file)
    columns = fields(kind)  # type: ignore[arg-type]  # every kind is a dataclass
    _only(table, tuple(f.name for f in columns), f"{name}.", file)
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
