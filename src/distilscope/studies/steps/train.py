"""The step that trains a model on sequences."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distilscope.lm.models.llama_config import LlamaConfig
from distilscope.lm.training.config import Training
from distilscope.studies.config import Size
from distilscope.studies.costs import BYTES, Cost, forward_flops
from distilscope.studies.steps.registry import Resumption, StepKind, register
from distilscope.system.signals import stop_requested

if TYPE_CHECKING:
    from distilscope.lm.training.process_group import Group


def train_model(
    config: Mapping[str, Any], inputs: Mapping[str, Path], output: Path, scratch: Path
) -> dict[str, int | float]:
    """Trains on the first `sequences` draws of `data`, from scratch or from the model `start`, in `training.processes`
    processes."""
    from distilscope.lm.training import torchrun
    from distilscope.lm.training.loop import chosen_loss
    from distilscope.studies.artifacts import _model

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
    from distilscope.lm.training import checkpoint_file

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
    group: Group | None = None,
) -> None:
    """One process's part in a training, without a `group` the whole; the first of them writes the model. SIGTERM makes
    all of them save and end."""
    import numpy as np

    from distilscope.lm.models.architectures import new_trainable, read_trainable
    from distilscope.lm.models.model_folder import stopping_ids
    from distilscope.lm.training.loop import train
    from distilscope.lm.training.process_group import ALONE
    from distilscope.studies.artifacts import key_of, read_draws

    group = group or ALONE
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


def cost(
    architecture: LlamaConfig,
    training: Training,
    *,
    sequences: int,
    horizon: int,
    prompts: int,
    prompt: int,
    held_out: int,
) -> Cost:
    """Three forward passes' worth for each token that is learnt, one for each token of `held_out` sequences at each
    evaluation.

    Activations after Korthikanti et al. (2205.05198, section 4.1): 34 h + 5 a s bytes per token and layer in 16 bits.
    """
    tokens, steps = training.epochs * sequences * horizon, training.steps(sequences)
    epoch = forward_flops(architecture, sequences, horizon=horizon, prompts=sequences, prompt=prompt)
    look = forward_flops(architecture, held_out, horizon=horizon, prompts=prompts, prompt=prompt)
    width = BYTES[training.precision] / 2
    positions = horizon + prompt - 1
    layer = width * (34 * architecture.hidden_size + 5 * architecture.num_heads * positions)
    at_once = min(training.microbatch_tokens, training.batch_sequences * positions)
    return Cost(
        3 * training.epochs * epoch + len(training.evaluation_steps(sequences)) * look,
        tokens,
        disk=4 * architecture.parameters,
        # weights, two moments and the best weights so far
        checkpoints=4 * 4 * architecture.parameters * ((steps - 1) // training.checkpoint_every),
        # weights, gradient, two moments and the best weights so far, in float32
        memory=5 * 4 * architecture.parameters
        + int(at_once * (architecture.num_layers * layer + 12 * architecture.vocab_size)),
    )


def _in_one_process(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same training, in whatever number of processes."""
    return {**config, "training": {**config["training"], "processes": 1}}


def _damaged(scratch: Path) -> Path | None:
    from distilscope.lm.training import checkpoint_file

    file = scratch / checkpoint_file.NAME
    return file if file.is_file() and checkpoint_file.read_checkpoint(scratch) is None else None


TRAINING = register(
    StepKind(
        "training",
        version=8,
        function="distilscope.studies.steps.train:train_model",
        cost=cost,
        # assumed: published trainings of language models reach 0.3 to 0.5 (PaLM's table 3, 2204.02311: 0.2 to 0.46),
        # with kernels that this package does not have
        utilisation=0.3,
        memory_setting="training.microbatch_tokens",
        resumption=Resumption(_in_one_process, _damaged),
    )
)
