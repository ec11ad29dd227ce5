"""The table that a run ends with: means over seeds with t-intervals."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from distilscope.estimate import t_interval

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


def label(student: dict[str, Any]) -> str:
    """How a student is named in tables and figures."""
    return "direct" if student["training"] == "direct" else f"τ = {student['temperature']:g}"


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
    return table


def by_label(results: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The students grouped by label: distilled ones by rising temperature, the direct one last."""
    ordered = sorted(results["students"], key=lambda s: (s["training"] == "direct", s["temperature"] or 0, s["seed"]))
    groups: dict[str, list[dict[str, Any]]] = {}
    for student in ordered:
        groups.setdefault(label(student), []).append(student)
    return groups


def over_seeds(students: list[dict[str, Any]], path: tuple[str, ...]) -> str:
    """Mean ± t-interval of one estimate over seeds, or how many seeds have an infinite one."""
    means: list[float | None] = []
    for student in students:
        value: Any = student
        for key in path:
            value = value[key]
        means.append(value["mean"])
    finite = [mean for mean in means if mean is not None]
    if len(finite) < len(means):
        return f"infinite in {len(means) - len(finite)} of {len(means)}"
    return str(t_interval(finite))


def verdict(results: dict[str, Any]) -> str:
    """What the trend test says, in a sentence."""
    found = results["trade_off"]
    if found["p_precision"] is None:
        return f"Trade-off: not shown ({found['reason']})."
    says = {
        "holds": "holds: precision rises and recall falls as the teacher's temperature is lowered",
        "sharpening only": "sharpening only: precision rises and recall falls as the temperature is lowered, at a cost in fidelity",
        "not shown": "not shown: precision and recall do not both follow the temperature beyond chance",
    }[found["verdict"]]
    numbers = ", ".join(
        f"{name} p = {found[key]:.2g}" for name, key in (("precision", "p_precision"), ("recall", "p_recall"), ("KL", "p_kl"))
    )
    return f"Trade-off {says} (Page's test: {numbers})."
