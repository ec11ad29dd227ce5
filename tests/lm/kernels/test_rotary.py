import pytest
import torch

from distilscope.lm.kernels import rotary
from distilscope.lm.kernels.rotary import rotated


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_values_and_gradients_are_those_of_complex_numbers(dtype, monkeypatch):
    """A pair of coordinates is a complex number, times one of length 1; both ways."""
    random = torch.Generator().manual_seed(0)
    heads = torch.randn(7, 5, 6, generator=random).to(dtype)  # three queries, a key, a value
    along = [torch.randn(7, size, 6, generator=random).to(dtype) for size in (3, 1, 1)]
    angles = torch.randn(7, 3, generator=random)
    cos, sin = angles.cos().repeat(1, 2), angles.sin().repeat(1, 2) * torch.tensor([-1.0] * 3 + [1.0] * 3)
    exact = heads.double().requires_grad_()
    pairs = torch.complex(exact[:, :4, :3], exact[:, :4, 3:]) * torch.polar(
        torch.ones(7, 1, 3).double(), angles.double()[:, None]
    )
    turned = torch.cat((pairs.real, pairs.imag), dim=-1)
    expected = [turned[:, :3], turned[:, 3:], exact[:, 4:]]
    sum((one * other.double()).sum() for one, other in zip(expected, along, strict=True)).backward()
    near = {"atol": 1e-6, "rtol": 0} if dtype == torch.float32 else {"atol": 0.02, "rtol": 0.01}
    for compiled in (True, False):
        if not compiled:
            monkeypatch.setattr(rotary, "fits", lambda _: False)
        mine = heads.clone().requires_grad_()
        found = rotated(mine, cos.to(dtype), sin.to(dtype), 1)
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == dtype
            torch.testing.assert_close(one.double(), other, **near)
        sum((one * other).sum() for one, other in zip(found, along, strict=True)).backward()
        torch.testing.assert_close(mine.grad.double(), exact.grad, **near)
