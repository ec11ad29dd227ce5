"""Measures the traps in weights, seeds, shards, number formats and padding (7, 8, 9, 10 and 11), in one seed."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np

from distilscope.distribution import Key
from distilscope.errors import GateError
from distilscope.lm import scoring
from distilscope.lm.models.llama import GRAIN, Llama
from distilscope.lm.network import PIECE, Network
from distilscope.lm.scoring import batches_of_like_length
from distilscope.lm.sequences import Sequences
from distilscope.selectivity import UNCHANGED
from distilscope.studies.audit.evidence import Finding, Reading
from distilscope.studies.audit.one_seed import Material
from distilscope.studies.audit.padding_cost import (
    logits_bytes,
    share_padded,
    share_rounded,
    share_through_slots,
    share_to_longest,
)
from distilscope.studies.audit.pretrained_start import Gains, released_start
from distilscope.studies.audit.shards import in_sorted_order, random_names, survivors, truncate

LOSS = "nats per token"

Run = tuple[Sequences, Sequences, Network]
"""The data in the order of its rows, the student's draws, and the student."""


def leaking_start(material: Material) -> Finding:
    assert isinstance(material.truth.network, Llama)
    gains, key = Gains.of(material.truth.network), material.learning_key.child("weights")
    definition, by = material.held_out_loss("direct"), material.direct
    halves = {
        "held-out loss, pretrained gains alone": (gains, False, "the pretrained gains leak into the student"),
        "held-out loss, PyTorch's initialisation alone": (
            None,
            True,
            "the student starts from another distribution of weights",
        ),
    }
    readings = []
    for name, (leak, default, says) in halves.items():
        trained = material.learn(
            material.train, start=released_start(material.architecture, key, gains=leak, torch_default=default)
        )
        readings.append(Reading(name, trained.held_out_loss, definition, says, LOSS))
    both = material.learn(
        material.train, start=released_start(material.architecture, key, gains=gains, torch_default=True)
    )
    published = material.evaluate(both.network)
    return Finding(
        (
            *readings,
            Reading(
                "held-out loss, both",
                both.held_out_loss,
                definition,
                "the student is another model than one from scratch",
                LOSS,
            ),
            Reading("P", published.precision, by.precision, "precision depends on the leak"),
            Reading("R", published.recall, by.recall, "recall depends on the leak"),
        )
    )


def unseeded(material: Material) -> Finding:
    """Compare two runs each way. In place of an unseeded generator each run has its own key: audits are repeatable."""

    def run(number: int) -> Run:
        key = Key(material.seed, ("audit", "unseeded", number))
        data = in_sorted_order(material.shards, random_names(len(material.shards), key.child("names")))
        trained = material.learn(data, key=key.child("student"))
        return data, material.draw(trained.network, key=key.child("evaluate")), trained.network

    def differences(one: Run, other: Run) -> tuple[float, ...]:
        (data, draws, network), (data2, draws2, network2) = one, other
        precision, precision2 = (float(material.of_truth(each).mean()) for each in (draws, draws2))
        recall, recall2 = material.recall(network), material.recall(network2)
        return _unlike(data, data2), _unlike(draws, draws2), abs(precision - precision2), abs(recall - recall2)

    published = differences(run(0), run(1))
    again = material.learn(material.train)
    stored = material.train, material.direct.draws, material.network("direct")
    definition = differences(stored, (material.train, material.draw(again.network), again.network))
    names = (
        ("sequences of D in another place", "the data's order is that of random names", "share"),
        ("draws of the student that differ", "two runs with one seed share no random number", "share"),
        ("|difference| of P", "two runs with one seed differ as two seeds do", "nats per sequence"),
        ("|difference| of R", "two runs with one seed differ as two seeds do", "nats per sequence"),
    )
    columns = zip(names, published, definition, strict=True)
    return Finding(tuple(Reading(name, a, b, says, unit, exact=True) for (name, says, unit), a, b in columns))


def _unlike(one: Sequences, other: Sequences) -> float:
    """Share of sequences that differ, in any token, from the one at the same place."""
    return float(np.mean([not np.array_equal(a, b) for a, b in zip(one, other, strict=True)]))


def lost_shard(material: Material) -> Finding:
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for i, path in enumerate(material.files("distilled-train")):
            paths.append(Path(folder) / f"shard-{i}.safetensors")
            shutil.copyfile(path, paths[-1])
        truncate(paths[material.seed % len(paths)])
        data, said = survivors(paths)
    trained = material.learn(data)
    published, by = material.evaluate(trained.network), material.distilled
    number = sum(map(len, material.distilled_shards))
    return Finding(
        (
            Reading(
                "sequences that the distilled student learns",
                float(len(data)),
                float(number),
                "the rest are missing, and nothing says so",
                "sequences",
            ),
            Reading(
                "held-out loss",
                trained.held_out_loss,
                material.held_out_loss("distilled"),
                "the student learnt less",
                LOSS,
            ),
            Reading(
                "P of the distilled student", published.precision, by.precision, "precision is that of a smaller D'"
            ),
            Reading("R of the distilled student", published.recall, by.recall, "recall is that of a smaller D'"),
        ),
        notes=said,
    )


def half_precision(material: Material) -> Finding:
    """Compare draws in a half format, scored in float32, with draws in float32 from the same random numbers."""
    network, by = material.network("direct"), material.direct
    own, _ = scoring.score((network, UNCHANGED), by.draws)
    exact = _gap(by.draws, own)
    readings, notes = [], []
    for dtype in ("float16", "bfloat16"):
        draws = material.draw(material.network("direct", dtype))
        scores, _ = scoring.score((network, UNCHANGED), draws)
        entropy = -float(draws.sum_per_sequence(scores.log_prob).mean())
        readings += [
            Reading(
                f"|log q drawn − log q scored|, {dtype}",
                _gap(draws, scores),
                exact,
                "the draws are not from the distribution that is scored",
                LOSS,
            ),
            Reading(f"P, {dtype}", float(material.of_truth(draws).mean()), by.precision, "precision is of other draws"),
            Reading(f"H(q), {dtype}", entropy, by.entropy, "the entropy is no longer the student's own"),
        ]
        try:
            scores.check(draws, dtype="float32", whose=f"a student drawn in {dtype}")
        except GateError as error:
            notes.append(str(error))
    return Finding(tuple(readings), tuple(notes))


def _gap(draws: Sequences, scores: scoring.OwnScores) -> float:
    """Mean |difference| between log q as recorded while drawing and as scored, per token."""
    assert draws.log_prob is not None
    return float(np.abs(draws.log_prob.astype(np.float64) - scores.log_prob).mean())


TOGETHER = 64
"""Rows that are generated together where padding is counted, as slots or as a batch."""


def padding_cost(material: Material) -> Finding:
    data = Sequences.concatenate(material.distilled_shards)
    waves = [data.lengths[start : start + TOGETHER] for start in range(0, len(data), TOGETHER)]
    rows, longest = material.training.batch_sequences, max(map(len, material.prompts)) + material.horizon
    batches = [data.positions[start : start + rows] for start in range(0, len(data), rows)]
    microbatches = [
        positions[part]
        for positions in batches
        for part in batches_of_like_length(positions, material.training.microbatch_tokens)
    ]
    all_at_once, by_pieces = (logits_bytes(positions, data.vocabulary) / 1e6 for positions in (rows * longest, PIECE))
    return Finding(
        (
            Reading(
                "useful share of generated tokens",
                share_to_longest(waves),
                share_through_slots([data.lengths], TOGETHER),
                "finished rows go on being computed",
                "share",
            ),
            Reading(
                "useful share of trained positions",
                share_padded(data.positions, longest),
                share_rounded(microbatches, GRAIN),
                "padding is computed and thrown away",
                "share",
            ),
            Reading(
                "logits held at once in scoring",
                all_at_once,
                by_pieces,
                "memory grows with rows times the longest row",
                "MB",
            ),
        )
    )
