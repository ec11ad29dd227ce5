"""Shapes in signatures are checked while the tests run."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, runtime_checkable

import pytest
import torch
from hypothesis import settings
from jaxtyping import config, install_import_hook

from command import distilscope
from distilscope import distribution, selectivity

# beartype can only check an argument against a protocol that is runtime-checkable.
for protocol in (distribution.Distribution, selectivity.Selectivity):
    runtime_checkable(protocol)

install_import_hook("distilscope", "beartype.beartype")

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


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> tuple[Path, dict[str, Any], float]:
    """The tiny recipe's run: its folder, its results and how long it took (seconds)."""
    folder = tmp_path_factory.mktemp("tiny")
    start = time.monotonic()
    done = distilscope("run", "tiny", "--output-dir", folder, "--json")
    return folder, json.loads(done.stdout), time.monotonic() - start
