"""A sweep's part of results.json: every variant with its own verdict."""

from distilscope.evaluation.trade_off import by_variant, sweep_document


def student(variant, seed=0):
    return {"variant": variant, "seed": seed}


SIZE, AMOUNT = {"hidden_size": 48, "layers": 1}, {"num_distill": 32}
STUDENTS = [student(SIZE), student({}), student(AMOUNT), student({}, 1), student(SIZE, 1)]


def test_the_studys_own_students_come_first_and_none_is_lost():
    groups = by_variant(STUDENTS)
    assert [variant for variant, _ in groups] == [{}, SIZE, AMOUNT]
    assert [len(students) for _, students in groups] == [2, 2, 1]
    assert all(student["variant"] == variant for variant, students in groups for student in students)


def test_each_variant_has_the_verdict_over_its_own_students():
    found = sweep_document(STUDENTS, lambda students: {"verdict": str(len(students))})
    assert [(one["variant"], one["trade_off"]["verdict"]) for one in found] == [({}, "2"), (SIZE, "2"), (AMOUNT, "1")]


def test_without_a_sweep_there_is_nothing_to_say():
    assert sweep_document([student({}), student({}, 1)], lambda _: {"verdict": "holds"}) == []
