"""What every test runs under: strict numpy, repeatable Hypothesis, goldens, and small networks that really spike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings

SLOW_IS_FINE = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
settings.register_profile(
    "default", deadline=None, derandomize=True, max_examples=25, suppress_health_check=SLOW_IS_FINE
)
settings.register_profile("fuzz", deadline=None, max_examples=2000, suppress_health_check=SLOW_IS_FINE)
# a mutant need only be noticed: the first example that fails is enough
settings.register_profile(
    "mutants", settings.get_profile("default"), phases=[Phase.explicit, Phase.generate], report_multiple_bugs=False
)
settings.load_profile("default")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the printed forms in tests/golden anew")


@pytest.fixture(autouse=True)
def _strict_numpy() -> Iterator[None]:
    with np.errstate(divide="raise", over="raise", invalid="raise"):
        yield


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """``golden(text)`` compares with tests/golden/<test name>.txt; ``--update-golden`` writes it."""
    path = Path(__file__).with_name("golden") / f"{request.node.name}.txt"

    def check(text: str) -> None:
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text + "\n", encoding="utf-8")
        elif not path.exists():
            pytest.fail(f"no {path.name}; write it with: pytest --update-golden -k {request.node.name}")
        else:
            assert text + "\n" == path.read_text(encoding="utf-8")

    return check


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch on one thread: where the cores are busy, two threads wait for each other at every tiny operation."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def spiking_model() -> Callable[..., Any]:
    """``spiking_model(**changes of ModelConfig)``: a very small SNNergy network with lively spikes, untrained."""
    import builders

    return builders.spiking_model


@pytest.fixture(scope="session")
def tiny_model() -> Any:
    """The `tiny` preset with lively spikes, untrained."""
    import builders

    return builders.lively(builders.preset("tiny"))
