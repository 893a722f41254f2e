"""The generators as Hypothesis strategies, ``@given(quantnets())``: failures shrink to few small populations."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TypeVar

import numpy as np

from snnergy.errors import MissingPart
from snnergy.testing import graphs, integer
from snnergy.testing.draw import I64

try:
    from hypothesis import strategies as st
    from hypothesis.extra import numpy as st_numpy
except ImportError:
    raise MissingPart("Hypothesis is not installed", 'pip install "snnergy[test]"') from None

T = TypeVar("T")
ELEMENTS = 64
"""Arrays of up to so many elements are drawn one by one, so that they shrink; larger ones come from a drawn seed."""


class _Drawn:
    """A ``Draw`` that asks Hypothesis."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw

    def integer(self, low: int, high: int) -> int:
        return self._draw(st.integers(low, high))

    def choice(self, options: Sequence[T]) -> T:
        return self._draw(st.sampled_from(options))

    def array(self, shape: tuple[int, ...], low: int, high: int) -> I64:
        if prod(shape) > ELEMENTS:
            return np.random.default_rng(self.integer(0, 1 << 32)).integers(low, high + 1, shape)
        return self._draw(st_numpy.arrays(np.int64, shape, elements=st.integers(low, high)))

    def pick(self, shape: tuple[int, ...], options: Sequence[int]) -> I64:
        return np.asarray(options, np.int64)[self.array(shape, 0, len(options) - 1)]


@st.composite
def quantnets(
    draw: st.DrawFn, *, hardware: bool = True, steps: int | None = None
) -> tuple[integer.QuantNet, integer.Inputs]:
    """Verified integer networks with inputs for them; see ``integer.network``."""
    return integer.network(_Drawn(draw), hardware=hardware, steps=steps)


@st.composite
def nir_graphs(draw: st.DrawFn, *, exact: bool = True, recurrent: bool = True) -> graphs.Sample:
    """NIR graphs with inputs, number of steps and time step; see ``graphs.graph``."""
    return graphs.graph(_Drawn(draw), exact=exact, recurrent=recurrent)
