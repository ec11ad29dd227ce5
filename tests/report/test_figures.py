"""Figures for paper: what they draw is what the results say, and a journal can print them."""

from __future__ import annotations

import math
import re
from functools import cache
from xml.etree import ElementTree

import matplotlib
import matplotlib.image
import numpy as np
import pytest
from matplotlib.text import Text
from msgspec import structs

from distilscope.distribution import Key
from distilscope.errors import UsageError
from distilscope.evaluation.documents import document_of, record_of
from distilscope.evaluation.estimate import t_interval
from distilscope.evaluation.mixture_results import Mixture, MixtureResults
from distilscope.evaluation.results import Results
from distilscope.mixtures.config import MogPaper
from distilscope.mixtures.gaussian_mixture import GaussianMixture
from distilscope.mixtures.simulation import simulate
from distilscope.report.candidates import Candidates
from distilscope.report.figures.figure4 import figure4
from distilscope.report.figures.figure5 import figure5
from distilscope.report.figures.files import write_for_paper, write_mixture_figures, write_study_figure
from distilscope.report.figures.mixtures import density, figure2
from distilscope.report.figures.style import RC, WIDTHS
from result_documents import map_of, study_document

KNOBS = ({"top_k": 5}, {"top_p": 0.9, "min_p": 0.1})

DOCUMENTS = {
    "temperatures": study_document,
    "a long name": lambda: named(
        study_document(), "A model whose name says whence it came, how it was made small, and what was cut away"
    ),
    "sampling": lambda: study_document(sampling=KNOBS),
    "two seeds": lambda: study_document(seeds=2),
    "one seed": lambda: study_document(seeds=1, temperatures=(0.8,)),
    "data": lambda: study_document(modelled=False),
}


def named(results, name):
    return structs.replace(results, ground_truth=structs.replace(results.ground_truth, description=name))


@cache
def mixtures() -> MixtureResults:
    return simulate(MogPaper(seeds=2, betas=(1.0, math.inf)))


@pytest.fixture(autouse=True)
def as_written():
    with matplotlib.rc_context(RC):
        yield


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
@pytest.mark.parametrize("case", DOCUMENTS)
def test_every_word_has_eight_points_and_stands_on_the_page(case, width):
    require_fitting(figure4(DOCUMENTS[case](), width, titled=width > 5))


def require_fitting(figure):
    figure.draw_without_rendering()
    box, (right, top) = figure.get_tightbbox(), figure.get_size_inches()
    assert box.x0 > -0.01
    assert box.y0 > -0.01
    assert box.x1 < right + 0.01
    assert box.y1 < top + 0.01
    assert {text.get_fontsize() for text in figure.findobj(Text) if text.get_text().strip()} == {8}


MANY = tuple(round(0.4 + 0.1 * at, 1) for at in range(7))

MAPS = {
    "temperatures": lambda: map_of(study_document()),
    "more settings than there is room for": lambda: map_of(study_document(temperatures=MANY)),
    "sampling": lambda: map_of(study_document(sampling=KNOBS)),
    "one setting": lambda: map_of(study_document(temperatures=(0.8,), seeds=1)),
    "real data": lambda: map_of(study_document(modelled=False)),
}


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
@pytest.mark.parametrize("case", MAPS)
def test_a_map_fits_too(case, width):
    require_fitting(figure5(MAPS[case](), width))


def test_a_map_shows_each_model_before_p_star():
    map = map_of(study_document(temperatures=MANY))
    map = structs.replace(map, neighbours=structs.replace(map.neighbours, ceiling=None))
    figure = figure5(map, 6.75)
    titles = [axes.get_title() for axes in figure.axes]
    shown = [f"τ = {tau:g}" for tau in (0.4, 0.6, 0.8, 1.0)]
    assert titles == [
        *(f"teacher, {text}" for text in shown),
        "p*",
        *(f"student, {text}" for text in shown),
        "direct student",
    ]
    assert [axes.get_xlabel() for axes in figure.axes] == ["0.50 | 0.50"] * 4 + [""] + ["0.50 | 0.50"] * 5
    for axes, (role, temperature) in zip(
        figure.axes[5:9], [("distilled", tau) for tau in (0.4, 0.6, 0.8, 1.0)], strict=True
    ):
        behind, before = (part.get_offsets() for part in axes.collections)
        wanted = [(one.x, one.y) for one in map.points if (one.role, one.temperature) == (role, temperature)]
        assert before.tolist() == [list(place) for place in wanted]
        assert set(behind[:, 0]) == {0}


def heights(axes, marker):
    """Of the large marks of a shape, left to right."""
    marks = [line for line in axes.lines if line.get_marker() == marker and line.get_markersize() == 4.5]
    return [float(line.get_ydata()[0]) for line in sorted(marks, key=lambda line: line.get_xdata()[0])]


def test_marks_are_the_means_and_bars_their_intervals():
    results = study_document()
    candidates = Candidates(results)
    for axes, name in zip(figure4(results, 6.75).axes, ("precision", "recall"), strict=True):
        intervals = [group.interval(name) for group in candidates.distilled]
        assert heights(axes, "o") == pytest.approx([one.mean for one in intervals])
        direct = candidates.direct[0].interval(name)
        assert heights(axes, "s") == pytest.approx(
            [*(one.interval(name).mean for one in candidates.controls if one.candidate.temperature != 1), direct.mean]
        )
        bars = [part.get_segments()[0][:, 1] for part in axes.collections if hasattr(part, "get_segments")]
        for one in (*intervals, direct):
            assert any(np.allclose(bar, [one.low, one.high]) for bar in bars)
        seeds = [getattr(one, name).mean for one in results.students if one.temperature == 0.7]
        assert any(sorted(line.get_ydata()) == sorted(seeds) for line in axes.lines)
        assert intervals[0] == t_interval(seeds)


def test_what_is_infinite_is_not_drawn():
    precision, recall = figure4(study_document(sampling=KNOBS), 6.75).axes
    assert len(heights(precision, "s")) == 5
    assert len(heights(recall, "s")) == 3


def test_few_seeds_do_not_push_everything_together():
    (low, high), results = figure4(study_document(seeds=2), 6.75).axes[0].get_ylim(), study_document(seeds=2)
    values = [one.precision.mean for one in (*results.students, *results.controls)]
    assert high - low < 1.5 * (max(values) - min(values))


@pytest.mark.parametrize("results", [study_document, mixtures])
def test_files_are_as_wide_as_columns_with_their_type_in_them(results, tmp_path):
    paths = write_for_paper(results(), tmp_path)
    names = ["figure4"] if results is study_document else ["figure1", "figure2"]
    assert [path.name for path in paths] == [
        *(
            f"{name}-{width}.{kind}"
            for name in names
            for width in ("single", "double")
            for kind in ("pdf", "svg", "png")
        ),
        "captions.md",
    ]
    for path in paths:
        if path.suffix == ".pdf":
            content = path.read_bytes()
            assert b"/FontFile2" in content
            assert b"/Type3" not in content
            box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+)", content)
            assert box
            assert float(box[1]) <= 72 * (3.25 if "single" in path.name else 6.75) + 0.01
        if path.suffix == ".png":
            assert matplotlib.image.imread(path).shape[1] <= 300 * (3.25 if "single" in path.name else 6.75)
        if path.suffix == ".svg":
            assert ElementTree.parse(path).getroot().tag.endswith("svg")


def test_captions_say_what_was_measured(tmp_path):
    caption = write_for_paper(study_document(prompts=4), tmp_path, formats=["png"])[-1].read_text()
    for said in ("**Figure 4.**", "3 seeds", "big, vocabulary of 320", "128 draws"):
        assert said in caption
    assert "β = ∞" in write_for_paper(mixtures(), tmp_path, formats=["png"])[-1].read_text()


@pytest.mark.parametrize(
    ("write", "results", "names"),
    [
        (write_study_figure, study_document, ["figure4.png", "figure4.pdf"]),
        (write_mixture_figures, mixtures, ["figure1.png", "figure1.pdf", "figure2.png", "figure2.pdf"]),
        (
            lambda results, folder: write_for_paper(results, folder, formats=["svg"])[:1],
            study_document,
            ["figure4-single.svg"],
        ),
    ],
)
def test_the_same_results_give_the_same_bytes(write, results, names, tmp_path):
    kind = Results if results is study_document else MixtureResults
    first, again = (write(record_of(document_of(results()), kind), tmp_path / name) for name in ("a", "b"))
    assert [path.name for path in first] == names
    for one, other in zip(first, again, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_the_beta_asked_for_is_drawn():
    title = [figure2(mixtures(), 6.75, beta=beta).axes[1].get_title(loc="left") for beta in (None, 1.0, "inf")]
    assert title == ["(b) selected, β = ∞", "(b) selected, β = 1", "(b) selected, β = ∞"]
    with pytest.raises(UsageError, match="beta 7 was not simulated; choose one of 1, inf"):
        figure2(mixtures(), 6.75, beta=7.0)


def test_mixtures_are_drawn_in_two_dimensions(tmp_path):
    flat = structs.replace(mixtures(), config=structs.replace(mixtures().config, dimension=1))
    with pytest.raises(UsageError, match="--dimension 2"):
        write_for_paper(flat, tmp_path)


def test_the_density_drawn_is_the_mixtures():
    mixture = GaussianMixture.of(
        weights=[0.3, 0.7], means=[[0.0, 1.0], [1.0, 0.0]], covariances=[[[1, 0.5], [0.5, 1]], [[0.1, 0], [0, 2]]]
    )
    x = mixture.sample(24, Key(0))
    np.testing.assert_allclose(
        density(record_of(mixture.as_json(), Mixture), x.numpy().reshape(4, 6, 2)).reshape(-1),
        mixture.log_prob(x).exp(),
        rtol=1e-10,
    )
