"""model.pt <-> module. The file is data only: it is read with ``weights_only=True`` and never with less.

model.pt holds {"format", "config", "state", "dt_s", "meta"}. Files come from strangers, so everything declared
in one is checked before memory is spent on it, and what is wrong is said in one line.
"""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .config import ModelConfig
from .errors import BadInput, first_line
from .files import replacing
from .model import SNNergy

FORMAT = "snnergy.model/1"
DT_S = 1e-4  # one time step in seconds, as both NIR exporters of the field assume
MAX_BYTES = 4 << 30
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
    """torch.save, whole or not at all. Given a path, torch would write the temporary name into the file."""
    with replacing(Path(path)) as part, part.open("wb") as file:
        torch.save(dict(document), file)


def read(path: str | os.PathLike[str]) -> Any:
    """The plain values and tensors of a torch file, after its sizes and checksums have been checked."""
    _check_zip(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"holds Python objects ({found[1]})" if found else "holds more than tensors and plain values"
        raise BadInput(f"{path} {what}, which are not loaded because they could run code", _RETRAIN) from None
    except Exception as error:  # torch raises many kinds; none of them is ours
        raise BadInput(f"{path} cannot be read by torch: {first_line(error)}") from None


def _check_zip(path: str | os.PathLike[str]) -> None:
    file = Path(path)
    if not file.exists():
        raise BadInput(f"no file {path}")
    if not file.is_file():
        raise BadInput(f"{path} is not a file")
    try:
        with open(file, "rb") as handle:
            start = handle.read(200)
        if not start:
            raise BadInput(f"{path} is empty")
        if start.startswith(b"version https://git-lfs"):
            raise BadInput(f"{path} is a Git LFS pointer, not the file itself", "fetch it with: git lfs pull")
        if not start.startswith(b"PK"):
            raise BadInput(f"{path} is not a PyTorch checkpoint (it is no zip file)", _RETRAIN)
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            declared = sum(entry.file_size for entry in entries)
            if declared > MAX_BYTES:
                raise BadInput(f"{path} declares {declared} bytes of contents, more than the {MAX_BYTES} allowed")
            names = [entry.filename for entry in entries]
            if any(name.endswith("/constants.pkl") for name in names):
                raise BadInput(f"{path} is a TorchScript file, not a SNNergy checkpoint", _RETRAIN)
            stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
            if not stored or not any(name.endswith("/data.pkl") for name in names):
                raise BadInput(f"{path} is a zip file, but not one written by torch.save", _RETRAIN)
            broken = archive.testzip()
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError):
        raise BadInput(f"{path} is truncated or damaged") from None
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from None
    if broken is not None:
        raise BadInput(f"{path} is damaged: the checksum of '{broken}' is wrong")


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
    if not 0 < document["dt_s"] < float("inf"):
        raise BadInput(f"{path}: dt_s is {document['dt_s']}, it must be above 0 and finite")
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
        if value.dtype != wanted[key].dtype or value.layout != torch.strided:
            raise BadInput(f"{path}: '{key}' has type {value.dtype}, the model needs {wanted[key].dtype}")
    size = sum(value.numel() * value.element_size() for value in state.values())
    if size > MAX_BYTES:
        raise BadInput(f"{path} declares {size} bytes of weights, more than the {MAX_BYTES} allowed")
    for key, value in state.items():
        if not bool(torch.isfinite(value).all()):
            raise BadInput(f"{path}: '{key}' holds NaN or infinite numbers")
        if key.endswith("running_var") and bool((value < 0).any()):
            raise BadInput(f"{path}: '{key}' holds negative variances")
