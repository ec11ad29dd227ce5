"""The command line as a user starts it: in a process of its own."""

from __future__ import annotations

import subprocess
import sys

COMMAND = [sys.executable, "-c", "from distilscope.cli import main; main()"]


def distilscope(*words: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*COMMAND, *map(str, words)], capture_output=True, text=True, check=False)
    if check:
        assert done.returncode == 0, done.stderr
    return done
