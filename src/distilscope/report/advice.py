"""What `recommend` prints: what to use and what it costs, and the sampling options that draw the teacher's data at that
setting."""

from __future__ import annotations

from typing import Any

from distilscope.evaluation.by_seed import named
from distilscope.evaluation.estimate import Interval

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


def advice(found: dict[str, Any], *, unit: str) -> str:
    """What to use and what it costs in two sentences, then the settings that are statistically tied with it.

    found: a recommendation's document; unit: that of the results, such as "nats per sequence".
    """
    setting, reason = found["setting"], found["reason"]
    if not found.get("candidates"):
        return f"No recommendation: {reason}."
    if setting is None:
        lines = [f"{reason[0].upper()}{reason[1:]}.", "Whichever you take, the candidates below say what it costs."]
        return "\n".join([*lines, *_candidates(found, unit), _tied(found)])
    if setting["training"] == "direct":
        first = f"Distil nothing; use the direct student, trained on p*'s own draws: {reason}."
        return "\n".join([first, "It gains and costs nothing, being what the others are compared with.", _tied(found)])
    gain, loss = _interval(found["precision_gain"]), _interval(found["recall_loss"])
    second = (
        f"Against the direct student it gains {gain} of precision and costs {loss} of recall, {unit} "
        f"({_confidence(found)})."
    )
    return "\n".join([f"Draw the teacher's data at {named(setting)}: {reason}.", second, _tied(found)])


def snippets(setting: dict[str, Any] | None, *, horizon: int) -> dict[str, str] | None:
    """Python code, by library, that draws at this setting; None where nothing is to be drawn from a teacher.

    horizon: most tokens after the prompt. What is neutral is said explicitly, in each library's own way: top_k = -1
    keeps every token in every version of vLLM (0 only in newer ones), top_k = 0 does in transformers, where an absent
    one means 50.
    """
    if setting is None or setting["training"] != "distilled":
        return None
    sampling = {name: setting.get(name) for name in ("temperature", "top_k", "top_p", "min_p")}
    numbers: dict[str, Any] = {
        "temperature": 1.0 if sampling["temperature"] is None else float(sampling["temperature"]),
        "top_p": 1.0 if sampling["top_p"] is None else float(sampling["top_p"]),
        "min_p": 0.0 if sampling["min_p"] is None else float(sampling["min_p"]),
        "horizon": horizon,
    }
    top_k, all_tokens = sampling["top_k"], "  # every token"
    order = (
        "  # vLLM applies it before top_p, the study after it"
        if sampling["top_p"] is not None and sampling["min_p"] is not None
        else ""
    )
    numbers |= {"top_k_note": all_tokens if top_k is None else "", "min_p_note": order}
    return {
        "vllm": VLLM.format(**numbers, top_k=-1 if top_k is None else top_k),
        "transformers": TRANSFORMERS.format(**numbers, top_k=0 if top_k is None else top_k),
    }


def _candidates(found: dict[str, Any], unit: str) -> list[str]:
    return [
        (
            f"  {named(one['setting'])}: precision gain {_interval(one['precision_gain'])}, recall loss "
            f"{_interval(one['recall_loss'])}, {unit}"
        )
        for one in found["candidates"]
        if one["setting"]["training"] != "direct"
    ] + [f"  ({_confidence(found)})"]


def _tied(found: dict[str, Any]) -> str:
    others = [named(setting) for setting in found["tied"] if setting != found["setting"]]
    if found["setting"] is None:
        return f"Not ruled out as the best: {', '.join(others)}."
    return f"Tied with it, not ruled out as the best: {', '.join(others) or 'none'}."


def _confidence(found: dict[str, Any]) -> str:
    count = len(found["candidates"]) - 1
    grid = (
        f"that hold for all {count} distilled settings at once" if count > 1 else "that hold for both numbers at once"
    )
    return f"95% intervals {grid}, over {found['seeds']} seeds, given D and p*'s test draws"


def _interval(record: dict[str, Any]) -> str:
    return str(Interval.from_json(record))
