"""Cores that may be used: affinity, and the quotas of the control groups around."""

from __future__ import annotations

import os

import pytest

from distilscope.system import cpu_count
from distilscope.system.cpu_count import worker_count

ALL = len(os.sched_getaffinity(0))


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Writes `cpu.max` files for groups; this process is in the group a/b."""
    monkeypatch.setattr(cpu_count, "CGROUPS", tmp_path)
    monkeypatch.setattr(cpu_count, "_own_group", lambda: "/a/b")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))

    def write(**limits: str) -> None:
        for name, text in limits.items():
            place = tmp_path / {"root": ".", "a": "a", "b": "a/b", "elsewhere": "c"}[name]
            place.mkdir(parents=True, exist_ok=True)
            (place / "cpu.max").write_text(text + "\n")

    return write


@pytest.mark.parametrize(
    ("limits", "found"),
    [
        ({}, 8),
        ({"root": "max 100000", "b": "max 100000"}, 8),
        ({"root": "300000 100000"}, 3),  # a container sees its own group as the root
        ({"a": "200000 100000", "b": "400000 100000"}, 2),  # the group around is the narrower
        ({"b": "150000 100000"}, 1),  # one and a half: two busy threads would wait for each other
        ({"b": "20000 100000"}, 1),  # never none
        ({"b": "1600000 100000"}, 8),
        ({"elsewhere": "100000 100000"}, 8),
        ({"b": "nonsense"}, 8),
    ],
)
def test_the_narrowest_limit_counts(groups, limits, found):
    groups(**limits)
    assert cpu_count.cpu_count() == found


def test_this_process_has_as_many_as_its_affinity_allows_at_most():
    assert 1 <= cpu_count.cpu_count() <= ALL


@pytest.mark.parametrize(("asked", "given"), [(None, 8), (1, 1), (8, 8), (9, 8), (1000, 8)])
def test_workers_never_outnumber_cores(groups, asked, given):
    groups()
    assert worker_count(asked) == given
