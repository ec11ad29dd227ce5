"""Real text as sequences: where a completion ends, what is cut, and what is refused."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from distilscope.errors import UsageError
from distilscope.lm.data.completions import Example, prompts_of, read_examples, tokenised
from tiny_folders import trained_bpe

STOP = 0


def sequences(*completions, horizon=4, stopping=frozenset([STOP]), prompts=None):
    examples = [
        Example(f"row {i}", prompt, one)
        for i, (one, prompt) in enumerate(zip(completions, prompts or "A" * 99, strict=False))
    ]
    texts = prompts_of(examples, "A")
    tokenizer = trained_bpe()
    return tokenised(
        examples,
        texts=texts,
        prompts=tuple(tuple(tokenizer.encode(text).ids) for text in texts),
        tokenizer=tokenizer,
        vocabulary=320,
        stopping=stopping,
        horizon=horizon,
        default="A",
    )


@pytest.mark.parametrize(
    ("ids", "expected", "ended"),
    [
        ((5, 6), [5, 6, STOP], True),
        ((5, 6, 7), [5, 6, 7, STOP], True),
        ((5, 6, 7, 8), [5, 6, 7, 8], False),
        ((5, 6, 7, 8, 9), [5, 6, 7, 8], False),
        ((5, 6, 7, STOP), [5, 6, 7, STOP], True),
        ((5, STOP, 7, 8), [5, STOP], True),
        ((), [STOP], True),
    ],
)
def test_a_sequence_ends_with_its_stopping_token_or_at_the_horizon(ids, expected, ended):
    found = sequences(ids)
    assert found.ids.tolist() == expected
    assert found.ended.tolist() == [ended]


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=12), min_size=1, max_size=5))
def test_text_that_fits_comes_back(texts):
    found = sequences(*texts, horizon=100)
    assert [trained_bpe().decode(row[:-1].tolist(), skip_special_tokens=False) for row in found] == [
        text.split("<|end|>")[0] for text in texts
    ]
    assert found.ended.all()
    assert found.log_prob is None


def test_each_row_follows_its_own_prompt():
    found = sequences((5,), (6,), (7,), prompts=("The", "Who", "The"))
    assert found.prompt_of.tolist() == [0, 1, 0]
    assert [trained_bpe().decode(list(prompt)) for prompt in found.prompts] == ["The", "Who"]
    assert np.array_equal(found.contexts, [len(found.prompts[i]) for i in (0, 1, 0)])


def test_parquet_and_json_lines_say_the_same(tmp_path):
    rows = [{"prompt": "The", "completion": " end"}, {"prompt": None, "completion": ""}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    written, packed = (read_examples(tmp_path / name) for name in ("a.jsonl", "a.parquet"))
    assert (
        [(one.prompt, one.completion) for one in written]
        == [(one.prompt, one.completion) for one in packed]
        == [("The", " end"), (None, "")]
    )
    parquet.write_table(pa.table({"ids": [[3, 4], [5]]}), tmp_path / "ids.parquet")
    assert [one.completion for one in read_examples(tmp_path / "ids.parquet")] == [(3, 4), (5,)]


def test_tokens_outside_the_vocabulary_and_ends_that_cannot_be_are_refused():
    with pytest.raises(UsageError, match="row 0 has token 320"):
        sequences((320,))
    with pytest.raises(UsageError, match="no stopping token"):
        sequences((5,), stopping=frozenset())
    assert sequences((5, 6, 7, 8), stopping=frozenset()).ended.tolist() == [False]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"prompt": "a"}, "neither completion nor ids"),
        ({"completion": "a", "ids": [1]}, "both completion and ids"),
        ({"completion": 3}, "a completion is text"),
        ({"ids": [1.5]}, "list of whole numbers"),
        ({"ids": "abc"}, "list of whole numbers"),
        ({"completion": "a", "prompt": " "}, "the prompt is empty"),
        ([1], "no JSON object"),
    ],
)
def test_rows_without_a_usable_completion_are_refused(row, says, tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(UsageError, match=says):
        read_examples(tmp_path / "a.jsonl")
