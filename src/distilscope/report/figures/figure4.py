"""Figure 4 of the paper: precision and recall against the temperature at which the teacher made the students' data.

Means over seeds with 95% t-intervals, and each seed next to them, where the paper has box plots; and, not in the paper,
the direct student drawn at the same settings.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from distilscope.evaluation.candidates import Candidate, SamplingParameters
from distilscope.evaluation.results import Results, Student
from distilscope.report.candidates import Candidates, Group
from distilscope.report.figures.style import MARKERS, ink, lettered, sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = {"precision": r"$P = \mathrm{E}_q[\log p\mathrm{*}]$", "recall": r"$R = \mathrm{E}_{p\mathrm{*}}[\log q]$"}

ASIDE = {"distilled": -1, "control": 1, "direct": 0}
"""To which side of a setting each role is drawn, so that intervals do not cover each other."""


def figure4(results: Results, width: float, *, titled: bool = False) -> Figure:
    """Of a run: panels side by side where there is room for two. Where p* is data there is recall alone."""
    scene = _Scene(Candidates(results))
    shown = [name for name in PANELS if results.modelled or name == "recall"]
    beside = width > 5
    rows, columns = (1, len(shown)) if beside else (len(shown), 1)
    figure = sheet(width * (columns / 2 if beside else 1), 2.45 + 0.25 * titled if beside else 1.75 * rows + 0.55)
    for place, (axes, name) in enumerate(
        zip(figure.subplots(rows, columns, sharex=True, squeeze=False).flat, shown, strict=True)
    ):
        scene.draw(axes, name)
        lettered(axes, place if len(shown) > 1 else None, f"{name}  {PANELS[name]}")
        axes.set_ylabel(results.unit)
        if beside or place == len(shown) - 1:
            axes.set_xlabel("teacher’s temperature τ" if scene.numbers else "teacher’s setting")
    figure.legend(handles=scene.legend(), loc="outside lower center", ncols=3)
    if titled:
        characters = round(18 * figure.get_figwidth())
        figure.suptitle(textwrap.fill(f"{results.ground_truth.name}; {_seeds(results)}", characters))
    return figure


def figure4_caption(results: Results) -> str:
    truth = results.ground_truth
    panels = "(a) precision and (b) recall" if results.modelled else "Recall"
    return (
        f"{panels} of students in {results.unit} (higher is better), by the setting at which their teacher drew "
        "the data that they "
        "learnt. Filled circles: distilled; hollow squares: the direct student, trained on p*'s own draws and drawn "
        "at that setting; line "
        f"and band: the direct student as it is. {_seeds(results).capitalize()}, given p*'s draws. p*: {truth.name}, "
        f"at most {truth.horizon} tokens; {truth.num_eval} draws of each side behind every student."
    )


def _seeds(results: Results) -> str:
    if results.seeds == 1:
        return "one seed, so no intervals"
    return f"means of {results.seeds} seeds with 95% t-intervals, small marks single seeds"


@dataclass(frozen=True)
class _Scene:
    """Where each candidate is drawn on the axis of settings."""

    candidates: Candidates

    @cached_property
    def numbers(self) -> bool:
        """Whether every setting is a temperature."""
        return all(group.candidate.temperature is not None for group in self.candidates.distilled)

    @cached_property
    def places(self) -> Mapping[SamplingParameters | None, float]:
        """Each setting at its temperature, or at its rank where some are no temperatures."""
        whose = [group.candidate for group in self.candidates.distilled]
        return {
            one.setting: float(one.temperature or 0.0) if self.numbers else float(rank)
            for rank, one in enumerate(whose)
        }

    @cached_property
    def length(self) -> float:
        """Length of the axis, of which a small part is how far a mark is moved to its side."""
        return (max(self.places.values()) - min(self.places.values())) or 1.0

    @cached_property
    def controls(self) -> list[Group[Student]]:
        """The direct student at every setting: at the evaluation temperature, it is the direct student itself."""
        itself = Candidate("control", evaluation=self.candidates.results.evaluated_at)
        same = [Group(itself, group.records) for group in self.candidates.direct]
        return [one for one in (*self.candidates.controls, *same) if one.candidate.evaluation in self.places]

    def draw(self, axes: Axes, name: str) -> None:
        few = self.candidates.interval_opacity < 1  # their intervals would push everything else together
        for interval in (group.interval(name) for group in self.candidates.direct):
            if interval:
                if interval.half_width is not None:
                    axes.axhspan(
                        interval.low, interval.high, color=ink("direct"), alpha=0.05 if few else 0.13, linewidth=0
                    )
                axes.axhline(interval.mean, color=ink("direct"), linewidth=0.9)
        for groups in (self.controls, self.candidates.distilled):
            self._series(axes, groups, name)
        if few:
            heights = [value for group in self.candidates.students for value in group.values(name) if value is not None]
            margin = 0.12 * (max(heights) - min(heights)) or 1.0
            axes.set_ylim(min(heights) - margin, max(heights) + margin)
        labels = [group.candidate.label for group in self.candidates.distilled]
        if self.numbers:
            labels = [label.removeprefix("τ = ") for label in labels]
        axes.set_xticks(list(self.places.values()), labels)
        if not self.numbers:
            axes.tick_params("x", rotation=30)
            for text in axes.get_xticklabels():
                text.set(horizontalalignment="right", rotation_mode="anchor")
        axes.set_xlim(min(self.places.values()) - 0.1 * self.length, max(self.places.values()) + 0.1 * self.length)

    def _series(self, axes: Axes, groups: Sequence[Group[Student]], name: str) -> None:
        """Students of one role along the settings: a line through the means, intervals, and each seed a little further
        to the side."""
        found = [(group, interval) for group in groups if (interval := group.interval(name))]
        if not found:
            return
        role = found[0][0].candidate.role
        colour, face, dash = self._look(role)
        across = [self.places[group.candidate.sampling] + 0.008 * self.length * ASIDE[role] for group, _ in found]
        if self.numbers:
            axes.plot(across, [one.mean for _, one in found], color=colour, linestyle=dash, zorder=2)
        for x, (group, interval) in zip(across, found, strict=True):
            seeds = [value for value in group.values(name) if value is not None]
            if len(seeds) > 1:
                away = x + 0.018 * self.length * ASIDE[role]
                axes.plot(
                    [away] * len(seeds),
                    seeds,
                    MARKERS[role],
                    color=colour,
                    markersize=2.4,
                    alpha=0.4,
                    markeredgewidth=0,
                )
                faint = self.candidates.interval_opacity
                axes.errorbar(
                    x, interval.mean, interval.half_width, color=colour, elinewidth=0.8, alpha=faint, zorder=3
                )
            axes.plot(
                x,
                interval.mean,
                MARKERS[role],
                color=colour,
                markerfacecolor=face,
                markersize=4.5,
                markeredgewidth=0.9,
                zorder=4,
            )

    def legend(self) -> list[Any]:
        from matplotlib.lines import Line2D

        names = {"distilled": "distilled at τ", "control": "direct, drawn at τ"}
        if not self.numbers:
            names = {"distilled": "distilled", "control": "direct, drawn there"}
        handles = []
        for role, groups in (("distilled", self.candidates.distilled), ("control", self.controls)):
            if groups:
                colour, face, dash = self._look(role)
                style: dict[str, Any] = {
                    "color": colour,
                    "markerfacecolor": face,
                    "linestyle": dash if self.numbers else "",
                }
                handles.append(Line2D([], [], marker=MARKERS[role], markersize=4.5, label=names[role], **style))
        if self.candidates.direct:
            handles.append(Line2D([], [], color=ink("direct"), linewidth=0.9, label="direct"))
        return handles

    @staticmethod
    def _look(role: str) -> tuple[str, str, str]:
        """Colour, fill and line style."""
        return (ink(role), "white", "--") if role == "control" else (ink(role), ink(role), "-")
