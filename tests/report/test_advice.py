"""The printed advice and the sampling options: what they say is what a library then does."""

from __future__ import annotations

import ast
import re

import pytest
import torch
import transformers

from distilscope.evaluation.candidates import DIRECT, Candidate
from distilscope.evaluation.recommendation import recommend
from distilscope.report.advice import advice, snippets
from distilscope.selectivity import from_parameters
from result_documents import student

SETTINGS = [
    {"temperature": 0.875},
    {"temperature": 1.0},
    {"top_k": 5},
    {"top_p": 0.6},
    {"min_p": 0.2},
    {"temperature": 0.7, "top_k": 9, "top_p": 0.9},
    {"temperature": 1.2, "top_p": 0.8, "min_p": 0.05},
]


def code(setting, library):
    found = snippets(Candidate("distilled", setting), horizon=12)
    assert found is not None
    return found[library]


def generation_config(setting) -> transformers.GenerationConfig:
    scope: dict[str, object] = {}
    exec(code(setting, "transformers"), scope)
    config = scope["generation"]
    assert isinstance(config, transformers.GenerationConfig)
    return config


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_generation_config_has_every_knob_explicit(setting):
    config = generation_config(setting)
    assert config.do_sample is True
    expected = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, **setting}
    assert {name: getattr(config, name) for name in expected} == expected
    neutral = {
        "num_beams": 1,
        "num_return_sequences": 1,
        "repetition_penalty": 1.0,
        "no_repeat_ngram_size": 0,
        "typical_p": 1.0,
    }
    assert {name: getattr(config, name) for name in neutral} == neutral
    assert config.max_new_tokens == 12


@pytest.mark.parametrize("setting", SETTINGS)
def test_transformers_then_draws_what_the_study_drew(setting):
    """Against a model whose own generation_config sharpens in every way: none of that gets through."""
    torch.manual_seed(0)
    shape = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
    }
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(vocab_size=40, **shape, initializer_range=1.0, eos_token_id=None)
    )
    model.generation_config = transformers.GenerationConfig(
        do_sample=True,
        temperature=0.3,
        top_k=3,
        top_p=0.4,
        min_p=0.3,
        typical_p=0.5,
        epsilon_cutoff=0.1,
        eta_cutoff=0.1,
        repetition_penalty=1.9,
        encoder_repetition_penalty=1.5,
        no_repeat_ngram_size=1,
        guidance_scale=2.0,
        min_new_tokens=3,
    )
    config = generation_config(setting)
    config.return_dict_in_generate = config.output_scores = config.output_logits = True
    with torch.no_grad():
        drawn = model.generate(torch.tensor([[1, 2, 3]]), generation_config=config)
    assert drawn.sequences.shape == (1, 3 + 12)
    for logits, scores in zip(drawn.logits, drawn.scores, strict=True):
        assert torch.allclose(scores.softmax(-1), from_parameters(setting)(logits.float()).softmax(-1), atol=1e-6)


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_vllm_options_are_python_with_every_knob_explicit(setting):
    """vllm is not installed here: its code is parsed, not run. -1 for top_k is what all of its versions take for every
    token."""
    tree = ast.parse(code(setting, "vllm"))
    (call,) = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert isinstance(call.func, ast.Name)
    assert call.func.id == "SamplingParams"
    found = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    neutral = {
        "n": 1,
        "temperature": 1.0,
        "top_k": -1,
        "top_p": 1.0,
        "min_p": 0.0,
        "max_tokens": 12,
        "min_tokens": 0,
        "ignore_eos": False,
    }
    neutral |= {"presence_penalty": 0.0, "frequency_penalty": 0.0, "repetition_penalty": 1.0, "detokenize": False}
    assert found == neutral | setting


def test_vllms_other_order_of_truncations_is_pointed_out():
    assert "before top_p" in code({"top_p": 0.8, "min_p": 0.05}, "vllm")
    assert "before top_p" not in code({"min_p": 0.05}, "vllm")


@pytest.mark.parametrize("candidate", [None, DIRECT])
def test_where_no_teacher_is_to_be_drawn_from_there_is_no_code(candidate):
    assert snippets(candidate, horizon=12) is None


def found(settings, **objective):
    """Settings by (precision gain, recall loss), with noise over three seeds that sums to 0 and differs between
    settings."""
    students = [student(None, seed, precision=-50.0, recall=-40.0) for seed in range(3)]
    for place, (temperature, (gain, loss)) in enumerate(settings.items()):
        for seed in range(3):
            wobble = (0.1, -0.1, 0.0)[(seed + place) % 3]
            students.append(student(temperature, seed, precision=-50.0 + gain + wobble, recall=-40.0 - loss + wobble))
    return recommend(students, **objective)


def test_advice_names_the_setting_its_cost_and_the_tied():
    text = advice(found({0.7: (20.0, 5.0), 0.8: (20.0, 5.02)}), unit="nats per sequence")
    first, second, tied = text.split("\n")
    assert first.startswith("Draw the teacher's data at temperature 0.7: ")
    assert re.match(
        (
            r"Against the direct student it gains 20\.00 ± [\d.]+ of precision and costs 5\.00 ± [\d.]+ of "
            r"recall, nats per"
        ),
        second,
    )
    assert "95% intervals that hold for all 2 distilled settings at once, over 3 seeds" in second
    assert tied == "Tied with it, not ruled out as the best: temperature 0.8."


def test_advice_without_a_winner_lists_what_each_costs():
    lines = advice(found({0.7: (0.0, 0.0), 0.8: (-0.01, 0.0)}), unit="nats per sequence").split("\n")
    assert "no clear winner" in lines[0]
    assert [line.split(":")[0].strip() for line in lines[2:4]] == ["temperature 0.7", "temperature 0.8"]
    assert lines[-1] == "Not ruled out as the best: the direct student, temperature 0.7, temperature 0.8."


def test_advice_may_be_to_distil_nothing():
    text = advice(found({0.7: (-9.0, 5.0)}), unit="nats per sequence")
    assert text.startswith("Distil nothing; use the direct student")
    assert text.endswith("Tied with it, not ruled out as the best: none.")
