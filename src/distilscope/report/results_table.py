"""The table that a run ends with: means over seeds with t-intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from distilscope.evaluation.estimate import Estimate, Interval, t_interval

COLUMNS = {
    "P = E_q[log p*]": ("precision",),
    "R = E_p*[log q]": ("recall",),
    "H(q)": ("candidate_entropy",),
    "KL(q‖p*)": ("kl_candidate_reference",),
    "KL(p*‖q)": ("kl_reference_candidate",),
    "length": ("mean_length", "candidate"),
}


def ground_truth_name(results: dict[str, Any]) -> str:
    """How p* is named wherever results stand."""
    truth = results["ground_truth"]
    return truth["description"] or f"{truth['reference']}, vocabulary of {truth['vocabulary']}"


def about_ground_truth(results: dict[str, Any]) -> str:
    """What p* is, in a line."""
    truth = results["ground_truth"]
    after = f"prompt {truth['prompt']!r}" if truth["prompt"] is not None else f"{truth['prompts']} prompts"
    entropy, length = Estimate.from_json(truth["entropy"]), truth["mean_length"]["mean"]
    return (
        f"p*: {ground_truth_name(results)}; {after}, at most {truth['horizon']} tokens; "
        f"H(p*) = {entropy}{' nats' * (entropy.mean is not None)}, {length:.1f} tokens, {truth['ended']:.0%} ended."
    )


def setting_label(selectivity: Mapping[str, float | int] | None) -> str:
    """How a setting of the teacher is named in tables and figures; None is no teacher at all."""
    if selectivity is None:
        return "direct"
    symbols = {"temperature": "τ = ", "top_k": "top-k ", "top_p": "top-p ", "min_p": "min-p "}
    return ", ".join(f"{symbols[parameter]}{value:g}" for parameter, value in selectivity.items())


def study_table(results: dict[str, Any]) -> Table:
    """One row per kind of student; values are nats per sequence (length: tokens), mean ± 95% t-interval over seeds."""
    seeds = results["seeds"]
    over = f"mean ± 95% t-interval over {seeds} seeds" if seeds > 1 else "one seed, so no interval"
    recall = [s["recall"]["stderr"] for s in results["students"] if s["recall"]["stderr"]]
    note = f"given D and the {results['ground_truth']['num_eval']} test draws of p*, which all seeds share; "
    note += f"their own sampling error of R and KL(p*‖q), at most {max(recall):.2f}, comes on top" if recall else ""
    table = Table(caption=Text(note), title=f"Students against p*, {results['unit']}: {over}", title_justify="left")
    table.add_column("student")
    for column in COLUMNS:
        table.add_column(Text(column), justify="right", no_wrap=True)  # plain text: brackets are no markup
    for name, students in by_label(results).items():
        table.add_row(name, *(over_seeds(students, path) for path in COLUMNS.values()))
    controls: dict[str, list[dict[str, Any]]] = {}
    for control in sorted(
        results["controls"], key=lambda one: (one["evaluation_temperature"] is None, one["evaluation_temperature"] or 0)
    ):
        controls.setdefault(f"direct at {setting_label(control['evaluation_selectivity'])}", []).append(control)
    table.add_section()
    for name, students in controls.items():
        table.add_row(name, *(over_seeds(students, path) for path in COLUMNS.values()))
    return table


def matched_entropy_table(results: dict[str, Any]) -> Table:
    """What other sampling parameters give beyond temperature at the same entropy of the teacher; empty where only
    temperatures were studied."""
    caption = (
        "the student's difference from the temperature of the same teacher entropy per token, paired by seed; "
        "mean ± 95% t-interval"
    )
    table = Table(title="Sampling parameters at matched entropy", title_justify="left", caption=Text(caption))
    for column in ("teacher's setting", "teacher's entropy, nats per token", "difference in P", "difference in R"):
        table.add_column(Text(column), justify="left" if column == "teacher's setting" else "right")
    for one in results["matched_entropy"]:
        sampling = {name: value for name, value in one["setting"].items() if name != "training"}
        cells = [
            _interval(one[name]) for name in ("teacher_entropy_per_token", "precision_difference", "recall_difference")
        ]
        table.add_row(setting_label(sampling), *cells)
    return table


def _interval(record: dict[str, Any] | None) -> str:
    return "not comparable" if record is None else str(Interval.from_json(record))


def by_label(results: dict[str, Any], variant: dict[str, int] | None = None) -> dict[str, list[dict[str, Any]]]:
    """A variant's students (the study's own: {}) by label: temperatures rising, then other settings in their order, the
    direct one last."""
    own = [student for student in results["students"] if student["variant"] == (variant or {})]
    own.sort(key=lambda s: (s["training"] == "direct", s["temperature"] is None, s["temperature"] or 0))
    groups: dict[str, list[dict[str, Any]]] = {}
    for student in own:
        groups.setdefault(setting_label(student["selectivity"]), []).append(student)
    return groups


def over_seeds(students: list[dict[str, Any]], path: tuple[str, ...]) -> str:
    """Mean ± t-interval of one estimate over seeds, or how many seeds have an infinite one."""
    means: list[float | None] = []
    for student in students:
        value: Any = student
        for key in path:
            value = value[key]
        if value.get("not_available"):
            return "not available"
        means.append(value["mean"])
    finite = [mean for mean in means if mean is not None]
    if len(finite) < len(means):
        return f"infinite in {len(means) - len(finite)} of {len(means)}"
    return str(t_interval(finite))


def earns_its_keep(results: Mapping[str, Any]) -> str:
    """Whether distillation does more than sampling the direct student more sharply would, in a sentence."""
    found = results["frontier"]["control"]
    if found["precision_difference"] is None:
        return f"Against the direct student drawn at the same settings: {found['verdict']} ({found['reason']})."
    return (
        f"Against the direct student drawn at the same settings: {found['verdict']} "
        f"(precision at the same recall or more differs by {_interval(found['precision_difference'])} "
        f"{results['unit']})."
    )


def verdict(results: Mapping[str, Any]) -> str:
    """What the trend test says, in a sentence."""
    found = results["trade_off"]
    if found["p_precision"] is None:
        return f"Trade-off: not shown ({found['reason']})."
    says = {
        "holds": "holds: precision rises and recall falls as the teacher's temperature is lowered",
        (
            "sharpening only"
        ): "sharpening only: precision rises and recall falls as the temperature is lowered, at a cost in fidelity",
        "not shown": "not shown: precision and recall do not both follow the temperature beyond chance",
    }[found["verdict"]]
    numbers = ", ".join(
        f"{name} p = {found[key]:.2g}"
        for name, key in (("precision", "p_precision"), ("recall", "p_recall"), ("KL", "p_kl"))
    )
    return f"Trade-off {says} (Page's test: {numbers})."
