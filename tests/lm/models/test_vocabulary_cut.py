import json
import re
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from distilscope.errors import UsageError
from distilscope.lm.causal_lm import CausalLM
from distilscope.lm.data.tokenizer import encode
from distilscope.lm.models.vocabulary_cut import cut_tokenizer, write_cut_model
from fake_models import ragged
from tiny_folders import TEXT, logits_of, trained_bpe, write_small_folder

WHOLE = trained_bpe().to_str()
SIZES = [257, 258, 270, 300, 319, 320]
texts = st.one_of(st.text(max_size=40), st.sampled_from([TEXT, "the the then", "naïve\n\tβ → 1", "<|end|>", "👩‍🔬"]))


def cut(size: int, stopping: frozenset[int] = frozenset([0])) -> Tokenizer:
    return Tokenizer.from_str(cut_tokenizer(WHOLE, size, stopping))


def one_merge_at_a_time(word: str, merges: list[tuple[str, str]]) -> list[str]:
    """BPE by its definition: the earliest merge that applies, until none does."""
    symbols = list(word)
    while True:
        pairs = [(merges.index(pair), i) for i, pair in enumerate(pairwise(symbols)) if pair in merges]
        if not pairs:
            return symbols
        _, i = min(pairs)
        symbols[i : i + 2] = [symbols[i] + symbols[i + 1]]


@pytest.mark.parametrize("size", SIZES)
def test_a_cut_keeps_exactly_the_ids_below_it(size):
    full = trained_bpe().get_vocab()
    assert cut(size).get_vocab() == {token: i for token, i in full.items() if i < size}


@pytest.mark.parametrize("size", SIZES)
@given(text=texts)
def test_any_text_is_written_with_the_ids_kept_and_read_back(size, text):
    tokenizer = cut(size)
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert all(i < size for i in ids)
    assert tokenizer.decode(ids, skip_special_tokens=False) == text
    if text:
        assert encode(tokenizer, text) == tuple(ids)


@pytest.mark.parametrize("size", SIZES)
def test_the_merges_kept_are_the_first_ones(size):
    tokenizer = cut(size)
    merges = [tuple(merge) for merge in json.loads(WHOLE)["model"]["merges"]][: size - 257]
    for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(TEXT + " naïve"):
        found = [
            tokenizer.id_to_token(i)
            for i in tokenizer.encode(tokenizer.decoder.decode([word]), add_special_tokens=False).ids
        ]
        assert found == one_merge_at_a_time(word, merges)


def test_cutting_twice_is_cutting_once():
    twice = cut_tokenizer(cut_tokenizer(WHOLE, 300, frozenset([0])), 270, frozenset([0]))
    assert json.loads(twice) == json.loads(cut_tokenizer(WHOLE, 270, frozenset([0])))


@pytest.mark.parametrize(("size", "stopping"), [(1, [0]), (100, [0]), (256, [0]), (300, [0, 310]), (257, [257])])
def test_a_cut_too_low_states_the_least_that_works(size, stopping):
    with pytest.raises(UsageError, match=rf"vocabulary of {size} cuts off") as caught:
        cut(size, frozenset(stopping))
    least = int(re.search(r"use at least (\d+)", str(caught.value)).group(1))
    assert cut(least, frozenset(stopping)).get_vocab_size() == least
    with pytest.raises(UsageError, match=f"use at least {least}"):
        cut(least - 1, frozenset(stopping))


def with_ids_exchanged(a: int, b: int) -> str:
    document = json.loads(WHOLE)
    exchange = {a: b, b: a}
    document["model"]["vocab"] = {token: exchange.get(i, i) for token, i in document["model"]["vocab"].items()}
    return json.dumps(document)


@pytest.mark.parametrize(("a", "b"), [(260, 300), (319, 318), (5, 290)])
def test_ids_out_of_merge_order_are_refused(a, b):
    with pytest.raises(UsageError, match="before the merges that produce it"):
        cut_tokenizer(with_ids_exchanged(a, b), 320, frozenset([0]))


def word_level() -> Tokenizer:
    return Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))


def no_decoder() -> Tokenizer:
    return Tokenizer(models.BPE(vocab={"a": 0, "b": 1, "ab": 2}, merges=[("a", "b")]))


def spaces_marked() -> Tokenizer:
    tokenizer = no_decoder()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


@pytest.mark.parametrize("make", [word_level, no_decoder, spaces_marked])
def test_only_a_byte_level_bpe_is_cut(make):
    with pytest.raises(UsageError, match="only a byte-level BPE"):
        cut_tokenizer(make().to_str(), 2, frozenset([0]))


def test_a_tokenizer_may_lack_some_bytes():
    """As SmolLM2's does: only the symbols that it has must be kept, and a prompt beyond them is refused."""
    symbols = [symbol for symbol in sorted(pre_tokenizers.ByteLevel.alphabet()) if symbol != "x"]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={"<|end|>": 0} | {symbol: i + 1 for i, symbol in enumerate(symbols)} | {"ab": 256},
            merges=[("a", "b")],
        )
    )
    tokenizer.add_special_tokens(["<|end|>"])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    small = Tokenizer.from_str(cut_tokenizer(tokenizer.to_str(), 256, frozenset([0])))
    assert small.get_vocab_size() == 256
    assert len(encode(small, "cab")) == 3
    with pytest.raises(UsageError, match=r"the prompt 'axis' reads 'ais' once tokenised"):
        encode(small, "axis")


def test_an_empty_prompt_is_refused():
    with pytest.raises(UsageError, match="the prompt is empty"):
        encode(trained_bpe(), "")


# --- the model


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("size", [257, 300, 320])
def test_a_cut_model_is_the_whole_one_renormalised(tmp_path, tied, size):
    network = write_small_folder(tmp_path / "whole", tied=tied)
    write_cut_model(tmp_path / "whole", tmp_path / "cut", vocabulary=size, dtype=torch.float32)
    model = CausalLM.from_folder(tmp_path / "cut")
    assert (model.network.vocabulary, model.stopping, model.tokenizer.get_vocab_size()) == (size, frozenset([0]), size)
    sequences = ragged([5, 2, 9], size, (1, 200))
    whole = logits_of(network, sequences).double().log_softmax(-1)[:, :size]
    expected = whole - whole.logsumexp(-1, keepdim=True)
    torch.testing.assert_close(
        logits_of(model.network, sequences).log_softmax(-1).double(), expected, atol=1e-5, rtol=1e-5
    )


def test_transformers_reads_a_cut_model(tmp_path):
    write_small_folder(tmp_path / "whole")
    write_cut_model(tmp_path / "whole", tmp_path / "cut", vocabulary=280, dtype=torch.float32)
    theirs, tokenizer = (
        AutoModelForCausalLM.from_pretrained(tmp_path / "cut"),
        AutoTokenizer.from_pretrained(tmp_path / "cut"),
    )
    model = CausalLM.from_folder(tmp_path / "cut")
    ids = model.encode("The student")
    assert tuple(tokenizer("The student", add_special_tokens=False).input_ids) == ids
    assert theirs.generation_config.eos_token_id == theirs.config.eos_token_id == 0
    sequences = ragged([6], 280, ids)
    with torch.inference_mode():
        logits = theirs(torch.tensor([[*ids, *sequences.ids[:-1].tolist()]])).logits[0, len(ids) - 1 :]
    torch.testing.assert_close(logits_of(model.network, sequences), logits, atol=1e-5, rtol=1e-5)


def test_zero_keeps_the_whole(tmp_path):
    network = write_small_folder(tmp_path / "whole")
    write_cut_model(tmp_path / "whole", tmp_path / "same", vocabulary=0, dtype=torch.float32)
    assert (tmp_path / "same" / "tokenizer.json").read_text() == WHOLE
    sequences = ragged([4, 3], 320)
    assert torch.equal(
        logits_of(CausalLM.from_folder(tmp_path / "same").network, sequences), logits_of(network, sequences)
    )


def test_weights_are_written_in_the_type_asked_for(tmp_path):
    network = write_small_folder(tmp_path / "whole")
    write_cut_model(tmp_path / "whole", tmp_path / "cut", vocabulary=300, dtype=torch.bfloat16)
    model = CausalLM.from_folder(tmp_path / "cut", dtype=torch.bfloat16)
    np.testing.assert_array_equal(model.network.embedding.float(), network.embedding[:300].to(torch.bfloat16).float())
    assert json.loads((tmp_path / "cut" / "config.json").read_text())["dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("vocabulary", "break_it", "says"),
    [
        (321, lambda _: None, "vocabulary is 321, but the model has only 320"),
        (300, lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer.json"),
        (0, lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer.json"),
        (300, lambda folder: (folder / "config.json").write_text('{"model_type": "gpt2"}'), "not a plain Llama"),
    ],
    ids=["more than there is", "no tokenizer", "no tokenizer, whole", "another architecture"],
)
def test_what_cannot_be_cut_is_refused(tmp_path, vocabulary, break_it, says):
    write_small_folder(tmp_path / "whole")
    break_it(tmp_path / "whole")
    with pytest.raises(UsageError, match=says):
        write_cut_model(tmp_path / "whole", tmp_path / "cut", vocabulary=vocabulary, dtype=torch.float32)
    assert not (tmp_path / "cut").exists()
