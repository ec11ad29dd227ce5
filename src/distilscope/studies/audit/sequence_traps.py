"""Measures the traps that change sequences, or how they are averaged (2, 3, 4, 5 and 6), in one seed."""

from __future__ import annotations

from distilscope.lm import scoring
from distilscope.lm.models.llama import Llama
from distilscope.lm.training.loop import held_out_loss
from distilscope.selectivity import UNCHANGED, Temperature
from distilscope.studies.audit.evidence import Finding, Reading
from distilscope.studies.audit.one_seed import Evaluation, Material, recorded
from distilscope.studies.audit.retokenisation import corpus_mean, pad_share, padded, retokenised, without_stops


def retokenisation(material: Material) -> Finding:
    student, truth, definition = material.network("direct"), material.truth, material.direct
    assert truth.tokenizer is not None
    longest = min(student.context, truth.network.context) - max(map(len, material.prompts))
    draws = retokenised(definition.draws, truth.tokenizer, longest=longest)
    test = retokenised(material.test, truth.tokenizer, longest=longest)
    precision = draws.per_draw(scoring.log_prob((truth.network, UNCHANGED), draws.sequences)).mean()
    entropy = -draws.per_draw(scoring.log_prob((student, UNCHANGED), draws.sequences)).mean()
    recall = test.per_draw(scoring.log_prob((student, UNCHANGED), test.sequences)).mean()
    return Finding(
        (
            Reading(
                "draws of the student whose tokens changed",
                float(draws.changed.mean()),
                0.0,
                "these draws are scored as other sequences than were drawn",
                "share",
                exact=True,
            ),
            Reading(
                "draws of p* whose tokens changed",
                float(test.changed.mean()),
                0.0,
                "recall is measured on other sequences than p* drew",
                "share",
                exact=True,
            ),
            Reading(
                "draws of the student that ended",
                0.0,
                definition.ended,
                "no sequence shows any more that it ended",
                "share",
                exact=True,
            ),
            Reading(
                "mean length",
                float(draws.lengths.mean()),
                definition.length,
                "lengths are those of a tokenizer, not of the student",
                "tokens",
            ),
            Reading("P", float(precision), definition.precision, "precision is that of rewritten text"),
            Reading(
                "H(q)",
                float(entropy),
                definition.entropy,
                "log q of rewritten text is no estimate of the student's entropy",
            ),
            Reading("R", float(recall), definition.recall, "recall is that of rewritten text"),
        )
    )


def no_stopping(material: Material) -> Finding:
    trained = material.learn(without_stops(material.train), validation=without_stops(material.validation))
    published = material.evaluate(trained.network)
    return Finding(
        (
            Reading(
                "sequences that ended", published.ended, material.direct.ended, "the student does not stop", "share"
            ),
            Reading(
                "mean length", published.length, material.direct.length, "its sequences run on to the horizon", "tokens"
            ),
            *_three(published, material.direct, "of a student that cannot stop"),
        )
    )


def padded_choice(material: Material) -> Finding:
    length = max(map(len, material.prompts)) + material.horizon
    pad, kept = min(material.stopping), list[tuple[float, Llama]]()
    validation = padded(material.validation, pad, length)
    evaluation_steps = material.training.evaluation_steps(len(material.train))
    start = Llama.from_config(material.architecture, material.learning_key.child("weights"))

    def look(step: int) -> None:
        if step in evaluation_steps:
            copy = Llama(material.architecture)
            copy.load_state_dict(start.state_dict())
            kept.append((held_out_loss(start, validation), copy.requires_grad_(False)))

    trained = material.learn(material.train, start=start, after_step=look)
    # ties go to the later one, as by definition
    at = max(range(len(kept)), key=lambda i: (-kept[i][0], i))
    entry = trained.history[at]
    same = entry["step"] == trained.chosen_step
    published = material.direct if same else material.evaluate(kept[at][1])
    return Finding(
        (
            Reading(
                "pads among the labels",
                pad_share(material.validation, length),
                0.0,
                "the perplexity is partly one of padding",
                "share",
                exact=True,
            ),
            Reading(
                "held-out loss that chooses",
                kept[at][0],
                trained.held_out_loss,
                "the number that chooses is not the held-out loss",
                "nats per token",
            ),
            Reading(
                "step of the chosen checkpoint",
                float(entry["step"]),
                float(trained.chosen_step),
                "another checkpoint is kept",
                "step",
            ),
            Reading(
                "true held-out loss of that checkpoint",
                float(entry["held_out_loss"]),
                trained.held_out_loss,
                "a worse checkpoint is kept",
                "nats per token",
            ),
            *_three(published, material.direct, "of another checkpoint"),
        )
    )


def corpus_means(material: Material) -> Finding:
    constant = float(material.test.lengths.mean())

    def both(student: Evaluation) -> tuple[float, float]:
        return corpus_mean(student.of_truth, student.draws.lengths), student.precision / constant

    (direct, direct_by), (distilled, distilled_by) = both(material.direct), both(material.distilled)
    network = material.network("direct")
    recall = material.test.sum_per_sequence(scoring.log_prob((network, UNCHANGED), material.test))
    says, unit = "the denominator is the student's own length, so the unit differs between students", "nats per token"
    return Finding(
        (
            Reading("P of the direct student", direct, direct_by, says, unit),
            Reading("P of the distilled student", distilled, distilled_by, says, unit),
            Reading(
                "P gained by distilling",
                distilled - direct,
                distilled_by - direct_by,
                "part of the gain is a change of denominator",
                unit,
            ),
            Reading(
                "R of the direct student",
                corpus_mean(recall, material.test.lengths),
                float(recall.mean()) / constant,
                says,
                unit,
            ),
        )
    )


def one_temperature(material: Material) -> Finding:
    readings = []
    for whose, definition in (("distilled", material.distilled), ("direct", material.direct)):
        draws = material.draw(material.network(whose), selectivity=Temperature(material.temperature))
        values = {
            "P": float(material.of_truth(draws).mean()),
            "H(q)": -float(recorded(draws).mean()),
            "mean length": float(draws.lengths.mean()),
        }
        before = {"P": definition.precision, "H(q)": definition.entropy, "mean length": definition.length}
        says = {
            "P": "sampling sharpens the student a second time, and training is credited with it"
            if whose == "distilled"
            else "sampling alone makes such a gain, with no distillation at all",
            "H(q)": "what is measured is a sharper distribution than the student",
            "mean length": "lengths change with it",
        }
        readings += [
            Reading(
                f"{name} of the {whose} student",
                value,
                before[name],
                says[name],
                "tokens" if name == "mean length" else "nats per sequence",
            )
            for name, value in values.items()
            if whose == "distilled" or name == "P"
        ]
    return Finding(tuple(readings))


def _three(published: Evaluation, definition: Evaluation, whose: str) -> tuple[Reading, ...]:
    return (
        Reading("P", published.precision, definition.precision, f"precision is {whose}"),
        Reading("R", published.recall, definition.recall, f"recall is {whose}"),
        Reading("H(q)", published.entropy, definition.entropy, f"entropy is {whose}"),
    )
