import pytest
import torch
from torch.nn import functional as F

from distilscope.lm.kernels import fused_cross_entropy
from distilscope.lm.kernels.fused_cross_entropy import negative_log_prob

WEIGHTS = {
    "of a sum": torch.ones(5),
    "of a mean": torch.full((5,), 0.2),
    "of anything": torch.tensor([0.0, -1.0, 2.0, 0.3, 1.0]),
}
BY_TORCH = pytest.mark.parametrize("by_torch", [False, True], ids=["compiled", "by torch"])


@BY_TORCH
@pytest.mark.parametrize(
    ("dtype", "within"), [(torch.float32, 1e-6), (torch.float16, 2e-3), (torch.bfloat16, 1e-2)], ids=str
)
@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("ballast", [0, 3])
@pytest.mark.parametrize("vocabulary", [11, 32, 37])
def test_loss_and_gradient_are_those_of_cross_entropy(
    weights, ballast, vocabulary, dtype, within, by_torch, monkeypatch
):
    if by_torch:
        monkeypatch.setattr(fused_cross_entropy, "fits", lambda _: False)
    random = torch.Generator().manual_seed(0)
    logits = (10 * torch.randn(5 + ballast, vocabulary, generator=random)).to(dtype)
    targets = torch.tensor([3, 0, 10, 3, int(logits[4].argmin())])
    ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
    found = negative_log_prob(ours * 1, targets)
    expected = F.cross_entropy(theirs[:5].double(), targets, reduction="none")
    assert found.dtype == torch.float32
    exact_to = within if by_torch or dtype == torch.float16 else min(within, 1e-5)
    torch.testing.assert_close(found.double(), expected, atol=exact_to, rtol=1e-6)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, atol=within, rtol=0)


@BY_TORCH
def test_a_target_of_vanishing_probability_has_a_finite_loss(by_torch, monkeypatch):
    if by_torch:
        monkeypatch.setattr(fused_cross_entropy, "fits", lambda _: False)
    logits = torch.tensor([[0.0, 500.0]], requires_grad=True)
    found = negative_log_prob(logits * 1, torch.tensor([0]))
    found.sum().backward()
    assert found.item() == 500
    torch.testing.assert_close(logits.grad, torch.tensor([[-1.0, 1.0]]))
