"""A sweep's part of results.json: every variant with its own verdict."""

from msgspec.structs import replace

import result_documents
from distilscope.evaluation.candidates import STUDYS_OWN, Variant
from distilscope.evaluation.results import TradeOff
from distilscope.evaluation.trade_off import by_variant, sweep


def student(variant, seed=0):
    return replace(result_documents.student(0.8, seed, precision=-1.0, recall=-1.0), variant=variant)


SIZE, AMOUNT = Variant(hidden_size=48, layers=1), Variant(num_distill=32)
STUDENTS = [student(SIZE), student(STUDYS_OWN), student(AMOUNT), student(STUDYS_OWN, 1), student(SIZE, 1)]


def counted(students):
    return TradeOff(verdict="holds", p_precision=None, p_recall=None, p_kl=None, reason=str(len(students)))


def test_the_studys_own_students_come_first_and_none_is_lost():
    groups = by_variant(STUDENTS)
    assert list(groups) == [STUDYS_OWN, SIZE, AMOUNT]
    assert [len(students) for students in groups.values()] == [2, 2, 1]
    assert all(student.variant == variant for variant, students in groups.items() for student in students)


def test_each_variant_has_the_verdict_over_its_own_students():
    found = sweep(STUDENTS, counted)
    assert [(one.variant, one.trade_off.reason) for one in found] == [(STUDYS_OWN, "2"), (SIZE, "2"), (AMOUNT, "1")]


def test_without_a_sweep_there_is_nothing_to_say():
    assert sweep([student(STUDYS_OWN), student(STUDYS_OWN, 1)], counted) == ()
