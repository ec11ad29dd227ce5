"""`distilscope export`: the teacher's data and two students of a finished run, in one folder that appears whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distilscope import __version__
from distilscope.errors import UsageError
from distilscope.evaluation.by_seed import Setting
from distilscope.evaluation.results_file import read_results
from distilscope.lm.data.tokenizer import read_tokenizer
from distilscope.lm.loading import licence, public_name
from distilscope.lm.models.model_folder import stopping_ids
from distilscope.lm.sequences import Sequences
from distilscope.outputs.export.dataset import write_teacher_data
from distilscope.outputs.export.owned_folder import owned_folder, require_ours
from distilscope.outputs.export.setting import chosen_setting, sampling
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
    setting: Setting
    seed: int
    data: Path | None
    """None where the setting has no teacher."""
    students: dict[str, Path]

    def as_json(self) -> dict[str, Any]:
        return {
            "schema_version": 1,
            "folder": str(self.folder),
            "setting": dict(self.setting),
            "seed": self.seed,
            "data": self.data and str(self.data),
            "students": {name: str(path) for name, path in self.students.items()},
        }


def export(run: Path, *, output_dir: Path | None = None, setting: str | None = None, seed: int = 0) -> Exported:
    """Writes data/, distilled/ and direct/ into `output_dir` (default: RUN/export), of one seed, at one setting of the
    teacher.

    `setting` is written as `chosen_setting` takes it; without, it is the recommended one. Where that is the direct
    student, there is no teacher: direct/ is written alone. Raises UsageError for a run, setting or seed that there is
    not and for a folder that is not an export's own, StoreError where artifacts are gone.
    """
    results = read_results(run)
    chosen = chosen_setting(results, setting)
    if not 0 <= seed < results["seeds"]:
        raise UsageError(f"the seed is {seed}, but this run has seeds 0 to {results['seeds'] - 1}; give one of them")
    folder = output_dir or run / "export"
    require_ours(folder)
    return _Exporter(run, results, seed).write(folder, chosen)


class _Exporter:
    def __init__(self, run: Path, results: dict[str, Any], seed: int) -> None:
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

    def write(self, folder: Path, chosen: Setting) -> Exported:
        taught = sampling(chosen)
        about = {
            "made_by": f"distilscope {__version__}",
            "recipe": self.results["recipe"],
            "setting": dict(chosen),
            "seed": self.seed,
        }
        with owned_folder(folder, about) as fresh:
            students = {"direct": self._student(fresh / "direct", None)}
            if taught is not None:
                students["distilled"] = self._student(fresh / "distilled", taught)
                self._data(fresh / "data", taught, about)
        return Exported(
            folder,
            chosen,
            self.seed,
            folder / "data" / DATA if taught is not None else None,
            {name: folder / path.name for name, path in students.items()},
        )

    def _student(self, folder: Path, taught: dict[str, float | int] | None) -> Path:
        one = self._of_seed(self.study.students, taught)
        card = model_card(self.results, taught, self.seed, self.origin)
        write_student(
            folder,
            self.store.sound(one.model),
            drawn_at=one.evaluation,
            horizon=self.study.config.ground_truth.horizon,
            card=card,
        )
        return folder

    def _data(self, folder: Path, taught: dict[str, float | int], about: dict[str, Any]) -> None:
        folder.mkdir()
        one = self._of_seed(self.study.teachers, taught)
        tokens = self.store.sound(self.study.prompts.inputs["tokenizer"])
        tokenizer = read_tokenizer(tokens)
        assert tokenizer is not None  # the study's prompts were read with it
        facts = {
            "horizon": self.study.config.ground_truth.horizon,
            "stopping": sorted(stopping_ids(tokens)),
            "unit": "nats",
        }
        number = write_teacher_data(folder / DATA, self._tiles(one), tokenizer, about | facts)
        card = data_card(self.results, taught, self.seed, self.origin, number=number, file=DATA)
        (folder / "README.md").write_text(card, encoding="utf-8")

    def _of_seed(self, measured: tuple[Measured, ...], taught: dict[str, float | int] | None) -> Measured:
        """The study's own, of which a sweep's other sizes are no part: they come after it."""
        return next(one for one in measured if one.seed == self.seed and one.setting == taught)

    def _tiles(self, teacher: Measured) -> Iterator[Sequences]:
        for step in teacher.draws:
            yield read_draws({"draws/0": self.store.sound(step)}, "draws")
