"""What the README tells a newcomer to type is what the package takes."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from distilscope.cli import _dotted, _parser
from distilscope.configuration import override
from distilscope.recipes import recipe

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = {kind: re.findall(rf"```{kind}\n(.*?)```", README, re.S) for kind in ("sh", "python")}
LINES = [line.split("#")[0].strip() for block in BLOCKS["sh"] for line in block.splitlines()]


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("distilscope ")])
def test_commands_parse(line):
    options, rest = _parser()[0].parse_known_args(shlex.split(line)[1:])
    if options.command in ("run", "plan"):
        override(recipe(options.recipe), _dotted(rest))
    else:
        assert not rest


def test_make_targets_exist():
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
    wanted = [line.split()[1] for line in LINES if line.startswith("make ")]
    assert wanted
    assert set(wanted) <= set(targets)


@pytest.mark.slow
def test_the_python_example_runs():
    (code,) = BLOCKS["python"]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "'precision'" in done.stdout
