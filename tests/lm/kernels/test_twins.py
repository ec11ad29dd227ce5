"""Every compiled loop against the torch code that does the same: values and gradients, from the same inputs.

A kernel module chooses between the two by asking `fits`; here it is told each answer. A new module with compiled loops
needs an entry in `TWINS`.
"""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from distilscope.lm import kernels
from distilscope.lm.kernels.exp2 import exp2
from distilscope.lm.kernels.fused_cross_entropy import negative_log_prob
from distilscope.lm.kernels.inverse_cdf import invert_cdf
from distilscope.lm.kernels.kv_cache_attention import CachedAttention
from distilscope.lm.kernels.log_prob_moments import Moments, log_prob_at
from distilscope.lm.kernels.logsumexp import row_max, sum_exp
from distilscope.lm.kernels.numba_cache import compiled
from distilscope.lm.kernels.rms_norm import add_and_norm, rms_norm
from distilscope.lm.kernels.rotary import rotated
from distilscope.lm.kernels.swiglu import swiglu

Results = Iterator[Tensor]


@dataclass(frozen=True)
class Twin:
    """What a kernel module computes from seeded inputs of a dtype: by its loops, and by torch."""

    loops: Callable[[torch.dtype], Results]
    by_torch: Callable[[torch.dtype], Results] | None = None
    """None where the module has both: it then takes the other one where `switch` says that a tensor does not fit."""
    switch: str = "fits"


def random(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0, gradient: bool = False) -> Tensor:
    made = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    return made.requires_grad_(gradient)


def angles(rows: int, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The tables of the rotary embedding."""
    half = random(rows, width // 2, seed=7)
    signs = torch.tensor([-1.0, 1.0]).repeat_interleave(width // 2)
    return half.cos().repeat(1, 2).to(dtype), (half.sin().repeat(1, 2) * signs).to(dtype)


def of_cross_entropy(dtype: torch.dtype) -> Results:
    logits = random(7, 37, dtype=dtype, gradient=True)
    losses = negative_log_prob(logits * 3, torch.tensor([3, 0, 36, 3, 20]))
    (losses * torch.tensor([1.0, 0.5, -1.0, 2.0, 0.0])).sum().backward()
    yield from (losses, logits.grad)


def of_inverse_cdf(dtype: torch.dtype) -> Results:
    logits, uniforms = random(6, 1000, dtype=dtype) * 3, np.random.default_rng(0).random(40)
    tokens, log_prob = invert_cdf(logits, uniforms, np.arange(40) % 6)
    yield from (torch.from_numpy(tokens), torch.from_numpy(log_prob))


@torch.inference_mode()
def of_cached_attention(dtype: torch.dtype) -> Results:
    heads = random(3, 8, 16, dtype=dtype)  # four queries, two keys, two values
    keys, values = (random(5, 2, 20, 16, dtype=dtype, seed=seed) for seed in (1, 2))
    slot, position = np.array([4, 0, 2]), np.array([0, 19, 7])
    copied = (np.array([0, 2, 4, 1]), np.array([1, 2, 0, 2]))  # slot 1 takes what token 2 leaves in slot 2
    attention = CachedAttention(slot, position, *angles(3, 16, dtype), room=20, also=copied)
    yield from (attention(heads, keys, values), keys, values)


def of_moments(_: torch.dtype) -> Results:
    own, other = random(6, 1000) * 3, random(6, 1000, seed=1) * 3  # logits are scored in float32, whatever made them
    targets = torch.arange(6) * 190
    moments = Moments(own, targets)
    yield from map(torch.from_numpy, (*moments.own(), *moments.of_other(other), log_prob_at(other, targets)))


def of_rms_norm(dtype: torch.dtype) -> Results:
    x, addend, gain = (
        random(*shape, dtype=dtype, gradient=True, seed=i) for i, shape in enumerate([(5, 37)] * 2 + [(37,)])
    )
    total, normed = add_and_norm(x, addend, gain, 1e-5)
    again = rms_norm(total, gain, 1e-2)
    (total * 0.3 + normed * normed + again * 0.1).float().sum().backward()
    with torch.inference_mode():
        yield from (rms_norm(x, gain, 1e-5), *add_and_norm(x, addend, gain, 1e-5))
    yield from (total, normed, again, x.grad, addend.grad, gain.grad)


def of_rotary(dtype: torch.dtype) -> Results:
    heads = random(7, 5, 16, dtype=dtype, gradient=True)
    parts = rotated(heads, *angles(7, 16, dtype), 1)
    sum((part * random(*part.shape, seed=i)).sum() for i, part in enumerate(parts)).backward()
    yield from (*parts, heads.grad)


def of_swiglu(dtype: torch.dtype) -> Results:
    x = random(5, 38, dtype=dtype, gradient=True)
    activated = swiglu(x)
    (activated * random(5, 19, seed=1)).sum().backward()
    with torch.inference_mode():
        yield swiglu(x)
    yield from (activated, x.grad)


@compiled
def exp2_of_all(x, into):
    for i in range(len(x)):
        into[i] = exp2(x[i])


@compiled
def maxima_and_sums(x, largest, sums):
    for i in range(len(x)):
        largest[i] = row_max(x[i], 0, x.shape[1])
        sums[i] = sum_exp(x[i], 0, x.shape[1], largest[i])


EXPONENTS, ROWS = torch.linspace(-126, 126, 10_000), random(5, 201) * 10


def of_exp2(_: torch.dtype) -> Results:
    found = np.empty(len(EXPONENTS), np.float32)
    exp2_of_all(EXPONENTS.numpy(), found)
    yield torch.from_numpy(found)


def of_logsumexp(_: torch.dtype) -> Results:
    largest, sums = np.empty(len(ROWS), np.float32), np.empty(len(ROWS), np.float32)
    maxima_and_sums(ROWS.numpy(), largest, sums)
    yield from map(torch.from_numpy, (largest, sums, largest + np.log(sums)))


def logsumexp_by_torch(_: torch.dtype) -> Results:
    largest = ROWS.amax(-1)
    yield from (largest, (ROWS - largest[:, None]).exp().sum(-1), ROWS.logsumexp(-1))


TWINS = {
    "exp2": Twin(of_exp2, lambda _: iter([torch.exp2(EXPONENTS)])),
    "fused_cross_entropy": Twin(of_cross_entropy),
    "inverse_cdf": Twin(of_inverse_cdf),
    "kv_cache_attention": Twin(of_cached_attention),
    "log_prob_moments": Twin(of_moments, switch="loops_fit"),
    "logsumexp": Twin(of_logsumexp, logsumexp_by_torch),
    "rms_norm": Twin(of_rms_norm),
    "rotary": Twin(of_rotary),
    "swiglu": Twin(of_swiglu),
}


def with_loops() -> set[str]:
    """The modules of the kernels' room in which a function is decorated with `compiled`."""
    return {
        file.stem
        for file in Path(kernels.__file__).parent.glob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
        and any(isinstance(one, ast.Name) and one.id == "compiled" for one in node.decorator_list)
    }


def test_every_module_with_compiled_loops_has_a_twin():
    assert with_loops() == set(TWINS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", TWINS)
def test_loops_and_torch_compute_the_same(name, dtype, monkeypatch):
    twin, module = TWINS[name], import_module(f"distilscope.lm.kernels.{name}")
    if twin.by_torch is None:
        asked = []
        fits = getattr(module, twin.switch)
        monkeypatch.setattr(module, twin.switch, lambda tensor: asked.append(fits(tensor)) or asked[-1])
        loops = list(twin.loops(dtype))
        assert asked
        assert all(asked), "the loops are what was just run"
        monkeypatch.setattr(module, twin.switch, lambda _: False)
        by_torch = list(twin.loops(dtype))
    else:
        loops, by_torch = list(twin.loops(dtype)), list(twin.by_torch(dtype))
    near = {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 2e-2, "rtol": 2**-6}
    assert len(loops) == len(by_torch) > 0
    for one, other in zip(loops, by_torch, strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one.detach(), other.detach(), **near)
