"""The layers of a ``.net`` file as they stand in it: every field typed, within its bounds, and none unknown."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NoReturn

import h5py
import numpy as np
from numpy.typing import NDArray

from snnergy.errors import BadInput, SnnergyError, UnsupportedLayer
from snnergy.export.maps import Shape

I64 = NDArray[np.int64]

MAX_VALUES = 1 << 24
"""Most neurons of one layer: a shape in a file costs nothing to write."""
MAX_SIDE = 1 << 16
"""Largest stride, padding or dilation."""

COMMON = {"type", "shape"}
SYNAPSE = {*COMMON, "neuron", "weight", "bias", "delay"}
WINDOW = {"kernelSize", "stride", "padding", "dilation"}
FIELDS: dict[str, set[str]] = {
    "input": {*COMMON, "neuron", "weight", "bias"},
    "conv": {*SYNAPSE, *WINDOW, "groups", "inChannels", "outChannels"},
    "pool": {*COMMON, "neuron", "weight", "delay", *WINDOW},
    "dense": {*SYNAPSE, "inFeatures", "outFeatures"},
    "dense_rec": {*SYNAPSE, "inFeatures", "outFeatures", "weight_rec"},
    "flatten": COMMON,
    "average": COMMON,
}
"""The layers that are read, and all that may stand in one."""


@dataclass(frozen=True)
class Layer:
    """One group of the file. name: kind and number, ``conv1``; where: how an error names it"""

    name: str
    kind: str
    group: h5py.Group
    where: str

    def refuse(self, message: str, kind: type[SnnergyError] = BadInput) -> NoReturn:
        raise kind(f"{self.where}: {message}")

    def has(self, field: str) -> bool:
        return field in self.group

    def whole(self, field: str, default: int | None = None) -> I64:
        """The integers of a field, in whatever type they are stored."""
        found: Any = self.group.get(field)
        if found is None:
            if default is not None:
                return np.array(default, np.int64)
            self.refuse(f"no field '{field}'")
        if isinstance(found, h5py.Group):
            self.refuse(f"{field} has parts {', '.join(found)[:40]}; complex synapses are not read", UnsupportedLayer)
        values = np.asarray(found[()])
        if values.dtype.kind not in "biuf" or values.size == 0:
            self.refuse(f"{field} is not numbers")
        if not (np.isfinite(values) & (np.abs(values.astype(np.float64)) < 1 << 53)).all():
            self.refuse(f"{field} is not finite")
        numbers = values.astype(np.int64)
        if (numbers != values).any():
            self.refuse(f"{field} holds {values[numbers != values].flat[0]:g}; lava-dl would cut it to a whole number")
        return numbers

    def within(self, field: str, low: int, high: int, default: int | None = None) -> I64:
        """``whole``, refused outside low .. high."""
        values = self.whole(field, default)
        if values.min() < low or values.max() > high:
            self.refuse(f"{field} spans {values.min()} .. {values.max()}; {low} .. {high} is allowed")
        return values

    def one(self, field: str, low: int, high: int, default: int | None = None) -> int:
        """A single integer."""
        values = self.within(field, low, high, default)
        if values.size != 1:
            self.refuse(f"{field} has {values.size} values; one is needed")
        return int(values.flat[0])

    def pair(self, field: str, low: int) -> tuple[int, int]:
        """(y, x), or one number for both."""
        values = self.within(field, low, MAX_SIDE)
        if values.size > 2:
            self.refuse(f"{field} has {values.size} values; y and x are needed")
        y, x = np.broadcast_to(values.ravel(), 2)
        return int(y), int(x)

    @property
    def shape(self) -> Shape:
        """As in the file: (channel, y, x), or one number."""
        shape = tuple(int(n) for n in self.within("shape", 1, MAX_VALUES).ravel())
        if prod(shape) > MAX_VALUES:
            self.refuse(f"shape {list(shape)} has more than {MAX_VALUES:,} neurons")
        return shape

    def text(self, field: str) -> str:
        """A string, alone or in an array of one."""
        found: Any = self.group.get(field)
        values = np.asarray(found[()] if isinstance(found, h5py.Dataset) else None, object).ravel()
        text = values[0] if values.size == 1 else None
        text = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        if not isinstance(text, str) or not text.isprintable():
            self.refuse(f"{field} is not a name" if field in self.group else f"no field '{field}'")
        return text[:40]

    def per_neuron(self, field: str, low: int, high: int, shape: Shape, default: int | None = None) -> I64:
        """int64[n]: one value for all, or one a channel, as Lava broadcasts them."""
        values = self.within(field, low, high, default).ravel()
        if values.size not in (1, shape[0]):
            self.refuse(f"{field} has {values.size} values; 1 or {shape[0]} are needed")
        return np.repeat(np.broadcast_to(values, shape[0]), prod(shape[1:])).astype(np.int64)


def read_layers(path: Path, file: h5py.File) -> list[Layer]:
    """The layers in order, each with the fields of its kind and no other."""
    group = file.get("layer")
    if not isinstance(group, h5py.Group) or len(group) == 0:
        raise BadInput(f"{path} is HDF5 but no network of lava-dl: it has no layers under 'layer'")
    layers: list[Layer] = []
    for k in range(len(group)):
        found = group.get(str(k))
        if not isinstance(found, h5py.Group):
            raise BadInput(f"{path}: {len(group)} layers are numbered from 0, 'layer/{k}' is missing")
        kind = Layer("", "", found, f"{path}: layer {k}").text("type")
        layer = Layer(f"{kind}{k}", kind, found, f"{path}: layer {k} ({kind})")
        if kind not in FIELDS:
            layer.refuse(f"this layer is not read; {', '.join(FIELDS)} are", UnsupportedLayer)
        unknown = sorted(set(found) - FIELDS[kind])
        if unknown:
            layer.refuse(f"field '{unknown[0]}' is not known; {', '.join(sorted(FIELDS[kind]))} are", UnsupportedLayer)
        layers.append(layer)
    return layers
