"""`run --help` and `plan --help`: every setting with its default and meaning, quickly."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from distilscope.cli.main import main
from distilscope.lm.training.config import Training
from distilscope.studies.config import Distillation, GroundTruth, Learner, Resources, Size, Sweep, Teacher
from distilscope.studies.overrides import FLAT, names, override
from distilscope.studies.recipes import STUDIES, recipe
from distilscope.studies.settings import groups_of, meanings

PARTS = (Distillation, GroundTruth, Learner, Resources, Size, Sweep, Teacher, Training)


def help_of(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        main([*words, "--help"])
    out, err = capsys.readouterr()
    assert (stop.value.code, err) == (0, "")
    return out


def listed(text: str) -> dict[str, list[str]]:
    """By name, the words behind each `--name` that begins a line of the settings: value and meaning."""
    found: dict[str, list[str]] = {}
    words: list[str] = []
    for line in text.split("\nmain settings:\n")[1].split("\nexamples:\n", maxsplit=1)[0].splitlines():
        if line.startswith("  --"):
            name, *rest = line.split()
            words = found.setdefault(name.removeprefix("--"), [])
            assert not words, f"{name} is listed twice"
            words += rest
        elif line.startswith("   "):
            words += line.split()
    return found


def shown(value: object) -> list[str]:
    if isinstance(value, tuple):
        return [str(item) for item in value] or ['""']
    return [str(value).lower() if isinstance(value, bool) else str(value)] if value != "" else ['""']


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize("name", STUDIES)
def test_help_lists_every_setting_of_a_recipe_with_its_value_and_meaning(capsys, command, name):
    config = recipe(name)
    found = listed(help_of(capsys, command, name))
    flat = {place: each.replace("_", "-") for each, place in reversed(FLAT.items())}
    settings = {place: value for place, value in names(config).items() if place != "recipe"}
    assert set(found) == {flat.get(place, place.replace("_", "-")) for place in settings}
    for place, value in settings.items():
        *path, last = place.split(".")
        owner = config
        for part in path:
            owner = getattr(owner, part)
        expected = [*shown(value), *meanings(type(owner))[last].split()]
        assert found[flat.get(place, place.replace("_", "-"))][: len(expected)] == expected, place


def test_main_settings_come_first_under_their_flat_names(capsys):
    first = list(listed(help_of(capsys, "run")))[: 2 + len(set(FLAT.values()))]
    assert first[:2] == ["temperatures", "seeds"]
    assert {"prompt", "horizon", "vocabulary", "num-train", "num-eval", "reference", "teacher", "student"} < set(first)
    assert all("." not in name for name in first)


def test_help_without_a_recipe_is_that_of_the_default_one(capsys):
    def settings(text):
        return text.split("\nmain settings:\n")[1]

    assert settings(help_of(capsys, "run")) == settings(help_of(capsys, "run", "smollm2_cpu"))
    assert "settings, with the values of smollm2_cpu" in help_of(capsys, "run")


def test_help_of_a_file_shows_its_values(capsys, tmp_path):
    (tmp_path / "study.yaml").write_text("recipe: tiny\nhorizon: 7\nteacher.training.clip: 0.5\n")
    found = listed(help_of(capsys, "run", str(tmp_path / "study.yaml")))
    assert found["horizon"][0] == "7"
    assert found["teacher.training.clip"][0] == "0.5"
    assert found["seeds"][0] == "3"


def test_help_of_an_unknown_recipe_names_the_nearest(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["run", "tinny", "--help"])
    assert stop.value.code == 2
    assert "did you mean 'tiny'" in capsys.readouterr().err


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_every_field_has_a_meaning_of_one_line(part):
    found = meanings(part)
    assert set(found) == {field.name for field in dataclasses.fields(part)}
    for name, meaning in found.items():
        assert 10 < len(meaning) < 110, name
        assert meaning[-1] == ".", name


def test_groups_hold_every_setting_once():
    config = recipe("tiny")
    places = [one.place for group in groups_of(config) for one in group.settings]
    assert sorted(places) == sorted(name for name in names(config) if name != "recipe")
    assert [group.place for group in groups_of(config)][:3] == ["", "ground_truth", "ground_truth.size"]
    assert all(group.meaning for group in groups_of(config) if group.place)


def test_every_name_of_a_setting_sets_it():
    config = recipe("tiny")
    for group in groups_of(config):
        for one in group.settings:
            for name in one.names:
                assert override(config, {name: one.value}) == config


QUIET = """
import sys
{}
heavy = {{"torch", "numpy", "jaxtyping", "transformers", "tokenizers", "numba", "yaml"}} & set(sys.modules)
assert not heavy, heavy
"""


@pytest.mark.parametrize(
    "code",
    [
        "import distilscope",
        "import distilscope.lm.training.config, distilscope.lm.dtypes, distilscope.selectivity",
        "import distilscope.studies.config, distilscope.studies.overrides, distilscope.studies.settings",
        "from distilscope.studies.recipes import STUDIES, recipe\n"
        "from distilscope.studies.overrides import override\n"
        "for name in STUDIES:\n"
        "    override(recipe(name), {'horizon': '8', 'teacher.selectivity': ['top_k=5,min_p=0.1']})",
    ],
)
def test_configuration_loads_no_library(code):
    done = subprocess.run([sys.executable, "-c", QUIET.format(code)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
