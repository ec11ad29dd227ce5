"""Documents read as records: what is misfit is named by its place, and what is read is written back byte for byte."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distilscope.errors import UsageError
from distilscope.evaluation.documents import MisfitError, document_of, record_of
from distilscope.evaluation.embedding_map import EmbeddingMap
from distilscope.evaluation.estimate import Estimate, Interval
from distilscope.evaluation.results import Recommendation, Results, by_candidate
from distilscope.evaluation.results_file import read_map, read_results, read_run, read_sources
from distilscope.evaluation.run_record import Machine, RunRecord, Stage
from distilscope.mixtures.config import MogPaper
from distilscope.mixtures.simulation import simulate
from result_documents import map_of, study_document

WHOLE = document_of(study_document(sampling=({"top_k": 5, "temperature": 0.9},), sweep=True))
RUN = RunRecord(
    began="2026-11-24T00:00:00Z",
    seconds=90.0,
    command=("distilscope", "run", "tiny"),
    engine="local",
    ray_address=None,
    workers=2,
    resources={"train_gpus": 0},
    reference="seeded",
    machine=Machine(system="Linux", processor="x86_64", cores=2),
    versions={"torch": "2"},
    stages={"draw D": Stage(steps=4, worker_seconds=2.5, tokens=31369)},
)


def changed(change: Callable[[dict[str, Any]], Any], document: dict[str, Any] = WHOLE) -> dict[str, Any]:
    whole = copy.deepcopy(document)
    change(whole)
    return whole


def written(folder, document, name: str = "results.json"):
    (folder / name).write_text(document if isinstance(document, str) else json.dumps(document))
    return folder


def renamed(record: dict[str, Any], name: str, other: str) -> None:
    record[other] = record.pop(name)


MISFITS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a number as text": (
        lambda d: d["students"][3]["precision"].update(mean="-9.5"),
        "`$.students[3].precision.mean` is text, not a number or null",
    ),
    "a whole number as a fraction": (
        lambda d: d["ground_truth"].update(horizon=2.5),
        "`$.ground_truth.horizon` is a number, not a whole number",
    ),
    "a field renamed": (lambda d: renamed(d["students"][0], "recall", "Recall"), "`$.students[0].recall` is missing"),
    "a part left out": (lambda d: d.pop("frontier"), "`$.frontier` is missing"),
    "a list that is an object": (lambda d: d.update(students={}), "`$.students` is an object, not a list"),
    "an object that is null": (lambda d: d.update(sources=None), "`$.sources` is null, not an object"),
    "another training": (
        lambda d: d["students"][0].update(training="guided"),
        "`$.students[0].training`: invalid enum value 'guided'",
    ),
    "a parameter that is code": (
        lambda d: d["students"][1]["selectivity"].update({"x); import os": 1}),
        "`$.students[1].selectivity`: 'x); import os' is no sampling parameter",
    ),
    "a parameter as text": (
        lambda d: d["controls"][0]["evaluation_selectivity"].update(temperature="1"),
        "`$.controls[0].evaluation_selectivity`: temperature is not a finite number",
    ),
    "a control without its setting": (
        lambda d: d["controls"][0].pop("evaluation_selectivity"),
        "`$.controls[0].evaluation_selectivity` is missing",
    ),
    "a recommended setting that is none": (
        lambda d: d["recommendation"]["candidates"][1].update(setting={"training": "distilled", "top_k": 0.5}),
        "`$.recommendation.candidates[1].setting`: top_k is not a whole number",
    ),
    "a number whose square overflows": (
        lambda d: d["students"][0]["recall"].update(mean=1e200),
        "`$.students[0].recall.mean`: expected `float` <= 1e+100",
    ),
}


@pytest.mark.parametrize("case", MISFITS)
def test_a_misfit_is_named_by_its_place(case, tmp_path):
    change, says = MISFITS[case]
    folder = written(tmp_path, changed(change))
    with pytest.raises(UsageError) as caught:
        read_results(folder)
    message = str(caught.value)
    assert message.startswith(f"{folder / 'results.json'} cannot be read (")
    assert says in message
    assert message.endswith("; run the study again")
    assert "\n" not in message


@pytest.mark.parametrize("kept", [0, 1, 100, -1, -2])
def test_a_file_cut_short_is_one_sentence(kept, tmp_path):
    folder = written(tmp_path, json.dumps(WHOLE)[:kept])
    with pytest.raises(UsageError, match=r"results\.json cannot be read \(.*; run the study again$"):
        read_results(folder)


@pytest.mark.parametrize("text", ["[]", "3", "null", '{"schema_version": NaN}', "[" * 100_000, "\xff"])
def test_what_is_no_document_is_one_sentence(text, tmp_path):
    (tmp_path / "results.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError) as caught:
        read_results(tmp_path)
    assert "cannot be read" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("version", "shown"), [(2, "2"), ("1", "'1'"), (None, "None")])
def test_another_version_has_a_sentence_of_its_own(version, shown, tmp_path):
    folder = written(tmp_path, changed(lambda d: d.update(schema_version=version, students="other")))
    with pytest.raises(UsageError, match=f"holds results of schema {shown}, this version reads 1; run the study again"):
        read_results(folder)


def test_fields_of_a_newer_version_are_left_out_and_noted(tmp_path):
    notes: list[str] = []
    newer = changed(lambda d: (d["students"][2].update(difficulty=3), d.update(made_with={"x": 1})))
    assert read_results(written(tmp_path, newer), note=notes.append) == record_of(WHOLE, Results)
    path = tmp_path / "results.json"
    place = "$.students[2].difficulty"
    assert notes == [f"{path}: what this version does not know is left out: `{place}` and 1 more"]
    notes.clear()
    read_results(written(tmp_path, WHOLE), note=notes.append)
    assert notes == []


@pytest.mark.parametrize(
    "case",
    [
        {},
        {"seeds": 1},
        {"modelled": False, "prompts": 2},
        {"sweep": True},
        {"temperatures": (), "sampling": ({"top_k": 5}, {"top_p": 0.9, "min_p": 0.1})},
    ],
)
def test_what_is_written_is_read_back(case, tmp_path):
    results = study_document(**case)
    text = json.dumps(document_of(results), allow_nan=False)
    read = read_results(written(tmp_path, text))
    assert read == results
    assert json.dumps(document_of(read)) == text


def test_conditional_fields_are_only_where_they_say_something():
    assert document_of(Estimate(1.5, 0.5, 64)) == {"mean": 1.5, "stderr": 0.5, "n": 64}
    infinite = Estimate(None, None, 64, infinite=3, infinite_at=(1, 2, 3))
    assert document_of(infinite) == {"mean": None, "stderr": None, "n": 64, "infinite": 3}
    nothing = document_of(Recommendation(setting=None, tied=(), reason="why"))
    assert nothing == {"setting": None, "tied": [], "reason": "why"}
    student, control = WHOLE["students"][0], WHOLE["controls"][0]
    assert set(control) - set(student) == {"evaluation_selectivity", "evaluation_temperature"}


NUMBERS = st.floats(-1e100, 1e100)
ESTIMATES = st.one_of(
    st.builds(Estimate, NUMBERS, st.none() | NUMBERS, st.integers(0, 2**40)),
    st.builds(Estimate, st.none(), st.none(), st.integers(0, 2**40), infinite=st.integers(1, 9)),
    st.just(Estimate(None, None, 0, not_available=True)),
)
INTERVALS = st.builds(Interval, NUMBERS, st.none() | NUMBERS, st.integers(1, 99))
STAGES = st.builds(Stage, steps=st.integers(0, 9), worker_seconds=NUMBERS, tokens=st.integers(0, 2**50))


@given(st.one_of(ESTIMATES, INTERVALS, STAGES))
def test_any_record_survives_json(record):
    text = json.dumps(document_of(record), allow_nan=False)
    assert record_of(json.loads(text), type(record)) == record


def places(document: Any, where: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where the document holds a number, a text or null."""
    if isinstance(document, dict):
        return [at for name, value in document.items() for at in places(value, (*where, name))]
    if isinstance(document, list):
        return [at for i, value in enumerate(document) for at in places(value, (*where, i))]
    return [where]


PLACES = places(WHOLE)


@settings(max_examples=200)
@given(st.sampled_from(PLACES))
def test_an_object_in_the_place_of_any_value_is_named(where):
    """No value of the document goes unread."""
    whole = copy.deepcopy(WHOLE)
    at: Any = whole
    for step in where[:-1]:
        at = at[step]
    at[where[-1]] = {"not": "expected"}
    with pytest.raises(MisfitError) as caught:
        record_of(whole, Results)
    path = "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in where)
    holder = path.rpartition(".")[0]  # sampling parameters are read as one value
    assert f"`{path}`" in str(caught.value) or f"`{holder}`" in str(caught.value)


def test_a_maps_document_is_read_and_named_alike(tmp_path):
    results = study_document()
    whole = document_of(map_of(results))
    assert read_map(tmp_path) is None
    read = read_map(written(tmp_path, whole, "map.json"))
    assert read == record_of(whole, EmbeddingMap)
    assert document_of(read) == whole
    assert {one.candidate for one in read.neighbours.groups} == {*by_candidate(results.teacher)} | {
        *by_candidate(results.students)
    }
    written(tmp_path, changed(lambda d: d["points"][1].update(x="0"), whole), "map.json")
    with pytest.raises(UsageError, match=r"map\.json cannot be read \(`\$\.points\[1\]\.x` is text, not a number\)"):
        read_map(tmp_path)
    written(tmp_path, whole | {"schema_version": 7}, "map.json")
    with pytest.raises(UsageError, match=r"map\.json is of schema 7, this version reads 1; remove it, or draw the map"):
        read_map(tmp_path)


def test_a_runs_record_is_read_and_named_alike(tmp_path):
    whole = document_of(RUN)
    assert read_run(tmp_path) is None
    assert read_run(written(tmp_path, whole, "run.json")) == RUN
    bad = changed(lambda d: d["stages"]["draw D"].update(tokens="9"), whole)
    with pytest.raises(UsageError, match=r"run\.json cannot be read \(`\$\.stages\[.*\]\.tokens` is text") as caught:
        read_run(written(tmp_path, bad, "run.json"))
    assert str(caught.value).endswith("; remove it or run the study again")


def test_what_a_run_was_planned_from_is_read_whatever_else_the_file_holds(tmp_path):
    whole = changed(lambda d: d.update(students="lost"))
    assert read_sources(written(tmp_path, whole)) == record_of(WHOLE, Results).sources
    with pytest.raises(UsageError, match=r"`\$\.sources\.prompts` is missing"):
        read_sources(written(tmp_path, changed(lambda d: d["sources"].pop("prompts"))))


def test_mixtures_are_read_where_they_are_asked_for(tmp_path):
    simulated = simulate(MogPaper(seeds=1, betas=(1.0,), as_published=True))
    text = json.dumps(document_of(simulated))
    folder = written(tmp_path, text)
    read = read_results(folder, mixtures=True)
    assert json.dumps(document_of(read)) == text
    with pytest.raises(UsageError, match="holds mixtures of Gaussians, which only `distilscope figures` reads"):
        read_results(folder)
    bad = changed(lambda d: d["students"][0].update(beta="huge"), json.loads(text))
    with pytest.raises(UsageError, match=r"`\$\.students\[0\]\.beta`.*simulate the mixtures again"):
        read_results(written(tmp_path, bad), mixtures=True)
