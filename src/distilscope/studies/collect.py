"""Reads a finished study's artifacts, lets every number through its gates, and writes results.json's document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from distilscope.evaluation import recall_only
from distilscope.evaluation.estimate import NOT_AVAILABLE, Estimate
from distilscope.evaluation.frontier import frontier_document
from distilscope.evaluation.matched_entropy import matched_entropy
from distilscope.evaluation.precision_recall import PrecisionRecall, compare, expectation
from distilscope.evaluation.recall_only import recall_alone
from distilscope.evaluation.recommendation import recommendation_document
from distilscope.evaluation.results_file import SCHEMA_VERSION
from distilscope.evaluation.trade_off import sweep_document, trade_off
from distilscope.lm.sequences import Sequences
from distilscope.pipeline.step import Step
from distilscope.pipeline.store import Store
from distilscope.studies.artifacts import read_draws, read_other_scores, read_own_scores
from distilscope.studies.config import SamplingParameters
from distilscope.studies.gated_scores import Tally
from distilscope.studies.study import Measured, Study


@dataclass(frozen=True)
class Lengths:
    """What of p*'s test draws is said beside every candidate."""

    lengths: Int[np.ndarray, " n"]
    ended: Bool[np.ndarray, " n"]
    vocabulary: int


def collect(study: Study, store: Store) -> dict[str, Any]:
    """The document of results.json: no time, path, host or engine in it. Raises GateError where a gate does not
    pass."""
    return _Collector(study, store).document()


class _Collector:
    def __init__(self, study: Study, store: Store) -> None:
        self.study, self.store = study, store
        self.sound: dict[Step, Path] = {}
        self.clustered = study.sources["prompts"]["number"] > 1
        self.dtype: str | None = study.ground_truth.config["dtype"] if study.ground_truth else None
        self.test = self._test_draws()
        first = next(study.measured())
        self.reference = self._reference(first) if self.dtype else None
        self.reference_check: float | str = self.reference.z() if self.reference else "not available"

    def document(self) -> dict[str, Any]:
        config, truth = self.study.config, self.study.config.ground_truth
        teachers = [self._teacher(measured) for measured in self.study.teachers]
        students = [self._student(measured) for measured in self.study.students]
        base = [student for student in students if not student["variant"]]
        controls = [
            {
                "evaluation_selectivity": one.evaluation,
                "evaluation_temperature": _temperature(one.evaluation),
                **self._student(one),
            }
            for one in self.study.controls
        ]
        entropy, both = NOT_AVAILABLE, recall_only.documents(config.seeds)
        if self.reference:
            own = self.reference.scored().own
            entropy = self.reference.alone().entropy
            both = {
                "frontier": frontier_document({"students": base, "controls": controls}, own),
                "matched_entropy": matched_entropy({"teacher": teachers, "students": base}),
                "recommendation": recommendation_document({"students": base}),
            }
        return {
            "schema_version": SCHEMA_VERSION,
            "recipe": config.recipe,
            "unit": "nats per sequence",
            "sources": self.study.sources,
            "ground_truth": {
                "reference": truth.name,
                "description": truth.about,
                "vocabulary": self.test.vocabulary,
                "dtype": self.dtype,
                "prompt": None if truth.prompts or self.study.sources["prompts"]["number"] > 1 else truth.prompt,
                "prompts": self.study.sources["prompts"]["number"],
                "horizon": truth.horizon,
                "num_train": truth.num_train,
                "num_validation": truth.num_validation,
                "num_eval": truth.num_eval,
                "entropy": entropy.as_json(),
                "mean_length": Estimate.of(self.test.lengths).as_json(),
                "ended": float(self.test.ended.mean()),
                "sampler_check": self.reference_check,
            },
            "temperatures": list(config.temperatures),
            "evaluation_temperature": config.evaluation_temperature,
            "seeds": config.seeds,
            "num_distill": config.distil_draws,
            "teacher": teachers,
            "students": students,
            "controls": controls,
            "trade_off": self._trade_off(base),
            "sweep": sweep_document(students, self._trade_off),
            **both,
        }

    def _teacher(self, measured: Measured) -> dict[str, Any]:
        estimates, draws, z = self._compare(measured)
        return {
            "selectivity": measured.setting,
            "temperature": _temperature(measured.setting),
            "seed": measured.seed,
            "entropy": estimates.candidate_entropy.as_json(),
            "precision": estimates.precision.as_json(),
            "recall": estimates.recall.as_json(),
            "mean_length": Estimate.of(draws.lengths).as_json(),
            "sampler_check": z,
            "checkpoint": self._training(measured.model),
        }

    def _student(self, measured: Measured) -> dict[str, Any]:
        estimates, draws, z = self._compare(measured)
        return {
            "training": measured.training,
            "selectivity": measured.setting,
            "temperature": _temperature(measured.setting),
            "seed": measured.seed,
            "variant": self._variant(measured),
            **estimates.as_json(),
            "mean_length": {
                "reference": Estimate.of(self.test.lengths).as_json(),
                "candidate": Estimate.of(draws.lengths).as_json(),
            },
            "ended": {"reference": float(self.test.ended.mean()), "candidate": float(draws.ended.mean())},
            "sampler_check": {"reference": self.reference_check, "candidate": z},
            "checkpoint": self._training(measured.model),
        }

    def _variant(self, measured: Measured) -> dict[str, int]:
        """What of the student's size and |D'| differs from the study's own; empty for most."""
        variant, config = measured.variant, self.study.config
        assert variant is not None
        changed: dict[str, int] = {}
        if variant.size != config.student.size:
            changed |= {"hidden_size": variant.size.hidden_size, "layers": variant.size.layers}
        if variant.num_distill != config.distil_draws:
            changed |= {"num_distill": variant.num_distill}
        return changed

    def _compare(self, measured: Measured) -> tuple[PrecisionRecall, Tally, float | str]:
        whose = (
            f"the {measured.training} model ({_named(measured.setting)}, seed {measured.seed}) drawn at "
            f"{_named(measured.evaluation)}"
        )
        index = 0 if self.reference else None
        candidate = self._tally(measured.draws, measured.scores, index, dtype=measured.dtype, whose=whose)
        z = candidate.z()
        if self.reference is None:
            return (
                recall_alone(recall=self._recall(measured), candidate_entropy=candidate.alone().entropy),
                candidate,
                z,
            )
        return compare(candidate=candidate.scored(), reference=self._reference(measured).scored()), candidate, z

    def _reference(self, measured: Measured) -> Tally:
        """p*'s test draws under p* and under a candidate."""
        assert self.dtype is not None
        return self._tally(self.study.test, measured.of_reference, measured.index, dtype=self.dtype, whose="p*")

    def _tally(
        self, draws: Sequence[Step], scores: Sequence[Step], index: int | None, *, dtype: str, whose: str
    ) -> Tally:
        """Draws that were scored, tile by tile, through both gates; `index` names the other side among those they were
        scored by."""
        tally = Tally(dtype=dtype, whose=whose, clustered=self.clustered)
        for drawn, scored in zip(draws, scores, strict=False):  # of D' only the first tiles are scored
            folder = self._sound(scored)
            other = None if index is None else read_other_scores(folder, index)
            tally.add(self._tile(drawn, scored.config["first"]), read_own_scores(folder), other)
        return tally

    def _recall(self, measured: Measured) -> Estimate:
        """Of data, which nothing drew: the mean of the candidate's log-probabilities."""
        totals, prompt_of = [], []
        for drawn, scored in zip(self.study.test, measured.of_reference, strict=True):
            tile = self._tile(drawn, scored.config["first"])
            totals.append(tile.sum_per_sequence(read_other_scores(self._sound(scored), measured.index).log_prob))
            prompt_of.append(tile.prompt_of)
        return expectation(np.concatenate(totals), clusters=np.concatenate(prompt_of) if self.clustered else None)

    def _tile(self, drawn: Step, first: int) -> Sequences:
        draws = read_draws({"draws/0": self._sound(drawn)}, "draws")
        return draws.take(np.arange(min(len(draws), first)))

    def _sound(self, step: Step) -> Path:
        """The artifact's folder, hashed again before its first number is read."""
        if step not in self.sound:
            self.sound[step] = self.store.sound(step)
        return self.sound[step]

    def _test_draws(self) -> Lengths:
        tiles = [self._tile(step, self.study.config.tile) for step in self.study.test]
        lengths, ended = (np.concatenate([getattr(tile, name) for tile in tiles]) for name in ("lengths", "ended"))
        return Lengths(lengths, ended, tiles[0].vocabulary)

    def _training(self, model: Step) -> dict[str, Any] | None:
        """None for a model that was not trained."""
        counts = self.store.manifest(model)["counts"]
        if "chosen_step" not in counts:
            return None
        return {"step": counts["chosen_step"], "held_out_loss": counts["held_out_loss"], "tokens": counts["tokens"]}

    def _trade_off(self, students: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        if self.reference is None:
            return asdict(recall_only.NO_TRADE_OFF)
        temperatures = self.study.config.temperatures

        def table(name: str) -> np.ndarray:
            found = {(s["seed"], s["temperature"]): s[name]["mean"] for s in students if s["training"] == "distilled"}
            rows = [[found[seed, tau] for tau in temperatures] for seed in range(self.study.config.seeds)]
            return np.array(rows, dtype=np.float64)  # an infinite estimate (None) becomes NaN

        verdict = trade_off(
            temperatures=temperatures,
            precision=table("precision"),
            recall=table("recall"),
            kl=table("kl_candidate_reference"),
        )
        return asdict(verdict)


def _temperature(setting: SamplingParameters | None) -> float | int | None:
    """Where the setting is a temperature and nothing else."""
    return setting["temperature"] if setting and set(setting) == {"temperature"} else None


def _named(setting: SamplingParameters | None) -> str:
    return (
        "direct"
        if setting is None
        else ", ".join(f"{name.replace('_', '-')} {value:g}" for name, value in setting.items())
    )
