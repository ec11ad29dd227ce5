"""Compiled loops against torch's own operations in double precision."""

import errno
import math
import os
import threading
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numba.core.caching import IndexDataCacheFile
from torch.nn import functional as F

from distilscope.lm.kernels import kv_cache_attention, rms_norm, swiglu
from distilscope.lm.kernels import numba_cache as compiled_loops
from distilscope.lm.kernels.exp2 import power_of_two
from distilscope.lm.kernels.kv_cache_attention import CachedAttention
from distilscope.lm.kernels.numba_cache import array, compiled, element, fits, number
from distilscope.lm.kernels.simd import lanes, larger, put
from distilscope.system.cache_dir import cache_folder

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
        alone[i] = larger(one[i], other[i])
    put(larger(lanes(one, 0, 49), lanes(other, 0, 49)), together, 0)


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
        into[i] = power_of_two(x[i])


@compiled
def powers_in_lanes(x, into):
    for start in range(0, len(x), 5):
        put(power_of_two(lanes(x, start, 5)), into, start)


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


def rounded_to(dtype: torch.dtype, exact: torch.Tensor) -> dict:
    return {"atol": 2e-6 * max(1.0, float(exact.detach().abs().max())), "rtol": 0.51 * torch.finfo(dtype).eps + 1e-6}


@FORMATS
def test_the_gate_and_its_slope(dtype):
    """Also where the gate is so far from 0 that its exponential is no float32."""
    x = torch.randn(5, 38, generator=torch.Generator().manual_seed(0)).mul(6)
    x[0, :8] = torch.tensor([-1e4, -200.0, -89.5, -88.0, 0.0, 88.0, 200.0, 1e4])
    x, along = x.to(dtype), torch.randn(5, 19, generator=torch.Generator().manual_seed(1)).to(dtype)
    mine, theirs = x.clone().requires_grad_(), x.double().requires_grad_()
    left, right = theirs.chunk(2, -1)
    exact = F.silu(left) * right
    found = swiglu.gated(mine)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), exact, **rounded_to(dtype, exact))
    found.backward(along)
    exact.backward(along.double())
    torch.testing.assert_close(mine.grad.double(), theirs.grad, **rounded_to(dtype, theirs.grad))


@FORMATS
def test_the_sum_and_its_norm(dtype):
    random = torch.Generator().manual_seed(0)
    x, more, gain = (torch.randn(shape, generator=random).to(dtype) for shape in ((5, 37), (5, 37), (37,)))
    total = x + more
    found, normed = rms_norm.add_and_norm(x.clone(), more, gain, 1e-5)
    assert torch.equal(found, total)
    torch.testing.assert_close(normed, rms_norm.rms_norm(total, gain, 1e-5), rtol=0, atol=0)


def test_with_a_gradient_nothing_is_overwritten():
    x, more, gain = torch.ones(2, 4, requires_grad=True), torch.ones(2, 4, requires_grad=True), torch.ones(4)
    rms_norm.add_and_norm(x, more, gain, 0.0)[1].sum().backward()
    assert x.grad is not None
    assert torch.equal(x, torch.ones(2, 4))


@FORMATS
@pytest.mark.parametrize(("kv", "shared", "width"), [(3, 3, 64), (1, 1, 2), (2, 1, 10), (1, 4, 96)])
def test_attention_over_a_cache(dtype, kv, shared, width, monkeypatch):
    """Tokens at different positions, one at the first and one at the cache's end, in slots in some order, of which two
    share one; both ways leave the same cache and find the same."""
    random = torch.Generator().manual_seed(0)
    room, position, slot = 37, np.array([0, 15, 16, 36, 5]), np.array([3, 0, 6, 1, 4])
    where = {"room": room, "also": (np.array([0, 1, 2, 3, 4, 6]), np.array([1, 3, 1, 0, 4, 2]))}

    def numbers(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=random).to(dtype)

    heads, keys, values = numbers(5, kv * (shared + 2), width), numbers(7, kv, room, width), numbers(7, kv, room, width)
    angles = numbers(5, width // 2).repeat(1, 2)
    cos, sin = angles.cos(), angles.sin() * torch.tensor([-1.0, 1.0]).repeat_interleave(width // 2).to(dtype)
    mine = (keys.clone(), values.clone())
    found = CachedAttention(slot, position, cos, sin, **where)(heads, *mine)
    monkeypatch.setattr(kv_cache_attention, "fits", lambda _: False)
    theirs = (keys.double(), values.double())
    exact = CachedAttention(slot, position, cos.double(), sin.double(), **where)(heads.double(), *theirs)
    for cache, exact_cache in zip(mine, theirs, strict=True):
        torch.testing.assert_close(cache.double(), exact_cache, **rounded_to(dtype, exact_cache))
        assert torch.equal(cache[2, :, 15], cache[0, :, 15])
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), exact, atol=(2e-2 if dtype == torch.bfloat16 else 2e-6), rtol=1e-2)


def test_what_does_not_fit_is_left_to_torch():
    assert not fits(torch.zeros(2, 3).T)
    assert not fits(torch.zeros(2, dtype=torch.float16))
    assert not fits(torch.zeros(2, device="meta"))
    torch.set_num_threads(2)
    try:
        assert not fits(torch.zeros(2, 3))
    finally:
        torch.set_num_threads(1)
    half = torch.ones(2, 4, dtype=torch.float16)
    assert (
        swiglu.gated(half).dtype
        == rms_norm.rms_norm(half, torch.ones(4, dtype=torch.float16), 1e-5).dtype
        == torch.float16
    )


def test_threads_that_make_loops_at_once_leave_each_other_the_folder(monkeypatch):
    """Numba has one setting for all threads; where one put it back while another was at work, loops were kept in the
    working folder."""
    before, seen = compiled_loops.config.CACHE_DIR, []

    def kept(_kernel):
        time.sleep(0.02)
        seen.append(compiled_loops.config.CACHE_DIR)

    monkeypatch.setattr(compiled_loops, "_WhereItCan", kept)
    threads = [threading.Thread(target=compiled_loops.compiled, args=(lambda: None,)) for _ in range(4)]
    for thread in threads:
        thread.start()
        time.sleep(0.005)
    for thread in threads:
        thread.join()
    assert len(seen) == 4
    assert set(seen) == {str(cache_folder() / "compiled" / compiled_loops._version())}
    assert before == compiled_loops.config.CACHE_DIR


def test_a_loop_that_finds_no_space_in_its_folder_works_all_the_same(monkeypatch):
    tried = []

    def save(_file, key, _data):
        tried.append(key)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(IndexDataCacheFile, "save", save)
    assert compiled(lambda x: x + 1)(2) == 3
    assert len(tried) == 1
