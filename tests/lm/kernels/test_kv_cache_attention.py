import numpy as np
import pytest
import torch

from distilscope.lm.kernels import kv_cache_attention
from distilscope.lm.kernels.kv_cache_attention import CachedAttention

FORMATS = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)


def rounded_to(dtype: torch.dtype, exact: torch.Tensor) -> dict:
    return {"atol": 2e-6 * max(1.0, float(exact.detach().abs().max())), "rtol": 0.51 * torch.finfo(dtype).eps + 1e-6}


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
