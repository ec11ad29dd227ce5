import pytest
import torch
from torch.nn import functional as F

from distilscope.lm.kernels.swiglu import swiglu

FORMATS = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)


def rounded_to(dtype: torch.dtype, exact: torch.Tensor) -> dict:
    return {"atol": 2e-6 * max(1.0, float(exact.detach().abs().max())), "rtol": 0.51 * torch.finfo(dtype).eps + 1e-6}


@FORMATS
def test_values_and_gradients_are_exact_to_rounding(dtype):
    """Also where the activated half is so far from 0 that its exponential is no float32."""
    x = torch.randn(5, 38, generator=torch.Generator().manual_seed(0)).mul(6)
    x[0, :8] = torch.tensor([-1e4, -200.0, -89.5, -88.0, 0.0, 88.0, 200.0, 1e4])
    x, along = x.to(dtype), torch.randn(5, 19, generator=torch.Generator().manual_seed(1)).to(dtype)
    mine, theirs = x.clone().requires_grad_(), x.double().requires_grad_()
    left, right = theirs.chunk(2, -1)
    exact = F.silu(left) * right
    found = swiglu(mine)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), exact, **rounded_to(dtype, exact))
    found.backward(along)
    exact.backward(along.double())
    torch.testing.assert_close(mine.grad.double(), theirs.grad, **rounded_to(dtype, theirs.grad))
