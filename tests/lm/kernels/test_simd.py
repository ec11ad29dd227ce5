"""What compiled loops are made of, against torch and numpy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distilscope.lm.kernels.bfloat16 import element, number
from distilscope.lm.kernels.exp2 import exp2
from distilscope.lm.kernels.numba_cache import compiled
from distilscope.lm.kernels.simd import load, maximum, store
from distilscope.lm.kernels.tensor_arrays import array

FORMATS = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)


@compiled
def there_and_back(numbers, rounded, again):
    for i in range(len(numbers)):
        rounded[i] = element(numbers[i], rounded)
        again[i] = number(rounded[i])


@FORMATS
@given(
    bits=st.lists(
        st.one_of(st.integers(0, 2**32 - 1), st.sampled_from([0x3F808000, 0x3F818000, 0x80000000, 1])), min_size=1
    )
)
def test_elements_are_rounded_as_torch_rounds(dtype, bits):
    numbers = np.array(bits, dtype=np.uint32).view(np.float32)
    numbers = numbers[~np.isnan(numbers)]
    expected = torch.from_numpy(numbers).to(dtype)
    rounded, again = array(torch.empty_like(expected)), np.empty_like(numbers)
    there_and_back(numbers, rounded, again)
    np.testing.assert_array_equal(rounded, array(expected))
    np.testing.assert_array_equal(again, expected.float().numpy())


@compiled
def larger_ones(one, other, alone, together):
    for i in range(len(one)):
        alone[i] = maximum(one[i], other[i])
    store(maximum(load(one, 0, 49), load(other, 0, 49)), together, 0)


def test_the_larger_of_two_is_no_number_where_one_is_none():
    numbers = np.array([-math.inf, -2.0, -0.0, 1e-30, 3e38, math.inf, math.nan], dtype=np.float32)
    one, other = (part.ravel() for part in np.meshgrid(numbers, numbers))
    alone, together = np.empty_like(one), np.empty_like(one)
    larger_ones(one, other, alone, together)
    np.testing.assert_array_equal(alone, np.maximum(one, other))
    np.testing.assert_array_equal(together, alone)


@compiled
def powers(x, into):
    for i in range(len(x)):
        into[i] = exp2(x[i])


@compiled
def powers_in_lanes(x, into):
    for start in range(0, len(x), 5):
        store(exp2(load(x, start, 5)), into, start)


def test_powers_are_the_same_in_lanes():
    x = np.concatenate([np.linspace(-130, 130, 1000), [-math.inf, math.inf, 0, -126, 127]]).astype(np.float32)
    found, expected = np.empty_like(x), np.empty_like(x)
    powers_in_lanes(x, found)
    powers(x, expected)
    np.testing.assert_allclose(found, expected, rtol=2e-7)


def test_powers_of_two():
    x = np.concatenate(
        [np.linspace(-126, 127, 100_001), np.arange(-126, 127), np.arange(-126, 127) + 0.5, [1e-30, -0.0]]
    ).astype(np.float32)
    found, exact = np.empty_like(x), np.exp2(x.astype(np.float64))
    powers(x, found)
    assert np.abs(found / exact - 1).max() < 4e-7
    small = np.array([-126.01, -1000, -1e30, -np.inf], dtype=np.float32)
    powers(small, found[:4])
    assert not found[:4].any()
    large = np.array([127.1, 129, 1e30, np.inf], dtype=np.float32)
    powers(large, found[:4])
    assert (found[:4] == np.float32(2.0**127)).all()
