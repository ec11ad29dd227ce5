"""One of the processes that share a training, as torchrun starts it: `python -m distilscope.studies.steps.train_worker
REQUEST.json`."""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

from distilscope.lm.training.process_group import joined
from distilscope.lm.training.torchrun import end_with_parent, refused
from distilscope.pipeline.lock import exclusive_lock
from distilscope.studies.steps.train import train_share


def main(file: Path) -> NoReturn:
    """Ends the process without taking anything down: what it had to write is written, and threads that torch's
    libraries leave running can abort a process that takes its time to end."""
    end_with_parent()
    request: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    scratch = Path(request["scratch"])
    inputs = {name: Path(folder) for name, folder in request["inputs"].items()}
    beside = Path(request["beside"]) if request["beside"] else None
    try:
        # its like of an earlier attempt, whose launcher was killed, may still be at its last lines
        with exclusive_lock(scratch / f"process-{os.environ['LOCAL_RANK']}.lock"), joined() as group:
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
