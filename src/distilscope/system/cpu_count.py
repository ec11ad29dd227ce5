"""The number of processors that this process may use, and so of single-threaded workers."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

CGROUPS = Path("/sys/fs/cgroup")


def cpu_count() -> int:
    """Processors that this process may use, at least 1.

    Those that the scheduler may put it on, or fewer where a container's quota (cgroup v2 `cpu.max`) grants less time. A
    quota of 1.5 processors counts as 1: two busy threads would wait for each other.
    """
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(CGROUPS, _own_group())
    return found if quota is None else max(1, min(found, int(quota)))


def worker_count(workers: int | None) -> int:
    """The number of single-threaded workers: as many as asked for, but no more than processors; else one for each."""
    return cpu_count() if workers is None else min(workers, cpu_count())


def _own_group() -> str:
    """Path of this process's control group; the root where there are none."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "/"
    return next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "/")


def _quota(root: Path, group: str) -> float | None:
    """Processors' worth of time that the group and all groups above it grant; None if nothing limits it."""
    found = []
    inside = PurePosixPath(group.lstrip("/"))
    for place in (inside, *inside.parents):
        try:
            most, period = (root / place / "cpu.max").read_text(encoding="ascii").split()
            found.append(int(most) / int(period))
        except (OSError, ValueError, ZeroDivisionError):
            continue  # no such file (the root has none), or "max": no limit here
    return min(found, default=None)
