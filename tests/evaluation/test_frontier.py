"""Whether the trade-off holds, and how two frontiers compare."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import page_trend_test

from distilscope.evaluation.documents import document_of
from distilscope.evaluation.frontier import ALPHA, compare_frontiers, compare_with_controls, study_frontier
from distilscope.evaluation.trade_off import TradeOff, trade_off
from result_documents import control, student

FOUR = (0.7, 0.8, 0.9, 1.0)
UP = np.arange(4.0)
FLAT = np.array([0.3, 0.1, 0.4, 0.2])


def is_not_made(found: TradeOff, says: str) -> bool:
    return (found.verdict, found.p_precision, found.p_recall, found.p_kl) == (
        "not shown",
        None,
        None,
        None,
    ) and says in found.reason


def verdict(
    precision: np.ndarray, recall: np.ndarray, kl: np.ndarray, *, seeds: int = 4, temperatures=FOUR
) -> TradeOff:
    """Every seed has these values by rising temperature, shifted by its own constant."""

    def blocks(row: np.ndarray) -> np.ndarray:
        return row + 10.0 * np.arange(seeds)[:, None]

    return trade_off(temperatures=temperatures, precision=blocks(precision), recall=blocks(recall), kl=blocks(kl))


@pytest.mark.parametrize(
    ("precision", "recall", "kl", "expected"),
    [
        (-UP, UP, FLAT, "holds"),
        (-UP, UP, UP, "holds"),
        (-UP, UP, 0 * UP, "holds"),
        (-UP, UP, -UP, "sharpening only"),
        (FLAT, UP, FLAT, "not shown"),
        (-UP, FLAT, -UP, "not shown"),
        (UP, -UP, FLAT, "not shown"),
        (-UP, -UP, -UP, "not shown"),
        (UP, UP, -UP, "not shown"),
        (0 * UP, 0 * UP, 0 * UP, "not shown"),
    ],
)
def test_the_verdict_is_read_from_the_trends(precision, recall, kl, expected):
    assert verdict(precision, recall, kl).verdict == expected


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_fewest_seeds_and_temperatures_that_can_show_it(seeds):
    found = verdict(-UP[:3], UP[:3], FLAT[:3], seeds=seeds, temperatures=FOUR[:3])
    assert found.verdict == "holds"
    assert found.p_precision == pytest.approx(page_trend_test(np.tile(UP[:3], (seeds, 1))).pvalue)


@pytest.mark.parametrize(
    ("seeds", "count", "says"),
    [
        (1, 4, "there is 1 seed, but a trend test over seeds needs at least 2; run with --seeds 2 or more"),
        (4, 2, "there are 2 temperatures, but a trend needs at least 3; add some with --temperatures"),
        (4, 1, "there are 1 temperatures"),
        (1, 1, "--seeds 2"),
    ],
)
def test_too_few_seeds_or_temperatures_show_nothing_and_say_what_is_needed(seeds, count, says):
    assert is_not_made(verdict(-UP[:count], UP[:count], FLAT[:count], seeds=seeds, temperatures=FOUR[:count]), says)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["precision", "recall", "kl"])
def test_a_value_that_is_not_finite_shows_nothing(bad, place):
    values = {"precision": np.tile(-UP, (3, 1)), "recall": np.tile(UP, (3, 1)), "kl": np.tile(FLAT, (3, 1))}
    assert trade_off(temperatures=FOUR, **values).verdict == "holds"
    values[place] = values[place].copy()
    values[place][1, 2] = bad
    assert is_not_made(trade_off(temperatures=FOUR, **values), "at temperature 0.9 is not finite")


tables = hnp.arrays(np.float64, (3, 4), elements=st.floats(-5, 5))


@given(tables, tables, tables)
def test_p_values_are_pages(precision, recall, kl):
    found = trade_off(temperatures=FOUR, precision=precision, recall=recall, kl=kl)
    for p, values in ((found.p_precision, -precision), (found.p_recall, recall), (found.p_kl, -kl)):
        assert p == pytest.approx(page_trend_test(values).pvalue)
    both = found.p_precision <= ALPHA and found.p_recall <= ALPHA
    assert (found.verdict == "not shown") == (not both)
    assert (found.verdict == "sharpening only") == (both and found.p_kl <= ALPHA)


@given(tables, tables, tables, st.permutations(range(4)), st.permutations(range(3)))
def test_the_order_in_which_temperatures_and_seeds_are_given_does_not_matter(precision, recall, kl, columns, rows):
    plain = trade_off(temperatures=FOUR, precision=precision, recall=recall, kl=kl)
    pick = np.ix_(rows, columns)
    shuffled = trade_off(
        temperatures=tuple(FOUR[i] for i in columns), precision=precision[pick], recall=recall[pick], kl=kl[pick]
    )
    assert shuffled == plain


@given(tables, st.floats(0.1, 10), st.floats(-5, 5))
def test_only_ranks_within_a_seed_count(values, scale, shift):
    moved = values * scale + shift * np.arange(3)[:, None]
    for before, after in zip(values, moved, strict=True):
        assume(
            np.array_equal(np.argsort(np.argsort(before)), np.argsort(np.argsort(after)))
            and len(set(before)) == len(set(after))
        )
    first, second = (trade_off(temperatures=FOUR, precision=-v, recall=v, kl=v) for v in (values, moved))
    assert first == second


def test_chance_alone_rarely_shows_a_trade_off():
    """The intersection of two tests at 0.05 each, independent here."""
    random = np.random.default_rng(0)
    shown = [
        trade_off(
            temperatures=FOUR, **{name: random.standard_normal((5, 4)) for name in ("precision", "recall", "kl")}
        ).verdict
        != "not shown"
        for _ in range(200)
    ]
    assert np.mean(shown) <= 0.03


LINE = np.array([[-10.0, -1.0], [-8.0, -2.0], [-4.0, -4.0]])
"""(P, R): P = -6 at R = -3 and -9 at R = -1.5, by lines between the points."""


def shifted(points: np.ndarray, precision: tuple[float, ...], recall: float = 0.0) -> np.ndarray:
    """One frontier per seed: the points moved by each seed's precision and a common recall."""
    return np.array([points + np.array([shift, recall]) for shift in precision])


def test_a_higher_frontier_is_higher_by_the_shift():
    base = shifted(LINE, (0.0, 5.0, -3.0))
    found = compare_frontiers(first=base + shifted(0 * LINE, (1.9, 2.0, 2.1)), second=base, recalls=(-3.0, -1.5, -0.5))
    assert found.difference.mean == pytest.approx(2)
    assert found.difference.half_width == pytest.approx(
        4.302653 * 0.1 / np.sqrt(3), rel=1e-6
    )  # t at 0.975 for 2 degrees of freedom
    assert found.overlap == (-4, -1)
    assert found.verdict() == 1
    assert [at for at, _ in found.at] == [-3.0, -1.5, -0.5]
    assert [interval and pytest.approx(interval.mean) for _, interval in found.at] == [2, 2, None]


def test_precision_is_read_at_the_same_recall():
    """Sharper points further along one line: no difference, though no two points agree."""
    along = np.array([[-9.0, -1.5], [-6.0, -3.0]])
    found = compare_frontiers(first=shifted(along, (0, 1)), second=shifted(LINE, (0, 1)), recalls=(-2.0,))
    assert found.overlap == (-3, -1.5)
    assert found.at[0][1].mean == pytest.approx(0)  # (-8) of LINE; the line from -9 to -6 is at -8 too
    assert found.verdict() == 0


def test_a_dominated_point_does_not_bend_a_frontier():
    with_dominated = np.vstack([LINE, [[-30.0, -2.5]]])
    found = compare_frontiers(
        first=shifted(with_dominated, (0, 1)), second=shifted(LINE, (0, 1)), recalls=(-2.0, -4.0, -1.0)
    )
    assert [interval.mean for _, interval in found.at] == pytest.approx([0, 0, 0])


def test_points_that_are_not_finite_are_left_out():
    with_infinite = np.vstack([LINE, [[np.nan, -2.5]], [[-np.inf, -9.0]]])
    found = compare_frontiers(first=shifted(with_infinite, (0, 1)), second=shifted(LINE, (0, 1)))
    assert found.overlap == (-4, -1)
    assert found.difference.mean == pytest.approx(0)


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        (shifted(LINE, (0, 0)), shifted(LINE, (20, 20), recall=-9), "no overlap"),
        (shifted(LINE, (20, 20), recall=-9), shifted(LINE, (0, 0)), "no overlap"),
        (shifted(LINE * np.nan, (0, 0)), shifted(LINE, (0, 0)), "no overlap"),
        (shifted(LINE, (1,)), shifted(LINE, (0,)), "1 seed"),
        (np.zeros((0, 3, 2)), np.zeros((0, 3, 2)), "no seed"),
    ],
)
def test_what_cannot_be_compared_is_said(first, second, says):
    found = compare_frontiers(first=first, second=second, recalls=(-2.0,))
    assert says in found.reason
    assert found.verdict() == 0
    if says != "1 seed":
        assert found.difference is None


@pytest.mark.parametrize("exchanged", [False, True])
def test_a_frontier_with_more_recall_throughout_and_no_less_precision_is_higher(exchanged):
    """Read at the other's recalls, where it has its highest precision (-4) or more: -4 less the mean of the other's
    line, -7.33."""
    pair = [shifted(LINE, (0, 1)), shifted(LINE, (0, 1), recall=-9)]
    found = compare_frontiers(first=pair[exchanged], second=pair[not exchanged], recalls=(-11.0, -2.0))
    assert found.overlap == (-13, -10)
    line = np.trapezoid([-4, -8, -10], [-13, -11, -10]) / 3
    assert found.difference.mean == pytest.approx((-4 - line) * (-1 if exchanged else 1))
    assert found.verdict() == (-1 if exchanged else 1)
    assert [interval and pytest.approx(interval.mean) for _, interval in found.at] == [-4 if exchanged else 4, None]


cloud = hnp.arrays(np.float64, (3, 4, 2), elements=st.floats(-5, 5))


@given(cloud, cloud)
def test_exchanged_frontiers_give_the_opposite_difference(one, other):
    found, back = compare_frontiers(first=one, second=other), compare_frontiers(first=other, second=one)
    assert found.overlap == back.overlap
    if found.difference is not None:
        assert found.difference.mean == pytest.approx(-back.difference.mean, abs=1e-9)
        assert compare_frontiers(first=one, second=one).difference.mean == 0


@pytest.mark.parametrize(("precision_noise", "recall_noise"), [(0.5, 0.1), (2.0, 0.4), (2.0, 0.05)])
def test_points_of_one_curve_rarely_show_a_difference(precision_noise, recall_noise):
    """Two frontiers on the same bent curve, seen at different settings with noise in both numbers: 5% of studies,
    about, are misled."""
    random = np.random.default_rng(0)

    def seen(recalls: tuple[float, ...]) -> np.ndarray:
        recall = np.tile(recalls, (5, 1))
        level = -20 - 3 * (recall + 8) - 0.2 * (recall + 8) ** 2
        noise = random.standard_normal((2, *recall.shape))
        return np.stack([level + precision_noise * noise[0], recall + recall_noise * noise[1]], -1)

    pairs = [(seen((-8, -4, -2.2, -2)), seen((-9, -5, -3, -2, -1))) for _ in range(300)]
    assert np.mean([compare_frontiers(first=one, second=other).verdict() != 0 for one, other in pairs]) <= 0.08


def sweep(gain: float, noise: float = 0.1):
    """Distilled students `gain` above the control, which is sampled along P = -20 - 3 (R + 8)."""
    random = np.random.default_rng(1)
    students, controls = [], []
    for seed in range(4):
        students.append(student(None, seed, precision=-41.0, recall=-1.0))
        for temperature, recall in ((0.7, -7.0), (0.85, -4.0), (1.0, -2.0)):
            level = -20 - 3 * (recall + 8)
            students.append(
                student(temperature, seed, precision=level + gain + noise * random.standard_normal(), recall=recall)
            )
            sampled = {"precision": level + noise * random.standard_normal(), "recall": recall}
            controls.append(control({"temperature": temperature}, seed, **sampled))
    return students, controls


@pytest.mark.parametrize(
    ("gain", "verdict"),
    [
        (2.0, "distillation beats sampling the direct student more sharply"),
        (-2.0, "distillation is beaten by sampling the direct student more sharply"),
        (0.0, "not shown"),
    ],
)
def test_the_control_is_compared_at_matched_recall(gain, verdict):
    found = compare_with_controls(*sweep(gain))
    assert found.verdict == verdict
    assert found.precision_difference.mean == pytest.approx(gain, abs=0.2)
    assert (found.recall_range, found.seeds, found.reason) == ((-7, -2), 4, None)


def test_results_without_controls_show_nothing_about_them():
    students, _ = sweep(2.0)
    found = compare_with_controls(students, [])
    assert (found.precision_difference, found.verdict) == (None, "not shown")
    assert "no controls" in found.reason


def test_the_frontier_document():
    log_p = np.random.default_rng(0).normal(-25, 4, 2000)
    students, controls = sweep(0.0)
    students += [student(9.0, seed, precision=None, recall=-3.0) for seed in range(4)]
    found = json.loads(json.dumps(document_of(study_frontier(students, controls, log_p)), allow_nan=False))
    assert len(found["ideal"]) == 40
    assert set(found["ideal"][0]) == {"precision", "recall", "effective_sample_size"}
    gaps = {json.dumps(record["setting"]): record for record in found["efficiency_gap"]}
    direct = gaps['{"training": "direct"}']
    assert direct["limited_by"] == "fidelity"
    assert direct["gap"] == {"mean": pytest.approx(log_p.mean() + 1.0), "half_width": pytest.approx(0), "n": 4}
    assert gaps['{"training": "distilled", "temperature": 0.85}']["limited_by"] == "fidelity"
    assert gaps['{"training": "distilled", "temperature": 0.7}']["limited_by"] == "selection"
    infinite = gaps['{"training": "distilled", "temperature": 9.0}']
    assert infinite["gap"] is None
    assert "infinite" in infinite["reason"]


def test_a_seed_beyond_the_trusted_ideal_leaves_no_gap():
    students = [student(0.5, seed, precision=-1.0, recall=-3.0) for seed in range(2)]
    (found,) = study_frontier(students, [], np.random.default_rng(0).normal(-30, 4, 200)).efficiency_gap
    assert found.gap is None
    assert "--num-eval" in found.reason
