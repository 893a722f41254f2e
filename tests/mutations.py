"""Real files of every kind that the tool reads, and seeded ways of spoiling them.

``spoil(kind, originals, seed)`` is a pure function of its arguments, so that a seed names a file for good.
"""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import torch
from mutations_nir import NIR

KINDS = ("nir", "pt", "npz", "toml", "json")
Mutation = Callable[[Random, bytes], bytes]
Path = tuple[Any, ...]


@dataclass(frozen=True)
class Spoilt:
    """A file, what was done to which original, and the seed that does it again."""

    kind: str
    original: str
    mutation: str
    seed: int
    data: bytes


def spoil(kind: str, originals: Mapping[str, bytes], seed: int) -> Spoilt:
    """The file of that seed: half of them spoilt in their bytes, half in what the bytes mean."""
    rng = Random(f"{kind} {seed}")
    name = rng.choice(sorted(originals))
    table = BYTES if rng.random() < 0.5 else MEANING[kind]
    mutation = rng.choice(sorted(table))
    return Spoilt(kind, name, mutation, seed, table[mutation](rng, originals[name]))


# the bytes, whatever they mean


def truncate(rng: Random, data: bytes) -> bytes:
    return data[: rng.choice([0, 1, 8, rng.randrange(len(data)), len(data) - rng.randint(1, min(64, len(data)))])]


def flip_bits(rng: Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8, 64])):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def set_bytes(rng: Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice([1, 2, 4, 16, 256])):
        out[rng.randrange(len(out))] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
    return bytes(out)


def overwrite_run(rng: Random, data: bytes) -> bytes:
    at, length = rng.randrange(len(data)), rng.choice([2, 4, 8, 64, 512])
    fill = rng.choice([b"\0", b"\xff", rng.randbytes(length)])
    return (data[:at] + (fill * length)[:length] + data[at + length :])[: len(data)]


def number(rng: Random, data: bytes) -> bytes:
    """A size or an address replaced by another one."""
    at, width = rng.randrange(max(len(data) - 8, 1)), rng.choice([2, 4, 8])
    value = rng.choice([0, 1, len(data), len(data) // 2, 2**31, 2**32 - 1, 2**63, 2**64 - 1, rng.randrange(2**40)])
    return data[:at] + struct.pack("<Q", value)[:width] + data[at + width :]


def cut_out(rng: Random, data: bytes) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + data[at + rng.choice([1, 2, 16, 300]) :]


def insert(rng: Random, data: bytes) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + rng.randbytes(rng.choice([1, 2, 16, 300])) + data[at:]


def repeat_block(rng: Random, data: bytes) -> bytes:
    a, b = sorted(rng.randrange(len(data)) for _ in range(2))
    b = min(b, a + 4096)
    at = rng.randrange(len(data))
    return data[:at] + data[a:b] + data[at + rng.choice([0, b - a]) :]


BYTES: dict[str, Mutation] = {
    f.__name__: f for f in (truncate, flip_bits, set_bytes, overwrite_run, number, cut_out, insert, repeat_block)
}


# text: TOML and JSON

WRONG = (
    *("nan", "-nan", "inf", "Infinity", "-Infinity", "NaN", "-1", "-0.5", "1e999", "1e300", "0", "1.5", "9" * 30),
    *("9" * 6000, "0x" + "f" * 4000, "true", "null", "[]", "{}", "[1, 2]", "1979-05-27", '""', '"x"', '"[/red]"'),
    *('"' + "x" * 100_000 + '"', '"\\u001b[2J"', '"\\ud800"', "[" * 3000 + "]" * 3000),
    '{"a":' * 3000 + "1" + "}" * 3000,
)
"""What stands where another value is wanted."""


def _replace_match(rng: Random, data: bytes, pattern: str, change: Callable[[re.Match[str]], str]) -> bytes:
    text = data.decode("utf-8")
    found = list(re.finditer(pattern, text))
    if not found:
        return data
    m = rng.choice(found)
    return (text[: m.start()] + change(m) + text[m.end() :]).encode("utf-8", "surrogatepass")


def wrong_number(rng: Random, data: bytes) -> bytes:
    return _replace_match(rng, data, r"(?<=[=:\[,] )-?\d[\d.e+-]*", lambda m: rng.choice(WRONG))


def wrong_text(rng: Random, data: bytes) -> bytes:
    return _replace_match(rng, data, r'(?<=[=:] )"[^"]*"', lambda m: rng.choice(WRONG))


def scaled_number(rng: Random, data: bytes) -> bytes:
    factor = rng.choice([-1, 0, 1e6, 1e12, 1e20, 1e-20, 1e300])
    return _replace_match(rng, data, r"(?<=[=:] )\d[\d.e+-]*", lambda m: repr(float(m[0].rstrip("-+.e")) * factor))


def renamed_key(rng: Random, data: bytes) -> bytes:
    return _replace_match(rng, data, r'\w+(?="?(?: +=|:))', lambda m: m[0] + rng.choice(["x", "_", "é", "\u202e"]))


def dropped_line(rng: Random, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    return b"".join(lines[:at] + lines[at + rng.choice([1, 1, 3]) :])


def doubled_line(rng: Random, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    return b"".join(lines[: at + 1] + lines[at:])


def wrong_version(rng: Random, data: bytes) -> bytes:
    other = rng.choice(["snnergy.report/0", "snnergy.report/2", "", "x" * 1000])
    return data.replace(b"snnergy.report/1", other.encode())


def wrong_encoding(rng: Random, data: bytes) -> bytes:
    return data.decode("utf-8").encode(rng.choice(["utf-16", "utf-32", "utf-16-be"]))


def huge(rng: Random, data: bytes) -> bytes:
    more = rng.choice([b"\n", b" ", b"#x\n", b"[a]\n", b"{"])
    return data + more * (rng.choice([200_000, 34 << 20]) // len(more))


def nested(rng: Random, data: bytes) -> bytes:
    depth = rng.choice([500, 5_000, 60_000])
    return rng.choice([b'{"a":' * depth + b"1" + b"}" * depth, b"[" * depth + b"]" * depth, b"a = " + b"[" * depth,
                       b"a" + b".a" * depth + b" = 1", b"[a" + b".a" * depth + b"]"])  # fmt: skip


TEXT: dict[str, Mutation] = {f.__name__: f for f in (
    wrong_number, wrong_text, scaled_number, renamed_key, dropped_line, doubled_line, wrong_encoding, huge, nested
)}  # fmt: skip


# JSON: whole values


def _spots(value: Any, here: Path = ()) -> list[Path]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here] * bool(here) + [p for key, item in items for p in _spots(item, (*here, key))]


def _at(value: Any, path: Path) -> Any:
    for key in path:
        value = value[key]
    return value


ODD = (None, True, -1, 0, 1 << 70, 1e300, -0.5, float("nan"), float("inf"), "", "[/b]", "\x1b[2J", "x" * 50_000, [], {},
       [[]], {"a": 1}, 1 << 40)  # fmt: skip


def swapped_value(rng: Random, data: bytes) -> bytes:
    document = json.loads(data)
    path = rng.choice(_spots(document))
    _at(document, path[:-1])[path[-1]] = rng.choice(ODD)
    return json.dumps(document).encode()


def missing_value(rng: Random, data: bytes) -> bytes:
    document = json.loads(data)
    path = rng.choice(_spots(document))
    del _at(document, path[:-1])[path[-1]]
    return json.dumps(document).encode()


def large_mesh(rng: Random, data: bytes) -> bytes:
    document = json.loads(data)
    for key in ("chips", "mesh_width", "mesh_height", "cores_per_router"):
        document["placement"][key] = rng.choice([1, 0, 64, 100_000, 10**9, -4])
    return json.dumps(document).encode()


# zip: .pt and .npz


def _members(data: bytes) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [(m.filename, archive.read(m)) for m in archive.infolist()]


def _zipped(members: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return buffer.getvalue()


def missing_member(rng: Random, data: bytes) -> bytes:
    members = _members(data)
    del members[rng.randrange(len(members))]
    return _zipped(members)


def doubled_member(rng: Random, data: bytes) -> bytes:
    members = _members(data)
    name = rng.choice(members)[0]
    marked = [*members, ("#" * len(name), rng.choice(members)[1])]
    return _zipped(marked).replace(b"#" * len(name), name.encode())


def bomb(rng: Random, data: bytes) -> bytes:
    members = _members(data)
    at = rng.randrange(len(members))
    method, size = rng.choice([(zipfile.ZIP_DEFLATED, 70), (zipfile.ZIP_DEFLATED, 70), (zipfile.ZIP_BZIP2, 2)])
    members[at] = (members[at][0], bytes(size << 20))
    return _zipped(members, method)


def swapped_members(rng: Random, data: bytes) -> bytes:
    members = _members(data)
    i, j = rng.randrange(len(members)), rng.randrange(len(members))
    members[i], members[j] = (members[i][0], members[j][1]), (members[j][0], members[i][1])
    return _zipped(members)


def spoilt_member(rng: Random, data: bytes) -> bytes:
    """Another content with the right checksum."""
    members = _members(data)
    at = rng.choice([0, rng.randrange(len(members))])
    name, content = members[at]
    members[at] = (name, BYTES[rng.choice(sorted(BYTES))](rng, content or b"\0"))
    return _zipped(members)


def many_members(rng: Random, data: bytes) -> bytes:
    return _zipped(_members(data) + [(f"m{k}", b"") for k in range(rng.choice([300, 25_000]))])


def renamed_member(rng: Random, data: bytes) -> bytes:
    members = _members(data)
    at = rng.randrange(len(members))
    members[at] = (
        rng.choice(["../../x", "/etc/x", "x" * 60_000, "a\x1b[2J", "é", members[at][0] + "x"]),
        members[at][1],
    )
    return _zipped(members)


def wrong_sizes(rng: Random, data: bytes) -> bytes:
    """The directory of contents declares other sizes or places than there are."""
    out, entry = bytearray(data), rng.choice([m.start() for m in re.finditer(b"PK\x01\x02", data)])
    value = rng.choice([0, 1, 2**32 - 1, 2**31, rng.randrange(2**32), len(data)])
    struct.pack_into("<I", out, entry + rng.choice([20, 24, 42]), value)
    return bytes(out)


ZIP: dict[str, Mutation] = {f.__name__: f for f in (
    missing_member, doubled_member, bomb, swapped_members, spoilt_member, many_members, renamed_member, wrong_sizes
)}  # fmt: skip


# .npz: arrays


def odd_array(rng: Random, data: bytes) -> bytes:
    with np.load(io.BytesIO(data)) as file:
        arrays = {name: file[name] for name in file.files}
    name = rng.choice(sorted(arrays))
    x = arrays[name].astype(float)
    odd = [x.astype(complex), x.astype(str), x.astype("S9"), x.astype(object), x[:0], x[..., None], x.ravel(),
           -1.0 - x, x * np.nan, x + np.inf, x * 1e300, x[:-1], np.float64(3), x.astype("M8[s]"),
           np.zeros(3, "f8,i4"), x > 0]  # fmt: skip
    arrays[name] = odd[rng.randrange(len(odd))]
    if rng.random() < 0.2:
        del arrays[name]
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def odd_header(rng: Random, data: bytes) -> bytes:
    """A header of the right form that declares the wrong thing."""
    shape = rng.choice(["(1099511627776, 2)", "(-1, 2)", "(2,", "(1e3,)", "(True, 2)", "()", "(0, 99999999)", "[4, 2]",
                        "(" * 300, "(" + "1, " * 60 + ")", "(9999999999999999999999999, 1)"])  # fmt: skip
    descr = rng.choice(["<f8", "<f8", "|O", "<U99999999", "|V8", "<f3", "", "<M8[s]", "|S0", ">i4"])
    header = f"{{'descr': '{descr}', 'fortran_order': {rng.choice(['False', 'True', '3'])}, 'shape': {shape}, }}"
    version = rng.choice([1, 1, 2, 3, 9])
    length = struct.pack("<H" if version == 1 else "<I", rng.choice([len(header), len(header), 0, 60_000]))
    content = b"\x93NUMPY" + bytes([version, 0]) + length + header.encode() + bytes(64)
    return _zipped([(rng.choice(["in.npy", "label.npy"]), content), *_members(data)[rng.randrange(2) :]])


# .pt: documents


def odd_document(rng: Random, data: bytes) -> bytes:
    document = torch.load(io.BytesIO(data), weights_only=True)
    part = rng.choice(["", "config", "config", "state", "state", "meta"])
    table = document[part] if part else document
    key = rng.choice(sorted(table))
    value = table[key]
    odd: list[Any] = [
        None,
        "x",
        -1,
        0,
        1 << 70,
        float("nan"),
        [],
        {},
        torch.ones(2),
        "y" * 100_000,
        (1,) * 5,
        3.5,
        True,
    ]
    if isinstance(value, torch.Tensor):
        odd += [value.double(), value.half(), value[None], value.to_sparse(), value * float("nan"), value / 0.0,
                value.ravel()[:0], torch.zeros(1).expand(1 << 40), value.to("meta"), value.flatten(),
                torch.zeros(()).expand(value.shape), value.to(torch.complex64)] * 2  # fmt: skip
    action = rng.random()
    if action < 0.15:
        del table[key]
    elif action < 0.25:
        table[rng.choice(["extra", "x" * 5000, "\x1b[2J", 3])] = rng.choice(odd)
    else:
        table[key] = rng.choice(odd)
    if part == "" and action > 0.9:
        document["format"] = rng.choice(["snnergy.model/2", "snnergy.model/0", "", 1])
    buffer = io.BytesIO()
    torch.save(document, buffer)
    return buffer.getvalue()


def other_document(rng: Random, data: bytes) -> bytes:
    deep: list[Any] = []
    for _ in range(rng.choice([100, 3000])):
        deep = [deep]
    cycle: list[Any] = []
    cycle.append(cycle)
    found = torch.load(io.BytesIO(data), weights_only=True)
    other: list[Any] = [3, "x", None, {}, [1, 2], print, re.compile("x"), torch.ones(3), found["state"]]
    other += [{"format": deep}, {"format": found["format"]}, {**found, "state": cycle}]
    other += [{**found, "meta": cycle}, {**found, "meta": deep}]
    buffer = io.BytesIO()
    try:
        torch.save(rng.choice(other), buffer)
    except RecursionError:
        torch.save(found["state"], buffer)
    return buffer.getvalue()


MEANING: dict[str, dict[str, Mutation]] = {
    "nir": NIR,
    "pt": {**ZIP, "odd_document": odd_document, "other_document": other_document},
    "npz": {**ZIP, "odd_array": odd_array, "odd_header": odd_header},
    "toml": TEXT,
    "json": {**TEXT, **{f.__name__: f for f in (swapped_value, missing_value, large_mesh, wrong_version)}},
}
