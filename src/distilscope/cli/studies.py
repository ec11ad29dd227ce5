"""Studies: run, plan, audit."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distilscope.cli.terminal import console, print_json
from distilscope.errors import UsageError

if TYPE_CHECKING:
    from distilscope.studies.config import Distillation


def configuration(options: argparse.Namespace) -> tuple[Distillation, dict[str, Any]]:
    """The study that a command line asks for; and all settings that were given, by place."""
    return laid_over(options.recipe, options.settings, own=options.own)


def laid_over(
    recipe: str, settings: Mapping[str, Any], *, own: Sequence[str] = ()
) -> tuple[Distillation, dict[str, Any]]:
    """Defaults of the recipe < the YAML file named in its place < these settings; and all that were given, by place.

    `own` are the command's other options, for a mistyped one.
    """
    from distilscope.studies.overrides import canonical, override
    from distilscope.studies.recipes import recipe as recipe_of

    name, in_file = recipe, {}
    if name.endswith((".yaml", ".yml")):
        from distilscope.studies.settings_file import read_yaml

        in_file = read_yaml(Path(name))
        name = str(in_file.pop("recipe", "smollm2_cpu"))
    given = canonical(in_file) | canonical(settings)
    return override(override(recipe_of(name, given), in_file), settings, also=own), given


def run(options: argparse.Namespace) -> int:
    config, given = configuration(options)
    from distilscope.evaluation.documents import document_of
    from distilscope.pipeline.progress import default_watcher
    from distilscope.studies import run as study
    from distilscope.studies.overrides import as_settings
    from distilscope.system.cpu_count import worker_count

    study.require_engine(options.engine, options.ray_address, options.workers)
    if options.workers is not None and worker_count(options.workers) < options.workers:
        number = worker_count(options.workers)
        print(
            f"distilscope: --workers is {options.workers}, but there are cores for {number}, so {number} will run",
            file=sys.stderr,
        )
    for name, number in as_settings(config.resources).items():
        if number and options.engine != "ray":
            print(
                f"distilscope: resources.{name} is {number}, but only --engine ray sets GPUs aside; steps run without",
                file=sys.stderr,
            )
    if options.budget is not None:
        if options.ray_address is not None:
            raise UsageError("--budget measures this machine, but --ray-address runs on others; leave one of them out")
        from distilscope.studies.forecast import time_budget

        config = time_budget.fit(
            config,
            options.budget,
            fixed=given,
            output_dir=options.output_dir,
            workers=options.workers,
            say=_to_stderr,
        )

    results = study.run_study(
        config,
        output_dir=options.output_dir,
        engine=options.engine,
        ray_address=options.ray_address,
        workers=options.workers,
        watch=default_watcher(),
        repair=options.repair,
    )
    if options.json:
        print_json(document_of(results))
        return 0
    from distilscope.outputs.write_report import write_report
    from distilscope.report import results_table, sweep_table
    from distilscope.report.headline import closing

    terminal, folder = console(), study.output_folder(config, options.output_dir)
    terminal.print(results_table.study_table(results))
    print(results_table.about_ground_truth(results))
    if results.sweep:
        terminal.print(sweep_table.sweep_table(results))
    if results.matched_entropy:
        terminal.print(results_table.matched_entropy_table(results))
    print()
    for line in closing(results):
        print(line)
    print(f"\nFolder: {folder}   Report: {write_report(folder).path}")
    weighed = bool(results.recommendation.candidates)
    print(
        f"Next: distilscope recommend {folder} --max-recall-loss NATS"
        if weighed
        else f"Next: distilscope verify {folder}"
    )
    return 0


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr)


def plan(options: argparse.Namespace) -> int:
    config, _ = configuration(options)
    from distilscope.lm.dtypes import AutoDtypes
    from distilscope.pipeline.store import Store
    from distilscope.studies import planner
    from distilscope.studies import run as study
    from distilscope.studies.forecast import gpu_specs, plan_summary
    from distilscope.studies.inputs import Sources
    from distilscope.studies.preflight import require_ready
    from distilscope.system.cpu_count import worker_count

    rate = options.flops_per_second
    if rate is not None and not 0 < rate < float("inf"):
        raise UsageError(f"--flops-per-second is {rate}, but must be a finite number above 0, such as 1e14 for a GPU")
    if rate is not None and options.calibrate:
        raise UsageError("--flops-per-second and --calibrate each say how long steps take; give one of them")
    gpu, used = gpu_specs.named(options.gpu or "h100"), gpu_specs.utilisation(options.utilisation)
    folder = study.run_folder(config, options.output_dir)
    sources = Sources.locate(config, fetch=options.calibrate)  # the run will know a model on the hub by its content
    require_ready(config, sources)
    auto = AutoDtypes(gpu.dtype, gpu.dtype) if options.gpu else None  # without --gpu the study is one for this machine
    laid_out, store = planner.plan(config, sources, auto=auto), Store(study.store_folder(folder))
    if options.calibrate:
        from distilscope.studies.forecast.calibration import calibrate

        workers = worker_count(None)
        measured = calibrate(config, sources, workers=workers, say=_to_stderr)
        clock = plan_summary.Clock("calibration", measured.step_seconds, measured=measured.as_json(laid_out, workers))
    elif options.gpu and rate is None:
        clock = plan_summary.Clock("gpu", lambda step: plan_summary.gpu_seconds(step, gpu, used))
    else:
        rate = 1e11 if rate is None else rate
        clock = plan_summary.Clock("rate", lambda step: step.cost / rate, flops_per_second=rate)
    document = plan_summary.describe(laid_out, store, clock=clock, gpu=gpu, utilisation=used)
    for warning in document["warnings"]:
        print(f"distilscope: {warning}", file=sys.stderr)
    if options.json:
        print_json(document)
        return 0
    from distilscope.report.plan_table import plan_table

    console().print(plan_table(document))
    return 0


def audit(options: argparse.Namespace) -> int:
    from distilscope.pipeline.progress import default_watcher
    from distilscope.studies.audit import study as audit_study

    if options.write and Path(options.write).is_dir():
        raise UsageError(f"--write is {options.write}, but that is a folder; give a file such as docs/audit.md")
    results = audit_study.run(
        options.recipe, seeds=options.seeds, output_dir=options.output_dir, watch=default_watcher()
    )
    from distilscope.report.audit_page import page, tables
    from distilscope.system.atomic_file import write_atomic

    if options.write:
        Path(options.write).parent.mkdir(parents=True, exist_ok=True)
        write_atomic(Path(options.write), page(results, written_to=options.write))
    if options.json:
        print_json(results)
        return 0
    console().print(tables(results))
    if options.write:
        print(f"Written to {options.write}")
    return 0
