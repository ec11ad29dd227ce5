"""Which setting should I distil at, and what does it cost? The best of a grid, with intervals that account for having
chosen it.

Recall loss = R_direct - R and precision gain = P - P_direct, in nats per draw, paired by seed: both are 0 for the
direct student, which is a candidate itself. The best candidate is either the one with most precision gain whose recall
loss stays within a budget, or the one with the highest R + lambda P, lambda being a precision weight.

Two statements, each with 95% confidence where differences over seeds are normal (Bonferroni; any dependence between
candidates is allowed):

- Intervals: J distilled settings with two numbers each, so t-intervals over seeds at 1 - 0.05 / (2 J), all valid at
  once, that
  of the chosen setting too.
- The tied set, by multiple comparisons with the best (Hsu 1981, in its pairwise form): a candidate is ruled out where
  another one is shown
  better by a one-sided paired t-test at 0.05 / J, J being the number of others. The truly best one is lost with
  probability 0.05 at most.
- With a budget, a candidate is also ruled out where its interval of recall loss lies above the budget, and only
  candidates whose interval
  lies within it can rule out others. The intervals of recall loss take half of the 0.05, so the t-tests run at 0.025 /
  J.

**No clear winner.** Take the candidate with the highest mean among those that can be chosen (with a budget: those whose
interval of recall loss lies within it). If it is a distilled setting, it is the answer where the t-test above shows it
better than the direct student. If it is the direct student, that is the answer where every other candidate is ruled
out. Otherwise there is none.

All of it is conditional on D and on the test draws of p*, which every student shares.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from distilscope.errors import UsageError
from distilscope.evaluation.by_seed import Grid
from distilscope.evaluation.candidates import DIRECT, Candidate
from distilscope.evaluation.estimate import Interval, t_interval
from distilscope.evaluation.results import Alternative, Recommendation, Student

ALPHA = 0.05

DEFAULT_WEIGHT = 1.0
"""Nats of recall that a nat of precision is worth, where nothing else was said."""


def recommend(
    students: Sequence[Student], *, max_recall_loss: float | None = None, precision_weight: float | None = None
) -> Recommendation:
    """The recommendation from a study's students, by a recall budget (nats) or a precision weight (nats of recall per
    nat of precision).

    With neither, the precision weight is 1. Raises UsageError for both, for a number that is negative or not finite,
    for fewer than 2 seeds, and where no distilled setting can be compared with the direct student.
    """
    if max_recall_loss is not None and precision_weight is not None:
        raise UsageError(
            f"a recall budget of {max_recall_loss:g} and a precision weight of {precision_weight:g} are two "
            "objectives; give one of them"
        )
    for name, value in (("the recall budget", max_recall_loss), ("the precision weight", precision_weight)):
        if value is not None and not 0 <= value < math.inf:
            raise UsageError(f"{name} is {value}, but must be a finite number of at least 0, such as 2.5")
    grid = Grid.of(students)
    settings, gain, loss = _paired(grid)
    weight = DEFAULT_WEIGHT if max_recall_loss is None and precision_weight is None else precision_weight
    value = gain if weight is None else weight * gain - loss
    found = choose(gain=gain, loss=loss, value=value, max_recall_loss=max_recall_loss)
    candidates = tuple(
        Alternative(setting=setting, precision_gain=gains, recall_loss=losses, tied=bool(tied))
        for setting, gains, losses, tied in zip(settings, found.gains, found.losses, found.tied, strict=True)
    )
    chosen = None if found.chosen is None else candidates[found.chosen]
    ordered = np.argsort(-value.mean(axis=0), kind="stable")
    excluded = tuple(setting for setting in grid.candidates if setting not in settings)
    objective = (
        f"at most {max_recall_loss:g} nats of recall lost"
        if weight is None
        else f"a nat of precision worth {weight:g} of recall"
    )
    reason = _reason(found, candidates, objective)
    if max_recall_loss is None and precision_weight is None:
        reason = (
            f"with neither a recall budget nor a precision weight given, the weight is {DEFAULT_WEIGHT:g}; {reason}"
        )
    if excluded:
        names = ", ".join(setting.phrase for setting in excluded)
        reason += f"; left out for an infinite estimate or a missing student: {names}"
    return Recommendation(
        setting=None if chosen is None else chosen.setting,
        tied=tuple(settings[at] for at in ordered if found.tied[at]),
        reason=reason,
        max_recall_loss=max_recall_loss,
        precision_weight=weight,
        precision_gain=chosen.precision_gain if chosen else None,
        recall_loss=chosen.recall_loss if chosen else None,
        candidates=candidates,
        excluded=excluded,
        seeds=len(gain),
    )


def study_recommendation(students: Sequence[Student]) -> Recommendation:
    """What a study's results hold: by the default weight; where none can be made, no setting and why."""
    try:
        return recommend(students)
    except UsageError as error:
        return Recommendation(setting=None, tied=(), reason=str(error))


def _paired(
    grid: Grid,
) -> tuple[list[Candidate], Float[np.ndarray, "seeds candidates"], Float[np.ndarray, "seeds candidates"]]:
    """The candidates, the direct student first, with precision gain and recall loss by seed."""
    if DIRECT not in grid.candidates:
        raise UsageError(
            "these results hold no direct student, but gains and losses are counted from it; run the study again"
        )
    direct = grid.candidates.index(DIRECT)
    if len(grid.seeds) < 2:
        raise UsageError(
            f"these results hold {len(grid.seeds)} seed, but intervals over seeds need at least 2; run with --seeds 2 "
            "or more"
        )
    if not grid.finite[direct]:
        raise UsageError(
            "the direct student has an infinite estimate or lacks a seed, so no setting can be compared with it; mend "
            "that and run again"
        )
    kept = [at for at in range(len(grid.candidates)) if grid.finite[at] and at != direct]
    if not kept:
        raise UsageError(
            "these results hold no distilled setting with finite estimates, but a choice needs at least 1; add "
            "temperatures"
        )
    columns = [direct, *kept]
    gain = grid.precision[:, columns] - grid.precision[:, [direct]]
    loss = grid.recall[:, [direct]] - grid.recall[:, columns]
    return [grid.candidates[at] for at in columns], gain, loss


@dataclass(frozen=True)
class Choice:
    """The candidate chosen (None: no clear winner), with the statements it rests on; candidate 0 is the direct
    student."""

    chosen: int | None
    best: int
    """The highest mean among those that can be chosen."""
    tied: Bool[np.ndarray, " candidates"]
    within: Bool[np.ndarray, " candidates"]
    """Shown to stay within the budget (without one: all)."""
    gains: list[Interval]
    losses: list[Interval]


def choose(
    *,
    gain: Float[np.ndarray, "seeds candidates"],
    loss: Float[np.ndarray, "seeds candidates"],
    value: Float[np.ndarray, "seeds candidates"],
    max_recall_loss: float | None,
) -> Choice:
    """The best candidate by mean `value`, within the budget if there is one, by the rules that head this module.

    Column 0 is the direct student: no gain, no loss. At least 2 seeds and 2 candidates.
    """
    others = gain.shape[1] - 1
    gains, losses = (
        [t_interval(list(column), confidence=1 - ALPHA / (2 * others)) for column in table.T] for table in (gain, loss)
    )
    budget = math.inf if max_recall_loss is None else max_recall_loss
    within = np.array([interval.high <= budget for interval in losses])
    beyond = np.array([interval.low > budget for interval in losses])
    better = _shown_better(value, alpha=(ALPHA if max_recall_loss is None else ALPHA / 2) / others)
    tied = ~beyond & ~(better & within[:, None]).any(axis=0)
    best = int(np.where(within, value.mean(axis=0), -math.inf).argmax())
    clear = better[best, 0] if best else not tied[1:].any()
    return Choice(best if clear else None, best, tied, within, gains, losses)


def _shown_better(
    value: Float[np.ndarray, "seeds candidates"], *, alpha: float
) -> Bool[np.ndarray, "candidates candidates"]:
    """[j, i]: whether j is shown better than i by a one-sided paired t-test over seeds at `alpha`."""
    from scipy.stats import t

    seeds = len(value)
    differences = value[:, :, None] - value[:, None, :]
    spread = differences.std(axis=0, ddof=1) / math.sqrt(seeds)
    return differences.mean(axis=0) > t.ppf(1 - alpha, seeds - 1) * spread


def _reason(found: Choice, candidates: tuple[Alternative, ...], objective: str) -> str:
    rivals = int(found.tied.sum()) - int(found.tied[found.best])
    best, count = candidates[found.best].setting.phrase, f"{len(candidates)} candidates"
    if found.chosen == 0:
        return f"with {objective}, {best} is the best of {count}; every distilled setting is ruled out"
    if found.chosen is not None:
        also = f"{rivals} other{'s' * (rivals != 1)} cannot be ruled out" if rivals else "every other one is ruled out"
        return f"with {objective}, {best} is the best of {count} and is shown better than the direct student; {also}"
    if not found.within[1:].any():
        return f"no clear winner: no distilled setting is shown to stay within {objective}; add seeds or allow more"
    if found.best:
        short = "has the highest mean but is not shown better than the direct student"
        return f"no clear winner: with {objective}, {best} of {count} {short}; add seeds"
    short = "has the highest mean, but not every distilled setting is ruled out"
    return f"no clear winner: with {objective}, {best} of {count} {short}; add seeds"
