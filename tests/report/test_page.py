"""The report's page: sensible for every kind of run, its numbers those of results.json, and safe whatever the texts
hold."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from functools import cache
from typing import Any

import pytest
from msgspec.structs import replace

from distilscope.evaluation.candidates import Candidate
from distilscope.evaluation.documents import document_of
from distilscope.evaluation.estimate import t_interval
from distilscope.evaluation.results import Results
from distilscope.evaluation.run_record import Machine, RunRecord, Stage
from distilscope.report.exhibit import Exhibit
from distilscope.report.page import page
from html_pages import Element, by_id, data, marks, read
from result_documents import exhibit_of, map_of, study_document

RUN = RunRecord(
    began="2026-11-24T00:00:00Z",
    seconds=90.0,
    command=("distilscope", "run", "made-up"),
    engine="local",
    ray_address=None,
    workers=2,
    resources={},
    reference="big",
    machine=Machine(system="Linux", processor="x86_64", cores=2),
    versions={"torch": "2"},
    stages={
        "draw D": Stage(steps=2, worker_seconds=60.0, tokens=1000),
        "train students": Stage(steps=3, worker_seconds=120.0, tokens=9),
    },
)

CASES: dict[str, dict[str, Any]] = {
    "three temperatures": {},
    "one seed": {"seeds": 1},
    "two temperatures, two seeds": {"temperatures": (0.8, 1.0), "seeds": 2},
    "six temperatures": {"temperatures": (0.5, 0.6, 0.7, 0.8, 0.9, 1.2)},
    "top-k and top-p": {"temperatures": (0.8, 1.0), "sampling": ({"top_k": 5}, {"top_p": 0.9, "min_p": 0.1})},
    "no temperature": {"temperatures": (), "sampling": ({"top_k": 5}, {"top_k": 50})},
    "real data": {"modelled": False, "prompts": 2},
    "a sweep": {"temperatures": (0.8,), "sweep": True, "prompts": 2},
}
ALL = {"frontier", "settings", "gates", "log-probabilities", "positions", "trainings"}


@cache
def document(case: str) -> Results:
    return study_document(**CASES[case])


@cache
def shown(case: str) -> Element:
    return read(page(results=document(case), exhibit=exhibit_of(document(case)), run=RUN))


def charts(found: Element) -> set[str]:
    return {place.attributes["data-chart"] or "" for place in found.all("div") if "data-chart" in place.attributes}


def rows(table: Element) -> dict[str, list[str]]:
    return {
        row.all("th")[0].whole(): [cell.whole() for cell in row.all("td")] for row in table.all("tbody")[0].all("tr")
    }


def number(text: str) -> float:
    return float(text.split(" ± ", maxsplit=1)[0].replace("−", "-"))


@pytest.mark.parametrize("case", CASES)
class TestEveryKindOfRun:
    def test_has_its_figures_each_with_words(self, case):
        found = shown(case)
        assert charts(found) == ALL - ({"frontier"} if case == "real data" else set())
        for place in (one for one in found.all("div") if "data-chart" in one.attributes):
            assert place.attributes["role"] == "img"
            assert len(place.attributes["aria-label"] or "") > 40
            assert data(found, f"chart-{place.attributes['data-chart']}")["marks"]

    def test_asks_the_network_for_nothing(self, case):
        found = shown(case)
        policy = next(one.attributes["content"] for one in found.all("meta") if one.attributes.get("http-equiv"))
        assert "default-src 'none'" in (policy or "")
        for element in (one for tag in ("a", "link", "script", "img", "iframe") for one in found.all(tag)):
            assert "src" not in element.attributes
            assert re.match(r"#|data:", element.attributes.get("href") or "#")
        assert not any(re.search(r"@import|url\(", style.text) for style in found.all("style"))

    def test_the_table_is_that_of_the_results(self, case):
        found, table = document(case), rows(shown(case).all("table")[0])
        for student in found.own_students:
            if student.seed:
                continue
            same = [one for one in found.own_students if one.selectivity == student.selectivity]
            glyph = "■" if student.training == "direct" else "●"
            cells = table[f"{glyph} {student.candidate.label}"]
            for cell, name in zip(cells, ("precision", "recall", "candidate_entropy"), strict=False):
                if name == "precision" and case == "real data":
                    assert cell == "not available"
                    continue
                interval = t_interval([getattr(one, name).mean for one in same])
                assert number(cell) == pytest.approx(interval.mean, abs=0.006)
                assert ("±" in cell) == (found.seeds > 1)

    def test_the_links_hold_the_data(self, case):
        files = {
            link.attributes["download"]: link.attributes["href"] or ""
            for link in shown(case).all("a")
            if "download" in link.attributes
        }
        held = {name: base64.b64decode(link.split(",", 1)[1]).decode() for name, link in files.items()}
        assert json.loads(held["results.json"]) == document_of(document(case))
        assert json.loads(held["run.json"]) == document_of(RUN)
        lines = list(csv.DictReader(io.StringIO(held["students.csv"])))
        found = document(case)
        assert len(lines) == len(found.students) + len(found.controls) + len(found.teacher)
        for line, student in zip(lines, found.students, strict=False):
            assert float(line["recall"]) == student.recall.mean
            assert (line["precision"] == "") == (student.precision.mean is None)


def test_the_frontier_draws_the_means_and_the_seeds_of_the_results():
    found, drawn = document("three temperatures"), marks(shown("three temperatures"), "frontier")
    for tau in (0.7, 0.85, 1.0):
        ones = [one for one in found.students if one.temperature == tau]
        means = {name: t_interval([getattr(one, name).mean for one in ones]) for name in ("precision", "recall")}
        mark = next(row for row in drawn if row.get("who") == f"distilled at τ = {tau:g}")
        for name, interval in means.items():
            assert mark[name] == pytest.approx(interval.mean, abs=1e-4)
            assert (mark[f"{name}_low"], mark[f"{name}_high"]) == pytest.approx((interval.low, interval.high), abs=1e-4)
        assert mark["recommended"] == (found.recommendation.setting == Candidate("distilled", {"temperature": tau}))
        for one in ones:
            dot = next(row for row in drawn if row.get("who") == f"distilled at τ = {tau:g}, seed {one.seed}")
            assert (dot["precision"], dot["recall"]) == pytest.approx((one.precision.mean, one.recall.mean), abs=1e-4)
    ideal = [row for row in drawn if "effective_sample_size" in row and "order" in row]
    assert [row["recall"] for row in ideal] == pytest.approx([point.recall for point in found.frontier.ideal], abs=1e-4)


def test_an_infinite_estimate_is_named_and_not_drawn():
    found = shown("top-k and top-p")
    caption = next(one.whole() for one in found.all("figcaption") if "What a setting gains" in one.whole())
    assert "Not drawn, for an infinite estimate: direct at top-k 5, direct at top-p 0.9, min-p 0.1" in caption
    assert not any("direct at top-k 5" in str(row.get("who")) for row in marks(found, "frontier"))
    assert rows(found.all("table")[0])["□ direct at top-k 5"][1] == "infinite in 3 of 3"


def test_what_cannot_be_read_is_said_and_the_rest_is_shown():
    results = document("three temperatures")
    found = read(page(results=results, exhibit=Exhibit.absent("the store is gone")))
    assert charts(found) == {"frontier", "settings", "gates"}
    said = [one.whole() for one in found.all("p") if one.attributes.get("class") == "missing"]
    assert [text for text in said if "the store is gone" in text] == [
        "Log-probabilities of sequences not shown: the store is gone.",
        "Loss by position not shown: the store is gone.",
        "Texts not shown: the store is gone.",
        "Training curves not shown: the store is gone.",
    ]
    assert any("no record of its stages" in text for text in said)


def test_the_map_has_a_section_only_where_there_is_a_map():
    results = document("three temperatures")
    assert by_id(shown("three temperatures"), "map") is None
    found = read(
        page(
            results=results,
            exhibit=Exhibit.absent("gone"),
            map=map_of(results, texts=("alpha", "</script>", "b" * 500)),
        )
    )
    assert by_id(found, "map") is not None
    drawn = [row for row in marks(found, "map") if "text" in row]
    assert {row["text"] for row in drawn} == {"alpha", "</script>", f"{'b' * 160}…"}
    at = ["τ = 0.7", "τ = 0.85", "τ = 1"]
    assert {row["x"]: row.get("setting") for row in drawn} == dict(enumerate([None, *at, None, *at]))
    assert by_id(found, "map").all("legend")[0].whole() == "Teacher's setting"
    cells = next(rows(table) for table in found.all("table") if "nearest neighbours" in table.whole())
    assert cells["◆ p*, other draws"] == ["–", "–", "0.90 ± 0.10", "0.50 ± 0.10"]
    assert cells["■ direct"] == [*rows(found.all("table")[0])["■ direct"][:2], "0.50 ± 0.10", "0.50 ± 0.10"]
    assert any(link.attributes.get("href") == "#map" for link in found.all("a"))


def test_a_page_of_five_seeds_with_a_map_stays_small():
    """Of a thousand long texts of each kind: below 8 MB, and the map in less than one."""
    results = study_document(seeds=5, temperatures=(0.5, 0.6, 0.7, 0.85, 1.0))
    map = map_of(results, texts=tuple(f"{at:04} {'long ' * 400}" for at in range(1000)))
    bare, mapped = (len(page(results=results, exhibit=exhibit_of(results), map=one).encode()) for one in (None, map))
    assert mapped < 8e6
    assert mapped - bare < 1e6


HOSTILE = (
    "</script><img src=x onerror=alert(1)>",
    "<!-- <script> ]]> \u2028\u2029 \ud7ff",
    "{{ 7 * 7 }} {% raw %} ${x} `",
    "\x00\x07 tabs\tand\nlines \x7f",
)


def test_hostile_texts_stay_texts():
    results = study_document(temperatures=(0.8,), seeds=2)
    truth = replace(results.ground_truth, prompt="<img src=x onerror=alert(2)>")
    results = replace(results, ground_truth=truth, recipe="</title><script>alert(3)</script>")
    texts = exhibit_of(results, texts=HOSTILE).samples
    exhibit = replace(Exhibit.absent("<img src=x onerror=alert(5)>"), samples=texts)
    map = replace(map_of(results, texts=HOSTILE), note="<img src=x onerror=alert(6)>")
    run = replace(RUN, command=("<b onclick=alert(4)>",))
    found = read(page(results=results, exhibit=exhibit, run=run, map=map))
    assert len(found.all("title")) == 1
    assert {row["text"] for row in marks(found, "map") if "text" in row} == set(HOSTILE)
    assert not found.all("img")
    assert not any(
        name.startswith("on")
        for tag in ("b", "p", "td", "h1", "q")
        for one in found.all(tag)
        for name in one.attributes
    )
    ours = sum(one.attributes.get("type") == "application/json" for one in found.all("script"))
    assert len(found.all("script")) == ours + 3  # the theme, Vega, and what draws
    assert [one["text"] for one in data(found, "samples-data")["columns"][0]["texts"]] == list(HOSTILE)
    assert "<img src=x onerror=alert(2)>" in found.all("header")[0].whole()
    assert found.all("title")[0].whole().startswith("</title><script>alert(3)</script>")


@pytest.mark.parametrize("case", ["three temperatures", "real data"])
def test_figures_are_counted_without_a_gap(case):
    captions = [re.match(r"Figure (\d+)\.", one.whole()) for one in shown(case).all("figcaption")]
    assert [int(found[1]) for found in captions if found] == list(range(1, 1 + len(charts(shown(case)))))


def test_the_recommended_setting_comes_with_its_sampling_options():
    code = [one.text for one in shown("three temperatures").all("pre")]
    assert len(code) == 2
    assert all("temperature=0.7," in text for text in code)
    assert not shown("real data").all("pre")


def test_costs_add_up():
    table = next(table for table in shown("one seed").all("table") if "worker time" in table.whole())
    assert rows(table)["draw D"] == ["2", "1,000", "1 min", "33%"]
    assert rows(table)["train students"][-1] == "67%"


def test_texts_begin_with_those_of_the_recommended_setting():
    found = data(shown("three temperatures"), "samples-data")
    names = [found["columns"][place]["name"] for place in found["shown"]]
    assert names == ["p*", "teacher, τ = 0.7", "direct student", "student, τ = 0.7"]
    assert found["columns"][0]["surprised"] == "student at τ = 0.7"
    real = data(shown("real data"), "samples-data")
    assert real["columns"][0]["surprised"] == "direct"
    assert [column["sortable"] for column in real["columns"]] == [True] + [False] * 7
