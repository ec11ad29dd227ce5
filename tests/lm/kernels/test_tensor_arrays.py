import torch

from distilscope.lm.kernels.rms_norm import rms_norm
from distilscope.lm.kernels.swiglu import swiglu
from distilscope.lm.kernels.tensor_arrays import fits


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
    assert swiglu(half).dtype == rms_norm(half, torch.ones(4, dtype=torch.float16), 1e-5).dtype == torch.float16
