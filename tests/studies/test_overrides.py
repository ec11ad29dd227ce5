from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from distilscope.errors import UsageError
from distilscope.studies.overrides import FLAT, as_settings, names, override
from distilscope.studies.recipes.tiny import tiny
from distilscope.studies.settings_file import read_yaml


@dataclass(frozen=True)
class Part:
    low: float = 0.2
    high: float = 0.8
    pair: tuple[float, float] = (0.9, 0.95)

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise UsageError(f"low is {self.low}, but must be below high ({self.high})")


@dataclass(frozen=True)
class Whole:
    recipe: str = "whole"
    seeds: int = 5
    rate: float = 0.1
    name: str = "x"
    careful: bool = False
    limit: float | None = None
    grid: tuple[float, ...] = (1.0,)
    part: Part = field(default_factory=Part)


@pytest.mark.parametrize(
    ("setting", "given_value", "expected"),
    [
        ("seeds", "3", 3),
        ("seeds", 0, 0),
        ("seeds", "-1", -1),
        ("seeds", ["4"], 4),
        ("rate", "0.8", 0.8),
        ("rate", "1e-3", 1e-3),
        ("rate", 2, 2.0),
        ("name", "The", "The"),
        ("name", "", ""),
        ("name", "1,5", "1,5"),
        ("name", "none", "none"),
        ("careful", "true", True),
        ("careful", "False", False),
        ("careful", True, True),
        ("limit", "0.5", 0.5),
        ("limit", None, None),
        ("limit", "none", None),
        ("grid", "0.8", (0.8,)),
        ("grid", ["0.8", "1"], (0.8, 1.0)),
        ("grid", [0.8, 1], (0.8, 1.0)),
        ("part.low", "0.5", 0.5),
        ("part.pair", [0.5, "0.6"], (0.5, 0.6)),
    ],
)
def test_values_become_what_the_setting_is(setting, given_value, expected):
    found = names(override(Whole(), {setting: given_value}))[setting]
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("seeds", "3.5", "seeds is '3.5', but must be a whole number"),
        ("seeds", 3.0, "must be a whole number"),
        ("seeds", True, "must be a whole number"),
        ("seeds", None, "must be a whole number"),
        ("seeds", "", "must be a whole number"),
        ("seeds", ["1", "2"], "takes one value, but 2 were given"),
        ("rate", "0,8", r"must be a number; write 0\.8"),
        ("rate", "fast", "must be a number$"),
        ("rate", False, "must be a number"),
        ("rate", None, "must be a number"),
        ("grid", ["0,8", "1"], r"write 0\.8"),
        ("limit", "0,5", r"write 0\.5"),
        ("name", 3, "must be text; put it in quotes"),
        ("name", True, "must be text"),
        ("name", None, "must be text"),
        ("careful", "yes", "must be true or false"),
        ("careful", 1, "must be true or false"),
        ("part.pair", ["0.5"], "takes 2 values, but 1 were given"),
        ("part.low", "0.9", "low is 0.9, but must be below high"),
    ],
)
def test_other_values_are_refused(setting, value, says):
    with pytest.raises(UsageError, match=says):
        override(Whole(), {setting: value})


@pytest.mark.parametrize(
    ("setting", "nearest"),
    [
        ("seed", "seeds"),
        ("Rate", "rate"),
        ("part.lo", "part.low"),
        ("low", "part.low"),
        ("part.low.x", "part.low"),
        ("seeds.x", "seeds"),
        ("part", "part.low"),
    ],
)
def test_an_unknown_name_comes_with_the_nearest_one(setting, nearest):
    with pytest.raises(UsageError, match=rf"unknown option .*did you mean '{nearest}'"):
        override(Whole(), {setting: "1"})


@pytest.mark.parametrize("setting", ["", ".", "zzzzzzzzz", "part.", "__class__", "recipe"])
def test_names_that_are_like_nothing(setting):
    with pytest.raises(UsageError, match="unknown option"):
        override(Whole(), {setting: "1"})


def test_settings_that_are_right_only_together_come_in_any_order():
    both = {"part.low": "2", "part.high": "3"}
    expected = Whole(part=Part(2.0, 3.0))
    assert override(Whole(), both) == override(Whole(), dict(reversed(both.items()))) == expected
    with pytest.raises(UsageError, match="low is 2"):
        override(Whole(), {"part.low": "2"})


def test_nothing_is_mutated_and_nothing_else_changes():
    config = Whole()
    changed = override(config, {"part.low": 0.1, "seeds": 2})
    assert config == Whole()
    assert changed == Whole(seeds=2, part=Part(low=0.1))
    assert override(config, {}) == config


def test_flat_and_dashed_names_reach_a_recipe():
    config = tiny()
    assert set(FLAT.values()) <= set(names(config))
    changed = override(
        config,
        {"num-train": "64", "horizon": "8", "teacher.training.batch-sequences": "16", "temperatures": ["0.5", "1.0"]},
    )
    assert (changed.ground_truth.num_train, changed.ground_truth.horizon) == (64, 8)
    assert changed.teacher.training.batch_sequences == 16
    assert changed.temperatures == (0.5, 1.0)
    assert override(config, {"num_train": 64}) == override(config, {"ground_truth.num_train": 64})


@pytest.mark.parametrize(("documented", "other"), [("horizon", "max-new-tokens"), ("num-eval", "num-samples")])
def test_what_measure_calls_otherwise_has_both_names_and_takes_one_of_them(documented, other):
    config = tiny()
    assert override(config, {other: "9"}) == override(config, {documented: "9"}) != config
    with pytest.raises(UsageError, match=f"{other} sets .* set already under another name; give it once"):
        override(config, {documented: "9", other: "9"})


def test_every_setting_of_a_recipe_can_be_set_to_itself():
    config = tiny()
    settings = {name: value for name, value in names(config).items() if name != "recipe"}
    assert override(config, settings) == config
    as_text = {
        name: [str(v) for v in value] if isinstance(value, tuple) else str(value) for name, value in settings.items()
    }
    assert override(config, as_text) == config


wholes = st.builds(
    Whole,
    seeds=st.integers(-(2**63) + 1, 2**63 - 1),
    rate=st.floats(allow_nan=False, allow_infinity=False),
    name=st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])),
    careful=st.booleans(),
    limit=st.none() | st.floats(-1e6, 1e6),
    grid=st.lists(st.floats(-10, 10), max_size=3).map(tuple),
    part=st.builds(Part, low=st.floats(0, 0.4), high=st.floats(0.5, 1)),
)


@given(wholes)
def test_a_configuration_written_as_yaml_comes_back(tmp_path_factory, config):
    path = tmp_path_factory.getbasetemp() / "whole.yaml"
    settings = as_settings(config)
    settings.pop("recipe")
    path.write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
    assert override(Whole(), read_yaml(path)) == config


def test_names_are_dotted_and_complete():
    assert names(Whole()) == {
        "recipe": "whole",
        "seeds": 5,
        "rate": 0.1,
        "name": "x",
        "careful": False,
        "limit": None,
        "grid": (1.0,),
        "part.low": 0.2,
        "part.high": 0.8,
        "part.pair": (0.9, 0.95),
    }
