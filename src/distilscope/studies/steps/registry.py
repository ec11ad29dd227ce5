"""Kinds of steps: what each is called, what carries it out, what it takes, and what a killed one goes on from.

A kind is one record in the file that does its work. That file registers it when it is imported, and whoever lays out a
step of the kind imports it (`studies.planner` does for a study's own), so that everything else finds it here by name.
What the work itself needs, torch above all, is imported when a step runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, ParamSpec

from distilscope.pipeline.step import Needs, Step
from distilscope.studies.costs import Cost

P = ParamSpec("P")


@dataclass(frozen=True)
class Resumption:
    """How a killed step goes on where it was, instead of starting again."""

    same_work: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    """The step's configuration with what its checkpoint does not depend on brought to one value: steps that are then
    equal go on from one another's checkpoints."""
    damaged: Callable[[Path], Path | None]
    """The checkpoint in a step's scratch folder, where there is one that is not as it was written; else None."""


def _stage(step: Step) -> str:
    return step.stage


@dataclass(frozen=True)
class StepKind(Generic[P]):
    """One kind of step."""

    name: str
    version: int
    """Raised when what a step of this kind computes changes; part of its fingerprint."""
    function: str
    """"package.module:function", as `pipeline.execute` calls it."""
    cost: Callable[P, Cost]
    """What a step takes."""
    utilisation: float | None = None
    """Share of a GPU's peak that its products make use of; None where it computes with no network."""
    memory_setting: str = "tile"
    """The setting to lower where a step does not fit into a GPU's memory."""
    rate_group: Callable[[Step], str] = _stage
    """A name that steps share which take the same time for the same FLOPs, so that one of them can be timed for all;
    by default their stage."""
    resumption: Resumption | None = None
    """None where a killed step starts again."""

    def step(
        self,
        config: Mapping[str, Any],
        inputs: Mapping[str, Step],
        stage: str,
        cost: Cost,
        *,
        local: Mapping[str, str] | None = None,
        needs: Needs = Needs(),  # noqa: B008 (frozen)
    ) -> Step:
        """A step of this kind; where it can be resumed, `local` says by `alike` which others do the same work."""
        place = dict(local or {})
        if self.resumption:
            same = Step(self.name, self.resumption.same_work(config), inputs, self.version)
            place["alike"] = same.fingerprint
        return Step(self.name, config, inputs, self.version, stage, cost.flops, cost.tokens, local=place, needs=needs)


KINDS: dict[str, StepKind[...]] = {}
"""Every kind that is registered, by name."""


def register(kind: StepKind[P]) -> StepKind[P]:
    """Makes a kind known under its name, and returns it. Raises ValueError where another one has that name."""
    known = KINDS.setdefault(kind.name, kind)
    if known.function != kind.function:
        raise ValueError(
            f"{kind.function} would be the kind of step {kind.name!r}, but {known.function} is; give it another name"
        )
    return kind


def functions() -> dict[str, str]:
    """What carries out each kind, as `pipeline.execute` takes it."""
    return {name: kind.function for name, kind in KINDS.items()}
