"""Shapes in signatures are checked while the tests run; `--soak N` strikes with every fault N times."""

import fcntl
import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, runtime_checkable

import pytest
import torch
from hypothesis import settings
from jaxtyping import config, install_import_hook

from distilscope import distribution, selectivity
from in_process import steps_in_process
from small_study import FEW, SMALL, distilscope, words

# Processes that tests start find the package compiled, instead of each compiling it again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

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


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A copy of the folder that `make` fills: it is called once, whatever number of test processes there are."""
    shared = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    whole, lock = shared / f"once-{name}", shared / f"once-{name}.lock"
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not whole.exists():
            make(half := shared / f"half-{name}")
            half.rename(whole)
    return Path(shutil.copytree(whole, factory.mktemp(name) / "run"))


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small study's run, by two worker processes, that nothing disturbed."""
    study = words("tiny", SMALL)
    return made_once(
        tmp_path_factory,
        "undisturbed",
        lambda folder: distilscope(*study, "--output-dir", folder, "--workers", 2, "--json"),
    )


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
def tiny(tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    """The tiny recipe's run, by worker processes: its folder and its results."""
    folder = made_once(
        tmp_path_factory, "tiny", lambda folder: distilscope("run", "tiny", "--output-dir", folder, "--json")
    )
    return folder, json.loads((folder / "results.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def real(tmp_path_factory) -> Path:
    """The folder of the default recipe's run, on the real model at a few hundred tokens."""
    study = words("smollm2_cpu", FEW)
    return made_once(tmp_path_factory, "real", lambda folder: distilscope(*study, "--output-dir", folder))


@pytest.fixture
def steps_here(unchecked: None) -> Iterator[None]:  # noqa: ARG001
    """Studies perform their steps in this process, as fast as workers do, where it is not workers that are tested."""
    with steps_in_process():
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with the longest tests first, so that the test processes end together (with --no-loadscope-reorder)."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])
