"""Prompts from files: as TRL and `datasets` keep them, and what is said of files that hold none."""

import json

import pyarrow as pa
import pytest
from pyarrow import parquet
from transformers import PreTrainedTokenizerFast

from distilscope.errors import UsageError
from distilscope.lm.data.prompts import chat_template, read_prompts
from tiny_folders import trained_bpe, write_small_folder

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]


def lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def shout(messages):
    return "".join(f"<{message['role']}>{message['content']}" for message in messages) + "<assistant>"


def test_json_lines_and_parquet_say_the_same(tmp_path):
    written = lines(tmp_path / "prompts.jsonl", {"prompt": "The"}, {"prompt": "Où est", "more": 1})
    parquet.write_table(pa.table({"prompt": ["The", "Où est"], "answer": [1, 2]}), tmp_path / "prompts.parquet")
    assert read_prompts(written) == read_prompts(tmp_path / "prompts.parquet") == ("The", "Où est")


def test_messages_go_through_the_template_and_text_is_one_message(tmp_path):
    written = lines(tmp_path / "prompts.jsonl", {"prompt": MESSAGES}, {"prompt": "Hi"})
    assert read_prompts(written, template=shout) == ("<system>Be brief.<user>Why?<assistant>", "<user>Hi<assistant>")
    parquet.write_table(pa.table({"prompt": [MESSAGES]}), tmp_path / "prompts.parquet")
    assert read_prompts(tmp_path / "prompts.parquet", template=shout) == ("<system>Be brief.<user>Why?<assistant>",)


def test_the_template_is_the_models_own(tmp_path):
    write_small_folder(tmp_path)
    with pytest.raises(UsageError, match="has no chat template"):
        chat_template(tmp_path)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=trained_bpe())
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}[me] {% "
        "endif %}"
    )
    tokenizer.save_pretrained(tmp_path)
    assert chat_template(tmp_path)(MESSAGES) == "[system] Be brief.\n[user] Why?\n[me] "
    tokenizer.chat_template = "{{ raise_exception('only users here') }}"
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="refuses a prompt"):
        chat_template(tmp_path)(MESSAGES)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([], "holds no prompt"),
        ([{"prompt": ""}], "line 1: the prompt is empty"),
        ([{"prompt": "a"}, {"prompt": "b"}, {"prompt": "a"}], "line 3: this prompt was given in line 1 already"),
        ([{"text": "a"}], "line 1 has no key prompt"),
        (["a"], "line 1 has no key prompt"),
        ([{"prompt": 3}], "neither text nor a list of messages"),
        ([{"prompt": []}], "neither text nor a list of messages"),
        ([{"prompt": [{"role": "user"}]}], "neither text nor a list of messages"),
        ([{"prompt": MESSAGES}], "give --chat-template"),
        ([{"prompt": "a" * 1_000_001}], "1,000,001 characters"),
        ([{"prompt": "\ud800"}], "not text in UTF-8"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_files_without_usable_prompts_are_refused(rows, says, tmp_path):
    with pytest.raises(UsageError, match=says):
        read_prompts(lines(tmp_path / "prompts.jsonl", *rows))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", b'{"prompt": "\xff"}', "not text in UTF-8"),
        ("a.jsonl", b'{"prompt": ', "line 1 is not JSON"),
        ("a.parquet", b"PAR1 and then nothing", "no Parquet file"),
    ],
)
def test_broken_files_are_refused(name, content, says, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=says):
        read_prompts(tmp_path / name)


def test_a_file_that_is_not_there_or_has_no_such_column(tmp_path):
    for name in ("no.jsonl", "no.parquet"):
        with pytest.raises(UsageError, match="no\\."):
            read_prompts(tmp_path / name)
    parquet.write_table(pa.table({"text": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(UsageError, match="column prompt"):
        read_prompts(tmp_path / "other.parquet")
