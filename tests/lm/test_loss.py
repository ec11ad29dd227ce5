import pytest
import torch
from torch.nn import functional as F

from distilscope.lm.loss import negative_log_prob

WEIGHTS = {"of a sum": torch.ones(5), "of a mean": torch.full((5,), 0.2), "of anything": torch.tensor([0.0, -1.0, 2.0, 0.3, 1.0])}


@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, 1e-6), (torch.float16, 2e-3), (torch.bfloat16, 1e-2)], ids=str)
@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("ballast", [0, 3])
def test_loss_and_gradient_are_those_of_cross_entropy(weights, ballast, dtype, within):
    random = torch.Generator().manual_seed(0)
    logits = (10 * torch.randn(5 + ballast, 11, generator=random)).to(dtype)
    targets = torch.tensor([3, 0, 10, 3, int(logits[4].argmin())])
    ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
    loss = negative_log_prob(ours, targets)
    expected = F.cross_entropy(theirs[:5].double(), targets, reduction="none")
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), expected, atol=within, rtol=1e-6)
    (loss * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, atol=within, rtol=0)


def test_a_target_of_vanishing_probability_has_a_finite_loss():
    logits = torch.tensor([[0.0, 500.0]], requires_grad=True)
    loss = negative_log_prob(logits, torch.tensor([0]))
    loss.sum().backward()
    assert loss.item() == 500
    torch.testing.assert_close(logits.grad, torch.tensor([[-1.0, 1.0]]))
