import pytest
import torch
from torch.nn import functional as F

from distilscope.lm.kernels.rms_norm import add_and_norm, rms_norm


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    x = (
        torch.randn(5, 12, generator=random) * torch.tensor([1e-4, 1.0, 3.0, 100.0, 0.0])[:, None]
    )  # eps counts in the first and last
    return x.requires_grad_(), torch.linspace(-0.5, 1.5, 12).requires_grad_()


def test_values_and_gradients_are_those_of_torch():
    slope = torch.randn(5, 12, generator=torch.Generator().manual_seed(1))
    (x, gain), (their_x, their_gain) = inputs(), inputs()
    ours = rms_norm(x, gain, 1e-5)
    theirs = F.rms_norm(their_x.double(), (12,), their_gain.double(), 1e-5)
    torch.testing.assert_close(ours.double(), theirs, atol=1e-6, rtol=1e-6)
    ours.backward(slope)
    theirs.backward(slope.double())
    torch.testing.assert_close(x.grad, their_x.grad, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(gain.grad, their_gain.grad, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rows", [1, 5, 130])
@pytest.mark.parametrize("more", [torch.float32, torch.bfloat16], ids=str)
def test_a_sum_and_its_norm_have_torchs_gradients(rows, more):
    random = torch.Generator().manual_seed(2)
    x, y, slope_of_sum, slope = (torch.randn(rows, 12, generator=random) for _ in range(4))
    y, gain = y.to(more), torch.linspace(-0.5, 1.5, 12)
    mine = [one.clone().requires_grad_() for one in (x, y, gain)]
    theirs = [one.double().requires_grad_() for one in (x, y, gain)]
    total, normed = add_and_norm(*mine, 1e-5)
    exact = theirs[0] + theirs[1]
    exact_norm = F.rms_norm(exact, (12,), theirs[2], 1e-5)
    torch.testing.assert_close(total.double(), exact, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(normed.double(), exact_norm, atol=1e-6, rtol=1e-6)
    ((total * slope_of_sum).sum() + (normed * slope).sum()).backward()
    ((exact * slope_of_sum.double()).sum() + (exact_norm * slope.double()).sum()).backward()
    for one, other in zip(mine, theirs, strict=True):
        assert one.grad.dtype == one.dtype
        rtol = 1e-5 if one.dtype == torch.float32 else 2**-8
        torch.testing.assert_close(one.grad.double(), other.grad, atol=1e-5, rtol=rtol)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_under_autocast_the_result_is_rounded_and_the_gradient_is_not(dtype):
    x, gain = inputs()
    with torch.autocast("cpu", dtype):
        ours = rms_norm(x, gain, 1e-5)
    assert torch.equal(ours, rms_norm(x, gain, 1e-5).to(dtype))
    ours.sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == gain.grad.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_without_a_gradient_it_is_rounded_once(dtype):
    x, gain = (one.detach().to(dtype) for one in inputs())
    before = x.clone()
    exact = F.rms_norm(x.double(), (12,), gain.double(), 1e-5)
    ours = rms_norm(x, gain, 1e-5)
    assert ours.dtype == dtype
    torch.testing.assert_close(ours.double(), exact, atol=1e-7, rtol=0.51 * torch.finfo(dtype).eps + 1e-6)
    assert torch.equal(x, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_sum_and_its_norm(dtype):
    random = torch.Generator().manual_seed(0)
    x, more, gain = (torch.randn(shape, generator=random).to(dtype) for shape in ((5, 37), (5, 37), (37,)))
    total = x + more
    found, normed = add_and_norm(x.clone(), more, gain, 1e-5)
    assert torch.equal(found, total)
    torch.testing.assert_close(normed, rms_norm(total, gain, 1e-5), rtol=0, atol=0)


def test_with_a_gradient_nothing_is_overwritten():
    x, more, gain = torch.ones(2, 4, requires_grad=True), torch.ones(2, 4, requires_grad=True), torch.ones(4)
    add_and_norm(x, more, gain, 0.0)[1].sum().backward()
    assert x.grad is not None
    assert torch.equal(x, torch.ones(2, 4))
