import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from distilscope.errors import StoreError
from distilscope.lm.sequences import Sequences, id_dtype
from fake_models import pack, ragged

rows_of_ids = st.lists(st.lists(st.integers(0, 299), min_size=1, max_size=6).map(tuple), min_size=1, max_size=12)


def build(
    rows: list[tuple[int, ...]], *, recorded: bool = True, vocabulary: int = 300, prompt: tuple[int, ...] = (7, 8)
) -> Sequences:
    sequences = pack(rows, [sum(row) % 2 == 0 for row in rows], prompt, vocabulary)
    log_prob = -np.arange(len(sequences.ids), dtype=np.float32) if recorded else None
    return Sequences(sequences.ids, sequences.lengths, sequences.ended, (prompt,), vocabulary, log_prob)


def as_lists(sequences: Sequences) -> list[tuple]:
    """Each draw in full, as plain Python values."""
    log_prob = sequences.log_prob if sequences.log_prob is not None else np.zeros(len(sequences.ids))
    parts = np.split(log_prob, np.cumsum(sequences.lengths)[:-1])[: len(sequences)]
    return [
        (row.tolist(), bool(ended), part.tolist())
        for row, ended, part in zip(sequences, sequences.ended, parts, strict=True)
    ]


@given(rows_of_ids)
def test_iterating_gives_the_rows_back(rows):
    sequences = build(rows)
    assert [tuple(row.tolist()) for row in sequences] == rows
    assert len(sequences) == len(rows)
    assert sequences.offsets.tolist() == [sum(map(len, rows[:i])) for i in range(len(rows) + 1)]


@given(rows_of_ids, st.data())
def test_take_is_indexing(rows, data):
    picked = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=15))
    sequences = build(rows)
    taken = sequences.take(np.array(picked, dtype=np.int64))
    whole = as_lists(sequences)
    assert as_lists(taken) == [whole[i] for i in picked]
    assert (taken.prompts, taken.vocabulary, taken.ids.dtype) == (
        sequences.prompts,
        sequences.vocabulary,
        sequences.ids.dtype,
    )


@given(st.lists(rows_of_ids, min_size=1, max_size=4))
def test_concatenate_is_adding_lists(parts):
    whole = Sequences.concatenate(build(rows) for rows in parts)
    assert as_lists(whole) == [row for rows in parts for row in as_lists(build(rows))]


def test_only_like_is_put_together():
    one = build([(1, 2)])
    assert Sequences.concatenate([one, build([(3,)], recorded=False)]).log_prob is None
    for other in (build([(1,)], prompt=(9,)), build([(1,)], vocabulary=301)):
        with pytest.raises(ValueError, match="same prompts and one vocabulary"):
            Sequences.concatenate([one, other])


@given(rows_of_ids, st.booleans())
def test_a_file_gives_the_same_sequences_and_equal_ones_equal_bytes(tmp_path_factory, rows, recorded):
    folder = tmp_path_factory.getbasetemp()
    sequences = build(rows, recorded=recorded)
    sequences.save(folder / "a.safetensors")
    loaded = Sequences.load(folder / "a.safetensors")
    assert as_lists(loaded) == as_lists(sequences)
    assert (loaded.prompts, loaded.vocabulary, loaded.log_prob is None) == (((7, 8),), 300, not recorded)
    for name in ("ids", "lengths", "ended"):
        assert getattr(loaded, name).dtype == getattr(sequences, name).dtype
    loaded.save(folder / "b.safetensors")
    assert (folder / "a.safetensors").read_bytes() == (folder / "b.safetensors").read_bytes()


def test_views_are_saved_as_copies_are(tmp_path):
    sequences = ragged([3, 1, 2, 5], 300)
    sequences.take(np.array([2, 0])).save(tmp_path / "a")
    again = Sequences.load(tmp_path / "a")
    flipped = Sequences(again.ids[::-1][::-1], again.lengths[::-1][::-1], again.ended, again.prompts, again.vocabulary)
    flipped.save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("vocabulary", "dtype"),
    [
        (1, "uint8"),
        (5, "uint8"),
        (256, "uint8"),
        (257, "uint16"),
        (65_536, "uint16"),
        (65_537, "uint32"),
        (151_936, "uint32"),
    ],
)
def test_the_smallest_type_that_holds_every_id(vocabulary, dtype):
    assert id_dtype(vocabulary) == np.dtype(dtype)
    assert np.iinfo(id_dtype(vocabulary)).max >= vocabulary - 1


@given(rows_of_ids)
def test_sums_per_sequence(rows):
    sequences = build(rows)
    values = np.random.default_rng(0).normal(size=len(sequences.ids)).astype(np.float32)
    expected = [float(part.astype(np.float64).sum()) for part in np.split(values, sequences.offsets[1:-1])]
    found = sequences.sum_per_sequence(values)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_no_draws_at_all():
    none = build([(1, 2), (3,)]).take(np.zeros(0, dtype=np.int64))
    assert len(none) == 0
    assert list(none) == []
    assert none.sum_per_sequence(np.zeros(0, dtype=np.float32)).shape == (0,)


@pytest.mark.parametrize("keep", [0, 4, 50, 200, -1])
def test_a_truncated_file_is_named(tmp_path, keep):
    path = tmp_path / "draws.safetensors"
    build([(1, 2), (3,)]).save(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(StoreError, match=r"draws\.safetensors"):
        Sequences.load(path)


HEADER = {"after": '{"prompts": [[1]], "vocabulary": 5}'}


@pytest.mark.parametrize(
    ("arrays", "header"),
    [
        ({"ids": np.zeros(3, np.uint8), "lengths": np.array([1, 1], np.int32), "ended": np.zeros(2, bool)}, HEADER),
        ({"ids": np.zeros(3, np.uint8)}, HEADER),
        ({"ids": np.zeros(1, np.uint8), "lengths": np.array([1], np.int32), "ended": np.zeros(1, bool)}, None),
    ],
    ids=["lengths that do not add up", "no lengths", "no header"],
)
def test_a_file_of_something_else_is_named(tmp_path, arrays, header):
    save_file(arrays, tmp_path / "draws.safetensors", metadata=header)
    with pytest.raises(StoreError, match=r"draws\.safetensors"):
        Sequences.load(tmp_path / "draws.safetensors")


def test_the_prompt_is_kept_as_numbers(tmp_path):
    build([(1,)], prompt=(0, 299)).save(tmp_path / "draws")
    assert json.loads(json.dumps(Sequences.load(tmp_path / "draws").prompts)) == [[0, 299]]


def test_each_sequence_keeps_its_prompt(tmp_path):
    sequences = Sequences(
        np.array([5, 6, 7, 8, 9], dtype=np.uint16),
        np.array([2, 1, 2], dtype=np.int32),
        np.array([True, False, True]),
        ((1,), (2, 3)),
        300,
        prompt_of=np.array([1, 0, 1], dtype=np.int32),
    )
    assert [row.tolist() for row in sequences.read()] == [[2, 3, 5], [1], [2, 3, 8]]
    assert sequences.contexts.tolist() == [2, 1, 2]
    assert sequences.positions.tolist() == [3, 1, 3]
    assert sequences.take(np.array([1, 2])).prompt_of.tolist() == [0, 1]
    assert Sequences.concatenate([sequences, sequences]).prompt_of.tolist() == [1, 0, 1] * 2
    sequences.save(tmp_path / "draws")
    loaded = Sequences.load(tmp_path / "draws")
    assert (loaded.prompts, loaded.prompt_of.tolist()) == (((1,), (2, 3)), [1, 0, 1])
