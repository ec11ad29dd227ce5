"""How a study is laid out as steps: who scores p*'s test draws in one pass."""

from dataclasses import replace

import pytest

from distilscope.studies.config import Size
from distilscope.studies.inputs import Sources
from distilscope.studies.planner import plan
from distilscope.studies.recipes import recipe
from distilscope.studies.study import Measured, Study

SMALL, MIDDLE, LARGE = Size(128, 512, 1, 4, 4), Size(128, 768, 1, 4, 4), Size(128, 512, 20, 4, 4)
"""p*'s FLOPs are 1.7, 2.3 and 31 times those of a seed's teacher and four students together."""


def laid_out(size: Size, seeds: int = 3) -> Study:
    """The tiny study with a p* of that size."""
    config = recipe("tiny")
    truth = replace(config.ground_truth, size=size, num_eval=config.tile + 1)
    config = replace(config, ground_truth=truth, seeds=seeds)
    return plan(config, Sources.locate(config))


def passes(study: Study) -> list[set[int]]:
    """The seeds that share each pass over the test draws."""
    found: dict[object, set[int]] = {}
    for one in study.measured():
        found.setdefault(one.of_reference, set()).add(one.seed)
    return list(found.values())


@pytest.mark.parametrize(("size", "shared"), [(SMALL, [{0}, {1}, {2}]), (MIDDLE, [{0, 1}, {2}]), (LARGE, [{0, 1, 2}])])
def test_seeds_share_a_pass_of_p_star_while_their_candidates_take_no_more_than_it(size, shared):
    assert passes(laid_out(size)) == shared


def candidate(one: Measured, tile: int) -> tuple[object, dict[str, float]]:
    """Who stands at the index by which the scores of p*'s draws are read."""
    step = one.of_reference[tile]
    models = [
        (step.inputs[f"other/{i}"], sampling)
        for i, other in enumerate(step.config["others"])
        for sampling in other["selectivities"]
    ]
    return models[one.index]


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_every_candidate_is_found_again_among_those_that_scored_the_draws(size):
    study = laid_out(size)
    for one in study.measured():
        assert [candidate(one, tile) for tile in range(len(study.test))] == [(one.model, one.evaluation)] * 2


def test_another_seed_leaves_full_passes_as_they_are():
    before, after = (laid_out(MIDDLE, seeds) for seeds in (2, 5))
    assert {one.of_reference for one in before.measured()} < {one.of_reference for one in after.measured()}
