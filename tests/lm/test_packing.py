import pytest
import torch

from distilscope.lm.packing import linear, packed
from fake_models import tiny_llama


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 64, 100])
@torch.inference_mode()
def test_a_packed_product_is_the_plain_one(rows, dtype):
    random = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(shape, generator=random).to(dtype) for shape in [(rows, 96), (160, 96)])
    torch.testing.assert_close(linear(x, packed(weight)), linear(x, weight), rtol=0, atol=1e-2 if dtype == torch.bfloat16 else 0)


def test_a_network_in_training_is_not_packed():
    with pytest.raises(ValueError, match="its weights change"):
        _ = tiny_llama().requires_grad_(True).packed
