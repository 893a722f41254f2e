"""The values in a NIR graph: of the right kind, finite and countable, so that nothing after this needs to ask."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nir
import numpy as np

from snnergy.errors import BadInput

REAL = (
    *("weight", "bias", "scale", "threshold", "delay"),
    *("tau", "tau_mem", "tau_syn", "r", "w_in", "v_leak", "v_reset", "v_threshold"),
)
WHOLE = {"stride": (1, 2), "padding": (1, 2), "dilation": (1, 2), "kernel_size": (1, 2), "groups": (1,),
         "start_dim": (1,), "end_dim": (1,), "input_shape": (1, 2)}  # fmt: skip
"""Fields of whole numbers, and how many of them there may be."""
LARGEST_WHOLE = 1 << 31
MAX_AXES = 8
PADDINGS = ("same", "valid")
"""What padding may say in words; nir lets no other word through."""


def check(path: Path, graph: nir.NIRGraph) -> None:
    """Raise BadInput for the first value that no NIR graph has: text for a number, half a stride, NaN."""
    for name, node in graph.nodes.items():
        if isinstance(node, nir.NIRGraph):
            check(path, node)
            continue
        fields: dict[str, Any] = vars(node)
        for field, value in fields.items():
            where = f"{path}: '{name}.{field}'"
            if field in ("input_type", "output_type"):
                for shape in (value or {}).values():
                    _whole(where, shape, range(MAX_AXES + 1))
            elif field in REAL:
                _real(where, value)
            elif field in WHOLE and not (isinstance(value, str) and value in PADDINGS):
                _whole(where, value, WHOLE[field])


def _numbers(where: str, value: object) -> np.ndarray[Any, Any]:
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        shown = str(value)[:40]
        raise BadInput(f"{where} is {shown!r}; numbers are needed")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        count = int((~np.isfinite(array)).sum())
        raise BadInput(f"{where} is NaN or infinite in {count} of {array.size} values")
    return array


def _real(where: str, value: object) -> None:
    if value is not None and _numbers(where, value).size == 0:
        raise BadInput(f"{where} is empty")


def _whole(where: str, value: object, counts: Sequence[int]) -> None:
    if value is None:
        return
    array = _numbers(where, value)
    if array.size not in counts or array.ndim > 1:
        allowed = " or ".join(map(str, counts)) if len(counts) < 3 else f"at most {max(counts)}"
        raise BadInput(f"{where} has shape {list(array.shape)}; {allowed} whole numbers are needed")
    if array.size and ((array != np.rint(array)).any() or (abs(array.astype(np.float64)) >= LARGEST_WHOLE).any()):
        raise BadInput(f"{where} is {array.ravel().tolist()}; whole numbers below {LARGEST_WHOLE} are needed")
