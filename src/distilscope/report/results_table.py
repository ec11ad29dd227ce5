"""The table that a run ends with: means over seeds with t-intervals, and what its tests say in a sentence each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter

from rich.table import Table
from rich.text import Text

from distilscope.evaluation.estimate import Interval
from distilscope.evaluation.results import Results, Student, by_candidate
from distilscope.report.numbers import over_seeds

COLUMNS = {
    "P = E_q[log p*]": attrgetter("precision"),
    "R = E_p*[log q]": attrgetter("recall"),
    "H(q)": attrgetter("candidate_entropy"),
    "KL(q‖p*)": attrgetter("kl_candidate_reference"),
    "KL(p*‖q)": attrgetter("kl_reference_candidate"),
    "length": attrgetter("mean_length.candidate"),
}
"""The estimate of a student behind each column."""


@dataclass(frozen=True)
class Row:
    """A row of a page's table."""

    label: str
    cells: Sequence[str]
    role: str | None = None
    """The candidate's, for its colour and shape; None writes the label alone."""


def about_ground_truth(results: Results) -> str:
    """What p* is, in a line."""
    truth = results.ground_truth
    after = f"prompt {truth.prompt!r}" if truth.prompt is not None else f"{truth.prompts} prompts"
    return (
        f"p*: {truth.name}; {after}, at most {truth.horizon} tokens; "
        f"H(p*) = {truth.entropy}{' nats' * (truth.entropy.mean is not None)}, {truth.mean_length.mean:.1f} tokens, "
        f"{truth.ended:.0%} ended."
    )


def study_table(results: Results) -> Table:
    """One row per kind of student; values are nats per sequence (length: tokens), mean ± 95% t-interval over seeds."""
    seeds = results.seeds
    over = f"mean ± 95% t-interval over {seeds} seeds" if seeds > 1 else "one seed, so no interval"
    recall = [student.recall.stderr for student in results.students if student.recall.stderr]
    note = f"given D and the {results.ground_truth.num_eval} test draws of p*, which all seeds share; "
    note += f"their own sampling error of R and KL(p*‖q), at most {max(recall):.2f}, comes on top" if recall else ""
    table = Table(caption=Text(note), title=f"Students against p*, {results.unit}: {over}", title_justify="left")
    table.add_column("student")
    for column in COLUMNS:
        table.add_column(Text(column), justify="right", no_wrap=True)  # plain text: brackets are no markup
    for candidate, students in by_candidate(results.own_students).items():
        table.add_row(candidate.label, *cells(students))
    table.add_section()
    for candidate, controls in by_candidate(results.controls).items():
        table.add_row(candidate.label, *cells(controls))
    return table


def cells(students: Sequence[Student], columns: Iterable[str] = tuple(COLUMNS)) -> list[str]:
    """A candidate's row: each column's quantity over its seeds."""
    return [over_seeds([COLUMNS[column](student) for student in students]) for column in columns]


def matched_entropy_table(results: Results) -> Table:
    """What other sampling parameters give beyond temperature at the same entropy of the teacher; empty where only
    temperatures were studied."""
    caption = (
        "the student's difference from the temperature of the same teacher entropy per token, paired by seed; "
        "mean ± 95% t-interval"
    )
    table = Table(title="Sampling parameters at matched entropy", title_justify="left", caption=Text(caption))
    for column in ("teacher's setting", "teacher's entropy, nats per token", "difference in P", "difference in R"):
        table.add_column(Text(column), justify="left" if column == "teacher's setting" else "right")
    for row in matched_entropy_rows(results):
        table.add_row(row.label, *row.cells)
    return table


def matched_entropy_rows(results: Results) -> list[Row]:
    """By setting: the teacher's entropy per token, then the differences in precision and in recall."""
    return [
        Row(
            one.setting.label,
            [
                _comparable(found)
                for found in (one.teacher_entropy_per_token, one.precision_difference, one.recall_difference)
            ],
        )
        for one in results.matched_entropy
    ]


def _comparable(interval: Interval | None) -> str:
    return "not comparable" if interval is None else str(interval)


def control_sentence(results: Results) -> str:
    """Whether distillation does more than sampling the direct student more sharply would, in a sentence."""
    found = results.frontier.control
    if found.precision_difference is None:
        return f"Against the direct student drawn at the same settings: {found.verdict} ({found.reason})."
    return (
        f"Against the direct student drawn at the same settings: {found.verdict} "
        f"(precision at the same recall or more differs by {found.precision_difference} {results.unit})."
    )


def trade_off_sentence(results: Results) -> str:
    """What the trend test says, in a sentence."""
    found = results.trade_off
    if found.p_precision is None:
        return f"Trade-off: not shown ({found.reason})."
    says = {
        "holds": "holds: precision rises and recall falls as the teacher's temperature is lowered",
        (
            "sharpening only"
        ): "sharpening only: precision rises and recall falls as the temperature is lowered, at a cost in fidelity",
        "not shown": "not shown: precision and recall do not both follow the temperature beyond chance",
    }[found.verdict]
    tests = {"precision": found.p_precision, "recall": found.p_recall, "KL": found.p_kl}
    numbers = ", ".join(f"{name} p = {p:.2g}" for name, p in tests.items())
    return f"Trade-off {says} (Page's test: {numbers})."
