import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from distilscope.errors import UsageError
from distilscope.evaluation.documents import document_of
from distilscope.evaluation.mixture_results import Mixture, MixtureResults
from distilscope.mixtures.config import MogPaper, ground_truth, mog_paper
from distilscope.mixtures.gaussian_mixture import GaussianMixture
from distilscope.mixtures.quadrature import expected_log_prob
from distilscope.mixtures.simulation import PUBLISHED_DRAWS, simulate
from distilscope.selectivity import Power


@pytest.fixture(scope="module")
def results() -> MixtureResults:
    """Three of the paper's seeds: the first three of any run with more."""
    return simulate(replace(mog_paper(), seeds=3, as_published=True))


def read(record: Mixture) -> GaussianMixture:
    return GaussianMixture.of(weights=record.weights, means=record.means, covariances=record.covariances)


def means(results: MixtureResults, training: str, quantity: str, beta: float | str | None = None) -> float:
    chosen = [getattr(s, quantity).mean for s in results.students if (s.training, s.beta) == (training, beta)]
    return float(np.mean(chosen))


def test_the_ground_truth_of_section_3_2():
    truth = ground_truth()
    assert sorted(map(tuple, truth.means.tolist())) == [
        (x, y) for x in (-1, 0, 1) for y in (-1, 0, 1) if (x, y) != (0, 0)
    ]
    assert truth.weights.tolist() == pytest.approx([1 / 8] * 8)
    assert truth.covariances.tolist() == [[0.025, 0.025]] * 8


def test_ground_truth_keeps_its_neighbours_at_distance_one_in_any_dimension():
    for dimension in (1, 2, 3, 5):
        truth = ground_truth(dimension)
        assert truth.means.shape == (8, dimension)
        distances = torch.cdist(truth.means, truth.means) + 9 * torch.eye(8, dtype=torch.float64)
        assert distances.amin(1).tolist() == pytest.approx([1] * 8)
    extra = 0.5 * math.log(2 * math.pi * math.e * 0.025)
    plane, space = ground_truth(2), ground_truth(3)
    draws = torch.randn(100, 3, dtype=torch.float64)
    off_plane = -(draws[:, 2] ** 2) / 0.05 + 0.5 - extra
    torch.testing.assert_close(space.log_prob(draws), plane.log_prob(draws[:, :2]) + off_plane)


def test_precision_falls_and_recall_rises_as_beta_falls(results):
    """Per seed between the ends, and over the seeds' means along the way."""
    by_seed = {(s.beta, s.seed): s for s in results.students if s.training == "distilled"}
    for seed in range(3):
        assert by_seed[100.0, seed].precision.mean > by_seed[1.0, seed].precision.mean + 3
        assert by_seed[100.0, seed].recall.mean < by_seed[1.0, seed].recall.mean - 10
    recalls = [means(results, "distilled", "recall", beta) for beta in (1.0, 5.0, 100.0)]
    assert recalls == sorted(recalls, reverse=True)


def test_the_direct_student_scores_what_independent_code_found(results):
    assert -8.0 < means(results, "direct", "precision") < -7.2
    assert means(results, "direct", "recall") == pytest.approx(-2.6, abs=0.05)
    assert -6.5 < means(results, "distilled", "precision", 100.0) < -2.3


def test_each_number_is_what_the_definition_says(results):
    truth = read(results.ground_truth)
    direct = read(results.mixtures.direct)
    record = next(s for s in results.students if s.training == "direct" and s.seed == 0)
    assert record.precision.mean == pytest.approx(expected_log_prob(direct, truth).value, abs=1e-9)
    assert record.recall.mean == pytest.approx(expected_log_prob(truth, direct).value, abs=1e-9)
    assert results.ground_truth.entropy == record.reference_entropy
    for s in results.students:
        assert s.kl_candidate_reference.mean == -s.candidate_entropy.mean - s.precision.mean
        assert s.kl_reference_candidate.mean > 0


def test_the_teacher_is_selected_by_equation_2(results):
    for record in results.teacher:
        raised = np.array(record.weights) ** record.beta
        np.testing.assert_allclose(record.selected_weights, raised / raised.sum(), rtol=1e-9)
    hardness = {beta: [r.difficulty for r in results.teacher if r.beta == beta] for beta in (1.0, 5.0, 100.0)}
    assert hardness[1.0] == [7, 7, 7]
    for seed in range(3):
        assert hardness[1.0][seed] >= hardness[5.0][seed] >= hardness[100.0][seed]


def test_the_published_mistake_is_reproduced_and_kept_apart(results):
    rows = {(row.training, row.quantity): row for row in results.as_published}
    for (training, quantity), published in {
        ("direct", "precision"): -20.26,
        ("direct", "recall"): -2.64,
        ("distilled", "precision"): -0.70,
        ("distilled", "recall"): -42.45,
    }.items():
        row = rows[training, quantity]
        assert row.published == published
        assert row.by_definition.mean == pytest.approx(means(results, training, quantity, row.beta))
    for training in ("direct", "distilled"):
        wrong, right = (getattr(rows[training, "precision"], name) for name in ("as_published", "by_definition"))
        assert abs(wrong.mean - right.mean) > 1.5
    # Scored under p' with selected weights, the direct student looks far worse than it is, the distilled one better.
    assert rows["direct", "precision"].as_published.highest < -10
    assert -1 < rows["distilled", "precision"].as_published.mean < 0


def test_the_published_precision_is_that_under_the_selected_teacher():
    results = simulate(MogPaper(seeds=1, betas=(100.0,), as_published=True))
    selected = read(results.mixtures.teacher).select(Power(100.0))
    for training, student in (
        ("direct", results.mixtures.direct),
        ("distilled", results.mixtures.distilled[0]),
    ):
        expected = expected_log_prob(read(student), selected).value
        row = next(r for r in results.as_published if (r.training, r.quantity) == (training, "precision"))
        spread = float(selected.log_prob(torch.tensor(results.mixtures.points, dtype=torch.float64)).std())
        assert abs(row.as_published.mean - expected) < 5 * spread / math.sqrt(PUBLISHED_DRAWS)
        assert row.as_published.half_width is None


def test_published_numbers_stand_only_beside_the_published_setting():
    rows = simulate(MogPaper(seeds=1, betas=(1.0,), num_train=200, as_published=True)).as_published
    assert [row.published for row in rows] == [None] * 4
    assert {row.beta for row in rows} == {None, 100.0}


def test_the_same_configuration_gives_the_same_bytes(results):
    config = MogPaper(seeds=1, betas=(1.0, math.inf))
    first, again = (json.dumps(document_of(simulate(config)), allow_nan=False) for _ in range(2))
    assert first == again
    threads = torch.get_num_threads()
    alone = simulate(replace(config, betas=(1.0,)))
    assert torch.get_num_threads() == threads
    # Neither other seeds nor other values of beta change a student.
    assert alone.students == tuple(s for s in results.students if s.seed == 0 and s.beta in (None, 1.0))


def test_infinite_beta_is_the_argmax_limit():
    results = simulate(MogPaper(seeds=1, betas=(1000.0, math.inf)))
    limit = results.teacher[1]
    assert limit.beta == results.config.betas[1] == "inf"
    assert sorted(limit.selected_weights) == [0, 0, 0, 1]
    assert limit.weight_entropy == 0
    near, there = (s for s in results.students if s.training == "distilled")
    assert near.precision.mean == pytest.approx(there.precision.mean, abs=0.2)
    assert "Infinity" not in json.dumps(document_of(results))


def test_monte_carlo_agrees_with_quadrature_and_carries_its_error():
    config = MogPaper(seeds=1, betas=(1.0,))
    exact, drawn = simulate(config), simulate(replace(config, num_eval=20_000))
    assert document_of(drawn.method) == {"name": "monte carlo", "num_eval": 20_000}
    for a, b in zip(exact.students, drawn.students, strict=True):
        for name in ("precision", "recall", "candidate_entropy", "reference_entropy", "kl_candidate_reference"):
            mine, theirs = getattr(a, name), getattr(b, name)
            assert theirs.n == 20_000
            assert abs(mine.mean - theirs.mean) < 4 * theirs.stderr


@pytest.mark.parametrize("dimension", [1, 3])
def test_other_dimensions(dimension):
    results = simulate(
        MogPaper(seeds=1, betas=(1.0, 100.0), dimension=dimension, num_eval=None if dimension == 1 else 5000)
    )
    direct, wide, narrow = results.students
    assert narrow.precision.mean > wide.precision.mean
    assert narrow.recall.mean < wide.recall.mean
    assert (direct.precision.stderr == 0) == (dimension == 1)
    assert results.config.exact == (dimension == 1)


def test_more_components_for_the_student_lower_its_divergence():
    one, four = (simulate(MogPaper(seeds=1, betas=(1.0,), student_components=k, num_train=2000)) for k in (1, 4))
    assert four.students[0].kl_reference_candidate.mean < one.students[0].kl_reference_candidate.mean - 0.3


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"betas": (1.0, -2.0)}, r"beta is -2\.0"),
        ({"betas": (0.0,)}, r"beta is 0\.0"),
        ({"betas": (math.nan,)}, "beta is nan"),
        ({"betas": ("5",)}, "beta is '5'"),
        ({"betas": ()}, "no beta"),
        ({"betas": (5.0, 5.0)}, "given twice"),
        ({"seeds": 0}, "seeds is 0"),
        ({"seeds": True}, "seeds is True"),
        ({"num_train": 1}, "num_train is 1"),
        ({"num_distill": 2.5}, r"num_distill is 2\.5"),
        ({"teacher_components": 0}, "teacher_components is 0"),
        ({"teacher_components": 101}, r"must not exceed num_train \(100\)"),
        ({"student_components": 50, "num_distill": 10}, r"must not exceed num_distill \(10\)"),
        ({"dimension": 0}, "dimension is 0"),
        ({"dimension": 3, "exact": True}, "leave out --exact"),
        ({"num_eval": 1000, "exact": True}, "give one of the two"),
        ({"num_eval": 1}, "num_eval is 1"),
        ({"covariance": "ful"}, "did you mean 'full'"),
        ({"epsilon": math.nan}, "epsilon is nan"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be_simulated(options, says):
    with pytest.raises(UsageError, match=says):
        MogPaper(**options)
