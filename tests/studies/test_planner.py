"""How a study is laid out as steps: who scores p*'s test draws in one pass."""

from dataclasses import replace

import pytest

from distilscope.errors import DistilscopeError
from distilscope.evaluation.candidates import SamplingParameters
from distilscope.pipeline.step import Step
from distilscope.studies.config import Size
from distilscope.studies.inputs import Sources
from distilscope.studies.planner import plan
from distilscope.studies.recipes import recipe
from distilscope.studies.study import Study

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


def scored_by(step: Step, place: int) -> tuple[Step, dict[str, float]]:
    """The model and the sampling parameters whose scores a step keeps under a number."""
    models = [
        (step.inputs[f"other/{i}"], sampling)
        for i, other in enumerate(step.config["others"])
        for sampling in other["selectivities"]
    ]
    return models[place]


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_every_candidate_is_found_again_among_those_that_scored_the_draws(size):
    study = laid_out(size)
    for one in study.measured():
        for step in one.of_reference:
            assert scored_by(step, one.place_among(step)) == (one.model, one.drawn_at)
        for step in one.scores:
            assert scored_by(step, study.place_of_reference(step)) == (study.ground_truth, {"temperature": 1.0})


def reordered(step: Step) -> Step:
    """The same scores with the models, and the settings of each, the other way round."""
    others = [other | {"selectivities": other["selectivities"][::-1]} for other in step.config["others"]]
    models = [step.inputs[f"other/{i}"] for i in range(len(others))]
    inputs = {name: one for name, one in step.inputs.items() if not name.startswith("other/")}
    inputs |= {f"other/{i}": model for i, model in enumerate(models[::-1])}
    return replace(step, config={**step.config, "others": others[::-1]}, inputs=inputs)


def test_another_order_of_the_others_shifts_nothing():
    for one in laid_out(LARGE).measured():
        for step in map(reordered, one.of_reference):
            assert scored_by(step, one.place_among(step)) == (one.model, one.drawn_at)


def test_scores_that_lack_a_candidate_are_refused():
    study = laid_out(SMALL)
    one, other = (next(each for each in study.students if each.seed == seed) for seed in (0, 1))
    with pytest.raises(DistilscopeError, match=f"does not score by the model {one.model.fingerprint[:12]}"):
        one.place_among(other.of_reference[0])
    elsewhere = replace(one, drawn_at=SamplingParameters({"temperature": 0.123}))
    with pytest.raises(DistilscopeError, match=r"at temperature 0\.123, but the study reads such scores"):
        elsewhere.place_among(one.of_reference[0])


def test_another_seed_leaves_full_passes_as_they_are():
    before, after = (laid_out(MIDDLE, seeds) for seeds in (2, 5))
    assert {one.of_reference for one in before.measured()} < {one.of_reference for one in after.measured()}
