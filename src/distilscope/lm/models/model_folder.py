"""A model as a folder in Hugging Face's layout: config.json, safetensors weights, tokenizer.json. Nothing in it is
code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from distilscope.errors import UsageError, one_line, shown
from distilscope.lm.models.llama_config import LlamaConfig


def read_config(folder: Path) -> dict[str, Any]:
    """config.json; UsageError unless the folder is a model's, whole and without code of its own."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(
            f"{folder} is no model folder: it has no config.json; give a folder in Hugging Face's layout or a .gguf "
            "file"
        ) from None
    except (ValueError, OSError, RecursionError) as error:
        raise UsageError(
            f"{folder / 'config.json'} is not JSON ({one_line(error)}); give a complete model folder"
        ) from None
    if not isinstance(config, dict) or "model_type" not in config:
        raise UsageError(f"{folder / 'config.json'} names no model_type; give a complete model folder")
    kernel = next(
        (name for name in ("attn_implementation", "_attn_implementation") if "/" in str(config.get(name))), None
    )
    if config.get("auto_map") or kernel:
        raise UsageError(
            f"{folder} brings its own code ({kernel or 'auto_map'} in config.json), which is never run; "
            "give a model that transformers knows"
        )
    if (folder / "adapter_config.json").exists():
        raise UsageError(
            f"{folder} holds an adapter to another model; merge the two and give the folder of the whole model"
        )
    return config


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model folder; pickled weights are refused."""
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if index.exists():
        files = [folder / name for name in _shards(index)]
    else:
        files = (
            [single] if single.is_file() else sorted(path for path in folder.glob("*.safetensors") if path.is_file())
        )
    if not files:
        pickled = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
        what = f"only pickled weights ({pickled[0]}), which are never opened" if pickled else "no weights"
        raise UsageError(f"{folder} holds {what}; give a folder with .safetensors files")
    return files


def _shards(index: Path) -> list[str]:
    """The files that an index names, each of them in its own folder."""
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
        raise UsageError(
            f"{index} is no index of weights ({type(error).__name__}: {one_line(error)}); fetch or make it again"
        ) from None
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or "\0" in name or not (index.parent / name).is_file():
            raise UsageError(f"{index} names {shown(name)}, which is no file beside it; fetch or make the folder again")
        if not name.endswith(".safetensors"):
            raise UsageError(
                f"{index} names {shown(name)}, but only .safetensors files are ever opened; give a folder that has them"
            )
    return names


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All weights of a model folder, by their names in it."""
    weights: dict[str, Tensor] = {}
    for path in weight_files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                weights |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise UsageError(
                f"{path} is not a whole safetensors file ({one_line(error)}); fetch or make it again"
            ) from None
    return weights


def stopping_ids(folder: Path) -> frozenset[int]:
    """The ids that end a sequence, by generation_config.json or else config.json."""
    for name in ("generation_config.json", "config.json"):
        path = folder / name
        try:
            stops = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id") if path.exists() else None
        except (ValueError, OSError, AttributeError, RecursionError) as error:
            raise UsageError(
                f"{path} is not JSON of a model ({one_line(error)}); give a complete model folder"
            ) from None
        if stops is not None:
            ids = stops if isinstance(stops, list) else [stops]
            if not all(type(stop) is int and 0 <= stop < 1 << 32 for stop in ids):
                raise UsageError(
                    f"{path} gives eos_token_id {shown(stops)}, but a stopping token is a whole number; give a "
                    "complete model folder"
                )
            return frozenset(ids)
    return frozenset()


def write_model(
    folder: Path,
    config: LlamaConfig,
    weights: Mapping[str, Tensor],
    *,
    stopping: frozenset[int],
    tokenizer: str | None,
    tokenizer_config: Mapping[str, Any] | None = None,
) -> None:
    """Writes a Llama model that `transformers` also loads. `tokenizer` is the text of tokenizer.json."""
    folder.mkdir(parents=True, exist_ok=True)
    dtype = next(iter(weights.values())).dtype
    stops = sorted(stopping)
    special = {
        "bos_token_id": None,
        "eos_token_id": stops[0] if len(stops) == 1 else stops or None,
        "pad_token_id": None,
    }
    write_json(folder / "config.json", config.to_hf() | special | {"dtype": str(dtype).removeprefix("torch.")})
    write_json(folder / "generation_config.json", special)
    save_file(
        {name: weight.contiguous() for name, weight in weights.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    if tokenizer is not None:
        (folder / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
        write_json(folder / "tokenizer_config.json", settings | dict(tokenizer_config or {}))


def copy_model(source: Path, folder: Path) -> None:
    """Copies what defines a model: configuration, safetensors weights, tokenizer; nothing else in its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    named = [
        source / name
        for name in ("config.json", "generation_config.json", "tokenizer.json", "model.safetensors.index.json")
    ]
    for path in [*(path for path in named if path.exists()), *weight_files(source)]:
        shutil.copyfile(path, folder / path.name)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a JSON file of a model folder; equal values give equal bytes."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
