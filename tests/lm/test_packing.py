import pytest
import torch

from distilscope.lm.packing import linear, packed
from fake_models import tiny_llama


@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("rows", [1, 64, 100])
@torch.inference_mode()
def test_a_packed_product_is_the_exact_one_to_rounding(rows, dtype, within):
    random = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(shape, generator=random).to(dtype) for shape in [(rows, 96), (160, 96)])
    exact = x.double() @ weight.double().T
    torch.testing.assert_close(linear(x, packed(weight)).double(), exact, rtol=within, atol=10 * within)


def test_a_network_in_training_is_not_packed():
    with pytest.raises(ValueError, match="its weights change"):
        _ = tiny_llama().requires_grad_(True).packed
