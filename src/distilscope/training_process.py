"""One of the processes that share a training: what `lm.torchrun` starts, as `python -m distilscope.training_process REQUEST.json`."""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

from distilscope.lm.group import joined
from distilscope.lm.torchrun import end_with_parent, refused
from distilscope.runs.lock import holding
from distilscope.work import train_share


def main(file: Path) -> NoReturn:
    """Ends the process without taking anything down: what it had to write is written, and threads that torch's libraries leave running can
    abort a process that takes its time to end."""
    end_with_parent()
    request: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    scratch = Path(request["scratch"])
    inputs = {name: Path(folder) for name, folder in request["inputs"].items()}
    beside = Path(request["beside"]) if request["beside"] else None
    try:
        # its like of an earlier attempt, whose launcher was killed, may still be at its last lines
        with holding(scratch / f"process-{os.environ['LOCAL_RANK']}.lock"), joined() as group:
            train_share(request["config"], inputs, Path(request["output"]), scratch, beside=beside, group=group)
    except Exception as error:
        refused(error, scratch)
        traceback.print_exc()
        _leave(1)
    _leave(0)


def _leave(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
