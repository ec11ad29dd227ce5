"""The step that scores a tile of draws under the model that drew them and under others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distilscope.lm.models.llama_config import LlamaConfig
from distilscope.selectivity import from_parameters
from distilscope.studies.costs import BYTES, Cost, forward_flops
from distilscope.studies.steps.registry import StepKind, register

if TYPE_CHECKING:
    import numpy as np

    from distilscope.lm import scoring


def score_draws(config: Mapping[str, Any], inputs: Mapping[str, Path], output: Path, scratch: Path) -> dict[str, int]:  # noqa: ARG001
    """Scores the first `first` draws of a tile under the model that drew them (`own`, none for data) and, in the same
    pass, under others.

    `config["others"]` lists, for the inputs `other/0`, `other/1`, ..., a dtype and the selectivities that each is
    scored at.
    """
    import numpy as np
    from safetensors.numpy import save_file

    from distilscope.lm import scoring
    from distilscope.studies.artifacts import _model, read_draws

    draws = read_draws(inputs, "draws")
    draws = draws.take(np.arange(min(len(draws), config["first"])))
    others: list[scoring.Model] = []
    for i, other in enumerate(config["others"]):
        network = _model(inputs[f"other/{i}"], other["dtype"]).network
        others += [(network, from_parameters(sampling)) for sampling in other["selectivities"]]
    arrays: dict[str, np.ndarray] = {}
    if "own" in config:
        own = _model(inputs["own"], config["own"]["dtype"]).network, from_parameters(config["own"]["selectivity"])
        mine, theirs = scoring.score(own, draws, others)
        arrays = {f"own/{name}": array for name, array in vars(mine).items()}
    else:  # real data: no model here made it
        theirs = scoring.score_data(draws, others)
    arrays |= {f"{i}/{name}": array for i, scores in enumerate(theirs) for name, array in vars(scores).items()}
    save_file(arrays, output / "scores.safetensors")
    return {"sequences": len(draws), "tokens": len(draws.ids)}


def cost(
    models: Sequence[tuple[LlamaConfig, str]], *, draws: int, horizon: int, prompts: int, prompt: int, settings: int
) -> Cost:
    """Of scoring a tile under all these models at once, the others at `settings` settings altogether."""
    tokens = draws * horizon
    return Cost(
        sum(
            forward_flops(architecture, draws, horizon=horizon, prompts=prompts, prompt=prompt)
            for architecture, _ in models
        ),
        tokens,
        disk=tokens * (12 + 8 * settings),
        memory=sum(architecture.parameters * BYTES[dtype] for architecture, dtype in models),
    )


SCORES = register(
    StepKind(
        "scores",
        version=7,
        function="distilscope.studies.steps.score:score_draws",
        cost=cost,
        utilisation=0.25,  # assumed: a training's forward pass, and softmaxes of every position
    )
)
