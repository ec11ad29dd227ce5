"""SamplingParameters against temperature at equal entropy, on constructed studies where the answer is known."""

import pytest
from msgspec.structs import replace

from distilscope.evaluation.matched_entropy import matched_entropy
from result_documents import estimate, student, teacher

SEEDS = 4


def constructed(*, knob_entropy: float, gain: float = 3.0, seeds: int = SEEDS):
    """P = -10 h and R = 2 h on the temperature curve, plus a shift per seed that pairing takes away; top-k lies `gain`
    above in P."""
    settings = [({"temperature": tau}, tau) for tau in (0.7, 0.85, 1.0)] + [({"top_k": 5}, knob_entropy)]
    students, teachers = [], []
    for seed in range(seeds):
        for selectivity, h in settings:
            shift, extra = 5.0 * seed, gain if "top_k" in selectivity else 0.0
            measured = {"precision": -10 * h + shift + extra, "recall": 2 * h - shift}
            students.append(student(None, seed, **measured, selectivity=selectivity))
            teachers.append(teacher(selectivity, seed, entropy=8 * h, length=8.0))
    return teachers, students


@pytest.mark.parametrize("entropy", [0.7, 0.77, 0.85, 0.99, 1.0])
def test_the_difference_is_read_at_the_same_entropy_and_paired_by_seed(entropy):
    (found,) = matched_entropy(*constructed(knob_entropy=entropy))
    assert found.setting.as_json() == {"training": "distilled", "top_k": 5}
    assert found.teacher_entropy_per_token.mean == pytest.approx(entropy)
    assert found.precision_difference.mean == pytest.approx(3)
    assert found.recall_difference.mean == pytest.approx(0, abs=1e-9)
    assert found.precision_difference.half_width == pytest.approx(0, abs=1e-9)
    assert found.reason is None


def test_outside_the_temperatures_nothing_is_said():
    (found,) = matched_entropy(*constructed(knob_entropy=0.5))
    assert found.precision_difference is found.recall_difference is None
    assert "outside those of its temperatures, from 0.70 to 1.00" in found.reason


def test_an_infinite_estimate_is_not_compared():
    teachers, students = constructed(knob_entropy=0.8)
    students[0] = replace(students[0], recall=estimate(None))
    (found,) = matched_entropy(teachers, students)
    assert "infinite" in found.reason


def test_temperatures_alone_are_not_compared_with_themselves():
    kept = [[one for one in ones if "top_k" not in one.selectivity] for ones in constructed(knob_entropy=0.8)]
    assert matched_entropy(*kept) == ()
