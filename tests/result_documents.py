"""Results documents with numbers that a test chooses."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from distilscope.evaluation import recall_only
from distilscope.evaluation.estimate import NOT_AVAILABLE, Estimate
from distilscope.evaluation.frontier import frontier_document
from distilscope.evaluation.matched_entropy import matched_entropy
from distilscope.evaluation.precision_recall import PrecisionRecall
from distilscope.evaluation.recommendation import recommendation_document
from distilscope.evaluation.trade_off import trade_off


def estimate(mean: float | None) -> dict[str, Any]:
    return (
        {"mean": None, "stderr": None, "n": 64, "infinite": 3}
        if mean is None
        else {"mean": float(mean), "stderr": 0.5, "n": 64}
    )


def student(
    temperature: float | None,
    seed: int,
    *,
    precision: float | None,
    recall: float | None,
    selectivity: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Direct without temperature and selectivity. A mean of None is an infinite estimate."""
    distilled = temperature is not None or selectivity is not None
    record = {"training": "distilled" if distilled else "direct", "temperature": temperature, "seed": seed}
    if selectivity is not None:
        record["selectivity"] = selectivity
    return record | {"precision": estimate(precision), "recall": estimate(recall)}


def document(students: list[dict[str, Any]], controls: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "unit": "nats per sequence",
        "ground_truth": {"horizon": 24},
        "seeds": len({one["seed"] for one in students}),
        "students": students,
        "controls": controls or [],
    }


def study_document(
    *,
    temperatures: tuple[float, ...] = (0.7, 0.85, 1.0),
    sampling: tuple[dict[str, Any], ...] = (),
    seeds: int = 3,
    modelled: bool = True,
    sweep: bool = False,
    prompts: int = 1,
) -> dict[str, Any]:
    """A whole results.json as a run would write it, from made-up precisions and recalls that follow temperature;
    `modelled` is whether there is a p* to ask for probabilities. What a run computes from its students is computed here
    by the same code."""
    settings = [*({"temperature": tau} for tau in temperatures), *sampling]
    students, teachers, controls = [], [], []
    for seed in range(seeds):
        students.append(_measured(None, None, seed, precision=-200.0, recall=-150.0, modelled=modelled))
        for place, setting in enumerate(settings):
            tau = setting.get("temperature", 0.9)
            distilled = {"precision": -205.0 + 150 * (1 - tau), "recall": -155.0 - 40 * (1 - tau) - 0.3 * place}
            students.append(_measured(setting, None, seed, **distilled, modelled=modelled))
            if sweep:
                students.append(
                    _measured(
                        setting, None, seed, **distilled, modelled=modelled, variant={"hidden_size": 48, "layers": 1}
                    )
                )
            truncated = "temperature" not in setting  # a truncated student cannot make all that p* draws
            recall = None if truncated else -150.0 - 25 * (1 - tau)
            controls.append(
                _measured(None, setting, seed, precision=-200.0 + 170 * (1 - tau), recall=recall, modelled=modelled)
            )
            teachers.append(_teacher(setting, seed, tau, modelled))
    found: dict[str, Any] = {
        "schema_version": 1,
        "recipe": "made-up",
        "unit": "nats per sequence",
        "sources": {"ground_truth": "0123", "prompts": {"sha256": "4567", "number": prompts, "longest": 3}},
        "ground_truth": {
            "reference": "big" if modelled else "data.jsonl",
            "description": "",
            "vocabulary": 320,
            "dtype": "float32" if modelled else None,
            "prompt": "The" if prompts == 1 else None,
            "prompts": prompts,
            "horizon": 24,
            "num_train": 96,
            "num_validation": 32,
            "num_eval": 128,
            "entropy": estimate(90.0) if modelled else NOT_AVAILABLE.as_json(),
            "mean_length": estimate(20.0),
            "ended": 0.5,
            "sampler_check": 0.25 if modelled else "not available",
        },
        "temperatures": list(temperatures),
        "evaluation_temperature": 1.0,
        "seeds": seeds,
        "num_distill": 96,
        "teacher": teachers,
        "students": students,
        "controls": controls,
    }
    base = [one for one in students if not one["variant"]]
    if modelled:
        tables = {
            name: np.array(
                [
                    [
                        one[name]["mean"]
                        for tau in temperatures
                        for one in base
                        if (one["seed"], one["temperature"]) == (seed, tau)
                    ]
                    for seed in range(seeds)
                ]
            )
            for name in ("precision", "recall", "kl_candidate_reference")
        }
        verdict = trade_off(
            temperatures=temperatures,
            precision=tables["precision"],
            recall=tables["recall"],
            kl=tables["kl_candidate_reference"],
        )
        log_p = np.linspace(-130.0, -50.0, 256)
        computed = {
            "trade_off": asdict(verdict),
            "frontier": frontier_document({"students": base, "controls": controls}, log_p),
            "matched_entropy": matched_entropy({"teacher": teachers, "students": base}),
            "recommendation": recommendation_document({"students": base}),
        }
    else:
        computed = {"trade_off": asdict(recall_only.NO_TRADE_OFF), **recall_only.documents(seeds)}
    variants = [{}, {"hidden_size": 48, "layers": 1}] if sweep else []
    return (
        found | computed | {"sweep": [{"variant": variant, "trade_off": computed["trade_off"]} for variant in variants]}
    )


def _measured(
    setting: dict[str, Any] | None,
    drawn_at: dict[str, Any] | None,
    seed: int,
    *,
    precision: float,
    recall: float | None,
    modelled: bool,
    variant: dict[str, int] | None = None,
) -> dict[str, Any]:
    """A student, or with `drawn_at` a control; each seed a little off, and not alike at every setting."""
    off = 0.8 * ((seed + round(-precision)) % 3 - 1) + 0.1 * seed
    found = PrecisionRecall(
        precision=Estimate(precision + off, 1.5, 128) if modelled else NOT_AVAILABLE,
        recall=Estimate(None, None, 128, 3) if recall is None else Estimate(recall - off / 3, 1.25, 128),
        candidate_entropy=Estimate(-precision - 45.0 - off, 0.75, 128),
        reference_entropy=Estimate(90.0, 1.0, 128) if modelled else NOT_AVAILABLE,
        kl_candidate_reference=Estimate(45.0 + off / 5, 0.5, 128) if modelled else NOT_AVAILABLE,
        kl_reference_candidate=Estimate(None, None, 128, 3)
        if recall is None
        else Estimate(-90.0 - recall, 0.5, 128)
        if modelled
        else NOT_AVAILABLE,
    )
    control = (
        {"evaluation_selectivity": drawn_at, "evaluation_temperature": (drawn_at or {}).get("temperature")}
        if drawn_at
        else {}
    )
    return control | {
        "training": "direct" if setting is None else "distilled",
        "selectivity": setting,
        "temperature": setting["temperature"] if setting and set(setting) == {"temperature"} else None,
        "seed": seed,
        "variant": variant or {},
        **found.as_json(),
        "mean_length": {"reference": estimate(20.0), "candidate": estimate(19.0 + seed / 10)},
        "ended": {"reference": 0.5, "candidate": 0.5},
        "sampler_check": {
            "reference": 0.25 if modelled else "not available",
            "candidate": -0.5 + seed if seed != 1 else "undecided",
        },
        "checkpoint": {"step": 30, "held_out_loss": 3.0, "tokens": 1000},
    }


def _teacher(setting: dict[str, Any], seed: int, tau: float, modelled: bool) -> dict[str, Any]:
    return {
        "selectivity": setting,
        "temperature": setting["temperature"] if set(setting) == {"temperature"} else None,
        "seed": seed,
        "entropy": estimate(150.0 * tau + seed),
        "precision": estimate(-190.0 * tau) if modelled else NOT_AVAILABLE.as_json(),
        "recall": estimate(-140.0 / tau),
        "mean_length": estimate(20.0),
        "sampler_check": 0.75 * seed,
        "checkpoint": {"step": 30, "held_out_loss": 3.0, "tokens": 1000},
    }


def exhibit_of(
    results: dict[str, Any], *, texts: tuple[str, ...] = ("alpha", "beta", "gamma", "delta")
) -> dict[str, Any]:
    """What `exhibit.gather` could have read of the artifacts behind such a document, for texts that a test chooses."""
    modelled, seeds = results["ground_truth"]["dtype"] is not None, results["seeds"]
    base = [one for one in results["students"] if one["seed"] == 0 and not one["variant"]]
    students = [{"training": one["training"], "selectivity": one["selectivity"]} for one in base]
    teachers = [
        {"training": "teacher", "selectivity": one["selectivity"]} for one in results["teacher"] if one["seed"] == 0
    ]
    histogram = {"counts": [1, 4, 2, 1], "n": 8, "infinite": 0}
    under = histogram if modelled else None
    rows = len(texts)
    written = [{"text": text, "tokens": 8, "ended": bool(place % 2)} for place, text in enumerate(texts)]
    columns = [
        who
        | {"texts": written, "prompts": ["A", "B"] * (rows // 2) if results["ground_truth"]["prompts"] > 1 else None}
        | {"surprise": [float((place * 7 + at * 3) % 5) if modelled else None for at in range(rows)]}
        for place, who in enumerate([*teachers, *students])
    ]
    reference = {"training": "reference", "selectivity": None, "texts": written, "prompts": columns[0]["prompts"]}
    reference["surprise"] = [[float((place + at) % rows) for at in range(rows)] for place in range(len(students))]
    curve = [
        {"step": step, "training_loss": 5.0 - step / 20, "held_out_loss": 5.0 - step / 25} for step in (10, 20, 30)
    ]
    learners = [{"training": "teacher", "selectivity": None}, *students]
    return {
        "log_probabilities": {
            "edges": [-220.0, -180.0, -140.0, -100.0, -60.0],
            "reference": under,
            "groups": [who | {"under_reference": under, "of_reference": histogram} for who in students],
        },
        "positions": {
            "reached": [8, 8, 4],
            "reference": [3.0, 2.5, 2.0] if modelled else None,
            "groups": [
                who | {"of_reference": [5.0, 4.5, None], "under_reference": [6.0, 5.0, 4.0] if modelled else None}
                for who in students
            ],
        },
        "trainings": [
            who | {"seed": seed, "history": curve, "chosen_step": 30} for who in learners for seed in range(seeds)
        ],
        "samples": {"columns": [reference, *columns], "students": students, "rows": rows},
    }


def map_of(results: dict[str, Any], *, texts: tuple[str, ...] = ("alpha", "beta", "gamma", "delta")) -> dict[str, Any]:
    """A map.json that could stand beside such a document: everyone wrote these texts, each kind at a place of its
    own."""
    one = {"mean": 0.5, "half_width": 0.1, "n": results["seeds"]}
    base = [student for student in results["students"] if not student["variant"]]
    records = [*({**teacher, "training": "teacher"} for teacher in results["teacher"]), *base]
    kinds = {(record["training"], repr(record["selectivity"])): record for record in records}
    who = [
        {"role": role, "selectivity": record["selectivity"], "temperature": record["temperature"]}
        for (role, _), record in kinds.items()
    ]
    reference = {"role": "reference", "selectivity": None, "temperature": None}
    return {
        "schema_version": 1,
        "recipe": results["recipe"],
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
