"""``model.pt`` -> ``model.nir``, read back and compared with torch before anything is left on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from snnergy import __version__, checkpoint, data
from snnergy.deploy.verify import Pair, torch_pair
from snnergy.errors import NotEqual
from snnergy.export import nir_file
from snnergy.export import portable as twins
from snnergy.export.from_torch import to_nir
from snnergy.files import replacing
from snnergy.model import SNNergy


@dataclass(frozen=True)
class Exported:
    """The file that was written, and the comparison it passed."""

    path: Path
    nodes: int
    edges: int
    pair: Pair

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"path": str(self.path), "nodes": self.nodes, "edges": self.edges, "verified": self.pair.to_dict()}

    def __str__(self) -> str:
        return f"wrote {self.path}: {self.nodes} nodes, {self.edges} edges\n{self.pair}"


def graph_of(path: Path) -> tuple[SNNergy, nir.NIRGraph]:
    """The model of a checkpoint and its NIR graph, with what the file cannot say in the metadata."""
    model, meta = checkpoint.load(path)
    config = model.config
    side = config.image_size
    shapes = {"audio": (config.audio_channels, side, side), "video": (config.video_channels, side, side)}
    graph = to_nir(model, shapes, meta["dt_s"], config.timesteps)
    about = nir_file.Provenance(
        dt_s=meta["dt_s"],
        steps=config.timesteps,
        input=meta.get("dataset"),
        model=config.name,
        version=__version__,
    )
    nir_file.describe(graph, about)
    return model, graph


def export_model(path: Path, output: Path, samples: int, *, portable: bool = False) -> Exported:
    """Export, re-read with nir's own type checks, compare; the file appears only if no spike differs.

    samples: how many of the model's own data set are compared; seeded noise where it has none
    portable: write the twin that other tools' readers take, once it has been compared with the graph too
    """
    model, graph = graph_of(path)
    with replacing(output) as part:
        part.write_bytes(nir_file.to_bytes(graph))
        nir.read(part, type_check=True)
        back = nir_file.read(part)
        about = nir_file.provenance(back)
        pair = torch_pair(model, back, _samples(back, about, samples), about.steps or 1, about.dt_s)
        if not pair.equal:
            raise NotEqual(
                f"the exported graph is not the trained network: {pair}", "this is a bug; nothing was written"
            )
        if portable:
            back = _twin(back, about, _samples(back, about, samples))
            part.write_bytes(nir_file.to_bytes(back))
    return Exported(output, len(back.nodes), len(back.edges), pair)


def _twin(graph: nir.NIRGraph, about: nir_file.Provenance, real: dict[str, NDArray[Any]]) -> nir.NIRGraph:
    """The portable twin, if no spike differs."""
    twin = twins.portable(graph, about.dt_s)
    shown = {name: real[name] for name, node in graph.nodes.items() if isinstance(node, nir.Input)}
    if differ := twins.differing(graph, twin, shown, about.steps or 1, about.dt_s):
        raise NotEqual(f"the portable graph differs in {differ} neuron-steps", "this is a bug; nothing was written")
    return twin


def _samples(graph: nir.NIRGraph, about: nir_file.Provenance, samples: int) -> dict[str, NDArray[Any]]:
    shapes = {
        name: tuple(int(n) for n in node.input_type["input"])
        for name, node in graph.nodes.items()
        if isinstance(node, nir.Input)
    }
    rng = np.random.Generator(np.random.PCG64(0))
    side = next(iter(shapes.values()))[-1]
    if about.input:
        found = data.load(about.input, samples, image_size=side)
        real: dict[str, NDArray[Any]] = {"audio": found.audio, "video": found.video}
    else:
        real = {name: rng.random((samples, *shape)) for name, shape in shapes.items()}
    # the model takes both inputs, also where it reads one
    for name in ("audio", "video"):
        real.setdefault(name, np.zeros((samples, 1, side, side)))
    return {name: np.asarray(x, np.float64) for name, x in real.items()}
