"""model.pt <-> module. The file is data only: it is read with ``weights_only=True`` and never with less.

model.pt holds {"format", "config", "state", "dt_s", "meta"}. Files come from strangers, so everything declared
in one is checked before memory is spent on it, and what is wrong is said in one line.
"""

from __future__ import annotations

import io
import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import archive, limits
from .config import ModelConfig
from .errors import BadInput, first_line
from .files import write_bytes
from .model import SNNergy

FORMAT = "snnergy.model/1"
DT_S = 1e-4  # one time step in seconds, as both NIR exporters of the field assume
MIN_DT_S, MAX_DT_S = 1e-12, 1e6
_RETRAIN = "save models with snnergy.checkpoint.save, or train one: snnergy train"


def save(path: str | os.PathLike[str], model: SNNergy, meta: Mapping[str, Any] | None = None) -> None:
    """Write the model; the file is complete or, after a crash, still the old one.

    meta: plain values (text, numbers, lists, dicts) about the training, such as dataset, seed and val accuracy
    """
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    document = {
        "format": FORMAT,
        "config": model.config.to_dict(),
        "state": state,
        "dt_s": DT_S,
        "meta": dict(meta or {}),
    }
    write(path, document)


def load(path: str | os.PathLike[str]) -> tuple[SNNergy, dict[str, Any]]:
    """The model in evaluation mode, and its meta with ``dt_s`` (seconds per time step) added."""
    document = _document(path)
    try:
        config = ModelConfig.from_dict(document["config"])
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None
    with torch.device("meta"):  # shapes only; no memory until the file is known to match
        model = SNNergy(config)
    state = document["state"]
    _check_state(path, state, model.state_dict())
    model.load_state_dict({key: value.contiguous() for key, value in state.items()}, assign=True)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.eval(), {**document["meta"], "dt_s": document["dt_s"]}


def write(path: str | os.PathLike[str], document: Mapping[str, Any]) -> None:
    """torch.save, whole or not at all: through memory, as a full disk breaks torch's own writer."""
    buffer = io.BytesIO()
    torch.save(dict(document), buffer)
    write_bytes(Path(path), buffer.getbuffer())


def read(path: str | os.PathLike[str]) -> Any:
    """The plain values and tensors of a torch file, after its sizes and checksums have been checked."""
    file = Path(path)
    _check_file(file)
    with limits.memory(file):
        declared = _check_zip(file)
    with limits.memory(file, declared):
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            found = re.search(r"GLOBAL ([\w.]+)", str(error))
            what = f"holds Python objects ({found[1]})" if found else "holds more than tensors and plain values"
            raise BadInput(f"{path} {what}, which are not loaded because they could run code", _RETRAIN) from None
        except (MemoryError, RecursionError):
            raise
        except Exception as error:  # torch raises many kinds; none of them is ours
            raise BadInput(f"{path} cannot be read by torch: {first_line(error)}") from None


def _check_file(path: Path) -> None:
    limits.check_file(path)
    try:
        with path.open("rb") as handle:
            start = handle.read(200)
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from None
    if not start:
        raise BadInput(f"{path} is empty")
    if start.startswith(b"version https://git-lfs"):
        raise BadInput(f"{path} is a Git LFS pointer, not the file itself", "fetch it with: git lfs pull")
    if not start.startswith(b"PK"):
        raise BadInput(f"{path} is not a PyTorch checkpoint (it is no zip file)", _RETRAIN)


def _check_zip(path: Path) -> int:
    """Bytes the members take unpacked, all of them stored as torch.save does, with the right checksums."""
    try:
        with zipfile.ZipFile(path) as opened:
            names = opened.namelist()
            if any(name.endswith("/constants.pkl") for name in names):
                raise BadInput(f"{path} is a TorchScript file, not a SNNergy checkpoint", _RETRAIN)
            if not any(name.endswith("/data.pkl") for name in names):
                raise BadInput(f"{path} is a zip file, but not one written by torch.save", _RETRAIN)
            members = archive.members(path, opened, compressed=False)
            broken = opened.testzip()
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError):
        raise BadInput(f"{path} is truncated or damaged") from None
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror or 'it is damaged'}") from None
    if broken is not None:
        raise BadInput(f"{path} is damaged: the checksum of '{broken}' is wrong")
    return sum(m.file_size for m in members)


def _document(path: str | os.PathLike[str]) -> dict[str, Any]:
    document = read(path)
    if not isinstance(document, dict):
        raise BadInput(f"{path} holds a {type(document).__name__}, not a SNNergy checkpoint", _RETRAIN)
    if document and all(isinstance(value, Tensor) for value in document.values()):
        raise BadInput(f"{path} is a plain state_dict of {len(document)} tensors; the model is not in it", _RETRAIN)
    written = document.get("format")
    if written != FORMAT:
        if isinstance(written, str) and written.startswith("snnergy."):
            raise BadInput(f"{path} has format '{written[:40]}', this version reads '{FORMAT}'")
        keys = ", ".join(str(key)[:30] for key in list(document)[:6])
        raise BadInput(f"{path} is not a SNNergy checkpoint; it is a dict with the keys {keys}", _RETRAIN)
    for key, kind in (("config", dict), ("state", dict), ("dt_s", float), ("meta", dict)):
        if not isinstance(document.get(key), kind):
            raise BadInput(f"{path}: '{key}' is missing or not a {kind.__name__}")
    if not MIN_DT_S <= document["dt_s"] <= MAX_DT_S:
        raise BadInput(f"{path}: dt_s is {document['dt_s']}, it must be from {MIN_DT_S:g} to {MAX_DT_S:g} s")
    dataset = document["meta"].get("dataset")
    if not (dataset is None or isinstance(dataset, str)):
        raise BadInput(f"{path}: the data set in 'meta' is a {type(dataset).__name__}, not text")
    return document


def _check_state(path: str | os.PathLike[str], state: dict[Any, Any], wanted: Mapping[str, Tensor]) -> None:
    """Names, shapes and types first, then the total size, then every number."""
    for key in wanted:
        if key not in state:
            raise BadInput(f"{path}: the weights '{key}' are missing")
    for key, value in state.items():
        if key not in wanted:
            raise BadInput(f"{path}: weights '{str(key)[:80]}' do not belong to the model in its config")
        if not isinstance(value, Tensor):
            raise BadInput(f"{path}: '{key}' is a {type(value).__name__}, not a tensor")
        if value.shape != wanted[key].shape:
            got, want = list(value.shape), list(wanted[key].shape)
            raise BadInput(f"{path}: '{key}' has shape {got}, the model needs {want}")
        if value.dtype != wanted[key].dtype:
            raise BadInput(f"{path}: '{key}' has type {value.dtype}, the model needs {wanted[key].dtype}")
        if value.layout != torch.strided or value.device.type != "cpu":
            raise BadInput(f"{path}: '{key}' is {value.layout} on {value.device}; a plain tensor is needed")
    declared = sum(value.numel() * value.element_size() for value in state.values())
    limits.check_unpacked(Path(path), declared, Path(path).stat().st_size)  # a stride of 0 makes much of little
    for key, value in state.items():
        if not bool(torch.isfinite(value).all()):
            raise BadInput(f"{path}: '{key}' holds NaN or infinite numbers")
        if key.endswith("running_var") and bool((value < 0).any()):
            raise BadInput(f"{path}: '{key}' holds negative variances")
