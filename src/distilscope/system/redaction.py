"""Removal of secrets (tokens, keys, passwords) from the environment of workers and from texts that are written."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

_CONFIDENTIAL = re.compile(
    r"(^|_)(TOKEN|SECRET|CREDENTIALS?|(API|ACCESS|PRIVATE|SECRET)_?KEY)(_|$)|PASSW|PASSPHRASE", re.IGNORECASE
)

_LOGIN = re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)")
"""A name and password inside an address, such as a proxy's."""

SHORTEST = 6
"""Shortest value that is hidden: a shorter one is a switch, such as 1, and hiding it would garble the text."""


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without its secrets, for workers: models are fetched before any step runs, so none needs one."""
    return {
        name: value
        for name, value in environment.items()
        if not _CONFIDENTIAL.search(name) and not _LOGIN.search(value)
    }


def redacted(text: str) -> str:
    """The text with each secret of this process's environment, and each login in an address, replaced by ***."""
    for name, value in os.environ.items():
        if len(value) >= SHORTEST and _CONFIDENTIAL.search(name):
            text = text.replace(value, "***")
    return _LOGIN.sub("***", text)
