"""Who is measured: a candidate's role, its teacher's setting, what it is drawn at, its size and its objective.

A `Candidate` is its own key: two records of one candidate, from any document and any seed, are equal and have one hash.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args

import msgspec

from distilscope.errors import unknown_name

Role = Literal["reference", "teacher", "distilled", "direct", "control"]
"""`reference` is p* itself; a `control` is the direct student drawn at one of the teacher's settings."""

ROLES: tuple[Role, ...] = get_args(Role)
"""In the order in which candidates are listed."""

OBJECTIVE = "mle"
"""Maximum likelihood of the training sequences."""

_EVALUATION = "evaluation_"


class SamplingParameters(Mapping[str, float | int]):
    """Sampling parameters, in the order in which they were given; equal in any order. Empty changes nothing."""

    KINDS: Mapping[str, type] = {"temperature": float, "top_k": int, "top_p": float, "min_p": float}

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, float | int]) -> None:
        for name in values:
            if name not in self.KINDS:
                raise unknown_name("selectivity", name, self.KINDS)
        self._values = dict(values)

    @classmethod
    def parse(cls, text: str, *, unnamed: str | None = None) -> SamplingParameters:
        """From `top_k=50,min_p=0.05`; a number alone is the parameter `unnamed`.

        Raises ValueError for what is not written so, UsageError for an unknown name.
        """
        values: dict[str, float | int] = {}
        for part in text.split(","):
            name, equals, value = part.partition("=")
            if not equals and unnamed:
                name, value = unnamed, name
            name = name.strip().replace("-", "_")
            values[name] = cls.KINDS.get(name, float)(value)
        return cls(values)

    @classmethod
    def from_json(cls, value: Any) -> SamplingParameters:
        """From a document that anyone may have written, since its values are put into code that is shown.

        Raises ValueError for another name, another kind of number, or one that is not finite.
        """
        if not isinstance(value, dict):
            raise ValueError("not sampling parameters")
        for name, number in value.items():
            kinds = {float: (int, float), int: (int,)}.get(cls.KINDS.get(name, str))
            if kinds is None:
                raise ValueError(f"{name!r} is no sampling parameter")
            if isinstance(number, bool) or not isinstance(number, kinds) or not abs(number) < 1e100:
                raise ValueError(f"{name} is not a {'whole' if kinds == (int,) else 'finite'} number")
        return cls(value)

    def __getitem__(self, name: str) -> float | int:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(frozenset(self._values.items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and self._values == dict(other)

    def __repr__(self) -> str:
        return f"SamplingParameters({self._values})"

    def as_json(self) -> dict[str, float | int]:
        return dict(self._values)

    @property
    def temperature(self) -> float | int | None:
        """Where it is a temperature and nothing else; as it was given, 1 or 1.0."""
        return self._values["temperature"] if set(self._values) == {"temperature"} else None

    @property
    def label(self) -> str:
        """Short, for charts and tables: `τ = 0.8`, `top-k 50, min-p 0.05`."""
        symbols = {"temperature": "τ = ", "top_k": "top-k ", "top_p": "top-p ", "min_p": "min-p "}
        return ", ".join(f"{symbols[name]}{value:g}" for name, value in self._values.items())

    @property
    def phrase(self) -> str:
        """In a sentence: `temperature 0.8`, `top-k 50 and min-p 0.05`."""
        return " and ".join(f"{name.replace('_', '-')} {value}" for name, value in self._values.items())

    @property
    def option(self) -> str:
        """As `parse` reads it: `temperature=0.8`, `top_k=50,min_p=0.05`."""
        return ",".join(f"{name}={value:g}" for name, value in self._values.items())


class Variant(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a student's size and |D'| differ from the study's own; None is no difference."""

    hidden_size: int | None = None
    layers: int | None = None
    num_distill: int | None = None

    @property
    def label(self) -> str:
        size = [] if self.hidden_size is None else [f"size {self.hidden_size}x{self.layers}"]
        amount = [] if self.num_distill is None else [f"|D'| = {self.num_distill:,}"]
        return ", ".join(size + amount) or "the study's own"


STUDYS_OWN = Variant()


class Candidate:
    """Who is measured, over all seeds. Immutable, hashable; equality is that of every field.

    A plain class: msgspec would read and write a dataclass or Struct field by field, but documents hold it flat
    (`as_json`).
    """

    __slots__ = ("evaluation", "objective", "role", "setting", "variant")

    role: Role
    setting: SamplingParameters | None
    """The teacher's when it made D' (a teacher's own); None where there is no teacher."""
    evaluation: SamplingParameters | None
    """What a control is drawn at. None for the others: a teacher is drawn at its setting, students at the study's
    evaluation temperature."""
    variant: Variant
    objective: str

    def __init__(
        self,
        role: Role,
        setting: Mapping[str, float | int] | None = None,
        *,
        evaluation: Mapping[str, float | int] | None = None,
        variant: Variant = STUDYS_OWN,
        objective: str = OBJECTIVE,
    ) -> None:
        if role == "distilled" and not setting:
            setting = {"temperature": 1.0}  # no parameter changes anything
        put = object.__setattr__
        put(self, "role", role)
        put(self, "setting", None if setting is None else SamplingParameters(setting))
        put(self, "evaluation", None if evaluation is None else SamplingParameters(evaluation))
        put(self, "variant", variant)
        put(self, "objective", objective)

    @classmethod
    def from_json(cls, value: Any) -> Candidate:
        """From a `setting` of a document, such as {"training": "distilled", "top_k": 50} or {"training": "direct"}.

        Raises ValueError for what names no candidate.
        """
        if not isinstance(value, dict):
            raise ValueError("not a setting")
        training = value.get("training")
        if training not in ("direct", "distilled"):
            raise ValueError("its `training` is neither direct nor distilled")
        given = {name: number for name, number in value.items() if name != "training"}
        evaluation = {
            name.removeprefix(_EVALUATION): number for name, number in given.items() if name.startswith(_EVALUATION)
        }
        setting = SamplingParameters.from_json(
            {name: number for name, number in given.items() if not name.startswith(_EVALUATION)}
        )
        if training == "distilled":
            return cls("distilled", setting)
        if setting:
            raise ValueError("a direct student has no teacher, so no setting of one")
        return cls("control", evaluation=SamplingParameters.from_json(evaluation)) if evaluation else cls("direct")

    def as_json(self) -> dict[str, Any]:
        """The `setting` that `from_json` reads; size, |D'| and objective are not in it."""
        training = "direct" if self.role == "control" else self.role
        drawn_at = {f"{_EVALUATION}{name}": value for name, value in (self.evaluation or {}).items()}
        return {"training": training, **(self.setting or {}), **drawn_at}

    def _fields(self) -> tuple[Any, ...]:
        return self.role, self.setting, self.evaluation, self.variant, self.objective

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a candidate is immutable; {name} cannot be set to {value!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a candidate is immutable; {name} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Candidate) and self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash(self._fields())

    def __repr__(self) -> str:
        return f"Candidate{self._fields()}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _candidate, self._fields()

    @property
    def sampling(self) -> SamplingParameters | None:
        """What tells it from others of its role: a control's evaluation setting, else the teacher's setting."""
        return self.evaluation if self.role == "control" else self.setting

    @property
    def temperature(self) -> float | None:
        """Where that is a temperature and nothing else."""
        found = self.sampling.temperature if self.sampling else None
        return None if found is None else float(found)

    @property
    def swept(self) -> bool:
        """Whether it is one of a sweep's other sizes, or |D'|."""
        return self.variant != STUDYS_OWN

    @property
    def label(self) -> str:
        """Short, for charts and tables: `τ = 0.8`, `top-k 50`, `direct`, `direct at τ = 0.8`, `p*`."""
        own = self.sampling.label if self.sampling is not None else ""
        return {"reference": "p*", "direct": "direct", "control": f"direct at {own}"}.get(self.role, own)

    @property
    def name(self) -> str:
        """With its role: `distilled at τ = 0.8`, `teacher at τ = 0.8`, `direct`, `direct at τ = 0.8`."""
        if self.role not in ("distilled", "teacher"):
            return self.label
        return f"{self.role} at {self.label}" if self.setting is not None else self.role

    @property
    def phrase(self) -> str:
        """Its setting in a sentence: `temperature 0.8`, `top-k 50 and top-p 0.9`, `the direct student`."""
        if self.role == "reference":
            return "p*"
        own = self.sampling.phrase if self.sampling is not None else ""
        direct = "the direct student"
        return {"direct": direct, "control": f"{direct} sampled at {own}"}.get(self.role, own)

    @property
    def option(self) -> str:
        """As the command line takes a setting: `temperature=0.8`, `top_k=50,min_p=0.05`, `direct`."""
        return "direct" if self.setting is None else self.setting.option

    @property
    def order(self) -> tuple[int, bool, float]:
        """A key to sort by: role, then temperatures rising, then the other settings as they come."""
        temperature = self.temperature
        return ROLES.index(self.role), temperature is None, math.inf if temperature is None else temperature


def _candidate(
    role: Role,
    setting: SamplingParameters | None,
    evaluation: SamplingParameters | None,
    variant: Variant,
    objective: str,
) -> Candidate:
    return Candidate(role, setting, evaluation=evaluation, variant=variant, objective=objective)


DIRECT = Candidate("direct")
