"""Steps: immutable pieces of work, identified by a fingerprint of all that their output depends on."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

JSON = Any
"""A JSON value: None, a bool, an int, a finite float, a str, a list or tuple of them, or a mapping from str to them."""

KIND = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def plain(value: JSON, where: str) -> JSON:
    """A deep copy of a JSON value in plain dicts and lists (a tuple becomes a list).

    Raises ValueError, naming the place, for anything else: NaN and infinity have no canonical form, and the text of
    other objects may change between versions.
    """
    if value is None or type(value) in (bool, int, str) or (type(value) is float and math.isfinite(value)):
        return value
    if isinstance(value, (list, tuple)):
        return [plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        wrong = next((key for key in value if not isinstance(key, str)), None)
        if wrong is not None:
            raise ValueError(f"{where} has the key {wrong!r}; keys are strings, so write {str(wrong)!r}")
        return {key: plain(item, f"{where}.{key}") for key, item in value.items()}
    raise ValueError(
        f"{where} is {value!r} ({type(value).__name__}); only finite JSON values can be stored, so convert or remove it"
    )


def canonical(value: JSON) -> str:
    """The canonical text of a JSON value: sorted keys, no spaces, ASCII, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


@dataclass(frozen=True)
class Identity:
    """What determines a step's output, with the inputs by fingerprint: small enough to send to another process.

    `fingerprint` is the SHA-256 (hexadecimal) of the canonical form of the four other fields. Raises ValueError for a
    kind that cannot name a folder, or a value that has no canonical form.
    """

    kind: str
    config: Mapping[str, JSON]
    inputs: Mapping[str, str]
    code_version: int
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or not KIND.fullmatch(self.kind):
            raise ValueError(
                f"{self.kind!r} cannot name a kind of step; use letters, digits, '-' and '_' (it names a folder)"
            )
        if type(self.code_version) is not int:
            raise ValueError(
                f"the code version of {self.kind!r} is {self.code_version!r}; it is an integer, raised when the "
                "code's meaning changes"
            )
        object.__setattr__(self, "config", plain(self.config, f"{self.kind}.config"))
        object.__setattr__(self, "inputs", plain(self.inputs, f"{self.kind}.inputs"))
        object.__setattr__(self, "fingerprint", hashlib.sha256(canonical(self.form()).encode("ascii")).hexdigest())

    def form(self) -> dict[str, JSON]:
        """The fields that are hashed, as a JSON object."""
        return {"kind": self.kind, "config": self.config, "inputs": self.inputs, "code_version": self.code_version}

    def __hash__(self) -> int:
        return hash(self.fingerprint)


@dataclass(frozen=True)
class Needs:
    """Resources that a step occupies while it runs.

    Raises ValueError for less than one thread or process, or a negative number of GPUs.
    """

    threads: int = 1
    """Threads of each process. The last bits of a matrix product depend on their number, so a step with more than one
    must have the number in its configuration too."""
    processes: int = 1
    """Processes that compute at once. If more than one, the step starts them itself; the last bits of a sum over them
    depend on their number."""
    gpus: int = 0
    """GPUs that the engine reserves, if it manages GPUs. The step's output is valid with and without them."""

    def __post_init__(self) -> None:
        if min(self.threads, self.processes) < 1 or self.gpus < 0:
            raise ValueError(
                f"a step needs {self.processes} processes with {self.threads} threads and {self.gpus} GPUs; "
                "processes and threads are at least 1, GPUs at least 0"
            )

    @property
    def cores(self) -> int:
        """Cores that the step occupies: threads times processes."""
        return self.threads * self.processes


@dataclass(frozen=True, eq=False)
class Step:
    """A piece of work: what to do (`kind`), how (`config`), and the steps whose artifacts it reads (`inputs`).

    A name of an input may contain "/", like "draws/0".

    `config` and `inputs` are copied. The fingerprint is computed once, from those of the inputs, so that a chain of any
    length costs one hash per step. Two steps are equal iff their fingerprints are: they are then the same work. Not in
    the fingerprint, since the output does not depend on them: `stage`, the name shown to people; `cost`, the predicted
    FLOPs; `tokens`, a count for throughput; `local`, what the work must know of this machine, such as the path of a
    file (it joins the configuration when the step runs); and `needs`, the resources.
    """

    kind: str
    config: Mapping[str, JSON]
    inputs: Mapping[str, Step]
    code_version: int
    stage: str = ""
    cost: int | float = 1.0
    tokens: int = 0
    local: Mapping[str, str] = field(default_factory=dict)
    needs: Needs = Needs()
    identity: Identity = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.cost) and self.cost >= 0):
            raise ValueError(f"the predicted cost of {self.kind!r} is {self.cost}; it must be finite and not negative")
        object.__setattr__(self, "inputs", dict(self.inputs))
        inputs = {name: source.fingerprint for name, source in self.inputs.items()}
        object.__setattr__(self, "identity", Identity(self.kind, self.config, inputs, self.code_version))
        object.__setattr__(self, "config", self.identity.config)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the identity, in hexadecimal."""
        return self.identity.fingerprint

    @property
    def title(self) -> str:
        """The stage, or the kind of a step without one."""
        return self.stage or self.kind

    def __eq__(self, other: object) -> bool:
        return self.fingerprint == other.fingerprint if isinstance(other, Step) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        # Without inputs, which would print the whole history.
        return f"Step({self.kind} {self.fingerprint[:12]}, stage={self.stage!r})"


def order(steps: Iterable[Step]) -> list[Step]:
    """All steps reachable from the given ones, each once, every input before its reader: the stable order.

    Depth first, in the order given and then in the order of each step's inputs: equal targets give equal lists. A stack
    rather than recursion, so that a chain of any length fits.
    """
    ordered: dict[Step, None] = {}
    entered: set[Step] = set()
    stack = [(step, False) for step in reversed(list(steps))]
    while stack:
        step, inputs_done = stack.pop()
        if inputs_done:
            ordered[step] = None
        elif step not in entered:
            entered.add(step)
            stack.append((step, True))
            stack.extend((source, False) for source in reversed(list(step.inputs.values())))
    return list(ordered)
