"""The step that trains a model on sequences."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from distilscope.lm.models.architectures import new_trainable, read_trainable
from distilscope.lm.models.model_folder import stopping_ids
from distilscope.lm.training import checkpoint_file, torchrun
from distilscope.lm.training.config import Training
from distilscope.lm.training.loop import chosen_loss, train
from distilscope.lm.training.process_group import ALONE, Group
from distilscope.studies.artifacts import _model, key_of, read_draws
from distilscope.studies.config import Size
from distilscope.system.signals import stop_requested


def train_model(
    config: Mapping[str, Any], inputs: Mapping[str, Path], output: Path, scratch: Path
) -> dict[str, int | float]:
    """Trains on the first `sequences` draws of `data`, from scratch or from the model `start`, in `training.processes`
    processes."""
    _model.cache_clear()  # the models that draw and score; a training needs the memory more
    beside = _checkpoint_beside(scratch, config["alike"])
    processes = training_of(config).processes
    if processes == 1:
        train_share(config, inputs, output, scratch, beside=beside)
    else:
        folders = {name: str(folder) for name, folder in inputs.items()}
        request = {"config": dict(config), "inputs": folders, "output": str(output), "scratch": str(scratch)}
        request["beside"] = None if beside is None else str(beside)
        torchrun.launch("distilscope.studies.steps.train_worker", request, processes=processes, scratch=scratch)
    record = json.loads((output / "training.json").read_text(encoding="utf-8"))
    loss = chosen_loss(record["history"], record["chosen_step"])
    return {name: record[name] for name in ("tokens", "chosen_step", "exact_resume")} | {"held_out_loss": loss}


def _checkpoint_beside(scratch: Path, identity: str) -> Path | None:
    """The folder of the latest checkpoint that the same training has left in another number of processes.

    `identity` is equal for both: the fingerprint that the training has in one process. It is written into `scratch`, so
    that the other one in turn finds the checkpoint there.
    """
    (scratch / "alike").write_text(identity, encoding="utf-8")
    same = [
        file
        for file in scratch.parent.glob("*/alike")
        if file.parent != scratch and file.read_text(encoding="utf-8") == identity
    ]
    found = [checkpoint for file in same if (checkpoint := file.with_name(checkpoint_file.NAME)).exists()]
    latest = max(found, key=lambda file: file.stat().st_mtime, default=None)
    return latest and latest.parent


def train_share(
    config: Mapping[str, Any],
    inputs: Mapping[str, Path],
    output: Path,
    scratch: Path,
    *,
    beside: Path | None,
    group: Group = ALONE,
) -> None:
    """One process's part in a training; the first of them writes the model. SIGTERM makes all of them save and end."""
    data, validation = read_draws(inputs, "data", recorded=False), read_draws(inputs, "validation", recorded=False)
    if config["sequences"] < len(data):
        data = data.take(np.arange(config["sequences"]))
    key, tokenizer = key_of(config["key"]), inputs["tokenizer"]
    if "start" in inputs:
        network = read_trainable(inputs["start"])
    else:
        architecture = Size(**config["size"]).architecture(data.vocabulary, config["context"])
        network = new_trainable(architecture, key.child("weights"))
    with stop_requested() as stopping:
        trained = train(
            network,
            training_of(config),
            data=data,
            validation=validation,
            key=key,
            scratch=scratch,
            resume_from=beside,
            group=group,
            stop_requested=stopping,
        )
    if not group.writes:
        return
    text = (tokenizer / "tokenizer.json").read_text(encoding="utf-8")
    trained.network.write(output, stopping=stopping_ids(tokenizer), tokenizer=text)
    record = {
        "history": trained.history,
        "chosen_step": trained.chosen_step,
        "tokens": trained.tokens,
        "processes": group.size,
        "exact_resume": trained.exact_resume,
    }
    (output / "training.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def training_of(config: Mapping[str, Any]) -> Training:
    """How a `training` step trains."""
    return Training(**{**config["training"], "betas": tuple(config["training"]["betas"])})
