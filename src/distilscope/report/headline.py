"""The report's first words: what to use, why, and what speaks against it."""

from __future__ import annotations

from dataclasses import dataclass

from distilscope.evaluation.estimate import Interval
from distilscope.evaluation.results import Results
from distilscope.report.numbers import of_interval
from distilscope.report.results_table import control_sentence, trade_off_sentence


@dataclass(frozen=True)
class Headline:
    """`answer` is the verdict in a sentence; `why` and `but` say on what it rests and what a reader must know before
    using it."""

    answer: str
    why: str
    but: str


def headline(results: Results) -> Headline:
    """The recommendation in sentences; where there is none, why."""
    found = results.recommendation
    reason, setting = _sentence(found.reason), found.setting
    if not found.candidates:
        return Headline("No recommendation.", reason, "")
    if setting is None:
        tied = ", ".join(one.phrase for one in found.tied)
        return Headline(
            "No clear winner among the settings tried.", reason, f"Not ruled out as the best: {tied}." if tied else ""
        )
    if setting.role == "direct":
        return Headline(
            "Distil nothing: the direct student, trained on p*'s own draws, is the best of those tried.", reason, ""
        )
    assert found.recall_loss is not None
    gain, loss = _number(found.precision_gain), _number(found.recall_loss)
    costs = f"costs {loss}" if found.recall_loss.mean >= 0 else f"gains {loss.removeprefix('−')}"
    against = f"against the direct student it gains {gain} nats of precision and {costs} nats of recall"
    return Headline(f"Draw the teacher's data at {setting.phrase}: {against}.", reason, _against_control(results))


def closing(results: Results) -> tuple[str, str, str]:
    """A run's last words, a line each: whether the trade-off holds, what to use and why, and whether distilling beats
    the control."""
    found = headline(results)
    return trade_off_sentence(results), f"{found.answer} {found.why}".replace(_UNBROKEN, " "), control_sentence(results)


def _against_control(results: Results) -> str:
    """Whether distilling was worth it at all."""
    control = results.frontier.control
    difference = control.precision_difference
    if difference is None:
        return ""
    amount = _number(Interval(abs(difference.mean), difference.half_width, difference.n))
    if "is beaten" in control.verdict:
        better = f"does better still: {amount} nats more precision at the same recall or more"
        return f"But sampling the direct student more sharply, with no teacher at all, {better}."
    if "beats" in control.verdict:
        return (
            f"It also beats sampling the direct student more sharply: {amount} nats more precision at the same "
            "recall or more."
        )
    return "But it is not shown to do better than sampling the direct student more sharply, with no teacher at all."


_UNBROKEN = "\N{NO-BREAK SPACE}"
"""Keeps a number and its interval on one line of the page."""


def _number(interval: Interval | None) -> str:
    return of_interval(interval, 1, space=_UNBROKEN)


def _sentence(text: str) -> str:
    """With a capital, except for p*."""
    return f"{text if text.startswith('p*') else text[:1].upper() + text[1:]}."
