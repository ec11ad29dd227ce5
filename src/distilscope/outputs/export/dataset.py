"""The teacher's data D' as one Parquet file that `datasets`, TRL and axolotl read as it is.

One row for each sequence. `prompt` and `completion` are text, for eyes and for trainers that want text; the stopping
token is not in it. The same in token ids: `prompt_ids`, and `completion_ids` with the stopping token where it was
drawn. A trainer that finds `input_ids`, `attention_mask` and `labels` (-100 on the prompt) takes these and tokenises
nothing: so nothing is read back from text, and no end is appended to a sequence that was cut at the horizon. `length`
counts the completion's tokens; `ended` says whether it stopped by itself; `log_prob` (nats, of the sequence) and
`token_log_prob` are the selected teacher's, as recorded while drawing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from distilscope.lm.data.detokenize import texts
from distilscope.lm.sequences import Sequences
from distilscope.studies.measure.draws_file import list_column

IGNORED = -100
"""The label that no loss counts, in PyTorch and all that is built on it."""


def write_teacher_data(path: Path, tiles: Iterable[Sequences], tokenizer: Tokenizer, about: Mapping[str, Any]) -> int:
    """Writes the draws, tile by tile, with `about` as JSON in the file's metadata; returns how many there were."""
    from pyarrow import parquet

    schema, number = _schema().with_metadata({"distilscope": json.dumps(about, ensure_ascii=False)}), 0
    with parquet.ParquetWriter(path, schema, compression="zstd") as file:
        for draws in tiles:
            file.write_table(_table(draws, tokenizer, schema), row_group_size=len(draws))
            number += len(draws)
    return number


def _schema() -> Any:
    import pyarrow as pa

    ids = pa.list_(pa.int32())
    return pa.schema(
        {
            "prompt": pa.string(),
            "completion": pa.string(),
            "prompt_ids": ids,
            "completion_ids": ids,
            "input_ids": ids,
            "attention_mask": pa.list_(pa.int8()),
            "labels": ids,
            "length": pa.int32(),
            "ended": pa.bool_(),
            "log_prob": pa.float64(),
            "token_log_prob": pa.list_(pa.float32()),
        }
    )


def _table(draws: Sequences, tokenizer: Tokenizer, schema: Any) -> Any:
    import pyarrow as pa

    assert draws.log_prob is not None
    prompts = [np.array(prompt, dtype=np.int32) for prompt in draws.prompts]
    prompt_texts = tokenizer.decode_batch([list(prompt) for prompt in draws.prompts], skip_special_tokens=False)
    contexts, rows = [prompts[which] for which in draws.prompt_of], [row.astype(np.int32) for row in draws]
    whole = np.concatenate([draws.offsets[:1], np.cumsum(draws.contexts + draws.lengths)])
    inputs = np.concatenate([part for pair in zip(contexts, rows, strict=True) for part in pair])
    labels = np.concatenate(
        [part for context, row in zip(contexts, rows, strict=True) for part in (np.full_like(context, IGNORED), row)]
    )
    ids = pa.int32()
    columns = {
        "prompt": pa.array([prompt_texts[which] for which in draws.prompt_of], type=pa.string()),
        "completion": pa.array(texts(tokenizer, draws), type=pa.string()),
        "prompt_ids": list_column(np.concatenate([[0], np.cumsum(draws.contexts)]), np.concatenate(contexts), ids),
        "completion_ids": list_column(draws.offsets, draws.ids.astype(np.int32), ids),
        "input_ids": list_column(whole, inputs, ids),
        "attention_mask": list_column(whole, np.ones(len(inputs), dtype=np.int8), pa.int8()),
        "labels": list_column(whole, labels, ids),
        "length": pa.array(draws.lengths, type=ids),
        "ended": pa.array(draws.ended),
        "log_prob": pa.array(draws.sum_per_sequence(draws.log_prob)),
        "token_log_prob": list_column(draws.offsets, draws.log_prob, pa.float32()),
    }
    return pa.table(columns, schema=schema)
