import io
import math

import numpy as np
import pytest
from msgspec.structs import replace
from rich.console import Console
from scipy import stats

from distilscope.errors import UsageError
from distilscope.evaluation.mixture_results import FitWarning, MixtureResults
from distilscope.mixtures.config import MogPaper
from distilscope.mixtures.simulation import simulate
from distilscope.report.mixture_tables import as_published_table, table


@pytest.fixture(scope="module")
def results() -> MixtureResults:
    return simulate(MogPaper(seeds=2, betas=(1.0, math.inf), as_published=True))


def printed(what) -> str:
    out = io.StringIO()
    Console(file=out, width=160).print(what)
    return out.getvalue()


def test_the_table_holds_t_intervals_over_seeds(results):
    text = printed(table(results))
    values = [s.precision.mean for s in results.students if s.training == "direct"]
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
    warning = FitWarning(fit="teacher", seed=1, beta=None, message="it did not converge")
    assert "it did not converge" in printed(table(replace(results, warnings=(warning,))))


def test_the_published_numbers_stand_beside_ours(results):
    text = printed(as_published_table(results))
    for title in ("published", "as published here", "by definition", "−20.26", "−2.64", "−0.70", "−42.45"):
        assert title in text
    with pytest.raises(UsageError, match="--as-published"):
        as_published_table(replace(results, as_published=None))
