"""Who is measured: one parse, one key, one label, one order."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distilscope.errors import UsageError
from distilscope.evaluation.candidates import DIRECT, STUDYS_OWN, Candidate, SamplingParameters, Variant

VALUES = {
    "temperature": st.floats(0.01, 10),
    "top_k": st.integers(1, 1000),
    "top_p": st.floats(0.01, 1),
    "min_p": st.floats(0.01, 1),
}
PARAMETERS = st.dictionaries(st.sampled_from(sorted(VALUES)), st.none(), min_size=1).flatmap(
    lambda names: st.fixed_dictionaries({name: VALUES[name] for name in names})
)
CANDIDATES = st.one_of(
    st.just(DIRECT),
    PARAMETERS.map(lambda given: Candidate("distilled", given)),
    PARAMETERS.map(lambda given: Candidate("control", evaluation=given)),
)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("temperature=0.8", {"temperature": 0.8}),
        ("top_k=50,min_p=0.05", {"top_k": 50, "min_p": 0.05}),
        (" top-k = 50 , temperature = 0.9", {"top_k": 50, "temperature": 0.9}),
    ],
)
def test_the_parse_of_what_the_command_line_takes(text, values):
    found = SamplingParameters.parse(text)
    assert found.as_json() == values
    assert list(found) == list(values)  # in the order given
    assert {type(value) for value in found.values()} <= {int, float}
    assert SamplingParameters.parse(found.option) == found


def test_a_number_alone_is_a_parameter_where_one_is_named():
    assert SamplingParameters.parse("0.8", unnamed="temperature") == {"temperature": 0.8}
    assert SamplingParameters.parse("0.8,top_k=5", unnamed="temperature") == {"temperature": 0.8, "top_k": 5}
    with pytest.raises(ValueError, match="could not convert"):
        SamplingParameters.parse("0.8")


@pytest.mark.parametrize("text", ["top_k=2.5", "top_k=many", "temperature=", "", "top_k"])
def test_what_is_not_written_so_is_no_parse(text):
    with pytest.raises(ValueError, match=r"could not convert|invalid literal"):
        SamplingParameters.parse(text)


def test_an_unknown_parameter_names_the_nearest():
    with pytest.raises(UsageError, match="unknown selectivity 'tok_k'; did you mean 'top_k'"):
        SamplingParameters.parse("tok_k=5")


@given(PARAMETERS)
def test_the_order_of_parameters_makes_no_other_candidate(values):
    backwards = dict(reversed(values.items()))
    one, other = Candidate("distilled", values), Candidate("distilled", backwards)
    assert one == other
    assert len({one, other, pickle.loads(pickle.dumps(one)), copy.deepcopy(one)}) == 1
    assert one.as_json() == {"training": "distilled", **values}
    assert list(other.as_json()) == ["training", *backwards]  # documents keep the order that was given


def test_every_field_makes_another_candidate():
    tau, low = {"temperature": 0.8}, {"temperature": 0.7}
    variants = [STUDYS_OWN, Variant(hidden_size=48, layers=1), Variant(num_distill=32)]
    different = [
        DIRECT,
        Candidate("teacher", tau),
        Candidate("control", evaluation=tau),
        Candidate("control", evaluation=low),
        *(Candidate("distilled", tau, variant=variant) for variant in variants),
        Candidate("distilled", low),
        Candidate("distilled", tau, objective="reverse_kl"),
        Candidate("reference"),
    ]
    assert len(set(different)) == len(different)
    assert all((one == other) == (one is other) for one in different for other in different)
    assert [one.swept for one in different].count(True) == 2


@given(CANDIDATES)
def test_a_setting_in_a_document_names_its_candidate(candidate):
    assert Candidate.from_json(json.loads(json.dumps(candidate.as_json()))) == candidate


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"training": "teacher", "temperature": 0.8}, "neither direct nor distilled"),
        ({"temperature": 0.8}, "neither direct nor distilled"),
        ({"training": "distilled", "temperature": "0.8"}, "temperature is not a finite number"),
        ({"training": "distilled", "top_k": 2.5}, "top_k is not a whole number"),
        ({"training": "distilled", "top_k": True}, "top_k is not a whole number"),
        ({"training": "distilled", "top_p": 1e200}, "top_p is not a finite number"),
        ({"training": "distilled", "import os": 1}, "'import os' is no sampling parameter"),
        ({"training": "direct", "temperature": 0.8}, "a direct student has no teacher"),
        ("direct", "not a setting"),
    ],
)
def test_what_names_no_candidate_is_refused(setting, says):
    with pytest.raises(ValueError, match=says):
        Candidate.from_json(setting)


TRUNCATED = {"top_k": 50, "min_p": 0.05}
NAMED = [
    (Candidate("reference"), "p*", "p*", "p*"),
    (Candidate("teacher", {"temperature": 0.8}), "τ = 0.8", "teacher at τ = 0.8", "temperature 0.8"),
    (Candidate("teacher"), "", "teacher", ""),
    (Candidate("distilled", {"temperature": 1.0}), "τ = 1", "distilled at τ = 1", "temperature 1.0"),
    (
        Candidate("distilled", TRUNCATED),
        "top-k 50, min-p 0.05",
        "distilled at top-k 50, min-p 0.05",
        "top-k 50 and min-p 0.05",
    ),
    (DIRECT, "direct", "direct", "the direct student"),
    (
        Candidate("control", evaluation={"temperature": 0.8}),
        "direct at τ = 0.8",
        "direct at τ = 0.8",
        "the direct student sampled at temperature 0.8",
    ),
]


@pytest.mark.parametrize(("candidate", "label", "name", "phrase"), NAMED)
def test_what_a_candidate_is_called(candidate, label, name, phrase):
    assert (candidate.label, candidate.name, candidate.phrase) == (label, name, phrase)


def test_the_order_is_by_role_then_temperature_then_as_they_came():
    ordered = [
        Candidate("reference"),
        Candidate("teacher", {"temperature": 0.8}),
        Candidate("distilled", {"temperature": 0.8}),
        Candidate("distilled", {"temperature": 1}),
        Candidate("distilled", {"top_p": 0.9}),
        Candidate("distilled", {"top_k": 5}),
        DIRECT,
        Candidate("control", evaluation={"temperature": 0.8}),
        Candidate("control", evaluation={"top_k": 5}),
    ]
    shuffled = [ordered[at] for at in (6, 4, 3, 8, 0, 5, 2, 7, 1)]
    assert sorted(shuffled, key=lambda one: one.order) == ordered


def test_a_candidate_cannot_be_changed():
    with pytest.raises(AttributeError, match="immutable"):
        DIRECT.role = "teacher"  # pyright: ignore
    with pytest.raises(AttributeError, match="immutable"):
        del DIRECT.role


def test_a_variant_says_what_is_different():
    assert [one.label for one in (STUDYS_OWN, Variant(hidden_size=48, layers=1), Variant(num_distill=4096))] == [
        "the study's own",
        "size 48x1",
        "|D'| = 4,096",
    ]
