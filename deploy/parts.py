"""Which part of a network a population belongs to: the stream of one input, the fusion of several, or the head."""

from __future__ import annotations

from snnergy.export.quantnet import QuantNet

FUSION, HEAD = "fusion", "head"


def parts(net: QuantNet) -> dict[str, str]:
    """Source or population -> "NAME stream" where only source NAME reaches it, else "fusion"; outputs are the "head".

    A population that nothing reaches, which only its bias drives, is of the fusion too.
    """
    reached: dict[str, set[str]] = {p.name: set() for p in net.populations} | {s.name: {s.name} for s in net.sources}
    changed = True
    while changed:
        changed = False
        for e in net.projections:
            before = len(reached[e.target])
            reached[e.target] |= reached[e.source]
            changed |= len(reached[e.target]) > before
    return {
        name: HEAD if name in net.outputs else f"{next(iter(of))} stream" if len(of) == 1 else FUSION
        for name, of in reached.items()
    }
