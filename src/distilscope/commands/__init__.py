"""What each command does once its options are read: calls the package, prints, returns the exit code.

Results go to standard output, alone where JSON is asked for; progress and warnings go to standard error. Each command imports what it
needs when it runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from distilscope.commands import finished_runs, measurements, studies

COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "mog": measurements.mog,
    "run": studies.run,
    "plan": studies.plan,
    "measure": measurements.measure,
    "recommend": finished_runs.recommend,
    "report": finished_runs.report,
    "map": finished_runs.map_texts,
    "figures": finished_runs.figures,
    "export": finished_runs.export,
    "audit": studies.audit,
    "verify": finished_runs.verify,
    "gc": finished_runs.gc,
}
