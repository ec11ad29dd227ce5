from __future__ import annotations

import hashlib
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distilscope.pipeline.step import Identity, Step, canonical, order, plain

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
configs = st.dictionaries(st.text(max_size=4), values, max_size=4)


def make(config=None, inputs=None, **changes) -> Step:
    return Step(**({"kind": "fit", "config": config or {}, "inputs": inputs or {}, "code_version": 1} | changes))


def reversed_keys(value):
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    return [reversed_keys(item) for item in value] if isinstance(value, list) else value


def test_the_fingerprint_is_the_sha256_of_the_canonical_form():
    source = make({"a": 1})
    step = make({"β": [1, 2.5, None, True], "a": "x"}, {"draws/0": source})
    form = (
        '{"code_version":1,"config":{"a":"x","\\u03b2":[1,2.5,null,true]},"inputs":{"draws/0":"'
        + source.fingerprint
        + '"},"kind":"fit"}'
    )
    assert step.fingerprint == hashlib.sha256(form.encode()).hexdigest()


@given(configs)
@settings(deadline=None, max_examples=30)
def test_key_order_does_not_matter(config):
    a, b = make(config={"x": 1}), make(config={"x": 2})
    assert make(config, {"a": a, "b": b}).fingerprint == make(reversed_keys(config), {"b": b, "a": a}).fingerprint


@given(configs, configs)
@settings(deadline=None, max_examples=40)
def test_two_configurations_share_a_fingerprint_iff_they_are_the_same_value(one, other):
    assert (make(one).fingerprint == make(other).fingerprint) == (canonical(one) == canonical(other))


@given(configs, st.text(max_size=4), values, values)
@settings(deadline=None, max_examples=40)
def test_any_change_of_the_configuration_changes_the_fingerprint(config, key, before, after):
    same = canonical(before) == canonical(after)
    assert (make({**config, key: before}) == make({**config, key: after})) == same


def test_everything_that_decides_the_output_is_in_the_fingerprint_and_nothing_else():
    source, other = make({"seed": 0}), make({"seed": 1})
    step = make({"lr": 0.1}, {"data": source})
    different = [
        make({"lr": 0.1}, {"data": source}, kind="train"),
        make({"lr": 0.1}, {"data": source}, code_version=2),
        make({"lr": 0.1}, {"data": other}),
        make({"lr": 0.1}, {"draws": source}),
        make({"lr": 0.1}, {"data": source, "more": source}),
        make({"lr": 0.2}, {"data": source}),
        make({"lr": True}, {"data": source}),
    ]
    assert len({step, *different}) == len(different) + 1
    assert step == make({"lr": 0.1}, {"data": source}, stage="train students", cost=1e12, tokens=9)
    assert make({"seed": 0}) != make({"seed": False})
    assert make({"t": (1, 2)}) == make({"t": [1, 2]})


@pytest.mark.parametrize("value", [math.nan, math.inf, b"x", {1: 2}, {1, 2}, object(), 1j])
def test_what_has_no_canonical_form_is_refused_and_the_place_named(value):
    with pytest.raises(ValueError, match=r"fit\.config\.a\.b\[1\]"):
        make({"a": {"b": [0, value]}})


@pytest.mark.parametrize("kind", ["", ".partial", "../x", "a/b", "a b"])
def test_a_kind_must_be_able_to_name_a_folder(kind):
    with pytest.raises(ValueError, match="names a folder"):
        make(kind=kind)


@pytest.mark.parametrize("cost", [math.nan, math.inf, -1.0])
def test_a_predicted_cost_is_a_finite_number(cost):
    with pytest.raises(ValueError, match="predicted cost"):
        make(cost=cost)


def test_changing_the_callers_mapping_later_changes_nothing():
    config = {"a": [1]}
    step = make(config)
    config["a"].append(2)
    assert step.config == {"a": [1]}
    assert step.fingerprint == Identity("fit", {"a": [1]}, {}, 1).fingerprint


def test_plain_copies():
    value = {"a": ({"b": 1},)}
    copy = plain(value, "x")
    assert copy == {"a": [{"b": 1}]}
    assert copy["a"][0] is not value["a"][0]


def test_order_gives_each_step_once_inputs_first_and_always_the_same():
    a, b = make({"n": "a"}), make({"n": "b"})
    c = make({"n": "c"}, {"x": b, "y": a})
    d = make({"n": "d"}, {"x": a, "again": make({"n": "a"})})
    assert order([d, c, d]) == [a, d, b, c]
    assert order([c, d]) == [b, a, c, d]
    assert order([]) == []


def test_ten_thousand_steps_in_one_chain_and_in_one_diamond_lattice():
    step = make({"n": 0})
    for n in range(1, 10_000):
        step = make({"n": n}, {"previous": step})
    assert [s.config["n"] for s in order([step])] == list(range(10_000))
    left = right = make({"n": 0})
    for n in range(1, 500):  # 2^499 paths
        left, right = make({"l": n}, {"a": left, "b": right}), make({"r": n}, {"a": left, "b": right})
    assert len(order([left, right])) == 999
    assert len(repr(left)) < 100
