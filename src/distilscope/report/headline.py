"""The report's first words: what to use, why, and what speaks against it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from distilscope.evaluation.by_seed import named
from distilscope.evaluation.estimate import Interval
from distilscope.report.results_table import earns_its_keep, verdict


@dataclass(frozen=True)
class Headline:
    """`answer` is the verdict in a sentence; `why` and `but` say on what it rests and what a reader must know before
    using it."""

    answer: str
    why: str
    but: str


def headline(results: Mapping[str, Any]) -> Headline:
    found = results.get("recommendation") or {"setting": None, "reason": "these results hold no recommendation"}
    reason, setting = _sentence(found["reason"]), found["setting"]
    if not found.get("candidates"):
        return Headline("No recommendation.", reason, "")
    if setting is None:
        tied = ", ".join(named(one) for one in found["tied"])
        return Headline(
            "No clear winner among the settings tried.", reason, f"Not ruled out as the best: {tied}." if tied else ""
        )
    if setting["training"] == "direct":
        return Headline(
            "Distil nothing: the direct student, trained on p*'s own draws, is the best of those tried.", reason, ""
        )
    gain, loss = (_number(found[name]) for name in ("precision_gain", "recall_loss"))
    lost = found["recall_loss"]["mean"] >= 0
    costs = f"costs {loss}" if lost else f"gains {loss.removeprefix('−')}"
    against = f"against the direct student it gains {gain} nats of precision and {costs} nats of recall"
    return Headline(f"Draw the teacher's data at {named(setting)}: {against}.", reason, _against_control(results))


def closing(results: Mapping[str, Any]) -> tuple[str, str, str]:
    """A run's last words, a line each: whether the trade-off holds, what to use and why, and whether distilling beats
    the control."""
    found = headline(results)
    return verdict(results), f"{found.answer} {found.why}".replace(_NARROW, " "), earns_its_keep(results)


def _against_control(results: Mapping[str, Any]) -> str:
    """Whether distilling was worth it at all."""
    control = (results.get("frontier") or {}).get("control") or {}
    difference = control.get("precision_difference")
    if difference is None:
        return ""
    amount = _number({**difference, "mean": abs(difference["mean"])})
    if "is beaten" in control["verdict"]:
        better = f"does better still: {amount} nats more precision at the same recall or more"
        return f"But sampling the direct student more sharply, with no teacher at all, {better}."
    if "beats" in control["verdict"]:
        return (
            f"It also beats sampling the direct student more sharply: {amount} nats more precision at the same "
            "recall or more."
        )
    return "But it is not shown to do better than sampling the direct student more sharply, with no teacher at all."


_NARROW = "\N{NO-BREAK SPACE}"
"""A number is not torn from its interval at the end of a line."""


def _number(record: Mapping[str, Any]) -> str:
    interval = Interval.from_json(record)
    text = f"{interval.mean:.1f}" + (
        f"{_NARROW}±{_NARROW}{interval.half_width:.1f}" if interval.half_width is not None else ""
    )
    return text.replace("-", "−")


def _sentence(text: str) -> str:
    """p* keeps its name at the beginning too."""
    return f"{text if text.startswith('p*') else text[:1].upper() + text[1:]}."
