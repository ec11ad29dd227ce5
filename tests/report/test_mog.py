import io
import math

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from distilscope.distribution import Key
from distilscope.errors import UsageError
from distilscope.mog.mixture import GaussianMixture
from distilscope.recipes.mog_paper import MogPaper
from distilscope.report.mog import _density, as_published_table, figures, table
from distilscope.simulation import simulate


@pytest.fixture(scope="module")
def results() -> dict:
    return simulate(MogPaper(seeds=2, betas=(1.0, math.inf), as_published=True))


def printed(what) -> str:
    out = io.StringIO()
    Console(file=out, width=160).print(what)
    return out.getvalue()


def test_the_table_holds_t_intervals_over_seeds(results):
    text = printed(table(results))
    values = [s["precision"]["mean"] for s in results["students"] if s["training"] == "direct"]
    half = stats.t.ppf(0.975, 1) * np.std(values, ddof=1) / math.sqrt(2)
    row = next(line for line in text.splitlines() if "direct" in line)
    assert f"{np.mean(values):.2f} ± {half:.2f}".replace("-", "−") in row
    assert [line.split("│")[2].strip() for line in text.splitlines() if "distilled │" in line] == ["1", "∞"]
    assert "2 seeds" in text


def test_a_single_seed_has_no_interval():
    text = printed(table(simulate(MogPaper(seeds=1, betas=(1.0,)))))
    assert "±" not in text
    assert "one seed" in text


def test_warnings_of_em_are_shown(results):
    warned = results | {"warnings": [{"fit": "teacher", "seed": 1, "beta": None, "message": "it did not converge"}]}
    assert "it did not converge" in printed(table(warned))


def test_the_published_numbers_stand_beside_ours(results):
    text = printed(as_published_table(results))
    for title in ("published", "as published here", "by definition", "−20.26", "−2.64", "−0.70", "−42.45"):
        assert title in text
    without = {name: value for name, value in results.items() if name != "as_published"}
    with pytest.raises(UsageError, match="--as-published"):
        as_published_table(without)


def test_the_density_drawn_is_the_mixtures():
    mixture = GaussianMixture.of(weights=[0.3, 0.7], means=[[0.0, 1.0], [1.0, 0.0]], covariances=[[[1, 0.5], [0.5, 1]], [[0.1, 0], [0, 2]]])
    x = mixture.sample(24, Key(0))
    np.testing.assert_allclose(_density(mixture.as_json(), x.numpy().reshape(4, 6, 2)).reshape(-1), mixture.log_prob(x).exp(), rtol=1e-10)


def test_figures_are_files_with_the_same_bytes_each_time(results, tmp_path):
    first, again = figures(results, tmp_path / "a"), figures(results, tmp_path / "b")
    assert [path.name for path in first] == ["figure-1.png", "figure-1.pdf", "figure-2.png", "figure-2.pdf"]
    for one, other in zip(first, again, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert first[0].read_bytes().startswith(b"\x89PNG")
    assert first[1].read_bytes().startswith(b"%PDF")


def test_figures_show_the_beta_asked_for(results, tmp_path):
    default, chosen = (figures(results, tmp_path / str(beta), beta=beta)[2].read_bytes() for beta in (None, 1.0))
    assert default != chosen
    assert default == figures(results, tmp_path / "inf", beta="inf")[2].read_bytes()
    with pytest.raises(UsageError, match="beta 7 was not simulated; choose one of 1, inf"):
        figures(results, tmp_path, beta=7.0)


def test_figures_are_two_dimensional(results, tmp_path):
    flat = results | {"config": results["config"] | {"dimension": 1}}
    with pytest.raises(UsageError, match="--dimension 2"):
        figures(flat, tmp_path)
