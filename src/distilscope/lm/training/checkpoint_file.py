"""The one file that a training resumes from: a JSON record and tensors, with the SHA-256 of all of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from distilscope.lm.device import fetch
from distilscope.system.atomic_file import atomic_file

NAME = "checkpoint.safetensors"


def write_checkpoint(scratch: Path, record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Replaces the checkpoint before it only when the new one is whole: a crash leaves one or the other. `record` is a
    JSON object."""
    text = json.dumps(record)
    with atomic_file(scratch / NAME) as partial:
        save_file(dict(tensors), partial, metadata={"standing": text, "sha256": _sha256(text, tensors)})


def read_checkpoint(scratch: Path) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """The record and tensors; None unless the file is there and holds, byte for byte, what was written.

    A training then begins again, and ends with the same weights.
    """
    try:
        tensors = load_file(scratch / NAME)
        with safe_open(scratch / NAME, framework="pt") as file:
            metadata = file.metadata() or {}
        whole = metadata["sha256"] == _sha256(metadata["standing"], tensors)
    except (SafetensorError, KeyError, OSError):
        return None
    return (json.loads(metadata["standing"]), tensors) if whole else None


def _sha256(record: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(record.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(fetch(tensor.reshape(-1)).data)
    return digest.hexdigest()
