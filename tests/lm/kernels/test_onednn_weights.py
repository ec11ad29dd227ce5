import numpy as np
import pytest
import torch

from distilscope.distribution import Key
from distilscope.lm.kernels.onednn_weights import linear, reordered, with_spare_rows
from distilscope.lm.models.llama import Llama
from distilscope.lm.models.llama_config import LlamaConfig
from fake_models import tiny_llama


@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("rows", [1, 64, 100])
@torch.inference_mode()
def test_a_product_by_a_reordered_matrix_is_the_exact_one_to_rounding(rows, dtype, within):
    random = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(shape, generator=random).to(dtype) for shape in [(rows, 96), (160, 96)])
    exact = x.double() @ weight.double().T
    torch.testing.assert_close(linear(x, reordered(weight)).double(), exact, rtol=within, atol=10 * within)


def test_a_network_in_training_has_no_reordered_weights():
    with pytest.raises(ValueError, match="its weights change"):
        _ = tiny_llama().requires_grad_(True).reordered


@pytest.mark.parametrize(
    ("dtype", "rows", "spare"), [(torch.bfloat16, 2048, 32), (torch.bfloat16, 2000, 0), (torch.float32, 2048, 0)]
)
def test_only_where_rows_of_a_product_would_be_whole_pages_are_there_spare_ones(dtype, rows, spare):
    weight = torch.ones(rows, 3, dtype=dtype)
    roomy = with_spare_rows(weight)
    assert torch.equal(roomy[:rows], weight)
    assert roomy[rows:].shape == (spare, 3)
    assert not roomy[rows:].any()


@torch.inference_mode()
def test_a_head_with_spare_rows_gives_as_many_logits_as_there_are_tokens():
    config = LlamaConfig(
        vocab_size=2048,
        hidden_size=8,
        intermediate_size=16,
        num_layers=1,
        num_heads=2,
        num_kv_heads=1,
        head_dim=4,
        context=8,
    )
    network = Llama.from_hf(config, Llama.from_config(config, Key(0)).to_hf(), torch.bfloat16)
    decoder = network.decoder(((5,),), 3, 4)
    exact = network.hidden(torch.tensor([5, 6, 5, 7]), [2, 2]).double() @ network.embedding.double().T
    logits, rows = decoder.begin(np.arange(3), np.zeros(3, dtype=np.int64))
    torch.testing.assert_close(logits[rows].double(), exact[[0, 0, 0]], rtol=1e-2, atol=1e-3)
    logits, rows = decoder.step(np.arange(3), np.array([6, 7, 6]))
    torch.testing.assert_close(logits[rows].double(), exact[[1, 3, 1]], rtol=1e-2, atol=1e-3)
