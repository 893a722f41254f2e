"""SNNergy: lower a trained audio-visual spiking network to a neuromorphic chip, prove it unchanged, read its cost."""

from __future__ import annotations

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """``snnergy.simulate`` and ``snnergy.Simulator``, loaded when they are first asked for."""
    if name in ("simulate", "Simulator"):
        from snnergy.deploy import simulator

        return getattr(simulator, name)
    raise AttributeError(f"module 'snnergy' has no attribute '{name}'")
