"""How many cores this process may use, and so how many steps of one thread run side by side."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

CGROUPS = Path("/sys/fs/cgroup")


def cores() -> int:
    """The processors this process may run on, or fewer where a container's quota (cgroup v2 `cpu.max`) gives it less
    time; at least 1.

    A quota of 1.5 processors is 1: two busy threads would wait for each other.
    """
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(CGROUPS, _own_group())
    return found if quota is None else max(1, min(found, int(quota)))


def side_by_side(workers: int | None) -> int:
    """Workers of one thread each: as many as there are cores, or as many as are asked for, but never more than
    cores."""
    return cores() if workers is None else min(workers, cores())


def _own_group() -> str:
    """This process's place among the control groups; the root where there are none."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "/"
    return next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "/")


def _quota(root: Path, group: str) -> float | None:
    """Processors' worth of time that the group and all groups around it leave; None where nothing limits it."""
    found = []
    inside = PurePosixPath(group.lstrip("/"))
    for place in (inside, *inside.parents):
        try:
            most, period = (root / place / "cpu.max").read_text(encoding="ascii").split()
            found.append(int(most) / int(period))
        except (OSError, ValueError, ZeroDivisionError):
            continue  # no such file (the root has none), or "max": no limit here
    return min(found, default=None)
