"""A headless Chromium with no network, and what a page did in it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)

PATIENCE = 60_000
"""Milliseconds that a test waits before it gives up: other work may be in the machine's way."""


@dataclass
class Visit:
    """An open page, with every request that it made and every complaint of its console."""

    page: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


Visitor = Callable[..., Visit]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium; `make test-browser` installs one")
    api = pytest.importorskip("playwright.sync_api", reason="`make test-browser` installs playwright")
    with api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Any) -> Iterator[Visitor]:
    """Opens a file in a window of its own, offline, and waits until it has drawn itself."""
    contexts = []

    def open_page(path: Path, *, colour_scheme: str = "light", width: int = 1500) -> Visit:
        context = chromium.new_context(
            offline=True, color_scheme=colour_scheme, viewport={"width": width, "height": 1000}
        )
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        seen = Visit(page)
        page.on("request", lambda request: seen.requests.append(request.url))
        page.on(
            "console",
            lambda message: seen.complaints.append(message.text) if message.type in ("error", "warning") else None,
        )
        page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-drawn]", state="attached")
        return seen

    yield open_page
    for context in contexts:
        context.close()
