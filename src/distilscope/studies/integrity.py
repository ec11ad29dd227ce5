"""Keeping a run's artifacts sound: what is damaged, and making exactly that again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from distilscope.errors import StoreError
from distilscope.pipeline.manifest import Problem, check
from distilscope.pipeline.step import Step
from distilscope.pipeline.store import Store
from distilscope.studies.steps.registry import KINDS


def damaged_checkpoints(store: Store, under_way: Iterable[tuple[str, str]]) -> list[Problem]:
    """Of steps that are under way, by kind and fingerprint: what a killed one would not resume from."""
    found = []
    for kind, fingerprint in under_way:
        resumption = KINDS[kind].resumption if kind in KINDS else None
        file = resumption.damaged(store.root / ".scratch" / fingerprint) if resumption else None
        if file is not None:
            found.append(Problem(file.parent, file, f"is not as it was written; its {kind} will start again"))
    return found


@dataclass(frozen=True)
class Soundness:
    """Of a run's artifacts: how many it needs, how many are not made yet, and what is wrong with the others."""

    artifacts: int
    unfinished: int
    problems: list[Problem]


def examined(store: Store, needs: Iterable[str], *, finished: bool) -> Soundness:
    """Hashes the artifacts ("kind/fingerprint") that a run needs again; those that a run under way has not made yet are
    no problem."""
    folders = [store.root / name for name in sorted(needs)]
    due, not_made = [], []
    for folder in folders:
        (due if finished or folder.exists() else not_made).append(folder)
    problems = [problem for folder in due for problem in check(folder)]
    problems += damaged_checkpoints(store, [(folder.parent.name, folder.name) for folder in not_made])
    return Soundness(len(folders), len(not_made), problems)


def clear_damage(store: Store, steps: Sequence[Step], say: Callable[[str], object]) -> None:
    """Removes the steps' artifacts and checkpoints that are not as they were written; `say` hears of each. Needs the
    lock.

    Raises StoreError where a folder of the store is a link: what lies behind it is not ours to remove.
    """
    made = [step for step in steps if store.path(step).is_symlink() or store.path(step).exists()]
    under_way = [(step.kind, step.fingerprint) for step in steps if not store.has(step)]
    problems = store.verify(made) + damaged_checkpoints(store, under_way)
    for problem in problems:
        say(f"damaged: {problem}")
        if problem.file == problem.artifact.parent:
            raise StoreError(f"{problem}; put the folder itself there, or remove the link, and run again")
    with store.explaining_disk_errors("removing what is damaged"):
        for folder in dict.fromkeys(problem.artifact for problem in problems):
            store.discard(folder)
    missing = sum(not store.has(step) for step in steps)
    say(f"{len(steps)} artifacts, {len(made) + missing - len(steps)} damaged; {missing} will be made")
