"""How sure are we: what speaks for the verdict and what against it, each in a few words and in a sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distilscope.evaluation.by_seed import named
from distilscope.report.candidates import FEW_SEEDS, Cast
from distilscope.report.charts.gates import LIMIT, checks


@dataclass(frozen=True)
class Finding:
    """`good` says whether it speaks for the verdict; None where it is only good to know."""

    good: bool | None
    short: str
    text: str


def findings(cast: Cast, trainings: Sequence[Mapping[str, Any]] | None) -> list[Finding]:
    """trainings: the curves of the models that were trained; None where they cannot be read."""
    makers = (_gates, _seeds, _trade_off, _choice, _control, _edge, _fidelity)
    found = [one for make in makers for one in make(cast)] + list(_trained_out(trainings or ()))
    return sorted(found, key=lambda one: (one.good is None, one.good is False))


def _gates(cast: Cast) -> Iterator[Finding]:
    rows = checks(cast)
    decided = [abs(row["z"]) for row in rows if isinstance(row["z"], float)]
    undecided = sum(row["z"] == "undecided" for row in rows)
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
    if any(row["z"] == "not available" and row["role"] == "reference" for row in rows):
        yield Finding(None, "p* is data, beyond the gates", "p* is data that no model drew, so no gate applies to it.")


def _seeds(cast: Cast) -> Iterator[Finding]:
    seeds, truth = cast.results["seeds"], cast.results["ground_truth"]
    drawn = f"Precision and recall rest on {truth['num_eval']} draws of each side." if "num_eval" in truth else ""
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


def _trade_off(cast: Cast) -> Iterator[Finding]:
    found = cast.results.get("trade_off") or {}
    if found.get("p_precision") is None:
        if found.get("reason"):
            yield Finding(None, "no trend test", f"There is no trend test: {found['reason']}.")
        return
    tests = f"Page's trend test: precision {_p(found['p_precision'])}, recall {_p(found['p_recall'])}"
    if found["verdict"] == "not shown":
        both = "precision and recall do not both follow the temperature beyond chance"
        yield Finding(False, "trade-off not shown", f"The trade-off is not shown: {both} ({tests}).")
    else:
        fidelity = ", at a cost in fidelity" if found["verdict"] == "sharpening only" else ""
        moves = f"as the teacher's temperature falls, precision rises and recall falls{fidelity}"
        yield Finding(True, f"the trade-off holds{fidelity}", f"The trade-off holds: {moves} ({tests}).")


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _choice(cast: Cast) -> Iterator[Finding]:
    found = cast.results.get("recommendation") or {}
    if not found.get("candidates"):
        return
    rivals = [named(one) for one in found["tied"] if one != found["setting"]]
    if found["setting"] is None:
        yield Finding(
            False, "no setting is shown best", "No setting is shown to be the best; more seeds would tell them apart."
        )
    elif rivals:
        names = ", ".join(rivals)
        yield Finding(False, f"tied with it: {names}", f"Not ruled out as the best beside it: {names}.")
    else:
        others = f"Every other one of the {len(found['candidates'])} candidates"
        yield Finding(
            True,
            "every other setting is ruled out",
            f"{others} is ruled out, by tests that count how many were compared.",
        )


def _control(cast: Cast) -> Iterator[Finding]:
    found = (cast.results.get("frontier") or {}).get("control") or {}
    if "is beaten" in found.get("verdict", ""):
        yield Finding(
            False,
            "the direct student, drawn more sharply, does better",
            (
                "Distillation is beaten by the control: the direct student drawn more sharply has more precision "
                "at the same recall or more."
            ),
        )
    elif "beats" in found.get("verdict", ""):
        yield Finding(
            True,
            "it beats the direct student drawn more sharply",
            (
                "Distillation beats the control: it has more precision at the same recall or more than the direct "
                "student drawn more sharply."
            ),
        )
    elif found.get("reason"):
        yield Finding(
            None,
            "not shown to beat the control",
            f"Whether distillation beats the control is not shown: {found['reason']}.",
        )
    elif found:
        text = (
            "Neither is shown to have more precision at the same recall or more: distillation, or the direct "
            "student drawn more sharply."
        )
        yield Finding(False, "not shown to beat the control", text)


def _edge(cast: Cast) -> Iterator[Finding]:
    chosen = cast.recommended
    lowest = min((group.temperature for group in cast.distilled if group.temperature is not None), default=None)
    if chosen and chosen.temperature is not None and chosen.temperature == lowest and len(cast.distilled) > 1:
        text = f"τ = {lowest:g} is the lowest temperature tried, so the best may lie below it: try lower ones."
        yield Finding(None, f"τ = {lowest:g} is the lowest tried", text)


def _fidelity(cast: Cast) -> Iterator[Finding]:
    gaps = (cast.results.get("frontier") or {}).get("efficiency_gap") or []
    if gaps and all(gap["limited_by"] == "fidelity" and gap["gap"] for gap in gaps):
        lowest = min(gap["gap"]["mean"] for gap in gaps)
        more = f"p* itself has more precision than any of them and at least {lowest:.0f} nats more recall"
        yield Finding(
            None, "better students would gain more", f"Every student is limited by fidelity, not by selection: {more}."
        )


def _trained_out(trainings: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    last = sum(one["chosen_step"] == one["history"][-1]["step"] for one in trainings)
    if trainings and last == len(trainings):
        text = "Every model was at its best in its last checkpoint, so more training might help."
        yield Finding(None, "models were still improving", text)
