"""Training a small model beside `Trainer`, padded to the longest of a batch and to 512 as the paper pads."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.machine import Stage
from benchmarks.models import (
    ALONE,
    PROMPT,
    SMALL,
    TOGETHER,
    Case,
    Timed,
    in_transformers,
    random_sequences,
    small_folder,
)
from distilscope.distribution import Key
from distilscope.lm.device import resolved_dtype
from distilscope.lm.models.llama import Llama
from distilscope.lm.sequences import Sequences
from distilscope.lm.training.config import Training
from distilscope.lm.training.loop import train

BATCH = 32
SEQUENCES = 1024
MEAN_LENGTH = 48


def ours() -> Timed:
    data = _data(SEQUENCES)
    network = Llama.from_config(SMALL, Key(0))
    training = Training(epochs=1, batch_sequences=BATCH, evaluations=1)
    few = data.take(np.arange(2))

    def epoch() -> int:
        with tempfile.TemporaryDirectory() as scratch:
            return train(network, training, data=data, validation=few, key=Key(0), scratch=Path(scratch)).tokens

    return epoch


def trainer(padded_to: int | None) -> Timed:
    """`Trainer` in the same precision; rows padded to the longest of their batch, or to a fixed length."""
    from transformers import Trainer, TrainingArguments, set_seed

    data = _data(SEQUENCES if padded_to is None else SEQUENCES // 8)  # a rate: a minute of padding is enough
    model = in_transformers(small_folder(), torch.float32)
    rows = [np.concatenate([[PROMPT], row]).astype(np.int64) for row in data]

    def collate(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        length = padded_to or max(len(item["ids"]) for item in batch)
        ids, labels, mask = (torch.full((len(batch), length), fill) for fill in (0, -100, 0))
        for i, item in enumerate(batch):
            row = torch.from_numpy(item["ids"])
            ids[i, : len(row)], labels[i, 1 : len(row)], mask[i, : len(row)] = row, row[1:], 1
        return {"input_ids": ids, "labels": labels, "attention_mask": mask}

    set_seed(0)
    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=BATCH,
        num_train_epochs=1,
        learning_rate=5e-4,
        adam_beta2=0.95,
        bf16=_precision() == torch.bfloat16,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        remove_unused_columns=False,
    )

    whole = Trainer(model=model, args=arguments, train_dataset=[{"ids": row} for row in rows], data_collator=collate)  # type: ignore[arg-type]

    def timed() -> int:
        whole.train()
        return len(data.ids)

    return timed


def _data(sequences: int) -> Sequences:
    """16...80 tokens each, 48 on average."""
    return random_sequences(np.random.default_rng(0).integers(16, 2 * MEAN_LENGTH - 15, sequences), SMALL.vocab_size)


def _precision() -> torch.dtype:
    return getattr(torch, resolved_dtype("auto"))


def _stage() -> Stage:
    return Stage(SMALL, _precision(), BATCH * MEAN_LENGTH, trains=True)


CASES = {
    "train: this package" + TOGETHER: Case(ours, _stage, processes=2, as_worker=True),
    "train: this package": Case(ours, _stage, as_worker=True),
    "train: this package" + ALONE: Case(ours, _stage, threads=1, as_worker=True),
    "train: Trainer, padded to the longest": Case(lambda: trainer(None), _stage),
    "train: Trainer, padded to 512 as the paper pads": Case(lambda: trainer(512), _stage),
}
