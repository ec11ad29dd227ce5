"""What a study is planned from: the models, prompts and data outside the store, each by its content."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distilscope.errors import UsageError
from distilscope.lm.data.completions import prompts_of, read_examples
from distilscope.lm.data.prompts import chat_template, prompt_text, read_prompts
from distilscope.lm.loading import digest, model_folder
from distilscope.lm.models.llama_config import LlamaConfig
from distilscope.lm.models.model_folder import read_config
from distilscope.studies.config import SEEDED, Distillation, GroundTruth
from distilscope.system.file_digest import file_digest


@dataclass(frozen=True)
class Source:
    """A model outside the store: its content, where it lies here, and its sizes where they are known."""

    identity: str
    folder: str = ""
    architecture: LlamaConfig | None = None

    @classmethod
    def of(cls, reference: str, *, fetch: bool = True) -> Source:
        """Converted first where needed, and fetched from the hub with `fetch`; without, its content stays unknown."""
        if reference == SEEDED:
            return cls(SEEDED)
        if reference.startswith("hf:") and not fetch:
            return cls(f"unresolved {reference}")
        folder = model_folder(reference)
        return cls(digest(folder), str(folder), LlamaConfig.from_hf(read_config(folder)))


@dataclass(frozen=True)
class PromptSet:
    """The texts that sequences follow, by content."""

    sha256: str
    number: int
    longest: int
    """Bytes of the longest, which has at most as many tokens."""
    texts: str = field(default="[]", compare=False)
    """The texts themselves, as JSON; no part of a study's record."""

    @property
    def typical(self) -> int:
        """Tokens of a prompt, on average, about: a token of English has some four bytes."""
        texts = json.loads(self.texts)
        return max(1, round(sum(len(text.encode()) for text in texts) / (4 * len(texts)))) if texts else 1

    @classmethod
    def of(cls, truth: GroundTruth, source: Source) -> PromptSet:
        template = chat_template(Path(source.folder)) if truth.chat_template else None
        if truth.prompts:
            return cls.of_texts(read_prompts(Path(truth.prompts), template=template))
        return cls.of_texts((prompt_text(truth.prompt, template, "--prompt") if template else truth.prompt,))

    @classmethod
    def of_texts(cls, texts: tuple[str, ...]) -> PromptSet:
        text = json.dumps(texts)
        return cls(
            hashlib.sha256(text.encode()).hexdigest(), len(texts), max(len(each.encode()) for each in texts), text
        )

    def as_json(self) -> dict[str, Any]:
        return {"sha256": self.sha256, "number": self.number, "longest": self.longest}


@dataclass(frozen=True)
class DataFile:
    """The file of real data that stands in for p*'s draws, by content."""

    sha256: str
    rows: int
    path: str = field(default="", compare=False)
    template: str = field(default="", compare=False)
    """The model folder whose chat template is put around prompts; empty: none."""
    default: str = field(default="", compare=False)
    """The prompt of a row without one."""

    def as_json(self) -> dict[str, Any]:
        return {"sha256": self.sha256, "rows": self.rows}

    def require(self, truth: GroundTruth) -> None:
        """Raises UsageError unless D, D_val and the test set fit into the file side by side."""
        wanted = truth.num_train + truth.num_validation + truth.num_eval
        if wanted > self.rows:
            raise UsageError(
                f"the study needs {wanted:,} rows of data (num_train {truth.num_train:,}, num_validation "
                f"{truth.num_validation:,} and "
                f"num_eval {truth.num_eval:,}, none twice), but {truth.name} holds {self.rows:,}; ask for fewer or "
                "give more"
            )


@dataclass(frozen=True)
class Sources:
    """Of each what was found; a model or file that is not part of the study is None."""

    ground_truth: Source | None
    """None where real data stands in for p*'s draws."""
    prompts: PromptSet
    teacher: Source | None = None
    """None where it starts from scratch."""
    student: Source | None = None
    data: DataFile | None = None

    @classmethod
    def locate(cls, config: Distillation, *, fetch: bool = True) -> Sources:
        """Finds or converts what the configuration names; with `fetch`, from the hub too."""
        truth = config.ground_truth
        if not truth.reference and not truth.draws:
            raise UsageError(
                f"the recipe {config.recipe} has no p* of its own; give --reference REF (hf:ORG/NAME, a model folder, "
                "a .gguf file or "
                "package:NAME), or --reference-draws FILE with real prompts and completions"
            )
        teacher, student = (
            Source.of(learner.reference, fetch=fetch) if learner.reference else None
            for learner in (config.teacher, config.student)
        )
        if truth.draws:
            assert teacher is not None
            data, prompts = _data(truth, teacher)
            return cls(None, prompts, teacher, student, data)
        model = Source.of(truth.reference, fetch=fetch)
        return cls(model, PromptSet.of(truth, model), teacher, student)

    @property
    def tokenizer(self) -> Source:
        """The model whose tokenizer reads all text, and whose stopping tokens count: p*, or where there is none the
        teacher."""
        found = self.ground_truth or self.teacher
        assert found is not None
        return found

    def as_json(self) -> dict[str, Any]:
        models = {
            name: source.identity for name in ("ground_truth", "teacher", "student") if (source := getattr(self, name))
        }
        return models | {"prompts": self.prompts.as_json()} | ({"data": self.data.as_json()} if self.data else {})

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Sources:
        """For a study that was run: its steps can be named, not made again. Raises KeyError or TypeError for another
        record."""
        models = {name: Source(record[name]) for name in ("teacher", "student") if name in record}
        data = DataFile(**record["data"]) if "data" in record else None
        return cls(
            None if data else Source(record["ground_truth"]), PromptSet(**record["prompts"]), **models, data=data
        )


def _data(truth: GroundTruth, teacher: Source) -> tuple[DataFile, PromptSet]:
    path, folder = Path(truth.draws), teacher.folder if truth.chat_template else ""
    template = chat_template(Path(folder)) if folder else None
    examples = read_examples(path, template=template)
    default = prompt_text(truth.prompt, template, "--prompt")
    found = DataFile(file_digest(path), len(examples), str(path), folder, default)
    return found, PromptSet.of_texts(prompts_of(examples, default))
