"""Ways of spoiling what a ``.nir`` file means: its groups, data sets, links and storage. See ``mutations``."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any

import h5py
import numpy as np

Change = Callable[[Random, h5py.File], None]
AT = "string_bomb"
"""Where a change leaves the offset and the number of the references that ``_changed`` makes equal."""


def _datasets(file: h5py.File, prefix: str = "node") -> list[str]:
    found: list[str] = []
    file[prefix].visititems(
        lambda name, item: found.append(f"{prefix}/{name}") if isinstance(item, h5py.Dataset) else None
    )
    return sorted(found)


def _groups(file: h5py.File) -> list[str]:
    found = ["node"]
    file["node"].visititems(lambda name, item: found.append(f"node/{name}") if isinstance(item, h5py.Group) else None)
    return sorted(found)


def _replace(file: h5py.File, name: str, **settings: Any) -> h5py.Dataset:
    del file[name]
    return file.create_dataset(name, **settings)


def odd_value(rng: Random, file: h5py.File) -> None:
    """A data set of another type, shape or range."""
    name = rng.choice(_datasets(file))
    old = file[name][()]
    x = np.asarray(old)
    n = np.ones(x.shape) if x.dtype.kind not in "fiub" else x.astype(float)
    odd: list[Any] = [
        "x", "", "Softmax", "y" * 100_000, b"\xff\xfe", -1, 0, 1 << 62, 1.5, np.nan, -np.inf, 1e300, True, n * np.nan,
        n / 0.0 if n.all() else n - np.inf, n * 1e300, -n, n * 0, n[..., None], n.ravel()[:0], n.ravel(), n + 0.5,
        np.zeros(n.shape), n.astype("f2"), n.astype(complex), np.full(n.shape, "a", "S3"), [b"a", b"b"], [["a", "b"]],
        np.zeros((3, 3)), np.zeros((1,) * 20), np.array([1 << 20] * 3), np.array([1 << 31, 2]), np.array([-3, 4]),
        np.array([1 << 28]), np.array([1 << 13, 1 << 14]), np.array([1 << 24]), np.array([1, 1 << 12, 1 << 12]),
    ]  # fmt: skip
    _replace(file, name, data=odd[rng.randrange(len(odd))])


def missing_key(rng: Random, file: h5py.File) -> None:
    names = [*_datasets(file), *_groups(file)]
    del file[rng.choice(names)]


def extra_key(rng: Random, file: h5py.File) -> None:
    name = rng.choice(["x", "type_check", "x" * 5000, "a\x1b[2J", "n\nm", "metadata", "é", "."])
    file[rng.choice(_groups(file))].create_dataset(name, data=rng.choice([1, "x", 1.5]))


def renamed_node(rng: Random, file: h5py.File) -> None:
    nodes = file["node/nodes"]
    nodes.move(rng.choice(sorted(nodes)), rng.choice(["other", "\x1b[31m", "x" * 1000, "a b", "[/red]"]))


def swapped_nodes(rng: Random, file: h5py.File) -> None:
    nodes = file["node/nodes"]
    a, b = rng.choice(sorted(nodes)), rng.choice(sorted(nodes))
    if a != b:
        nodes.move(a, "swap")
        nodes.move(b, a)
        nodes.move("swap", b)


def other_edges(rng: Random, file: h5py.File) -> None:
    names = sorted(file["node/nodes"])
    edges = [tuple(e) for e in file["node/edges"].asstr()[()]]
    kind = rng.randrange(6)
    if kind == 0:
        edges += [(rng.choice(names), rng.choice(names)) for _ in range(rng.choice([1, 3, 2000]))]
    elif kind == 1:
        edges = edges[: rng.randrange(len(edges))]
    elif kind == 2:
        edges += [("ghost", rng.choice(names)), ("\x1b[2J", "x" * 1000)]
    elif kind == 3:
        edges = [(b, a) for a, b in edges]
    elif kind == 4:
        edges += edges
    if kind == 5:
        _replace(file, "node/edges", data=np.arange(6).reshape(3, 2))
    else:
        _replace(file, "node/edges", data=np.array(edges, object).reshape(-1, 2), dtype=h5py.string_dtype())


def bomb(rng: Random, file: h5py.File) -> None:
    """Much declared and little stored: gzip of zeros, chunks never written, a shape for its own sake."""
    name = rng.choice(_datasets(file))
    shape = rng.choice([(1 << 16, 1 << 10), (1 << 40,), (3000, 3000), (1 << 30, 1 << 20)])
    chunks = tuple(min(side, 1 << 10) for side in shape)
    data = _replace(file, name, shape=shape, dtype="f8", chunks=chunks, compression=rng.choice(["gzip", "lzf"]))
    if shape == (3000, 3000):
        data[...] = np.zeros(shape)


def gzip_bomb(rng: Random, file: h5py.File) -> None:
    """A chunk of 32 bytes that unpacks to many MiB, once or a thousand times."""
    import zlib

    name, chunks = rng.choice(_datasets(file)), rng.choice([1, 1000])
    data = _replace(file, name, shape=(4 * chunks,), dtype="f8", chunks=(4,), compression="gzip")
    packed = zlib.compress(bytes(rng.choice([1, 16, 64]) << 20), 1)
    for k in range(chunks):
        data.id.write_direct_chunk((4 * k,), packed if k < 3 else zlib.compress(bytes(32)))


def string_bomb(rng: Random, file: h5py.File) -> None:
    """Many references to one long string."""
    name, many, length = rng.choice(_datasets(file)), rng.choice([200, 20_000]), rng.choice([50_000, 1 << 20])
    text = "x" * length
    target = _replace(file, name, data=[text] + [""] * (many - 1), dtype=h5py.string_dtype())
    file.attrs[AT] = [target.id.get_offset(), many]


def storage(rng: Random, file: h5py.File) -> None:
    """The same numbers stored by other filters, or nowhere."""
    name = rng.choice([d for d in _datasets(file) if file[d].shape] or ["node/edges"])
    value = np.ones(64)
    kind = rng.randrange(6)
    if kind == 0:
        _replace(file, name, data=value, chunks=(8,), scaleoffset=2)
    elif kind == 1:
        _replace(file, name, data=value, chunks=(8,), fletcher32=True, shuffle=True, compression="lzf")
    elif kind == 2:
        _replace(file, name, shape=(4,), dtype="f8", external=[("/etc/passwd", 0, 32)])
    elif kind == 3:
        layout = h5py.VirtualLayout((4,), "f8")
        layout[:] = h5py.VirtualSource("/other.h5", "x", (4,))
        del file[name]
        file.create_virtual_dataset(name, layout)
    elif kind == 4:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((1,))
        plist.set_deflate(1)
        plist.set_deflate(9)
        del file[name]
        h5py.h5d.create(file.id, name.encode(), h5py.h5t.IEEE_F64LE, h5py.h5s.create_simple((40,)), plist)
    else:
        _replace(file, name, shape=(1,), dtype="f8", chunks=(1 << 28,), maxshape=(None,))


def links(rng: Random, file: h5py.File) -> None:
    name, other = rng.choice(_datasets(file)), rng.choice(_groups(file))
    del file[name]
    targets = [h5py.SoftLink("/node"), h5py.SoftLink("/" + name), h5py.ExternalLink("/etc/passwd", "/x"), file[other],
               file["/"], file[rng.choice(_datasets(file))], np.dtype("f8")]  # fmt: skip
    file[name] = rng.choice(targets)


def odd_type(rng: Random, file: h5py.File) -> None:
    name = rng.choice(_datasets(file))
    kinds: list[Any] = [h5py.ref_dtype, h5py.regionref_dtype, h5py.vlen_dtype(np.float64), complex]
    kinds += ["f8,i4", "V7", "S100000", (np.float64, (3,))]
    _replace(file, name, shape=rng.choice([(), (2,), (2, 2)]), dtype=np.dtype(rng.choice(kinds)))


def deep(rng: Random, file: h5py.File) -> None:
    file.create_group("/".join([rng.choice(_groups(file)), *("d" for _ in range(rng.choice([10, 30, 2000])))]))


def many(rng: Random, file: h5py.File) -> None:
    group = file.create_group(f"{rng.choice(_groups(file))}/many")
    for k in range(rng.choice([50, 21_000])):
        group.create_group(str(k))


def attributes(rng: Random, file: h5py.File) -> None:
    place = file[rng.choice([*_datasets(file), *_groups(file)])]
    place.attrs["x"] = rng.choice(["x" * 60_000, np.nan, [1] * 1000])
    for k in range(rng.choice([1, 300])):
        place.attrs[f"a{k}"] = k


def metadata(rng: Random, file: h5py.File) -> None:
    odd = ["{", "[" * 100_000, "null", '{"steps": 0}', '{"steps": 65536000}', '{"steps": 1e400}', '{"dt_s": -1}',
           '{"dt_s": 1e-320}', '{"dt_s": 1' + "0" * 5000 + "}", '{"input": "/etc/passwd.npz"}', '{"input": "random:7"}',
           '{"input": "avdigits:train"}', '{"input": "\\u001b[2J"}', '{"input": 5}', '{"steps": 4, "later": 1}',
           '{"scheme": null}']  # fmt: skip
    if "node/metadata" in file:
        del file["node/metadata"]
    file["node"].create_group("metadata")["snnergy"] = rng.choice(odd)


def subgraph(rng: Random, file: h5py.File) -> None:
    """The graph as a node of itself, a few times."""
    for _ in range(rng.choice([1, 3, 15])):
        file.copy("node", "copy")
        del file["node/nodes"]
        file.move("copy", "node/nodes/inner")


def _changed(change: Change) -> Callable[[Random, bytes], bytes]:
    def mutation(rng: Random, data: bytes) -> bytes:
        with h5py.File.in_memory(data) as file, np.errstate(all="ignore"):
            with suppress(ValueError):  # a name that is taken: the file stays as it is
                change(rng, file)
            place = file.attrs.get(AT)
            file.flush()
            image = file.id.get_file_image()
        if place is None:
            return image
        out, (offset, count) = bytearray(image), place
        out[offset + 16 : offset + 16 * int(count)] = out[offset : offset + 16] * (int(count) - 1)
        return bytes(out)

    return mutation


NIR = {f.__name__: _changed(f) for f in (
    odd_value, missing_key, extra_key, renamed_node, swapped_nodes, other_edges, bomb, gzip_bomb, string_bomb, storage,
    links, odd_type, deep, many, attributes, metadata, subgraph,
)} | {"odd_value_": _changed(odd_value)}  # fmt: skip
"""Most of what goes wrong is a value, so that has two tickets."""
