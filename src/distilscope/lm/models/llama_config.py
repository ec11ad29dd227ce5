"""Sizes of a Llama-like network, and what follows from them by counting."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from distilscope.errors import UsageError, shown


@dataclass(frozen=True)
class LlamaConfig:
    """Sizes of a Llama-like network."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    context: int = 8192
    rope_theta: float = 100_000.0
    rms_norm_eps: float = 1e-5
    tied: bool = True
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        if self.num_heads % self.num_kv_heads:
            raise UsageError(
                f"{self.num_heads} attention heads cannot share {self.num_kv_heads} key-value heads; use a divisor of "
                f"{self.num_heads}"
            )

    @property
    def parameters(self) -> int:
        """Number of weights, a tied embedding counted once."""
        attention = self.hidden_size * self.head_dim * (2 * self.num_heads + 2 * self.num_kv_heads)
        layer = attention + 3 * self.hidden_size * self.intermediate_size + 2 * self.hidden_size
        embedding = self.vocab_size * self.hidden_size * (1 if self.tied else 2)
        return self.num_layers * layer + embedding + self.hidden_size

    @property
    def flops_per_token(self) -> float:
        """Multiply-adds x 2 of the matrix products of one forward token (attention's own product left out)."""
        norms = self.hidden_size * (2 * self.num_layers + 1)
        embedding = 0 if self.tied else self.vocab_size * self.hidden_size
        return 2.0 * (self.parameters - norms - embedding)

    @classmethod
    def from_hf(cls, config: dict[str, Any]) -> LlamaConfig | None:
        """From a Hugging Face config.json, or None where the model is not this architecture to the letter."""
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        if not isinstance(rope, Mapping):
            raise UsageError(
                f"config.json gives rope parameters {shown(rope)}, which are no mapping; give a complete model folder"
            )
        plain = (
            config.get("model_type") == "llama"
            and rope.get("rope_type", rope.get("type", "default")) == "default"
            and not config.get("attention_bias")
            and not config.get("mlp_bias")
            and config.get("hidden_act", "silu") == "silu"
            and not config.get("quantization_config")
        )
        if not plain:
            return None
        needed = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
        missing = [name for name in needed if not isinstance(config.get(name), int) or config[name] < 1]
        if missing:
            raise UsageError(
                f"config.json gives no {missing[0]}, which a Llama model has; give a complete model folder"
            )
        _require_sensible(config | {"rope_theta": rope.get("rope_theta") or config.get("rope_theta")})
        heads = config["num_attention_heads"]
        return cls(
            vocab_size=config["vocab_size"],
            hidden_size=config["hidden_size"],
            intermediate_size=config["intermediate_size"],
            num_layers=config["num_hidden_layers"],
            num_heads=heads,
            num_kv_heads=config.get("num_key_value_heads") or heads,
            head_dim=config.get("head_dim") or config["hidden_size"] // heads,
            context=config.get("max_position_embeddings", 2048),
            rope_theta=float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0),
            rms_norm_eps=config.get("rms_norm_eps", 1e-6),
            tied=bool(config.get("tie_word_embeddings", False)),
            initializer_range=config.get("initializer_range", 0.02),
        )

    def to_hf(self) -> dict[str, Any]:
        """A config.json that `transformers` loads."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "num_key_value_heads": self.num_kv_heads,
            "head_dim": self.head_dim,
            "max_position_embeddings": self.context,
            "rope_theta": self.rope_theta,
            "rope_parameters": {"rope_type": "default", "rope_theta": self.rope_theta},
            "rms_norm_eps": self.rms_norm_eps,
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": self.tied,
            "initializer_range": self.initializer_range,
        }


LONGEST_CONTEXT = 1 << 22
"""Tokens; a table of the rotary embedding is as long."""


def _require_sensible(config: Mapping[str, Any]) -> None:
    """Raises UsageError for an optional value that is given but that no Llama model can have."""
    whole = {"num_key_value_heads": 1 << 20, "head_dim": 1 << 20, "max_position_embeddings": LONGEST_CONTEXT}
    for name, most in whole.items():
        value = config.get(name)
        if value is not None and not (isinstance(value, int) and 0 <= value <= most):
            raise UsageError(
                f"config.json gives {name} {shown(value)}, but it must be a whole number of at most {most:,}"
            )
    for name in ("rope_theta", "rms_norm_eps", "initializer_range"):
        value = config.get(name)
        if value is not None and not (isinstance(value, int | float) and 0 <= value < math.inf):
            raise UsageError(f"config.json gives {name} {shown(value)}, but it must be a finite number of at least 0")
