"""Nothing here has a GPU; tensors that only pretend to be on another device refuse to meet any that are not."""

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from distilscope.distribution import Key
from distilscope.lm import scoring
from distilscope.lm.models.llama import Llama
from distilscope.lm.samplers import decoder_sampler
from distilscope.lm.training.objectives.cross_entropy import token_loss
from distilscope.selectivity import UNCHANGED, Chain, MinP, Selectivity, Temperature, TopK, TopP
from fake_models import ragged, tiny_llama

ELSEWHERE = torch.device("meta")
SELECTIVITIES = [UNCHANGED, Chain((Temperature(0.5), TopK(3), TopP(0.9), MinP(0.1)))]


@pytest.fixture
def network(monkeypatch) -> Llama:
    """One whose weights are elsewhere; what is sent there arrives, and what is fetched is zeros."""

    def send(array: np.ndarray, where: torch.device) -> torch.Tensor:
        return torch.empty(array.shape, dtype=torch.from_numpy(array).dtype, device=where)

    def fetch(tensor: torch.Tensor) -> np.ndarray:
        assert tensor.device == ELSEWHERE
        return np.zeros(tensor.shape, dtype=np.float32 if tensor.is_floating_point() else np.int64)

    uses = {
        send: (
            "kernels.attention",
            "kernels.inverse_cdf",
            "kernels.kv_cache_attention",
            "models.llama",
            "scoring",
            "training.objectives.cross_entropy",
        ),
        fetch: ("kernels.fused_cross_entropy", "kernels.inverse_cdf", "kernels.log_prob_moments"),
    }
    for function, modules in uses.items():
        for module in modules:
            monkeypatch.setattr(f"distilscope.lm.{module}.{function.__name__}", function)
    config = tiny_llama().config
    with FakeTensorMode():
        with ELSEWHERE:
            network = Llama(config).requires_grad_(False)
        for name, buffer in network.named_buffers():
            setattr(network, name, torch.empty(buffer.shape, device=ELSEWHERE))
        yield network


@pytest.mark.parametrize("lengths", [[3, 5, 1], [16, 16]])
def test_the_loss_is_computed_where_the_network_is(network, lengths):
    assert token_loss(network.requires_grad_(True), ragged(lengths, network.vocabulary)).device == ELSEWHERE


@pytest.mark.parametrize("selectivity", SELECTIVITIES, ids=str)
def test_draws_are_made_and_scored_where_the_network_is(network, selectivity: Selectivity):
    prompts = ((1,), (2, 0, 1))
    draws = decoder_sampler.draw(
        network,
        prompts=prompts,
        prompt_of=np.array([0, 1, 1, 0, 1]),
        horizon=4,
        stopping={2},
        selectivity=selectivity,
        slots=2,
        key=Key(0),
    )
    assert draws.lengths.tolist() == [4] * 5
    scoring.score((network, selectivity), draws, [(network, UNCHANGED)])
