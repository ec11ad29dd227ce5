"""What a configuration says of itself."""

from __future__ import annotations

import pytest

from distilscope.studies.overrides import override
from distilscope.studies.recipes import recipe


@pytest.mark.parametrize(
    ("name", "settings", "about"),
    [
        ("smollm2_cpu", {}, "SmolLM2-135M, Instruct, 4-bit weights, cut vocabulary"),
        ("smollm2_cpu", {"vocabulary": 0}, "SmolLM2-135M, Instruct, 4-bit weights, whole vocabulary"),
        ("smollm2_cpu", {"reference": "./mine"}, ""),
        ("smollm2_cpu", {"reference": "./mine", "ground_truth.description": "Mine"}, "Mine"),
        ("smollm2_paper", {}, "SmolLM2-1.7B, pretrained, whole vocabulary"),
        ("tiny", {}, "a seeded random Llama over bytes; its text means nothing"),
        ("tiny", {"ground_truth.description": "a small one"}, "a small one"),
        ("distil", {}, ""),
        ("distil", {"reference": "seeded"}, "a seeded random Llama over bytes; its text means nothing"),
    ],
)
def test_a_description_belongs_to_the_reference_that_it_describes(name, settings, about):
    assert override(recipe(name), settings).ground_truth.about == about
