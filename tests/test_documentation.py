"""What README and the pages of docs/ tell a reader to type is what the package takes, page by page, in a folder like
the reader's.

A line of an `sh` block runs as it stands. What cannot is marked where the reader sees it, in the line's comment or in a
comment line that holds for the rest of its block: what "needs a cluster", "a browser" or "the hub" is read and not run;
"minutes" runs with sizes cut to seconds (a budget, an audit: planned or read, for tests of their own run them).
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

import distilscope
from distilscope.cli.examples import EXAMPLES
from distilscope.cli.main import _dotted, _parser, main
from distilscope.cli.studies import configuration
from small_study import FEW, as_words
from tiny_folders import write_small_folder

ROOT = Path(__file__).parents[1]
PAGES = {
    page.name: page.read_text(encoding="utf-8")
    for page in (*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md")))
}
NOT_RUN = ("needs a cluster", "needs a browser", "needs the hub")
MARKS = (*NOT_RUN, "minute")


@dataclass(frozen=True)
class Line:
    page: str
    text: str
    mark: str | None

    @property
    def words(self) -> list[str]:
        """Without what is set for the environment alone."""
        words = shlex.split(self.text)
        return words[next(at for at, word in enumerate(words) if not re.match(r"\w+=", word)) :]


def blocks(page: str, kind: str) -> list[tuple[str, str]]:
    """The title and the text of each fenced block of a kind."""
    return re.findall(rf"^```{kind}(?: title=\"([^\"]+)\")?\n(.*?)^```", PAGES[page], re.S | re.M)


def lines(page: str) -> list[Line]:
    found = []
    for _, block in blocks(page, "sh"):
        rest = None
        for line in block.replace("\\\n", " ").splitlines():
            text, _, comment = (part.strip() for part in line.partition("#"))
            mark = next((mark for mark in MARKS if mark in comment), None)
            if text:
                found.append(Line(page, text, mark or rest))
            else:
                rest = mark
    return found


LINES = [line for page in PAGES for line in lines(page)]


def resolved(words: list[str]) -> None:
    """Reads a `distilscope` command as the command line does, settings and all; what is wrong with it is raised."""
    options, rest = _parser()[0].parse_known_args(words[1:])
    if options.command not in ("run", "plan"):
        assert not rest
    elif not options.recipe.endswith(".yaml"):
        options.settings, options.own = _dotted(rest), []
        configuration(options)


@pytest.mark.parametrize(
    "words", [shlex.split(line) for examples in EXAMPLES.values() for line, _ in examples], ids=" ".join
)
def test_the_examples_of_the_help_are_valid(words):
    resolved(words)


def test_every_command_ends_its_help_with_examples_of_itself():
    parser, commands = _parser()
    assert set(EXAMPLES) == set(commands)
    for name, command in commands.items():
        told = command.format_help().split("examples:\n")[1]
        assert [shlex.split(line)[:2] for line, _ in EXAMPLES[name]] == [["distilscope", name]] * len(EXAMPLES[name])
        assert all(line in told for line, _ in EXAMPLES[name])
    listed = [line.split("   ")[0] for line in parser.format_help().splitlines() if line.startswith("  distilscope ")]
    assert len(listed) > 5
    for line in listed:
        resolved(shlex.split(line))


def test_commands_named_in_passing_are_valid():
    named = {code for page in PAGES.values() for code in re.findall(r"`(distilscope [a-z]+ [^`]+)`", page)}
    whole = [code for code in named if not re.search(r"RECIPE|FILE|…", code)]
    assert len(whole) > 5
    for code in whole:
        resolved(shlex.split(code.replace("NATS", "1")))


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny, real):
    """A folder with what the pages speak of: models (one of them on the hub's cache), files, and runs that are
    finished."""
    folder = tmp_path_factory.mktemp("reader")
    for name, changes in {
        "big": {},
        "my-student": {"seed": 6, "hidden_size": 48, "head_dim": 12},
        "other-tokens": {"merges": 30},
    }.items():
        write_small_folder(folder / name, context=256, **changes)
    hub = folder / "hub" / "models--ORG--BIG"
    (hub / "snapshots").mkdir(parents=True)
    (hub / "refs").mkdir()
    (hub / "refs" / "main").write_text("0" * 40)
    (hub / "snapshots" / ("0" * 40)).symlink_to(folder / "big")
    for page in PAGES:
        for kind in ("json", "yaml"):
            for title, text in blocks(page, kind):
                if title:
                    (folder / title).write_text(text, encoding="utf-8")
    told = [json.loads(line) for line in (folder / "data.jsonl").read_text(encoding="utf-8").splitlines()]
    more = [
        one | {"completion": f" {number}{one['completion']}"} for number in range(1500) for one in told
    ]  # a page shows the first rows
    (folder / "data.jsonl").write_text("".join(json.dumps(one) + "\n" for one in [*told, *more]), encoding="utf-8")
    (folder / "docs").symlink_to(ROOT / "docs")
    (folder / "runs").mkdir()
    (folder / "runs" / "tiny").symlink_to(tiny[0])
    (folder / "runs" / "smollm2_cpu").symlink_to(real)
    return folder


@pytest.fixture(scope="module")
def done() -> set[str]:
    """Lines that ran already: pages repeat one another."""
    return set()


@pytest.fixture
def at_the_readers(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setenv("HF_HUB_CACHE", str(place / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(place / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("webbrowser.open", lambda _: True)


def cut(words: list[str]) -> list[str]:
    return [*words, *as_words({name: value for name, value in FEW.items() if name not in words})]


def planned(words: list[str]) -> list[str]:
    at = words.index("--budget")
    return ["plan", *words[1:at], *words[at + 2 :]]


@pytest.mark.slow
@pytest.mark.usefixtures("at_the_readers", "unchecked", "steps_here")
@pytest.mark.parametrize("page", [page for page in PAGES if lines(page)])
def test_a_pages_commands_run(page, done, capsys):
    for line in lines(page):
        if line.text in done:
            continue
        done.add(line.text)
        program, *words = line.words
        if program == "distilscope":
            resolved(line.words)
            if line.mark in NOT_RUN or (line.mark and words[0] != "run"):
                continue
            if line.mark:
                words = planned(words) if "--budget" in words else cut(words)
            with pytest.raises(SystemExit) as stop:
                main(words)
            out, err = capsys.readouterr()
            assert stop.value.code == 0, (line.text, err)
            assert out
        elif program == "python":
            subprocess.run([sys.executable, *words], check=True, capture_output=True)
        elif program == "make":
            assert re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(), re.M), line
        elif program == ".":
            assert words[0].split("/")[0] == re.findall(r"^VENV := (.+)$", (ROOT / "Makefile").read_text(), re.M)[0]
        else:
            assert line.mark in NOT_RUN, f"{page} tells to run {line.text!r}: mark it, or say here how it is run"


@pytest.mark.slow
@pytest.mark.usefixtures("at_the_readers")
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
def test_the_python_of_a_page_runs(page):
    for _, code in blocks(page, "python"):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert re.search(r"-\d+\.\d+", done.stdout), "a precision is printed, below zero"


@pytest.mark.slow
@pytest.mark.usefixtures("at_the_readers")
def test_the_notebook_says_what_recommend_says(capsys):
    notebook = [sys.executable, "docs/notebooks/read_a_run.py", "--"]
    told = subprocess.run([*notebook, "runs/tiny"], capture_output=True, text=True, check=True).stdout
    nats = re.findall(r"^([\d.]+) nats: ", told, re.M)
    assert len(nats) > 2
    for budget in nats:
        with pytest.raises(SystemExit):
            main(["recommend", "runs/tiny", "--max-recall-loss", budget])
        assert f"{budget} nats: {capsys.readouterr().out.splitlines()[0]}" in told
    none = subprocess.run([*notebook, "runs"], capture_output=True, text=True, check=False)
    assert none.returncode == 2
    assert "Traceback" not in none.stderr
    assert "it lacks results.json" in none.stderr


def test_files_that_pages_link_to_are_there():
    """Anchors, and links between pages of the site, are `make docs`'s to check."""
    for page, text in PAGES.items():
        folder = ROOT if (ROOT / page).exists() else ROOT / "docs"
        for target in re.findall(r"\]\((?!https?:)([^)#\s]+)", text):
            assert (folder / target).exists(), f"{page} links to {target}"


def test_every_page_is_in_the_navigation():
    def pages(entry):
        inner = entry.values() if isinstance(entry, dict) else entry
        return [entry] if isinstance(entry, str) else [page for value in inner for page in pages(value)]

    site = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))
    assert {page.name for page in ROOT.glob("docs/*.md")} <= set(pages(site["project"]["nav"]))


def test_the_python_reference_names_what_the_package_offers():
    assert sorted(re.findall(r"^::: distilscope\.(\w+)$", PAGES["api.md"], re.M)) == distilscope.__all__


def test_the_tree_of_the_architecture_page_is_the_package_on_disk():
    (tree,) = [text for _, text in blocks("architecture.md", "text") if text.startswith("distilscope/")]
    folders, listed = [], set()
    for line in tree.splitlines()[1:]:
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2 - 1
        folders[depth:] = [name.rstrip("/")] if name.endswith("/") else []
        if not name.endswith("/"):
            listed.add("/".join([*folders, name]))
    package = ROOT / "src" / "distilscope"
    files = {str(path.relative_to(package)) for path in package.rglob("*.py") if path.stat().st_size}
    assert listed == files


def test_every_file_that_the_architecture_page_names_is_there():
    named = {name for name in re.findall(r"`((?:\w+/)+\w+\.py)`", PAGES["architecture.md"]) if "NAME" not in name}
    assert len(named) > 20
    package = ROOT / "src" / "distilscope"
    assert [name for name in named if not (ROOT / name).exists() and not (package / name).exists()] == []
