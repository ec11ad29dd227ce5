"""Reads a finished study's artifacts, lets every number through its gates, and writes results.json's document."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from jaxtyping import Float

from distilscope.comparison import PrecisionRecall, Scored, compare
from distilscope.distillation import Measured, Study
from distilscope.estimate import Estimate
from distilscope.finished import SCHEMA_VERSION
from distilscope.frontier import frontier_document, trade_off
from distilscope.lm.sequences import Sequences
from distilscope.recommendation import recommendation_document
from distilscope.runs.step import Step
from distilscope.runs.store import Store
from distilscope.work import read_draws, read_scores


def collect(study: Study, store: Store) -> dict[str, Any]:
    """The document of results.json: no time, path, host or engine in it. Raises GateError where a gate does not pass."""
    return _Collector(study, store).document()


class _Collector:
    def __init__(self, study: Study, store: Store) -> None:
        self.study, self.store, truth = study, store, study.config.ground_truth
        self.test = self._draws(study.test, truth.num_eval)
        rescored = read_scores(store.path(study.reference_scores), 0)
        self.reference_check = rescored.check(self.test, dtype=study.ground_truth.config["dtype"], whose="p*")
        self.reference_own = self._total(self.test, self.test.log_prob)

    def document(self) -> dict[str, Any]:
        config, truth = self.study.config, self.study.config.ground_truth
        students = [self._student(measured) for measured in self.study.students]
        return {
            "schema_version": SCHEMA_VERSION,
            "recipe": config.recipe,
            "unit": "nats per sequence",
            "ground_truth": {
                "reference": truth.name,
                "description": truth.description,
                "identity": self.study.ground_truth.config.get("sha256"),
                "vocabulary": self.test.vocabulary,
                "dtype": self.study.ground_truth.config["dtype"],
                "prompt": truth.prompt,
                "horizon": truth.horizon,
                "num_train": truth.num_train,
                "num_validation": truth.num_validation,
                "num_eval": truth.num_eval,
                "entropy": Estimate.of(-self.reference_own).as_json(),
                "mean_length": Estimate.of(self.test.lengths).as_json(),
                "ended": float(self.test.ended.mean()),
                "sampler_check": self.reference_check,
            },
            "temperatures": list(config.temperatures),
            "evaluation_temperature": config.evaluation_temperature,
            "seeds": config.seeds,
            "teacher": [self._teacher(measured) for measured in self.study.teachers],
            "students": students,
            "controls": [],
            "trade_off": self._trade_off(students),
            "frontier": frontier_document({"students": students, "controls": []}, self.reference_own),
            "recommendation": recommendation_document({"students": students}),
        }

    def _teacher(self, measured: Measured) -> dict[str, Any]:
        estimates, draws, z = self._compare(measured, self.study.config.num_teacher_eval)
        return {
            "temperature": measured.temperature,
            "seed": measured.seed,
            "entropy": estimates.candidate_entropy.as_json(),
            "precision": estimates.precision.as_json(),
            "recall": estimates.recall.as_json(),
            "mean_length": Estimate.of(draws.lengths).as_json(),
            "sampler_check": z,
            "checkpoint": self._training(measured.model),
        }

    def _student(self, measured: Measured) -> dict[str, Any]:
        estimates, draws, z = self._compare(measured, self.study.config.ground_truth.num_eval)
        return {
            "training": measured.training,
            "temperature": measured.temperature,
            "seed": measured.seed,
            **estimates.as_json(),
            "mean_length": {
                "reference": Estimate.of(self.test.lengths).as_json(),
                "candidate": Estimate.of(draws.lengths).as_json(),
            },
            "ended": {"reference": float(self.test.ended.mean()), "candidate": float(draws.ended.mean())},
            "sampler_check": {"reference": self.reference_check, "candidate": z},
            "checkpoint": self._training(measured.model),
        }

    def _compare(self, measured: Measured, first: int) -> tuple[PrecisionRecall, Sequences, float | str]:
        draws = self._draws(measured.draws, first)
        own = read_scores(self.store.path(measured.own), 0)
        whose = f"the {measured.training} model (temperature {measured.temperature}, seed {measured.seed})"
        z = own.check(draws, dtype=measured.own.config["dtype"], whose=whose)
        by_reference = read_scores(self.store.path(measured.by_reference), 0).log_prob
        of_reference = read_scores(self.store.path(measured.of_reference), measured.index).log_prob
        estimates = compare(
            candidate=Scored(own=self._total(draws, draws.log_prob), other=self._total(draws, by_reference)),
            reference=Scored(own=self.reference_own, other=self._total(self.test, of_reference)),
        )
        return estimates, draws, z

    def _draws(self, steps: tuple[Step, ...], first: int) -> Sequences:
        draws = read_draws({f"draws/{i}": self.store.path(step) for i, step in enumerate(steps)}, "draws")
        return draws.take(np.arange(min(len(draws), first)))

    def _training(self, model: Step) -> dict[str, Any]:
        counts = self.store.manifest(model)["counts"]
        return {"step": counts["chosen_step"], "held_out_loss": counts["held_out_loss"], "tokens": counts["tokens"]}

    @staticmethod
    def _total(draws: Sequences, log_prob: Float[np.ndarray, " tokens"] | None) -> Float[np.ndarray, " n"]:
        assert log_prob is not None
        return draws.sum_per_sequence(log_prob)

    def _trade_off(self, students: list[dict[str, Any]]) -> dict[str, Any]:
        temperatures = self.study.config.temperatures

        def table(name: str) -> np.ndarray:
            found = {(s["seed"], s["temperature"]): s[name]["mean"] for s in students if s["training"] == "distilled"}
            rows = [[found[seed, tau] for tau in temperatures] for seed in range(self.study.config.seeds)]
            return np.array(rows, dtype=np.float64)  # an infinite estimate (None) becomes NaN

        verdict = trade_off(
            temperatures=temperatures, precision=table("precision"), recall=table("recall"), kl=table("kl_candidate_reference")
        )
        return asdict(verdict)
