"""`distilscope export`: the teacher's data and two students of a finished run, in one folder, all of it or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distilscope import __version__
from distilscope.errors import UsageError
from distilscope.evaluation.candidates import DIRECT, Candidate
from distilscope.evaluation.documents import Note, unnoted
from distilscope.evaluation.results import Results
from distilscope.evaluation.results_file import read_results
from distilscope.lm.data.tokenizer import read_tokenizer
from distilscope.lm.loading import licence, public_name
from distilscope.lm.models.model_folder import stopping_ids
from distilscope.lm.sequences import Sequences
from distilscope.outputs.export.dataset import write_teacher_data
from distilscope.outputs.export.owned_folder import owned_folder, require_ours
from distilscope.outputs.export.setting import chosen_setting
from distilscope.outputs.export.student_folder import write_student
from distilscope.pipeline.store import Store
from distilscope.report.hub_cards import Origin, data_card, model_card
from distilscope.studies.artifacts import read_draws
from distilscope.studies.run import recorded, store_folder
from distilscope.studies.study import Measured, Study

DATA = "train.parquet"


@dataclass(frozen=True)
class Exported:
    """What was written, and at which setting."""

    folder: Path
    setting: Candidate
    seed: int
    data: Path | None
    """None where the setting has no teacher."""
    students: dict[str, Path]

    def as_json(self) -> dict[str, Any]:
        return {
            "schema_version": 1,
            "folder": str(self.folder),
            "setting": self.setting.as_json(),
            "seed": self.seed,
            "data": self.data and str(self.data),
            "students": {name: str(path) for name, path in self.students.items()},
        }


def export(
    run: Path,
    *,
    output_dir: Path | None = None,
    setting: str | None = None,
    seed: int = 0,
    note: Note = unnoted,
) -> Exported:
    """Writes data/, distilled/ and direct/ into `output_dir` (default: RUN/export), of one seed, at one setting of the
    teacher.

    `setting` is written as `chosen_setting` takes it; without, it is the recommended one. Where that is the direct
    student, there is no teacher: only direct/ is written. `note` takes what a reader of results.json should know.
    Raises UsageError for an unknown run, setting or seed and for a folder with other files than an export's, StoreError
    where artifacts are gone.
    """
    results = read_results(run, note=note)
    chosen = chosen_setting(results, setting)
    if not 0 <= seed < results.seeds:
        raise UsageError(f"the seed is {seed}, but this run has seeds 0 to {results.seeds - 1}; give one of them")
    folder = output_dir or run / "export"
    require_ours(folder)
    return _Exporter(run, results, seed).write(folder, chosen)


class _Exporter:
    def __init__(self, run: Path, results: Results, seed: int) -> None:
        self.results, self.seed = results, seed
        self.study: Study = recorded(run)
        self.store = Store(store_folder(run))
        config = self.study.config
        learners = {"teacher": config.teacher, "student": config.student}
        self.origin = Origin(
            licence=licence(config.ground_truth.reference) if config.ground_truth.reference else None,
            parameters=self.study.parameters,
            starts={role: public_name(learner.reference) for role, learner in learners.items() if learner.reference},
            version=__version__,
        )

    def write(self, folder: Path, chosen: Candidate) -> Exported:
        taught = chosen != DIRECT
        about = {
            "made_by": f"distilscope {__version__}",
            "recipe": self.results.recipe,
            "setting": chosen.as_json(),
            "seed": self.seed,
        }
        with owned_folder(folder, about) as fresh:
            students = {"direct": self._student(fresh / "direct", DIRECT)}
            if taught:
                students["distilled"] = self._student(fresh / "distilled", chosen)
                self._data(fresh / "data", chosen, about)
        return Exported(
            folder,
            chosen,
            self.seed,
            folder / "data" / DATA if taught else None,
            {name: folder / path.name for name, path in students.items()},
        )

    def _student(self, folder: Path, candidate: Candidate) -> Path:
        one = self._of_seed(self.study.students, candidate)
        card = model_card(self.results, candidate, self.seed, self.origin)
        write_student(
            folder,
            self.store.sound(one.model),
            drawn_at=one.drawn_at,
            horizon=self.study.config.ground_truth.horizon,
            card=card,
        )
        return folder

    def _data(self, folder: Path, student: Candidate, about: dict[str, Any]) -> None:
        folder.mkdir()
        one = self._of_seed(self.study.teachers, Candidate("teacher", student.setting))
        tokens = self.store.sound(self.study.prompts.inputs["tokenizer"])
        tokenizer = read_tokenizer(tokens)
        assert tokenizer is not None  # the study's prompts were read with it
        facts = {
            "horizon": self.study.config.ground_truth.horizon,
            "stopping": sorted(stopping_ids(tokens)),
            "unit": "nats",
        }
        number = write_teacher_data(folder / DATA, self._tiles(one), tokenizer, about | facts)
        card = data_card(self.results, student, self.seed, self.origin, number=number, file=DATA)
        (folder / "README.md").write_text(card, encoding="utf-8")

    def _of_seed(self, measured: tuple[Measured, ...], candidate: Candidate) -> Measured:
        return next(one for one in measured if one.seed == self.seed and one.candidate == candidate)

    def _tiles(self, teacher: Measured) -> Iterator[Sequences]:
        for step in teacher.draws:
            yield read_draws({"draws/0": self.store.sound(step)}, "draws")
