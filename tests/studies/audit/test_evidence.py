"""When an effect counts as seen, and that it is the mean of paired differences."""

from __future__ import annotations

import pytest

from distilscope.evaluation.estimate import Interval, t_interval
from distilscope.studies.audit.evidence import Finding, Reading, is_seen, meaning, over_seeds


def finding(published: float, definition: float, **more: object) -> Finding:
    return Finding((Reading("P", published, definition, "it matters", **more),))


def test_the_effect_is_paired_by_seed():
    (row,) = over_seeds([finding(11.0, 1.0), finding(52.0, 41.0), finding(93.0, 81.0)])
    wanted = t_interval([10.0, 11.0, 12.0])
    assert row["effect"] == {"mean": 11.0, "half_width": pytest.approx(wanted.half_width), "n": 3}
    assert row["by_definition"]["mean"] == 41.0
    assert row["by_definition"]["half_width"] > 50 > row["effect"]["half_width"]
    assert row["seen"]
    assert row["means"] == "it matters"


@pytest.mark.parametrize(
    ("effect", "seen"), [(Interval(1.0, 0.9, 3), True), (Interval(-1.0, 1.1, 3), False), (Interval(0.0, 0.0, 3), False)]
)
def test_seen_where_the_interval_leaves_zero_out(effect, seen):
    assert is_seen(effect) == seen
    assert (meaning(effect, "so", seen=seen) == "so") == seen


def test_where_one_side_is_zero_by_construction_any_difference_is_the_traps():
    (row,) = over_seeds([finding(0.0, 0.0, exact=True), finding(0.5, 0.0, exact=True)])
    assert row["seen"]
    (row,) = over_seeds([finding(0.0, 0.0), finding(0.5, 0.0)])
    assert not row["seen"]
    (row,) = over_seeds([finding(0.0, 0.0, exact=True), finding(0.0, 0.0, exact=True)])
    assert not row["seen"]
    assert "equal" in row["means"]


def test_round_trip():
    one = Finding(finding(1.0, 2.0, exact=True).readings, ("it stopped",))
    assert Finding.from_json(one.as_json()) == one
