"""One of the processes that share a training: what `lm.torchrun` starts, as `python -m distilscope.training_process REQUEST.json`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from distilscope.lm.group import joined
from distilscope.lm.torchrun import end_with_parent, refused
from distilscope.runs.lock import holding
from distilscope.work import train_share


def main(file: Path) -> None:
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
        raise


if __name__ == "__main__":
    main(Path(sys.argv[1]))
