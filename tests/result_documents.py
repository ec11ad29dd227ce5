"""Results documents with numbers that a test chooses."""

from __future__ import annotations

from typing import Any

import numpy as np
from msgspec import structs

from distilscope.evaluation.candidates import Candidate, SamplingParameters, Variant
from distilscope.evaluation.documents import record_of
from distilscope.evaluation.embedding_map import EmbeddingMap
from distilscope.evaluation.estimate import NOT_AVAILABLE, Estimate
from distilscope.evaluation.frontier import study_frontier
from distilscope.evaluation.matched_entropy import matched_entropy
from distilscope.evaluation.precision_recall import PrecisionRecall
from distilscope.evaluation.recall_only import NO_RECOMMENDATION, NO_TRADE_OFF, no_frontier
from distilscope.evaluation.recommendation import study_recommendation
from distilscope.evaluation.results import (
    Checkpoint,
    Control,
    GroundTruth,
    PromptsSource,
    Results,
    Sides,
    Sources,
    Student,
    SweepVariant,
    Teacher,
)
from distilscope.evaluation.trade_off import trade_off
from distilscope.report.exhibit import (
    Exhibit,
    Histogram,
    LogProbabilities,
    Positions,
    SampleColumn,
    Samples,
    SampleText,
    StudentHistograms,
    StudentPositions,
    TrainingCurve,
    TrainingEvaluation,
)

CHECKPOINT = Checkpoint(step=30, held_out_loss=3.0, tokens=1000)
HALF_SIZE = Variant(hidden_size=48, layers=1)


def estimate(mean: float | None) -> Estimate:
    return Estimate(None, None, 64, infinite=3) if mean is None else Estimate(float(mean), 0.5, 64)


def student(
    temperature: float | None,
    seed: int,
    *,
    precision: float | None,
    recall: float | None,
    selectivity: dict[str, Any] | None = None,
) -> Student:
    """Direct without temperature and selectivity. A mean of None is an infinite estimate."""
    if selectivity is None and temperature is not None:
        selectivity = {"temperature": temperature}
    return Student(**_fields(selectivity, seed, estimate(precision), estimate(recall)))


def control(evaluation: dict[str, Any], seed: int, *, precision: float | None, recall: float | None) -> Control:
    """The direct student drawn at `evaluation`."""
    return Control(**_drawn_at(evaluation), **_fields(None, seed, estimate(precision), estimate(recall)))


def teacher(selectivity: dict[str, Any], seed: int, *, entropy: float, length: float) -> Teacher:
    """One whose entropy and mean length alone matter."""
    given = {"entropy": estimate(entropy), "mean_length": estimate(length)}
    return structs.replace(_teacher(selectivity, seed, 1.0, True), **given)


def _drawn_at(evaluation: dict[str, Any]) -> dict[str, Any]:
    at = SamplingParameters(evaluation)
    return {"evaluation_selectivity": at, "evaluation_temperature": at.temperature}


def _fields(
    setting: dict[str, Any] | None,
    seed: int,
    precision: Estimate,
    recall: Estimate,
    *,
    variant: Variant | None = None,
    modelled: bool = True,
    **others: Estimate,
) -> dict[str, Any]:
    """A student's; `others` are the quantities beside precision and recall, which are the same in all unless given."""
    usual: dict[str, Estimate] = {
        "candidate_entropy": estimate(60.0),
        "reference_entropy": estimate(30.0),
        "kl_candidate_reference": estimate(50.0),
        "kl_reference_candidate": estimate(20.0),
    }
    measured = PrecisionRecall(precision=precision, recall=recall, covariance=0.0, **(usual | others))
    selectivity = None if setting is None else SamplingParameters(setting)
    return {
        "training": "direct" if setting is None else "distilled",
        "selectivity": selectivity,
        "temperature": selectivity.temperature if selectivity else None,
        "seed": seed,
        "variant": variant or Variant(),
        **measured.quantities(),
        "mean_length": Sides(reference=estimate(20.0), candidate=estimate(19.0 + seed / 10)),
        "ended": Sides(reference=0.5, candidate=0.5),
        "sampler_check": Sides(
            reference=0.25 if modelled else "not available", candidate=-0.5 + seed if seed != 1 else "undecided"
        ),
        "checkpoint": CHECKPOINT,
    }


def document(students: list[Student], controls: list[Control] | None = None) -> Results:
    """Results that hold these students and, beside them, nothing that a run would compute from them."""
    return Results(
        recipe="made-up",
        unit="nats per sequence",
        sources=Sources(ground_truth="0123", prompts=PromptsSource(sha256="4567", number=1, longest=3)),
        ground_truth=_ground_truth(modelled=True, prompts=1),
        temperatures=(0.7, 0.85, 1.0),
        evaluation_temperature=1.0,
        seeds=len({one.seed for one in students}) or 1,
        num_distill=96,
        teacher=(),
        students=tuple(students),
        controls=tuple(controls or ()),
        trade_off=NO_TRADE_OFF,
        sweep=(),
        frontier=no_frontier(1),
        matched_entropy=(),
        recommendation=NO_RECOMMENDATION,
    )


def _ground_truth(*, modelled: bool, prompts: int) -> GroundTruth:
    return GroundTruth(
        reference="big" if modelled else "data.jsonl",
        description="",
        vocabulary=320,
        dtype="float32" if modelled else None,
        prompt="The" if prompts == 1 else None,
        prompts=prompts,
        horizon=24,
        num_train=96,
        num_validation=32,
        num_eval=128,
        entropy=estimate(90.0) if modelled else NOT_AVAILABLE,
        mean_length=estimate(20.0),
        ended=0.5,
        sampler_check=0.25 if modelled else "not available",
    )


def study_document(
    *,
    temperatures: tuple[float, ...] = (0.7, 0.85, 1.0),
    sampling: tuple[dict[str, Any], ...] = (),
    seeds: int = 3,
    modelled: bool = True,
    sweep: bool = False,
    prompts: int = 1,
) -> Results:
    """The results that a run would write, from made-up precisions and recalls that follow temperature; `modelled` is
    whether there is a p* to ask for probabilities. What a run computes from its students is computed here by the same
    code."""
    settings = [*({"temperature": tau} for tau in temperatures), *sampling]
    students, teachers, controls = [], [], []
    for seed in range(seeds):
        students.append(_measured(None, seed, precision=-200.0, recall=-150.0, modelled=modelled))
        for place, setting in enumerate(settings):
            tau = setting.get("temperature", 0.9)
            distilled = {"precision": -205.0 + 150 * (1 - tau), "recall": -155.0 - 40 * (1 - tau) - 0.3 * place}
            students.append(_measured(setting, seed, **distilled, modelled=modelled))
            if sweep:
                students.append(_measured(setting, seed, **distilled, modelled=modelled, variant=HALF_SIZE))
            truncated = "temperature" not in setting  # a truncated student cannot make all that p* draws
            recall = None if truncated else -150.0 - 25 * (1 - tau)
            drawn = {"precision": -200.0 + 170 * (1 - tau), "recall": recall}
            controls.append(_measured(None, seed, **drawn, modelled=modelled, drawn_at=setting))
            teachers.append(_teacher(setting, seed, tau, modelled))
    own = [one for one in students if not one.candidate.swept]
    log_p = np.linspace(-130.0, -50.0, 256)
    if modelled:
        of = {(one.seed, one.temperature): one for one in own}
        tables = {
            name: np.array([[getattr(of[seed, tau], quantity).mean for tau in temperatures] for seed in range(seeds)])
            for name, quantity in (("precision", "precision"), ("recall", "recall"), ("kl", "kl_candidate_reference"))
        }
        verdict = trade_off(temperatures=temperatures, **tables)
    else:
        verdict = NO_TRADE_OFF
    return Results(
        recipe="made-up",
        unit="nats per sequence",
        sources=Sources(ground_truth="0123", prompts=PromptsSource(sha256="4567", number=prompts, longest=3)),
        ground_truth=_ground_truth(modelled=modelled, prompts=prompts),
        temperatures=temperatures,
        evaluation_temperature=1.0,
        seeds=seeds,
        num_distill=96,
        teacher=tuple(teachers),
        students=tuple(students),
        controls=tuple(controls),
        trade_off=verdict,
        sweep=tuple(SweepVariant(variant=one, trade_off=verdict) for one in (Variant(), HALF_SIZE)) if sweep else (),
        frontier=study_frontier(own, controls, log_p) if modelled else no_frontier(seeds),
        matched_entropy=matched_entropy(teachers, own) if modelled else (),
        recommendation=study_recommendation(own) if modelled else NO_RECOMMENDATION,
    )


def _measured(
    setting: dict[str, Any] | None,
    seed: int,
    *,
    precision: float,
    recall: float | None,
    modelled: bool,
    variant: Variant | None = None,
    drawn_at: dict[str, Any] | None = None,
) -> Student:
    """A student, or with `drawn_at` a control; each seed a little off, and not alike at every setting."""
    off = 0.8 * ((seed + round(-precision)) % 3 - 1) + 0.1 * seed
    infinite = Estimate(None, None, 128, infinite=3)
    kl = Estimate(-90.0 - recall, 0.5, 128) if modelled and recall is not None else NOT_AVAILABLE
    fields = _fields(
        setting,
        seed,
        Estimate(precision + off, 1.5, 128) if modelled else NOT_AVAILABLE,
        infinite if recall is None else Estimate(recall - off / 3, 1.25, 128),
        variant=variant,
        modelled=modelled,
        candidate_entropy=Estimate(-precision - 45.0 - off, 0.75, 128),
        reference_entropy=Estimate(90.0, 1.0, 128) if modelled else NOT_AVAILABLE,
        kl_candidate_reference=Estimate(45.0 + off / 5, 0.5, 128) if modelled else NOT_AVAILABLE,
        kl_reference_candidate=infinite if recall is None else kl,
    )
    return Student(**fields) if drawn_at is None else Control(**_drawn_at(drawn_at), **fields)


def _teacher(setting: dict[str, Any], seed: int, tau: float, modelled: bool) -> Teacher:
    selectivity = SamplingParameters(setting)
    return Teacher(
        selectivity=selectivity,
        temperature=selectivity.temperature,
        seed=seed,
        entropy=estimate(150.0 * tau + seed),
        precision=estimate(-190.0 * tau) if modelled else NOT_AVAILABLE,
        recall=estimate(-140.0 / tau),
        mean_length=estimate(20.0),
        sampler_check=0.75 * seed,
        checkpoint=CHECKPOINT,
    )


def exhibit_of(results: Results, *, texts: tuple[str, ...] = ("alpha", "beta", "gamma", "delta")) -> Exhibit:
    """What could have been read of the artifacts behind such results, for texts that a test chooses."""
    modelled = results.modelled
    students = [one.candidate for one in results.own_students if one.seed == 0]
    teachers = [one.candidate for one in results.teacher if one.seed == 0]
    histogram = Histogram(counts=(1, 4, 2, 1), n=8, infinite=0)
    under = histogram if modelled else None
    rows = len(texts)
    written = tuple(SampleText(text=text, tokens=8, ended=bool(place % 2)) for place, text in enumerate(texts))
    prompts = ("A", "B") * (rows // 2) if results.ground_truth.prompts > 1 else None
    columns = [
        SampleColumn(
            candidate=candidate,
            texts=written,
            prompts=prompts,
            surprise=tuple(float((place * 7 + at * 3) % 5) if modelled else None for at in range(rows)),
        )
        for place, candidate in enumerate([*teachers, *students])
    ]
    reference = SampleColumn(candidate=Candidate("reference"), texts=written, prompts=prompts, surprise=None)
    curve = tuple(
        TrainingEvaluation(step=step, training_loss=5.0 - step / 20, held_out_loss=5.0 - step / 25)
        for step in (10, 20, 30)
    )
    return Exhibit(
        log_probabilities=LogProbabilities(
            edges=(-220.0, -180.0, -140.0, -100.0, -60.0),
            reference=under,
            groups=tuple(
                StudentHistograms(candidate=candidate, under_reference=under, of_reference=histogram)
                for candidate in students
            ),
        ),
        positions=Positions(
            reached=(8, 8, 4),
            reference=(3.0, 2.5, 2.0) if modelled else None,
            groups=tuple(
                StudentPositions(
                    candidate=candidate,
                    of_reference=(5.0, 4.5, None),
                    under_reference=(6.0, 5.0, 4.0) if modelled else None,
                )
                for candidate in students
            ),
        ),
        trainings=tuple(
            TrainingCurve(candidate=candidate, seed=seed, history=curve, chosen_step=30)
            for candidate in (Candidate("teacher"), *students)
            for seed in range(results.seeds)
        ),
        samples=Samples(
            columns=(reference, *columns),
            surprise_of_reference={
                candidate: tuple(float((place + at) % rows) for at in range(rows))
                for place, candidate in enumerate(students)
            },
            rows=rows,
        ),
    )


def map_of(results: Results, *, texts: tuple[str, ...] = ("alpha", "beta", "gamma", "delta")) -> EmbeddingMap:
    """A map.json that a run with such results could have: everyone wrote these texts, each kind at a place of its
    own."""
    one = {"mean": 0.5, "half_width": 0.1, "n": results.seeds}
    candidates = dict.fromkeys(each.candidate for each in (*results.teacher, *results.own_students))
    who = [
        {
            "role": candidate.role,
            "selectivity": candidate.setting.as_json() if candidate.setting else None,
            "temperature": candidate.temperature,
        }
        for candidate in candidates
    ]
    reference = {"role": "reference", "selectivity": None, "temperature": None}
    whole = {
        "schema_version": 1,
        "recipe": results.recipe,
        "note": "A map proves nothing.",
        "embedder": {"reference": "letters"},
        "cut_texts": 0,
        "settings": {"n_neighbors": 5, "min_dist": 0.001, "metric": "cosine", "seed": 0, "per_model": 4},
        "neighbours": {
            "k": 3,
            "n_reference": len(texts),
            "n_candidate": len(texts),
            "groups": [kind | {"precision": one, "recall": one} for kind in who],
            "ceiling": {"precision": one | {"mean": 0.9}, "recall": one},
        },
        "points": [
            {**kind, "seed": None if kind["role"] == "reference" else 0, "x": float(place), "y": at / 2, "text": text}
            for place, kind in enumerate([reference, *who])
            for at, text in enumerate(texts)
        ],
    }
    return record_of(whole, EmbeddingMap)
