"""Shards under random names, and shards that were cut."""

from __future__ import annotations

import pytest

from distilscope.distribution import Key
from distilscope.errors import StoreError
from distilscope.lm.sequences import Sequences
from distilscope.studies.audit.shards import in_sorted_order, random_names, survivors, truncate
from fake_models import ragged


def shard(i: int) -> Sequences:
    return ragged([i + 1] * 3, vocabulary=9, seed=i)


def test_order_is_that_of_the_names():
    data = in_sorted_order([shard(0), shard(1), shard(2)], ["c", "a", "b"])
    assert data.lengths.tolist() == [2, 2, 2, 3, 3, 3, 1, 1, 1]


def test_names_are_a_function_of_the_key_and_differ():
    assert random_names(4, Key(0)) == random_names(4, Key(0))
    assert len(set(random_names(4, Key(0)) + random_names(4, Key(1)))) == 8


def test_a_cut_shard_is_passed_over_where_the_definition_stops(tmp_path):
    paths = [tmp_path / f"{i}.safetensors" for i in range(3)]
    for i, path in enumerate(paths):
        shard(i).save(path)
    truncate(paths[1])
    data, said = survivors(paths)
    assert data.lengths.tolist() == [1, 1, 1, 3, 3, 3]
    assert len(said) == 1
    assert said[0].startswith("1.safetensors ")
    with pytest.raises(StoreError, match="make it again"):
        Sequences.load(paths[1])
