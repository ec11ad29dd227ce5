"""Sizes that fit into minutes: the arithmetic on made-up rates, and the whole on a tiny study."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from distilscope.cli.main import main
from distilscope.errors import UsageError
from distilscope.studies.forecast.calibration import TRAINING_STEPS, Calibration, Rate, lengthened, miniature, work_of
from distilscope.studies.forecast.time_budget import LEAST, choose, fits_data, ladder, smallest_differences
from distilscope.studies.overrides import override
from distilscope.studies.recipes import recipe
from distilscope.studies.recipes.tiny import tiny

pytestmark = pytest.mark.usefixtures("steps_here")


def measured(**changes):
    return Calibration(
        **(
            {"rates": {}, "startup": 0.0, "precision_deviation": 10.0, "recall_deviation": 5.0, "seconds": 6.0}
            | changes
        )
    )


def sequences(config):
    """Made-up seconds: a tenth of a second for each sequence that a seed trains on or is scored by."""
    return 0.1 * config.seeds * (config.ground_truth.num_train + config.ground_truth.num_eval)


# --- rates


@given(st.floats(0, 10), st.floats(1e-12, 1e-6), st.floats(1e6, 1e9), st.floats(1.5, 10))
def test_a_rate_finds_what_is_fixed_and_what_grows(fixed, per_flop, less, ratio):
    true = Rate(fixed, per_flop)
    found = Rate.through((less, true.seconds(less)), (less * ratio, true.seconds(less * ratio)))
    assert found.seconds(less * ratio) == pytest.approx(true.seconds(less * ratio))
    # beyond the larger size it is never said to be quicker than it is
    assert found.seconds(100 * less * ratio) >= true.seconds(100 * less * ratio) * (1 - 1e-6)


def test_draws_of_one_network_are_one_work_and_trainings_are_lengthened():
    from distilscope.pipeline.step import order
    from distilscope.studies.inputs import Sources
    from distilscope.studies.planner import plan

    config = miniature(tiny(), 16)
    sources = Sources.locate(config)
    study = plan(config, sources)
    works: dict[str, set[str]] = {}
    for step in order(study.targets):
        works.setdefault(work_of(step), set()).add(step.stage)
    assert {"draw D", "draw D_val", "draw test set"} in works.values()
    assert {"draw D'"} in works.values()
    longer = lengthened(config, sources, 1.0)
    for before, after in (
        (config.teacher.training, longer.teacher.training),
        (config.student.training, longer.student.training),
    ):
        assert before.steps(16) < after.steps(16) == pytest.approx(TRAINING_STEPS, rel=0.2)
        assert after.evaluations / before.evaluations == after.epochs / before.epochs
    large = replace(config.teacher.size, hidden_size=1024, intermediate_size=4096, layers=16)
    assert (
        lengthened(replace(config, teacher=replace(config.teacher, size=large)), sources, 1.0).teacher.training
        == config.teacher.training
    )


def test_noise_does_not_make_work_free():
    assert Rate.through((1e9, 3.0), (3e9, 3.0)).seconds(30e9) == pytest.approx(1.5 + 15)
    assert Rate.through((1e9, 4.0), (3e9, 2.0)).per_flop == pytest.approx(0.5 * 2 / 3e9)
    assert Rate.through((0.0, 2.0), (0.0, 3.0)).seconds(0.0) == 3.0


def test_the_prediction_plays_the_plan_through():
    from distilscope.pipeline.step import order
    from distilscope.studies.inputs import Sources
    from distilscope.studies.planner import plan

    config = miniature(tiny(), 16)
    study = plan(config, Sources.locate(config))
    works = {work_of(step) for step in order(study.targets)}
    each_takes_a_second = measured(rates={work: Rate(1.0, 0.0) for work in works}, startup=5.0)
    steps = len(order(study.targets))
    assert each_takes_a_second.predict(study, 1) == pytest.approx(5.0 + steps)
    assert 5.0 + steps / 2 <= each_takes_a_second.predict(study, 2) < 5.0 + steps


# --- sizes


@pytest.mark.parametrize("name", ["tiny", "smollm2_cpu", "distil", "smollm2_paper"])
def test_the_ladder_rises_from_the_smallest_sensible_study_through_the_recipes_own(name):
    config = recipe(name)
    found = list(ladder(config))
    first = found[0]
    assert (first.ground_truth.num_train, first.ground_truth.num_eval, first.seeds) == tuple(
        LEAST[n] for n in ("num_train", "num_eval", "seeds")
    )
    assert config in found
    for one, other in itertools.pairwise(found):
        truth, more = one.ground_truth, other.ground_truth
        assert truth.num_train <= more.num_train
        assert truth.num_eval <= more.num_eval
        assert truth.num_validation <= more.num_validation
        assert one.seeds <= other.seeds
    assert all(one.seeds >= 2 for one in found)


def test_what_was_given_stays():
    config = override(tiny(), {"num_train": 500, "seeds": 4})
    for one in ladder(config, {"ground_truth.num_train", "seeds"}):
        assert (one.ground_truth.num_train, one.seeds) == (500, 4)
    swept = override(tiny(), {"sweep.num_distill": 1000})
    assert {one.ground_truth.num_train for one in ladder(swept)} == {2048}


@pytest.mark.parametrize("minutes", [2.0, 5.0, 30.0, 200.0])
def test_the_largest_that_fits_is_chosen(minutes):
    candidates = list(ladder(tiny()))
    chosen = choose(candidates, minutes, measured(), predict=sequences)
    config = chosen.applied(tiny())
    assert config in candidates
    assert chosen.predicted_minutes == pytest.approx((6 + sequences(config)) / 60)
    assert chosen.predicted_minutes <= minutes
    after = candidates[candidates.index(config) + 1]
    assert (6 + sequences(after)) / 60 > minutes


def test_a_budget_that_is_too_short_is_refused_with_what_is_needed():
    needed = (6 + 0.1 * 2 * (LEAST["num_train"] + LEAST["num_eval"])) / 60
    with pytest.raises(
        UsageError, match=rf"needs about {needed:.1f} on this machine; give at least {math.ceil(needed)}"
    ):
        choose(list(ladder(tiny())), 0.5, measured(), predict=sequences)


def test_data_sets_a_limit():
    assert fits_data(miniature(tiny(), 16), 16 + 8 + 16)
    assert not fits_data(miniature(tiny(), 16), 16 + 8 + 15)


# --- power


def test_the_smallest_difference_is_the_half_width_of_a_t_interval():
    precision, recall = smallest_differences(measured(), num_eval=200, seeds=3)
    assert precision == pytest.approx(stats.t.ppf(0.975, 2) * 10 * math.sqrt(2 / 200 / 3))
    assert recall == pytest.approx(stats.t.ppf(0.975, 199) * 5 * math.sqrt(2 / 200))
    assert smallest_differences(measured(precision_deviation=None), num_eval=200, seeds=3)[0] is None
    assert smallest_differences(measured(), num_eval=200, seeds=1)[0] is None


@given(st.integers(2, 500), st.integers(2, 20))
def test_more_draws_and_seeds_show_smaller_differences(draws, seeds):
    least = smallest_differences(measured(), num_eval=draws, seeds=seeds)
    assert all(
        more < less
        for more, less in zip(smallest_differences(measured(), num_eval=draws + 1, seeds=seeds), least, strict=True)
    )
    more_seeds = smallest_differences(measured(), num_eval=draws, seeds=seeds + 1)
    assert more_seeds[0] < least[0]
    assert more_seeds[1] == least[1]  # all seeds score the same draws of p*


# --- the whole


def run(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        main(["run", *map(str, words)])
    out, err = capsys.readouterr()
    return stop.value.code, out, err


QUICK = (
    "tiny",
    "--horizon",
    8,
    "--temperatures",
    0.7,
    1.0,
    "--num-train",
    128,
    "--num-eval",
    64,
    "--tile",
    64,
    "--slots",
    32,
)


@pytest.mark.slow
def test_a_run_keeps_its_sizes(capsys, tmp_path):
    code, out, err = run(capsys, *QUICK, "--budget", 5, "--output-dir", tmp_path, "--json")
    assert code == 0, err
    results = json.loads(out)
    assert 2 <= results["seeds"] <= 3
    assert (results["ground_truth"]["num_train"], results["ground_truth"]["num_eval"]) == (128, 64)
    assert "Within 5 minutes: num_train 128" in err
    assert "nats of precision" in err
    assert "assuming" in err
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert config["seeds"] == results["seeds"]
    assert "budget" not in json.dumps(config)
    assert "budget" not in results
    code, again, err = run(capsys, *QUICK, "--budget", 5, "--output-dir", tmp_path, "--json")
    assert (code, again) == (0, out)
    assert "Chosen when this run began" in err
    assert "Measuring" not in err
    assert "nothing to run" in err


@pytest.mark.slow
def test_too_short_a_budget_exits_2(capsys, tmp_path):
    code, out, err = run(capsys, *QUICK, "--budget", 0.01, "--output-dir", tmp_path)
    assert (code, out) == (2, "")
    assert "the smallest sensible study" in err
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "inf"])
def test_a_budget_is_a_number_of_minutes(capsys, tmp_path, minutes):
    code, out, err = run(capsys, "tiny", "--budget", minutes, "--output-dir", tmp_path)
    assert (code, out) == (2, "")
    assert "--budget is" in err
