"""Draws read by a model with another tokenizer, through their text: against enumeration, and where text says less than
tokens."""

import numpy as np
import pytest
from pyarrow import parquet
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from distilscope import measure
from distilscope.distribution import Key
from distilscope.errors import UsageError
from distilscope.lm.causal_lm import CausalLM, PromptedLM
from distilscope.lm.cross_tokenizer import Reader, stop_of
from distilscope.lm.data.detokenize import Continuations, texts
from distilscope.selectivity import TopK
from fake_models import TableLM, pack, random_table
from tiny_folders import trained_bpe, write_small_folder

LETTERS = "abcd"


def letters(*, merges: tuple[tuple[str, str], ...] = (), end: str = "<|end|>") -> Tokenizer:
    """A stopping token (id 0), the letters (ids 1-4), then merges."""
    vocabulary = {end: 0} | {letter: i for i, letter in enumerate(LETTERS, start=1)}
    vocabulary |= {left + right: len(vocabulary) + i for i, (left, right) in enumerate(merges)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges)))
    tokenizer.add_special_tokens([end])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def lm(network: TableLM, tokenizer: Tokenizer, horizon: int = 3) -> PromptedLM:
    return CausalLM(network, frozenset([0]), tokenizer).after((1,), horizon=horizon)


PAIRS = letters(merges=(("a", "b"), ("c", "d")))
SINGLE = lm(random_table(5, 3, seed=0), letters())
MERGED = lm(random_table(7, 3, seed=1), PAIRS)


def by_hand(side: PromptedLM, ids: list[int]) -> float:
    table, previous, total = side.model.network.table, side.prompts[0][-1], 0.0
    for t, token in enumerate(ids):
        total += np.log(table[min(t, len(table) - 1), previous, token])
        previous = token
    return total


READ = {
    "merged where it can be": ((1, 2, 0), True, [5, 0]),
    "nothing to merge": ((2, 1, 0), True, [2, 1, 0]),
    "cut": ((3, 4, 1), False, [6, 1]),
    "ended at once": ((0,), True, [0]),
}


@pytest.mark.parametrize("case", READ)
def test_text_is_scored_as_the_readers_tokenizer_writes_it(case):
    row, ended, ids = READ[case]
    draws = pack([row], [ended], (1,), 5)
    found = Reader.of(MERGED, ("a",)).log_prob(draws, texts(SINGLE.model.tokenizer, draws), stop=0)
    assert found[0] == pytest.approx(by_hand(MERGED, ids), abs=1e-5)


def test_with_one_tokenizer_canonical_draws_read_as_they_score():
    draws = SINGLE.sample(300, Key(0))
    written, reader = texts(SINGLE.model.tokenizer, draws), Reader.of(SINGLE, ("a",))
    assert reader.canonical(draws, written).all()
    np.testing.assert_allclose(reader.log_prob(draws, written, stop=0), SINGLE.log_prob(draws).numpy(), atol=1e-5)


def test_draws_that_would_be_written_otherwise_are_counted():
    """`a` then `b`, where the tokenizer writes `ab`."""
    draws = pack([(1, 2, 0), (5, 0), (2, 1, 0), (1, 2, 3)], [True, True, True, False], (1,), 7)
    assert Reader.of(MERGED, ("a",)).canonical(draws, texts(PAIRS, draws)).tolist() == [False, True, True, False]


def test_what_cannot_be_written_or_ended_has_probability_zero():
    draws = pack([(1, 2, 0), (3,)], [True, False], (1,), 5)
    reader = Reader.of(lm(random_table(5, 3, seed=2), letters()), ("a",))
    assert np.isneginf(reader.log_prob(draws, ["ab", "c"], stop=None)).tolist() == [True, False]
    assert np.isneginf(reader.log_prob(draws, ["ax", "c"], stop=0)).tolist() == [True, False]
    beyond = Reader.of(lm(random_table(6, 3, seed=2), PAIRS), ("a",))  # a network with fewer tokens than its tokenizer
    assert np.isneginf(beyond.log_prob(draws, ["ab", "cd"], stop=0)).tolist() == [False, True]


def test_a_text_cut_before_its_first_character_says_nothing():
    draws = pack([(1,), (2,)], [False, False], (1,), 5)
    found = Reader.of(SINGLE, ("a",)).log_prob(
        draws, ["\N{REPLACEMENT CHARACTER}", "b\N{REPLACEMENT CHARACTER}"], stop=0
    )
    assert found == pytest.approx([0, by_hand(SINGLE, [2])], abs=1e-5)


def test_texts_beyond_the_readers_context_are_refused():
    short = lm(TableLM(random_table(5, 3, seed=0).table, context=4), letters())
    draws = pack([(1, 2, 3, 4)], [False], (1,), 5)
    with pytest.raises(UsageError, match=r"a text has 5 tokens, its prompt included, .* context holds 4"):
        Reader.of(short, ("a",)).log_prob(draws, ["abcd"], stop=0)


def test_the_stopping_token_is_the_one_of_the_same_name_or_else_the_first():
    def side(stopping: set[int], **kinds: str) -> PromptedLM:
        return CausalLM(random_table(5, 3, seed=0), frozenset(stopping), letters(**kinds)).after((1,), horizon=3)

    assert stop_of(side({0}), side({0, 3})) == 0
    assert stop_of(side({3}), side({0, 3})) == 3
    assert stop_of(side({0}), side({3, 4}, end="</s>")) == 3
    assert stop_of(side({0}), side(set())) is None


def spaces_marked() -> Tokenizer:
    """As SentencePiece writes text: a mark for each space and one before the text, whose own space is dropped when
    read."""
    pieces = ["</s>", "▁the", "▁cat", "▁", "c", "a", "t", "s"]
    tokenizer = Tokenizer(models.Unigram([(piece, -float(i + 1)) for i, piece in enumerate(pieces)], unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def test_the_space_that_begins_a_text_is_kept():
    tokenizer = spaces_marked()
    prompt = tuple(tokenizer.encode("the", add_special_tokens=False).ids)
    draws = pack([(2, 0), (7, 2)], [True, False], prompt, 8)
    assert texts(tokenizer, draws) == [" cat", "s cat"]
    written = Continuations(tokenizer, ("the",), (prompt,)).encode([" cat", " cat cat"], np.zeros(2, dtype=np.int32))
    assert written == [[2], [2, 2]]


def test_a_model_without_tokenizer_reads_no_text():
    with pytest.raises(UsageError, match=r"without tokenizer\.json"):
        Continuations(None, ("a",), ((1,),))


# --- through `measure`


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("folders")
    write_small_folder(place / "p", stopping=frozenset([0, 5]))
    write_small_folder(place / "words", seed=7, merges=30)
    return str(place / "p"), str(place / "words")


SMALL = {"num_samples": 40, "max_new_tokens": 5, "dtype": "float32", "unit": "byte"}


def kept(folder, side: str):
    return [row for row in parquet.read_table(folder / "draws.parquet").to_pylist() if row["side"] == side]


def test_bits_per_byte_across_tokenizers(folders, tmp_path):
    p, words = folders
    found = measure(
        reference=p, candidate=words, keep_draws=tmp_path, **SMALL | {"num_samples": 20}
    )  # too few for controls
    document, rows = found.as_json(), kept(tmp_path, "reference")
    assert (document["unit"], document["per_token"]) == ("bits per byte", None)
    assert document["precision"] == document["per_byte"]["precision"]
    ratio = found.estimates.recall.mean / found.estimates.reference_entropy.mean
    assert ratio == pytest.approx(
        -sum(row["log_prob_candidate"] for row in rows) / sum(row["log_prob_reference"] for row in rows)
    )
    assert 0 < document["canonical_mismatch"]["reference"] < 1
    assert measure(reference=p, candidate=words, draws=tmp_path, dtype="float32", unit="byte").as_json() == document


def test_a_sides_own_draws_are_scored_as_they_were_drawn(folders, tmp_path):
    p, words = folders
    found = measure(reference=p, candidate=words, keep_draws=tmp_path / "across", **SMALL).estimates
    measure(reference=p, candidate=p, keep_draws=tmp_path / "alone", **SMALL)
    across, alone = (kept(tmp_path / name, "reference") for name in ("across", "alone"))
    assert [row["log_prob_reference"] for row in across] == [row["log_prob_reference"] for row in alone]
    assert found.kl_candidate_reference.mean == pytest.approx(
        -found.candidate_entropy.mean - found.precision.mean, abs=1e-9
    )


def test_the_readers_selectivity_counts(folders):
    p, words = folders
    found = measure(reference=p, candidate=words, candidate_selectivity=TopK(2), **SMALL)
    assert found.as_json()["recall"]["infinite"] > 0


def test_draws_without_text_have_no_bits_per_byte(tmp_path):
    write_small_folder(tmp_path, stopping=frozenset(range(320)))
    with pytest.raises(UsageError, match="hold no text"):
        measure(reference=str(tmp_path), candidate=str(tmp_path), **SMALL)
    found = measure(reference=str(tmp_path), candidate=str(tmp_path), **SMALL | {"unit": "nat"})
    assert found.as_json()["per_byte"] is None


def test_vocabularies_of_bytes_write_any_text():
    prompt = tuple(trained_bpe().encode("The", add_special_tokens=False).ids)
    written = Continuations(trained_bpe(30), ("The",), (prompt,))
    text = ' student\x00 "où" 猫 \N{REPLACEMENT CHARACTER}'
    (ids,) = written.encode([text], np.zeros(1, dtype=np.int32))
    assert trained_bpe(30).decode(ids) == text
