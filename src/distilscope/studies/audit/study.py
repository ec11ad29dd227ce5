"""The audit study: a small study by the definition, then each trap alone in each of its seeds, then one document."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from distilscope.errors import UsageError, unknown_name
from distilscope.mixtures.config import mog_paper
from distilscope.mixtures.simulation import simulate
from distilscope.pipeline.execute import execute
from distilscope.pipeline.progress import SilentWatcher, Watcher
from distilscope.pipeline.retention import retaining
from distilscope.pipeline.step import Step, order
from distilscope.pipeline.store import Store
from distilscope.studies.artifacts import numbered
from distilscope.studies.audit.evidence import Finding, is_seen, over_seeds, row
from distilscope.studies.audit.step import AUDIT, read_finding
from distilscope.studies.audit.traps import MIXTURE, TRAPS, Trap
from distilscope.studies.config import Distillation
from distilscope.studies.inputs import Sources
from distilscope.studies.planner import plan
from distilscope.studies.recipes import recipe as study_recipe
from distilscope.studies.run import output_folder, store_folder
from distilscope.studies.steps.registry import functions
from distilscope.studies.study import Measured, Study
from distilscope.system.cpu_count import worker_count
from distilscope.system.json_files import write_json

SCHEMA_VERSION = 1

SHARDS = 4
"""Shards of D, and of D'; a lost one costs a quarter of the data."""

MIXTURE_SEEDS = 5
"""Least number of seeds of the mixtures, which take seconds."""


@dataclass(frozen=True)
class Small:
    """Sizes of a recipe in the audit."""

    horizon: int
    num_train: int
    num_validation: int
    num_eval: int
    temperature: float
    evaluations: int = 8


SIZES = {
    "smollm2_cpu": Small(horizon=64, num_train=768, num_validation=128, num_eval=128, temperature=0.8),
    "tiny": Small(horizon=16, num_train=256, num_validation=64, num_eval=64, temperature=0.7),
}
"""The horizon on the real model is longer than the recipe's, so that more of p*'s sequences end before it."""


def small(name: str, seeds: int) -> Distillation:
    """The recipe at the audit's size."""
    if name not in SIZES:
        raise unknown_name("recipe for an audit", name, SIZES)
    if seeds < 2:
        raise UsageError(f"--seeds is {seeds}, but an interval over seeds needs at least 2; the usual number is 5")
    size, config = SIZES[name], study_recipe(name)
    counts = {
        "horizon": size.horizon,
        "num_train": size.num_train,
        "num_validation": size.num_validation,
        "num_eval": size.num_eval,
    }
    tile = max(size.num_train // SHARDS, size.num_eval)

    def looked_at_often(learner: Any) -> Any:
        return replace(learner, training=replace(learner.training, evaluations=size.evaluations))

    return replace(
        config,
        ground_truth=replace(config.ground_truth, **counts),
        teacher=looked_at_often(config.teacher),
        student=looked_at_often(config.student),
        temperatures=(size.temperature,),
        seeds=seeds,
        num_teacher_eval=2,
        tile=tile,
        slots=min(config.slots, tile),
    )


def run(
    recipe: str = "smollm2_cpu",
    *,
    seeds: int = 5,
    output_dir: str | Path | None = None,
    workers: int | None = None,
    watch: Watcher | None = None,
) -> dict[str, Any]:
    """Compare every trap with the definition and return the document. Only what the store lacks is computed.

    Artifacts go to DISTILSCOPE_STORE, else `output_dir`/store; `output_dir` defaults to runs/audit.
    """
    config = small(recipe, seeds)
    folder = output_folder(config, output_dir or "runs/audit")
    store = Store(store_folder(folder))
    study = plan(config, Sources.locate(config))
    steps = {trap.number: [_step(study, trap, seed) for seed in range(seeds)] for trap in TRAPS if trap.measure}
    targets = [step for each in steps.values() for step in each]
    with retaining(store, folder, order(targets)):
        execute(targets, store, work=functions(), workers=worker_count(workers), watch=watch or SilentWatcher())
        found = {number: [read_finding(store.path(step)) for step in each] for number, each in steps.items()}
        results = document(study, found)
        write_json(folder / "audit.json", results)
    return results


def _step(study: Study, trap: Trap, seed: int) -> Step:
    """The step of one trap in one seed; its inputs are what the definition made in that seed."""
    direct = _student(study, seed, "direct")
    distilled = _student(study, seed, "distilled")
    truth = study.config.ground_truth
    shards = {
        "train": numbered(direct.model.inputs, "data"),
        "distilled-train": numbered(distilled.model.inputs, "data"),
    }
    shards |= {"validation": numbered(direct.model.inputs, "validation"), "test": study.test}
    inputs = {"truth": study.ground_truth, "prompts": study.prompts, "recall": direct.of_reference[0]}
    for whose, student in (("direct", direct), ("distilled", distilled)):
        inputs |= {whose: student.model, f"{whose}-scores": student.scores[0]}
        shards[f"{whose}-draws"] = student.draws
    inputs |= {f"{name}/{i}": tile for name, tiles in shards.items() for i, tile in enumerate(tiles)}
    config = {
        "trap": trap.number,
        "seed": seed,
        "temperature": study.config.temperatures[0],
        "truth_dtype": truth.dtype,
        "learning": direct.model.config,
        "drawing": direct.draws[0].config,
        "index": {
            name: one.place_among(one.of_reference[0]) for name, one in (("direct", direct), ("distilled", distilled))
        },
    }
    cost = AUDIT.cost(training=direct.model.cost, scoring=direct.scores[0].cost)
    return AUDIT.step(config, inputs, f"trap {trap.number}", cost)


def _student(study: Study, seed: int, training: str) -> Measured:
    return next(one for one in study.students if one.seed == seed and one.candidate.role == training)


def document(study: Study, found: Mapping[int, list[Finding]]) -> dict[str, Any]:
    """The document of the audit, without time, path or host: equal audits give equal bytes."""
    from importlib.metadata import version

    config, truth = study.config, study.config.ground_truth
    seeds = max(MIXTURE_SEEDS, config.seeds)
    sizes = {
        "horizon": truth.horizon,
        "vocabulary": truth.vocabulary,
        "num_train": truth.num_train,
        "num_validation": truth.num_validation,
        "num_eval": truth.num_eval,
        "temperature": config.temperatures[0],
        "shards": SHARDS,
        "tile": config.tile,
        "batch": config.student.training.batch_sequences,
        "evaluations": config.student.training.evaluations,
        "mixture_seeds": seeds,
        "teacher_parameters": study.parameters["teacher"],
        "student_parameters": study.parameters["student"],
    }
    return {
        "schema_version": SCHEMA_VERSION,
        "recipe": config.recipe,
        "seeds": config.seeds,
        "ground_truth": {
            "description": truth.about,
            "reference": truth.name,
            "prompt": truth.prompt,
            "dtype": truth.dtype,
        },
        "sizes": sizes,
        "versions": {name: version(name) for name in ("distilscope", "torch", "numpy", "tokenizers")}
        | {"python": platform.python_version()},
        "traps": [
            {
                "number": trap.number,
                "title": trap.title,
                "released": trap.released,
                "definition": trap.definition,
                "here": trap.here.format(**sizes),
                "rows": _mixture_rows(seeds) if trap.number == MIXTURE else over_seeds(found[trap.number]),
                "notes": [] if trap.number == MIXTURE else list(found[trap.number][0].notes),
            }
            for trap in TRAPS
        ],
    }


def _mixture_rows(seeds: int) -> list[dict[str, Any]]:
    """The rows of trap 1, which the simulation on mixtures measures."""
    results = simulate(replace(mog_paper(), betas=(100.0,), seeds=seeds, as_published=True))
    says = {
        "precision": "it says how alike the student is to the modulated teacher, not to p*",
        "recall": "recall on the points that were learnt from is not recall on new ones",
    }
    rows = []
    for each in results.as_published or ():
        effect = each.effect.interval
        rows.append(
            row(
                f"{each.quantity} of the {each.training} student",
                "nats per draw",
                as_published=each.as_published.interval,
                by_definition=each.by_definition.interval,
                effect=effect,
                says=says[each.quantity],
                seen=is_seen(effect),
                published=each.published,
            )
        )
    return rows
