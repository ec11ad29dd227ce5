"""The start that is not from scratch: which half of it is on, and that it is PyTorch's own distribution."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from distilscope.distribution import Key
from distilscope.lm.models.llama import Llama
from distilscope.studies.audit.pretrained_start import Gains, released_start, resampled
from fake_models import TINY, tiny_llama

KEY = Key(3, ("weights",))
BIG = replace(TINY, vocab_size=300, hidden_size=64, intermediate_size=128, head_dim=16)


def gains_of_a_wider_model() -> Gains:
    network = tiny_llama(num_layers=4, hidden_size=32, head_dim=8)
    with torch.no_grad():
        for i, block in enumerate(network.blocks):
            block.input_norm.copy_(torch.arange(32) + 100.0 * i)
            block.post_norm.copy_(-torch.arange(32) - 100.0 * i)
        network.norm.copy_(torch.arange(32) + 0.5)
    return Gains.of(network)


def test_with_neither_half_it_is_the_definition():
    start = released_start(TINY, KEY, gains=None, torch_default=False)
    for name, weight in Llama.from_config(TINY, KEY).named_parameters():
        assert torch.equal(start.get_parameter(name), weight)


def test_gains_are_carried_over_by_depth_and_channel():
    start = released_start(TINY, KEY, gains=gains_of_a_wider_model(), torch_default=False)
    every_second = torch.arange(0, 32, 2).float()
    first, second = start.blocks
    assert torch.equal(first.input_norm, every_second)
    assert torch.equal(second.input_norm, every_second + 200)
    assert torch.equal(second.post_norm, -every_second - 200)
    assert torch.equal(start.norm, every_second + 0.5)
    assert torch.equal(start.embedding, Llama.from_config(TINY, KEY).embedding)


def test_resampled_keeps_all_where_the_sizes_agree():
    assert resampled(torch.arange(5), 5) == list(torch.arange(5))
    assert resampled(torch.arange(2), 4) == [0, 0, 1, 1]


def test_matrices_are_distributed_as_linear_layers_draw_them():
    start, by = (released_start(BIG, KEY, gains=None, torch_default=on) for on in (True, False))
    for name, learnable in start.named_parameters():
        weight = learnable.detach()
        if weight.dim() == 2:
            torch.manual_seed(0)
            linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False).weight.detach()
            assert float(weight.std()) == pytest.approx(float(linear.std()), rel=0.05)
            assert float(weight.abs().max()) <= 1 / math.sqrt(weight.shape[1])
            # the same random numbers: what was larger stays larger
            assert torch.equal(weight.flatten().argsort()[:50], by.get_parameter(name).flatten().argsort()[:50])
        else:
            assert (weight == 1).all()
    untied = released_start(replace(BIG, tied=False), KEY, gains=None, torch_default=True)
    assert float(untied.embedding.detach().std()) == pytest.approx(1, rel=0.05)
