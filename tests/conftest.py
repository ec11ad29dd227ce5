"""Shapes in signatures are checked while the tests run; `--soak N` strikes with every fault N times."""

import random
from collections.abc import Iterator
from typing import runtime_checkable

import pytest
import torch
from hypothesis import settings
from jaxtyping import config, install_import_hook

from distilscope import distribution, selectivity

# beartype can only check an argument against a protocol that is runtime-checkable.
for protocol in (distribution.Distribution, selectivity.Selectivity):
    runtime_checkable(protocol)

install_import_hook("distilscope", "beartype.beartype")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", type=int, default=1, metavar="N", help="try each fault N times (default: once)")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test of a fault takes `chance`: what is random in it, another each time."""
    if "chance" in metafunc.fixturenames:
        times = range(metafunc.config.getoption("soak"))
        metafunc.parametrize("chance", [random.Random(number) for number in times], ids=[str(number) for number in times])


# The same examples every time, and no deadline: a busy machine is no bug.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture
def unchecked() -> Iterator[None]:
    """As users run it: what a user gets wrong meets our own errors, not jaxtyping's."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Tiny products run fastest, and the same everywhere, on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
