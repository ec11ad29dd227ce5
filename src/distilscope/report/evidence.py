"""How sure the verdict is: what speaks for it and what against it, each in a few words and in a sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from distilscope.report.candidates import FEW_SEEDS, Candidates
from distilscope.report.charts.gates import LIMIT, checks
from distilscope.report.exhibit import TrainingCurve


@dataclass(frozen=True)
class Finding:
    """`good` says whether it speaks for the verdict; None where it is only good to know."""

    good: bool | None
    short: str
    text: str


def findings(candidates: Candidates, trainings: Sequence[TrainingCurve] | None) -> list[Finding]:
    """trainings: the curves of the models that were trained; None where they cannot be read."""
    makers = (_gates, _seeds, _trade_off, _choice, _control, _edge, _fidelity)
    found = [one for make in makers for one in make(candidates)] + list(_trained_out(trainings or ()))
    return sorted(found, key=lambda one: (one.good is None, one.good is False))


def _gates(candidates: Candidates) -> Iterator[Finding]:
    rows = checks(candidates)
    decided = [abs(row.z) for row in rows if isinstance(row.z, float)]
    undecided = sum(row.z == "undecided" for row in rows)
    if decided:
        largest = f"{max(decided):.1f}"
        passed = (
            f"scored again they gave back their recorded log-probabilities, and the largest |z| is {largest} of "
            f"at most {LIMIT:g}"
        )
        yield Finding(True, f"both gates passed, |z| up to {largest}", f"All draws passed both gates: {passed}.")
    if undecided:
        short = f"{undecided} of {len(rows)} sampler checks undecided"
        why = "too few tokens for it to say anything"
        yield Finding(
            None, short, f"For {undecided} of {len(rows)} sets of draws the sampler check is undecided: {why}."
        )
    if any(row.z == "not available" and row.role == "reference" for row in rows):
        yield Finding(None, "p* is data, beyond the gates", "p* is data that no model drew, so no gate applies to it.")


def _seeds(candidates: Candidates) -> Iterator[Finding]:
    seeds = candidates.results.seeds
    drawn = f"Precision and recall rest on {candidates.results.ground_truth.num_eval} draws of each side."
    if seeds < 2:
        yield Finding(
            False, "one seed, so no intervals", f"One seed: nothing says how much another run would differ. {drawn}"
        )
    elif seeds < FEW_SEEDS:
        yield Finding(False, f"only {seeds} seeds", f"Only {seeds} seeds, so that intervals are very wide. {drawn}")
    else:
        own = f"{seeds} seeds, each with a teacher, students and draws of its own"
        yield Finding(
            True, f"{seeds} seeds", f"{own}; intervals are 95% over seeds, given D and p*'s test draws. {drawn}"
        )


def _trade_off(candidates: Candidates) -> Iterator[Finding]:
    found = candidates.results.trade_off
    if found.p_precision is None or found.p_recall is None:
        if found.reason:
            yield Finding(None, "no trend test", f"There is no trend test: {found.reason}.")
        return
    tests = f"Page's trend test: precision {_p(found.p_precision)}, recall {_p(found.p_recall)}"
    if found.verdict == "not shown":
        both = "precision and recall do not both follow the temperature beyond chance"
        yield Finding(False, "trade-off not shown", f"The trade-off is not shown: {both} ({tests}).")
    else:
        fidelity = ", at a cost in fidelity" if found.verdict == "sharpening only" else ""
        moves = f"as the teacher's temperature falls, precision rises and recall falls{fidelity}"
        yield Finding(True, f"the trade-off holds{fidelity}", f"The trade-off holds: {moves} ({tests}).")


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _choice(candidates: Candidates) -> Iterator[Finding]:
    found = candidates.results.recommendation
    if not found.candidates:
        return
    rivals = [one.phrase for one in found.tied if one != found.setting]
    if found.setting is None:
        yield Finding(
            False, "no setting is shown best", "No setting is shown to be the best; more seeds would tell them apart."
        )
    elif rivals:
        names = ", ".join(rivals)
        yield Finding(False, f"tied with it: {names}", f"Not ruled out as the best beside it: {names}.")
    else:
        others = f"Every other one of the {len(found.candidates)} candidates"
        yield Finding(
            True,
            "every other setting is ruled out",
            f"{others} is ruled out, by tests that count how many were compared.",
        )


def _control(candidates: Candidates) -> Iterator[Finding]:
    found = candidates.results.frontier.control
    if "is beaten" in found.verdict:
        yield Finding(
            False,
            "the direct student, drawn more sharply, does better",
            (
                "Distillation is beaten by the control: the direct student drawn more sharply has more precision "
                "at the same recall or more."
            ),
        )
    elif "beats" in found.verdict:
        yield Finding(
            True,
            "it beats the direct student drawn more sharply",
            (
                "Distillation beats the control: it has more precision at the same recall or more than the direct "
                "student drawn more sharply."
            ),
        )
    elif found.reason:
        yield Finding(
            None,
            "not shown to beat the control",
            f"Whether distillation beats the control is not shown: {found.reason}.",
        )
    else:
        text = (
            "Neither is shown to have more precision at the same recall or more: distillation, or the direct "
            "student drawn more sharply."
        )
        yield Finding(False, "not shown to beat the control", text)


def _edge(candidates: Candidates) -> Iterator[Finding]:
    chosen = candidates.results.recommendation.setting
    tried = [group.candidate for group in candidates.distilled]
    lowest = min((one.temperature for one in tried if one.temperature is not None), default=None)
    if chosen and lowest is not None and chosen.temperature == lowest and len(tried) > 1:
        text = f"τ = {lowest:g} is the lowest temperature tried, so the best may lie below it: try lower ones."
        yield Finding(None, f"τ = {lowest:g} is the lowest tried", text)


def _fidelity(candidates: Candidates) -> Iterator[Finding]:
    settings = candidates.results.frontier.efficiency_gap
    gaps = [one.gap for one in settings if one.gap and one.limited_by == "fidelity"]
    if gaps and len(gaps) == len(settings):
        lowest = min(gap.mean for gap in gaps)
        more = f"p* itself has more precision than any of them and at least {lowest:.0f} nats more recall"
        yield Finding(
            None, "better students would gain more", f"Every student is limited by fidelity, not by selection: {more}."
        )


def _trained_out(trainings: Sequence[TrainingCurve]) -> Iterator[Finding]:
    last = sum(one.chosen_step == one.history[-1].step for one in trainings)
    if trainings and last == len(trainings):
        text = "Every model was at its best in its last checkpoint, so more training might help."
        yield Finding(None, "models were still improving", text)
