"""What a step takes, by counting: FLOPs, bytes on disk, and bytes of memory where the network lives. Each kind of step
counts its own, in its own file.

Tokens are upper bounds: every sequence is taken to be as long as it may become. FLOPs are those of the matrix products
with weights; left out are attention's own products (of a forward pass 4 hidden_size num_layers times the tokens looked
back at, for each token: 2% of SmolLM2-1.7B's at 512 tokens, 7% of SmolLM2-135M's), norms and softmax.
"""

from __future__ import annotations

from dataclasses import dataclass

from distilscope.lm.models.llama_config import LlamaConfig

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Cost:
    """Of one step."""

    flops: float = 0.0
    tokens: int = 0
    disk: int = 0
    """What is kept."""
    checkpoints: int = 0
    """What is written on the way, each in the place of the one before."""
    memory: int = 0
    """What fills a GPU: weights, states, caches, activations and logits; about, and without what libraries take for
    themselves."""


def forward_flops(architecture: LlamaConfig, sequences: int, *, horizon: int, prompts: int, prompt: int) -> float:
    """Of one forward pass over sequences: each of the prompts passes through the layers once, and but for the last none
    of its tokens is asked what comes next."""
    logits = 2.0 * architecture.vocab_size * architecture.hidden_size
    positions = sequences * (horizon - 1) + min(sequences, prompts) * prompt
    return positions * (architecture.flops_per_token - logits) + sequences * horizon * logits
