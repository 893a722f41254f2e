"""SNNergy: lower a trained audio-visual spiking network to a neuromorphic chip, prove it unchanged, read its cost."""

from __future__ import annotations

__version__ = "0.1.0"
