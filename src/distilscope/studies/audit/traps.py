"""The catalogue of traps in the paper's released code: what it does, what the definition does, what is run here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Trap:
    """A trap. `here` may name sizes of the audit in braces; `measure` is "module:function", given a `Material`."""

    number: int
    title: str
    released: str
    definition: str
    here: str
    measure: str = ""
    """Empty for the trap on mixtures, which `simulation` measures."""


_SEQUENCES, _PIPELINE = "distilscope.studies.audit.sequence_traps", "distilscope.studies.audit.pipeline_traps"

MIXTURE = 1

TRAPS = (
    Trap(
        MIXTURE,
        "Precision under the modulated teacher",
        (
            "The notebook scores the students' draws with the variable that held p*; by then it holds the teacher "
            "with modulated weights."
        ),
        "Precision is the mean of log p* over the student's draws.",
        "The paper's mixtures of Gaussians, teacher selected at β = 100, {mixture_seeds} seeds, nats per draw. Recall "
        "by the notebook "
        "is the mean over its own 100 training points; by definition both are exact, by quadrature.",
    ),
    Trap(
        2,
        "Samples are decoded and tokenised again",
        "Samples are kept as text without special tokens and tokenised again for training and for scoring.",
        "Token ids go from the sampler to the score.",
        "The direct student and its {num_eval} draws stay as they are; the draws, and p*'s test draws, go through "
        "text and back before "
        "they are scored. The text is tokenised together with its prompt and cut where the model's context ends.",
        f"{_SEQUENCES}:retokenisation",
    ),
    Trap(
        3,
        "The stopping token is padding, and padding is masked",
        (
            "The padding token is the stopping token and the collator masks padding from the loss, so stopping is "
            "never learnt."
        ),
        "A stopping token that was drawn is learnt and scored like any other; masks come from lengths.",
        "The direct student is trained on the same {num_train} sequences of p* without their stopping token, in the "
        "same order (a "
        "sequence of it alone is left out); the checkpoint is chosen on held-out sequences without it, for "
        "the same collator makes them.",
        f"{_SEQUENCES}:no_stopping",
    ),
    Trap(
        4,
        "Padding decides which checkpoint is kept",
        (
            "The perplexity that chooses a checkpoint takes every token of rows padded to 512 as a label, padding "
            "included."
        ),
        "The held-out loss counts the tokens that were drawn, and the prompt never.",
        "The paper pads to its horizon of 512, so here rows are padded to the horizon of {horizon} tokens and their "
        "prompt; padding is "
        "not hidden from attention. The direct student's {evaluations} checkpoints are compared, with the "
        "same training.",
        f"{_SEQUENCES}:padded_choice",
    ),
    Trap(
        5,
        "Means per token over a corpus",
        "Precision and recall are all log-probabilities over all tokens, Σ log p / Σ tokens.",
        (
            "Equations 3 and 4 are expectations per sequence. For nats per token they are divided by one "
            "constant, p*'s mean length."
        ),
        "The same draws and scores, averaged in both ways. Recall is over p*'s draws alone, whose length is that "
        "constant, so it cannot "
        "differ.",
        f"{_SEQUENCES}:corpus_means",
    ),
    Trap(
        6,
        "One temperature option for two things",
        "`--temperature` names the distilled checkpoint and sets the temperature that it is sampled at.",
        "The training temperature is the teacher's; the student is evaluated at 1.",
        "The student distilled at τ = {temperature:g} is drawn at {temperature:g} instead of 1, with the same random "
        "numbers; the "
        "direct student too, to show what sampling does by itself.",
        f"{_SEQUENCES}:one_temperature",
    ),
    Trap(
        7,
        '"From scratch" that is not',
        "A pretrained model is reset by `reset_parameters`, which RMSNorm has not, so its pretrained gains stay; "
        "linear layers get "
        "PyTorch's default distribution and not the model's.",
        "Weights are drawn as the architecture draws them; gains are 1.",
        "The sizes differ, so p*'s gains are carried over: each layer of the student takes those of the layer of p* "
        "at the same "
        "relative depth, and of their channels as many, evenly spaced, as it is wide. Matrices are uniform within "
        "1/√columns; the "
        "embedding is also the output layer where the two are tied, and the output layer is reset last. The same "
        "random numbers, by "
        "their quantiles.",
        f"{_PIPELINE}:leaking_start",
    ),
    Trap(
        8,
        "Seed 0 is no seed, and shards have random names",
        (
            "Seed 0, which every command uses, seeds nothing; shards have random names and are read in the order "
            "of those names."
        ),
        "Seed 0 is a seed like any other, and draws have an order: two runs give the same bytes.",
        "As published: two direct students with nothing in common but p*'s draws, in {shards} shards under random "
        "names. By definition: "
        "the study's own direct student against a second training and drawing from the same key. Absolute "
        "differences, of which an "
        "interval says how large they are, not whether. p*'s draws and the teacher would differ too; that is "
        "not in these numbers.",
        f"{_PIPELINE}:unseeded",
    ),
    Trap(
        9,
        "A truncated shard is skipped in silence",
        "A shard that cannot be read is passed over, and the run goes on with fewer sequences.",
        "A shard that cannot be read stops the run.",
        "D' lies in {shards} shards, of which one is cut to half its bytes (another one for each seed); the distilled "
        "student learns "
        "what is left, from the same first weights. The order of the sequences is not the same, for there are fewer.",
        f"{_PIPELINE}:lost_shard",
    ),
    Trap(
        10,
        "Drawn in half precision, scored in single",
        "Samples are drawn in fp16 and scored in fp32.",
        "Drawing and scoring use the same numbers, and the paired gate stands between them.",
        "The direct student is drawn in float16, and in bfloat16, with the same random numbers as in float32, and "
        "scored in float32. A "
        "token that falls the other way changes all that follow it, so P and H differ by chance too.",
        f"{_PIPELINE}:half_precision",
    ),
    Trap(
        11,
        "Rows padded to the longest",
        (
            "Every row is generated to the longest row's length, padded to 512 for training, and scored with all "
            "its logits in memory."
        ),
        (
            "A slot that is free takes the next draw; sequences lie end to end; logits exist for a few hundred "
            "positions at a time."
        ),
        "Counted on the lengths of D', with 64 rows generated together, training batches of {batch} rows and padding "
        "to the horizon of "
        "{horizon}. Attention alone sees a padded view in both. No result changes.",
        f"{_PIPELINE}:padding_cost",
    ),
)
