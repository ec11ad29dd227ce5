"""Which function carries out each kind of step."""

from __future__ import annotations

KINDS = {
    "ground_truth": "distilscope.studies.steps.ground_truth:make",
    "model": "distilscope.studies.steps.ground_truth:make",
    "prompts": "distilscope.studies.steps.prompts:encode_prompts",
    "data": "distilscope.studies.steps.completions:tokenise_data",
    "draws": "distilscope.studies.steps.draw:draw_tile",
    "training": "distilscope.studies.steps.train:train_model",
    "scores": "distilscope.studies.steps.score:score_draws",
}
