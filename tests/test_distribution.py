import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from distilscope.distribution import Key

names = st.one_of(st.text(max_size=8), st.integers(-10, 10**12))
keys = st.builds(Key, st.integers(0, 2**63), st.lists(names, max_size=4).map(tuple))


@given(keys)
def test_a_key_names_one_stream(key):
    again = Key(key.seed, tuple(key.path))
    assert again == key
    np.testing.assert_array_equal(key.generator().random(8), again.generator().random(8))


@given(keys, keys)
def test_different_keys_give_different_streams(a, b):
    same = np.array_equal(a.generator().random(4), b.generator().random(4))
    assert same == (a == b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (Key(0), Key(1)),
        (Key(0, ("a", "b")), Key(0, ("ab",))),
        (Key(0, ("a", "b")), Key(0, ("b", "a"))),
        (Key(0, (1,)), Key(0, ("1",))),
        (Key(0, ("a",)), Key(0, ("a", ""))),
        (Key(1, (2,)), Key(12)),
        (Key(0, (0.8,)), Key(0, (0.9,))),
    ],
    ids=str,
)
def test_near_misses_differ(a, b):
    assert not np.array_equal(a.generator().random(4), b.generator().random(4))


def test_children_are_named_below_their_parent():
    assert Key(3).child("a", 1).child(0.5) == Key(3, ("a", 1, 0.5))
    assert Key(3).child() == Key(3)


def test_the_stream_never_changes():
    """Stored artifacts were drawn from it."""
    assert Key(0).generator().random(3).tolist() == [0.17348375524791582, 0.22242376925991592, 0.8441830482436413]


def test_streams_are_uniform_and_unrelated():
    streams = np.stack([Key(0, ("stream", i)).generator().random(2000) for i in range(20)])
    assert stats.kstest(streams.reshape(-1), "uniform").pvalue > 0.001
    assert stats.kstest(streams[:, 0], "uniform").pvalue > 0.001, "the first numbers of neighbouring keys"
    off_diagonal = np.corrcoef(streams)[~np.eye(20, dtype=bool)]
    assert np.abs(off_diagonal).max() < 5 / 2000**0.5
