"""What `recommend` prints: what to use and what it costs, and the sampling options that draw the teacher's data at that
setting."""

from __future__ import annotations

from distilscope.evaluation.candidates import Candidate
from distilscope.evaluation.results import Recommendation

VLLM = """\
from vllm import SamplingParams

# For LLM.generate. Every parameter that shapes the draws is written out.
# Keep output.token_ids, for text tokenised again is other tokens.
sampling = SamplingParams(
    n=1,
    temperature={temperature},
    top_k={top_k},{top_k_note}
    top_p={top_p},
    min_p={min_p},{min_p_note}
    presence_penalty=0.0,
    frequency_penalty=0.0,
    repetition_penalty=1.0,
    min_tokens=0,
    max_tokens={horizon},
    ignore_eos=False,
    detokenize=False,
)
"""

TRANSFORMERS = """\
from transformers import GenerationConfig

# For model.generate, and for trainers that take one.
# A parameter left out would come from the model's own generation_config.json.
generation = GenerationConfig(
    do_sample=True,
    num_beams=1,
    num_return_sequences=1,
    temperature={temperature},
    top_k={top_k},{top_k_note}
    top_p={top_p},
    min_p={min_p},
    typical_p=1.0,
    epsilon_cutoff=0.0,
    eta_cutoff=0.0,
    repetition_penalty=1.0,
    encoder_repetition_penalty=1.0,
    no_repeat_ngram_size=0,
    guidance_scale=1.0,
    min_length=0,
    min_new_tokens=0,
    max_new_tokens={horizon},
)
"""


def advice(found: Recommendation, *, unit: str) -> str:
    """What to use and what it costs in two sentences, then the settings that are statistically tied with it.

    unit: that of the results, such as "nats per sequence".
    """
    setting, reason = found.setting, found.reason
    if not found.candidates:
        return f"No recommendation: {reason}."
    if setting is None:
        lines = [f"{reason[0].upper()}{reason[1:]}.", "Whichever you take, the candidates below say what it costs."]
        return "\n".join([*lines, *_candidates(found, unit), _tied(found)])
    if setting.role == "direct":
        first = f"Distil nothing; use the direct student, trained on p*'s own draws: {reason}."
        return "\n".join([first, "It gains and costs nothing, being what the others are compared with.", _tied(found)])
    second = (
        f"Against the direct student it gains {found.precision_gain} of precision and costs {found.recall_loss} of "
        f"recall, {unit} ({_confidence(found)})."
    )
    return "\n".join([f"Draw the teacher's data at {setting.phrase}: {reason}.", second, _tied(found)])


def snippets(candidate: Candidate | None, *, horizon: int) -> dict[str, str] | None:
    """Python code, by library, that draws at a distilled candidate's setting; None where nothing is to be drawn from a
    teacher.

    horizon: most tokens after the prompt. What is neutral is said explicitly, in each library's own way: top_k = -1
    keeps every token in every version of vLLM (0 only in newer ones), top_k = 0 does in transformers, where an absent
    one means 50.
    """
    if candidate is None or candidate.role != "distilled" or candidate.setting is None:
        return None
    sampling, top_k = candidate.setting, candidate.setting.get("top_k")
    both = "top_p" in sampling and "min_p" in sampling
    shared = {
        "temperature": float(sampling.get("temperature", 1.0)),
        "top_p": float(sampling.get("top_p", 1.0)),
        "min_p": float(sampling.get("min_p", 0.0)),
        "top_k_note": "  # every token" if top_k is None else "",
        "min_p_note": "  # vLLM applies it before top_p, the study after it" if both else "",
        "horizon": horizon,
    }
    return {
        "vllm": VLLM.format(**shared, top_k=-1 if top_k is None else top_k),
        "transformers": TRANSFORMERS.format(**shared, top_k=0 if top_k is None else top_k),
    }


def _candidates(found: Recommendation, unit: str) -> list[str]:
    return [
        f"  {one.setting.phrase}: precision gain {one.precision_gain}, recall loss {one.recall_loss}, {unit}"
        for one in found.candidates
        if one.setting.role != "direct"
    ] + [f"  ({_confidence(found)})"]


def _tied(found: Recommendation) -> str:
    others = ", ".join(setting.phrase for setting in found.tied if setting != found.setting)
    if found.setting is None:
        return f"Not ruled out as the best: {others}."
    return f"Tied with it, not ruled out as the best: {others or 'none'}."


def _confidence(found: Recommendation) -> str:
    count = len(found.candidates) - 1
    grid = (
        f"that hold for all {count} distilled settings at once" if count > 1 else "that hold for both numbers at once"
    )
    return f"95% intervals {grid}, over {found.seeds} seeds, given D and p*'s test draws"
