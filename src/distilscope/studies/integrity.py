"""Keeping a run's artifacts sound: what is damaged, and making exactly that again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from distilscope.errors import StoreError
from distilscope.lm.training.checkpoint_file import NAME as CHECKPOINT
from distilscope.lm.training.checkpoint_file import read_checkpoint
from distilscope.pipeline.manifest import Problem, check
from distilscope.pipeline.step import Step
from distilscope.pipeline.store import Store


def damaged_checkpoints(store: Store, fingerprints: Sequence[str]) -> list[Problem]:
    """Of steps that are under way: what a training would not resume from."""
    found = [store.root / ".scratch" / fingerprint / CHECKPOINT for fingerprint in fingerprints]
    return [
        Problem(file.parent, file, "is not as it was written; its training will start again")
        for file in found
        if file.is_file() and read_checkpoint(file.parent) is None
    ]


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
    problems += damaged_checkpoints(store, [folder.name for folder in not_made])
    return Soundness(len(folders), len(not_made), problems)


def clear_damage(store: Store, steps: Sequence[Step], say: Callable[[str], object]) -> None:
    """Removes the steps' artifacts and checkpoints that are not as they were written; `say` hears of each. Needs the
    lock.

    Raises StoreError where a folder of the store is a link: what lies behind it is not ours to remove.
    """
    made = [step for step in steps if store.path(step).is_symlink() or store.path(step).exists()]
    problems = store.verify(made) + damaged_checkpoints(
        store, [step.fingerprint for step in steps if not store.has(step)]
    )
    for problem in problems:
        say(f"damaged: {problem}")
        if problem.file == problem.artifact.parent:
            raise StoreError(f"{problem}; put the folder itself there, or remove the link, and run again")
    with store.explaining_disk_errors("removing what is damaged"):
        for folder in dict.fromkeys(problem.artifact for problem in problems):
            store.discard(folder)
    missing = sum(not store.has(step) for step in steps)
    say(f"{len(steps)} artifacts, {len(made) + missing - len(steps)} damaged; {missing} will be made")
