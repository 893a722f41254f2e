"""torch -> NIR -> Net -> QuantNet: what the network is, first in real numbers, then in the chip's integers."""
