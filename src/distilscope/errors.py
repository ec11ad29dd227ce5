"""Errors for users. Each message is one plain sentence: the value, the rule, the remedy."""

from __future__ import annotations

import difflib
import errno
import os
import reprlib
from collections.abc import Iterable


class DistilscopeError(Exception):
    """A failure that a change of the command line alone would not mend (exit code 1)."""

    exit_code = 1


class UsageError(DistilscopeError):
    """Bad usage or bad input (exit code 2)."""

    exit_code = 2


class StoppedError(DistilscopeError):
    """A step was asked to stop, and has saved what it needs to resume (exit code 143, as after SIGTERM)."""

    exit_code = 143


class GateError(DistilscopeError):
    """A check before a number did not pass, so the number is withheld (exit code 1)."""


class StoreError(DistilscopeError):
    """The store or its disk cannot be used, or an artifact is not as it was written (exit code 1)."""


def unknown_name(what: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that does not exist, with the nearest one that does."""
    names = sorted(known)
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(names)}."
    return UsageError(f"unknown {what} {shown(name)}; {hint}")


def full_disk(error: BaseException) -> str | None:
    """The file that a full disk or quota refused, "" if the system named none; None if the error has another cause."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return os.fsdecode(cause.filename) if isinstance(cause.filename, str | bytes) else ""
        # Libraries in other languages (safetensors, Arrow) pass the system's message on, but not its number.
        if "No space left on device" in str(cause) or "os error 28" in str(cause):
            return ""
        cause = cause.__cause__ or cause.__context__
    return None


_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 60


def shown(value: object) -> str:
    """A value for use in a sentence: its `repr`, shortened if long."""
    try:
        return _REPR.repr(value)
    except ValueError:  # Python writes no integer of more than 4300 digits
        return f"a {type(value).__name__} of many digits"


def one_line(error: BaseException) -> str:
    """The message of another library's error on one line, shortened for use in a sentence."""
    return " ".join(str(error).split())[:200]
