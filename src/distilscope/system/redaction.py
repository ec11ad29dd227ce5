"""What the environment holds in confidence, which no file, log or message of ours may hold: tokens, keys, passwords."""

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
"""Characters of a value that is worth hiding: a shorter one is a switch, such as 1."""


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment for processes that need none: models are fetched before any step runs."""
    return {
        name: value
        for name, value in environment.items()
        if not _CONFIDENTIAL.search(name) and not _LOGIN.search(value)
    }


def redacted(text: str) -> str:
    """The text with every confidential value of this process's environment, and every login in an address, written as
    ***."""
    for name, value in os.environ.items():
        if len(value) >= SHORTEST and _CONFIDENTIAL.search(name):
            text = text.replace(value, "***")
    return _LOGIN.sub("***", text)
