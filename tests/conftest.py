"""Shapes in signatures are checked while the tests run; `--soak N` strikes with every fault N times."""

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, runtime_checkable

import pytest
import torch
from hypothesis import settings
from jaxtyping import config, install_import_hook

from distilscope import distribution, selectivity
from small_study import FEW, SMALL, distilscope, words

# beartype can only check an argument against a protocol that is runtime-checkable.
for protocol in (distribution.Distribution, selectivity.Selectivity):
    runtime_checkable(protocol)

install_import_hook("distilscope", "beartype.beartype")

# The same examples every time, and no deadline: a busy machine is no bug.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--soak",
        type=int,
        default=1,
        metavar="N",
        help="try each fault N times, and each parser 500 N inputs (default: once, and 100)",
    )
    parser.addoption(
        "--picture",
        nargs=2,
        metavar=("REPORT", "PNG"),
        help="with -k picture: of a report of your own, and where to keep it",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test of a fault takes `chance`: what is random in it, another each time."""
    if "chance" in metafunc.fixturenames:
        times = range(metafunc.config.getoption("soak"))
        metafunc.parametrize("chance", times, indirect=True)


def pytest_configure(config: pytest.Config) -> None:
    soak = config.getoption("soak")
    settings.register_profile("fuzz", settings.get_profile("repeatable"), max_examples=100 if soak == 1 else 500 * soak)


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """What is random in a fault: the same in each of its tries, whichever tests ran before."""
    return random.Random(request.param)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small study's run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    distilscope(*words("tiny", SMALL), "--output-dir", folder, "--workers", 2)
    return folder


@pytest.fixture
def unchecked() -> Iterator[None]:
    """As users run it: what a user gets wrong meets our own errors, not jaxtyping's."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """As workers have it: tiny products run fastest, and the same everywhere, and with more the compiled loops are not
    used."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> tuple[Path, dict[str, Any], float]:
    """The tiny recipe's run: its folder, its results and how long it took (seconds)."""
    folder = tmp_path_factory.mktemp("tiny")
    start = time.monotonic()
    done = distilscope("run", "tiny", "--output-dir", folder, "--json")
    return folder, json.loads(done.stdout), time.monotonic() - start


@pytest.fixture(scope="session")
def real(tmp_path_factory) -> Path:
    """The folder of the default recipe's run, on the real model at a few hundred tokens."""
    folder = tmp_path_factory.mktemp("real")
    distilscope(*words("smollm2_cpu", FEW), "--output-dir", folder)
    return folder
