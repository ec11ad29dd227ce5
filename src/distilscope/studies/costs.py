"""What steps take, by counting: FLOPs, bytes on disk, and bytes of memory where the network lives.

Tokens are upper bounds: every sequence is taken to be as long as it may become. FLOPs are those of the matrix products
with weights; left out are attention's own products (of a forward pass 4 hidden_size num_layers times the tokens looked
back at, for each token: 2% of SmolLM2-1.7B's at 512 tokens, 7% of SmolLM2-135M's), norms and softmax.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from distilscope.lm.models.llama_config import LlamaConfig
from distilscope.lm.training.config import Training

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


def of_model(architecture: LlamaConfig, dtype: str) -> Cost:
    """Of preparing a model: it is read, cut and written."""
    return Cost(20.0 * architecture.parameters, disk=architecture.parameters * BYTES[dtype])


def of_draws(architecture: LlamaConfig, dtype: str, *, draws: int, horizon: int, context: int, slots: int) -> Cost:
    """Of a tile, drawn after prompts of at most `context` tokens. First tokens come of reading the prompts, which is
    left out.

    Slots whose sequences begin alike are computed as one, which is not counted: a twentieth of them after one prompt of
    one token.
    """
    tokens, used = draws * horizon, min(slots, draws)
    cached = (
        2
        * architecture.num_layers
        * architecture.num_kv_heads
        * architecture.head_dim
        * BYTES[dtype]
        * (context + horizon)
    )
    choosing = 4 * 4 * architecture.vocab_size  # logits and what a choice makes of them, in float32
    return Cost(
        (tokens - draws) * architecture.flops_per_token,
        tokens,
        disk=tokens * (2 + 4) + draws * 9,  # an id and its log-probability; a length, an end and a prompt
        memory=architecture.parameters * BYTES[dtype] + used * (cached + choosing),
    )


def of_training(
    architecture: LlamaConfig,
    training: Training,
    *,
    sequences: int,
    horizon: int,
    prompts: int,
    prompt: int,
    held_out: int,
) -> Cost:
    """Three forward passes' worth for each token that is learnt, one for each token of `held_out` sequences at each
    evaluation.

    Activations after Korthikanti et al. (2205.05198, section 4.1): 34 h + 5 a s bytes per token and layer in 16 bits.
    """
    tokens, steps = training.epochs * sequences * horizon, training.steps(sequences)
    epoch = _forward(architecture, sequences, horizon=horizon, prompts=sequences, prompt=prompt)
    look = _forward(architecture, held_out, horizon=horizon, prompts=prompts, prompt=prompt)
    width = BYTES[training.precision] / 2
    positions = horizon + prompt - 1
    layer = width * (34 * architecture.hidden_size + 5 * architecture.num_heads * positions)
    at_once = min(training.microbatch_tokens, training.batch_sequences * positions)
    return Cost(
        3 * training.epochs * epoch + len(training.evaluation_steps(sequences)) * look,
        tokens,
        disk=4 * architecture.parameters,
        # weights, two moments and the best weights so far
        checkpoints=4 * 4 * architecture.parameters * ((steps - 1) // training.checkpoint_every),
        # weights, gradient, two moments and the best weights so far, in float32
        memory=5 * 4 * architecture.parameters
        + int(at_once * (architecture.num_layers * layer + 12 * architecture.vocab_size)),
    )


def of_scores(
    models: Sequence[tuple[LlamaConfig, str]], *, draws: int, horizon: int, prompts: int, prompt: int, settings: int
) -> Cost:
    """Of scoring a tile under all these models at once, the others at `settings` settings altogether."""
    tokens = draws * horizon
    return Cost(
        sum(
            _forward(architecture, draws, horizon=horizon, prompts=prompts, prompt=prompt) for architecture, _ in models
        ),
        tokens,
        disk=tokens * (12 + 8 * settings),
        memory=sum(architecture.parameters * BYTES[dtype] for architecture, dtype in models),
    )


def _forward(architecture: LlamaConfig, sequences: int, *, horizon: int, prompts: int, prompt: int) -> float:
    """FLOPs: each of the prompts passes through the layers once, and but for the last none of its tokens is asked what
    comes next."""
    logits = 2.0 * architecture.vocab_size * architecture.hidden_size
    positions = sequences * (horizon - 1) + min(sequences, prompts) * prompt
    return positions * (architecture.flops_per_token - logits) + sequences * horizon * logits
