"""Carries a study out: runs its missing steps, gates its numbers, and leaves results.json, run.json and figure 4."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml

from distilscope.errors import UsageError, one_line, unknown_name
from distilscope.evaluation.documents import document_of
from distilscope.evaluation.results import Results
from distilscope.evaluation.results_file import RESULTS, RUN, read_sources
from distilscope.evaluation.run_record import Machine, RunRecord, Stage
from distilscope.lm.dtypes import AutoDtypes
from distilscope.pipeline.execute import StepTiming, execute
from distilscope.pipeline.progress import SilentWatcher, Watcher
from distilscope.pipeline.ray.cluster import ask_nodes, require_ray
from distilscope.pipeline.ray.engine import RayEngine
from distilscope.pipeline.retention import artifact_names, retained_run, retaining
from distilscope.pipeline.store import Store
from distilscope.studies.collect import collect
from distilscope.studies.config import Distillation
from distilscope.studies.forecast.plan_summary import require_space
from distilscope.studies.inputs import Sources
from distilscope.studies.integrity import Soundness, clear_damage, examined
from distilscope.studies.overrides import as_settings, override
from distilscope.studies.planner import asks_for_auto, plan
from distilscope.studies.preflight import require_ready
from distilscope.studies.recipes import STUDIES
from distilscope.studies.recipes import recipe as study_recipe
from distilscope.studies.settings_file import read_yaml
from distilscope.studies.steps.registry import functions
from distilscope.studies.study import Study
from distilscope.system.atomic_file import write_atomic
from distilscope.system.cpu_count import cpu_count, worker_count
from distilscope.system.json_files import write_json
from distilscope.system.redaction import redacted

ENGINES = ("local", "ray")


def run(
    recipe: Distillation | str,
    *,
    output_dir: str | Path | None = None,
    engine: str = "local",
    ray_address: str | None = None,
    workers: int | None = None,
    watch: Watcher | None = None,
    repair: bool = False,
) -> dict[str, Any]:
    """Runs a study, or what is missing of it, and returns the document of results.json.

    `recipe` is a configuration or a recipe's name. Artifacts go to DISTILSCOPE_STORE, else `output_dir`/store;
    `output_dir` defaults to runs/RECIPE. `engine` says where steps run: "local", in processes on this machine, or
    "ray", in the Ray cluster at `ray_address` (HOST:PORT or "auto"; its nodes share the store's folder), without one in
    a cluster that is started here for as long as this takes. `workers` is how many steps run side by side here: by
    default as many as this process may use cores, and never more. None of the three changes a byte of any artifact.
    `repair` hashes every artifact of the run again first, and makes again exactly those that are not as they were
    written. Raises UsageError for a bad setting, GateError where a check before a number fails, DistilscopeError where
    the machine does.
    """
    return document_of(
        run_study(
            recipe,
            output_dir=output_dir,
            engine=engine,
            ray_address=ray_address,
            workers=workers,
            watch=watch,
            repair=repair,
        )
    )


def run_study(
    recipe: Distillation | str,
    *,
    output_dir: str | Path | None = None,
    engine: str = "local",
    ray_address: str | None = None,
    workers: int | None = None,
    watch: Watcher | None = None,
    repair: bool = False,
) -> Results:
    """As `run`, but the results as a record."""
    from distilscope.report.figures.files import write_study_figure

    require_engine(engine, ray_address, workers)
    config = study_recipe(recipe) if isinstance(recipe, str) else recipe
    folder = output_folder(config, output_dir)
    store = Store(store_folder(folder))
    began = time.time()
    sources = Sources.locate(config)
    require_ready(config, sources)
    auto = _cluster_dtypes(config, ray_address) if ray_address is not None and asks_for_auto(config) else None
    study = plan(config, sources, auto=auto)
    require_space(study, store)
    watch, steps, number = watch or SilentWatcher(), study.targets, worker_count(workers)
    with retaining(store, folder, steps):
        with store.lock() if repair else nullcontext():
            if repair:
                clear_damage(store, steps, watch.note)
            tasks = RayEngine(store, cores=number, address=ray_address) if engine == "ray" else None
            records = execute(steps, store, work=functions(), workers=number, watch=watch, engine=tasks)
        results = collect(study, store)
        write_atomic(
            folder / "config.yaml", yaml.safe_dump(as_settings(study.config), sort_keys=False, allow_unicode=True)
        )
        write_json(folder / RESULTS, document_of(results))
        if records or not (folder / RUN).exists():
            where = {"engine": engine, "ray_address": ray_address, "workers": tasks.slots if tasks else number}
            write_json(folder / RUN, document_of(_about(config, records, began, where)))
        write_study_figure(results, folder)
    return results


def _cluster_dtypes(config: Distillation, address: str) -> AutoDtypes:
    """What `auto` becomes in a cluster: bfloat16 where every node that may take such a step multiplies it fast, else
    float32."""
    gpus = (config.resources.tile_gpus, config.resources.train_gpus)
    tiles, training = (set(found) for found in ask_nodes(address, "distilscope.lm.device:fast_dtype", gpus))
    return AutoDtypes(*("bfloat16" if found == {"bfloat16"} else "float32" for found in (tiles, training)))


def require_engine(engine: str, ray_address: str | None, workers: int | None) -> None:
    """Raises UsageError if these do not go together, DistilscopeError if what the engine needs is not installed."""
    if engine not in ENGINES:
        raise unknown_name("engine", engine, ENGINES)
    if ray_address is not None and engine != "ray":
        raise UsageError(
            f"--ray-address is {ray_address}, but the engine is {engine}; give --engine ray with it, or leave it out"
        )
    if workers is not None and workers < 1:
        raise UsageError(f"--workers is {workers}, but must be at least 1")
    if workers is not None and ray_address is not None:
        raise UsageError(
            "--workers counts cores of this machine, but the cluster at --ray-address brings its own; leave one of "
            "them out"
        )
    if engine == "ray":
        require_ray()


def run_folder(config: Distillation, given: str | Path | None) -> Path:
    """Where a run leaves its results: the folder given, else runs/RECIPE."""
    return Path(given) if given else Path("runs") / config.recipe


def output_folder(config: Distillation, given: str | Path | None) -> Path:
    """That folder, made where it is not there yet."""
    folder = run_folder(config, given)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"the folder {folder} cannot be made ({error.strerror}); give another --output-dir") from None
    return folder


def store_folder(output: Path) -> Path:
    """Where a run's artifacts live: DISTILSCOPE_STORE, else inside its own folder."""
    given = os.environ.get("DISTILSCOPE_STORE")
    return Path(given) if given else output / "store"


def recorded(folder: Path) -> Study:
    """The steps of a finished run, from its config.yaml and results.json; UsageError where these cannot be read."""
    if not (folder / "config.yaml").is_file():
        raise UsageError(
            f"{folder} is no finished run: it lacks config.yaml; give the folder that `distilscope run` named"
        )
    found, settings = read_sources(folder), read_yaml(folder / "config.yaml")
    name = str(settings.pop("recipe", ""))
    config = override(
        replace(study_recipe(name if name in STUDIES else "tiny"), recipe=name), settings
    )  # config.yaml holds every setting
    try:
        sources = Sources.from_json(document_of(found))
    except (KeyError, TypeError) as error:
        raise UsageError(
            f"{folder / RESULTS} cannot be read (its sources lack {one_line(error)}); run the study again"
        ) from None
    return plan(config, sources)


def examine(folder: Path) -> Soundness:
    """Hashes a run's artifacts again; of one that is under way, those that it has made. UsageError where there is no
    run."""
    store = Store(store_folder(folder))
    note = retained_run(store, folder)
    if note and not (folder / RESULTS).exists():
        return examined(store, note.artifacts, finished=False)
    needs = artifact_names(recorded(folder).targets)
    if (
        note and not needs <= note.artifacts
    ):  # another version of this program made the run, of steps that this one does not know
        needs = note.artifacts
    return examined(store, needs, finished=True)


def _about(config: Distillation, records: list[StepTiming], began: float, where: Mapping[str, Any]) -> RunRecord:
    """What results.json must not hold: times, command, engine, machine, versions."""
    from importlib.metadata import version

    by_stage: dict[str, list[StepTiming]] = {}
    for record in records:
        by_stage.setdefault(record.stage, []).append(record)
    return RunRecord(
        began=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
        seconds=time.time() - began,
        command=tuple(redacted(word) for word in (Path(sys.argv[0]).name, *sys.argv[1:])),
        **where,
        resources=asdict(config.resources),
        reference=config.ground_truth.reference or config.ground_truth.draws,
        machine=Machine(system=platform.platform(), processor=platform.machine(), cores=cpu_count()),
        versions={name: version(name) for name in ("distilscope", "torch", "numpy", "transformers", "safetensors")}
        | {"python": platform.python_version()},
        stages={
            stage: Stage(
                steps=len(found),
                worker_seconds=sum(record.seconds for record in found),
                tokens=sum(record.tokens for record in found),
            )
            for stage, found in by_stage.items()
        },
    )
