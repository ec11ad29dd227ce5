"""The report's first words, and how sure it says it is."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from distilscope.evaluation.candidates import DIRECT, Candidate
from distilscope.evaluation.estimate import Interval
from distilscope.evaluation.results import Results
from distilscope.report.candidates import Candidates
from distilscope.report.evidence import findings
from distilscope.report.exhibit import TrainingCurve, shown
from distilscope.report.headline import headline
from result_documents import exhibit_of, study_document


def changed(results: Results, **parts: dict[str, Any]) -> Results:
    """The results with some of what was computed put in its place by hand."""
    return replace(results, **{name: replace(getattr(results, name), **values) for name, values in parts.items()})


STUDY = study_document()
CONTROL = replace(STUDY.frontier.control, precision_difference=Interval(3.26, 1.5, 3))
BEATS = "distillation beats sampling the direct student more sharply"
BEATEN = "distillation is beaten by sampling the direct student more sharply"


def test_the_answer_names_setting_gain_and_cost():
    found, said = STUDY.recommendation, headline(STUDY)
    gain, loss = found.precision_gain, found.recall_loss
    assert gain is not None
    assert loss is not None
    assert said.answer.replace("\N{NO-BREAK SPACE}", " ") == (
        "Draw the teacher's data at temperature 0.7: against the direct student it gains "
        f"{gain.mean:.1f} ± {gain.half_width:.1f} nats of precision "
        f"and costs {loss.mean:.1f} ± {loss.half_width:.1f} nats of recall."
    )


@pytest.mark.parametrize(
    ("recommendation", "answer", "but"),
    [
        ({"setting": None, "candidates": (), "reason": "p* is data"}, "No recommendation.", ""),
        (
            {"setting": None, "tied": (DIRECT, Candidate("distilled", {"top_k": 5}))},
            "No clear winner",
            "the direct student, top-k 5",
        ),
        ({"setting": DIRECT, "tied": (DIRECT,)}, "Distil nothing", ""),
        (
            {"recall_loss": Interval(-2.0, 1.0, 3)},
            "and gains 2.0",
            "more precision at the same recall or more",
        ),
    ],
)
def test_the_answer_where_it_is_another(recommendation, answer, but):
    said = headline(changed(STUDY, recommendation=recommendation))
    assert answer in said.answer.replace("\N{NO-BREAK SPACE}", " ")
    assert but in said.but.replace("\N{NO-BREAK SPACE}", " ")
    assert "P*" not in said.why


@pytest.mark.parametrize(
    ("verdict", "but", "good"),
    [
        (BEATS, "It also beats sampling the direct student more sharply: 3.3 ± 1.5 nats", True),
        (BEATEN, "does better still: 3.3 ± 1.5 nats", False),
        ("not shown", "is not shown to do better", False),
    ],
)
def test_the_control_is_never_left_out(verdict, but, good):
    found = changed(STUDY, frontier={"control": replace(CONTROL, verdict=verdict)})
    assert but in headline(found).but.replace("\N{NO-BREAK SPACE}", " ")
    assert [
        one.good for one in findings(Candidates(found), None) if "control" in one.text or "distillation, or" in one.text
    ] == [good]


def curves(results: Results) -> tuple[TrainingCurve, ...]:
    return shown(exhibit_of(results).trainings) or ()


def shorts(results, trainings=None):
    return {one.short: one.good for one in findings(Candidates(results), trainings)}


def test_what_speaks_for_and_against():
    found = shorts(STUDY, curves(STUDY))
    assert found["3 seeds"] is True
    assert found["both gates passed, |z| up to 1.5"] is True
    assert found["6 of 28 sampler checks undecided"] is None
    assert found["the trade-off holds"] is True
    assert found["every other setting is ruled out"] is True
    assert found["τ = 0.7 is the lowest tried"] is None
    assert found["models were still improving"] is None
    assert list(found.values()) == sorted(found.values(), key=[True, False, None].index)


@pytest.mark.parametrize(
    ("results", "short", "good"),
    [
        (study_document(seeds=1), "one seed, so no intervals", False),
        (study_document(seeds=1), "no trend test", None),
        (study_document(seeds=2), "only 2 seeds", False),
        (study_document(modelled=False), "p* is data, beyond the gates", None),
        (changed(STUDY, trade_off={"verdict": "not shown"}), "trade-off not shown", False),
        (changed(STUDY, trade_off={"verdict": "sharpening only"}), "the trade-off holds, at a cost in fidelity", True),
        (
            changed(
                STUDY,
                recommendation={"tied": (*STUDY.recommendation.tied, Candidate("distilled", {"temperature": 0.85}))},
            ),
            "tied with it: temperature 0.85",
            False,
        ),
        (changed(STUDY, recommendation={"setting": None}), "no setting is shown best", False),
    ],
)
def test_what_speaks_against(results, short, good):
    assert shorts(results)[short] is good


def test_nothing_is_said_of_models_that_passed_their_best():
    first, *others = curves(STUDY)
    assert "models were still improving" not in shorts(STUDY, [replace(first, chosen_step=20), *others])
