"""YAML files of settings: flattened to dotted names, or refused in one sentence."""

from __future__ import annotations

import pytest

from distilscope.errors import UsageError
from distilscope.studies.settings_file import read_yaml


@pytest.fixture
def file(tmp_path):
    return tmp_path / "settings.yaml"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("# nothing", {}),
        ("seeds: 3\nname: The", {"seeds": 3, "name": "The"}),
        ("part: {low: 0.1, pair: [1, 2]}", {"part.low": 0.1, "part.pair": [1, 2]}),
        ("part.low: 0.1", {"part.low": 0.1}),
        ("limit:", {"limit": None}),
        ("name: naïve", {"name": "naïve"}),
        ("name: '&x'\nprompt: a *b", {"name": "&x", "prompt": "a *b"}),
    ],
)
def test_yaml_is_flattened_to_dotted_names(file, text, expected):
    file.write_text(text, encoding="utf-8")
    assert read_yaml(file) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("seeds: 1\nseeds: 2", "'seeds' twice"),
        ("part: {low: 1, low: 2}", "'low' twice"),
        ("x: !!python/object/apply:os.system ['echo no']", "not plain YAML"),
        ("x: !!python/name:os.system", "not plain YAML"),
        ("x: !mine 3", "not plain YAML"),
        ("- 1\n- 2", "holds a list"),
        ("seeds", "holds a str"),
        ("3", "holds a int"),
        ("{", "not plain YAML"),
        ("a: b: c", "not plain YAML"),
        ("a: 1\n---\na: 2", "not plain YAML"),
        ("x: \x00", "not plain YAML"),
        ("? [1, 2]\n: 3", "not plain YAML"),
        ("base: &b {low: 1}\nother: *b", "line 1 has an anchor or alias .'b'.*write the values out"),
        ("a: 1\nb: *c", "line 2 has an anchor or alias .'c'.*write the values out"),
        ("a: &a {b: *a}", "write the values out"),
        ("seeds: &n 3", "write the values out"),
        ("a: [1, &n 2]", "write the values out"),
    ],
)
def test_other_yaml_is_refused(file, text, says):
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=says):
        read_yaml(file)


def test_files_that_cannot_be_read(file, tmp_path):
    with pytest.raises(UsageError, match=r"there is no file .*settings\.yaml"):
        read_yaml(file)
    file.write_bytes(b"\xff\xfe\x00x")
    for path in (file, tmp_path):
        with pytest.raises(UsageError, match="not plain YAML"):
            read_yaml(path)
