"""What each command does once its options are read: calls the package, prints, returns the exit code.

Results go to standard output, alone where JSON is asked for; progress and warnings go to standard error. Each command imports what it
needs when it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distilscope.errors import UsageError

if TYPE_CHECKING:
    from distilscope.distillation import Distillation
    from distilscope.recipes.mog_paper import MogPaper


def _configuration(options: argparse.Namespace) -> tuple[Distillation, dict[str, Any]]:
    """Defaults < YAML < command line; and all settings that were given, by place."""
    from distilscope.configuration import canonical, override, read_yaml
    from distilscope.ground_truth import described
    from distilscope.recipes import recipe

    name, settings = options.recipe, {}
    if name.endswith((".yaml", ".yml")):
        settings = read_yaml(Path(name))
        name = str(settings.pop("recipe", "smollm2_cpu"))
    given = canonical(settings) | canonical(options.settings)
    base = recipe(name, given)
    config = override(override(base, settings), options.settings, also=options.own)
    return replace(config, ground_truth=described(base.ground_truth, config.ground_truth)), given


def run(options: argparse.Namespace) -> int:
    config, given = _configuration(options)
    from distilscope import study
    from distilscope.configuration import as_settings
    from distilscope.runs.cores import side_by_side
    from distilscope.runs.progress import watcher

    study.require_engine(options.engine, options.ray_address, options.workers)
    if options.workers is not None and side_by_side(options.workers) < options.workers:
        number = side_by_side(options.workers)
        print(f"distilscope: --workers is {options.workers}, but there are cores for {number}, so {number} will run", file=sys.stderr)
    for name, number in as_settings(config.resources).items():
        if number and options.engine != "ray":
            print(f"distilscope: resources.{name} is {number}, but only --engine ray sets GPUs aside; steps run without", file=sys.stderr)
    if options.budget is not None:
        if options.ray_address is not None:
            raise UsageError("--budget measures this machine, but --ray-address runs on others; leave one of them out")
        from distilscope import budget

        config = budget.fit(
            config,
            options.budget,
            fixed=given,
            output_dir=options.output_dir,
            workers=options.workers,
            say=lambda text: print(text, file=sys.stderr),
        )

    results = study.run(
        config,
        output_dir=options.output_dir,
        engine=options.engine,
        ray_address=options.ray_address,
        workers=options.workers,
        watch=watcher(),
        repair=options.repair,
    )
    if options.json:
        _print_json(results)
        return 0
    from distilscope.report import sweep, table
    from distilscope.report.headline import closing
    from distilscope.reporting import write_report

    console, folder = _console(), study.output_folder(config, options.output_dir)
    console.print(table.study_table(results))
    print(table.about_ground_truth(results))
    if results["sweep"]:
        console.print(sweep.sweep_table(results))
    if results["matched_entropy"]:
        console.print(table.matched_entropy_table(results))
    print()
    for line in closing(results):
        print(line)
    print(f"\nFolder: {folder}   Report: {write_report(folder).path}")
    weighed = bool(results["recommendation"].get("candidates"))
    print(f"Next: distilscope recommend {folder} --max-recall-loss NATS" if weighed else f"Next: distilscope verify {folder}")
    return 0


def plan(options: argparse.Namespace) -> int:
    config, _ = _configuration(options)
    from distilscope import gpus, outlook, planning, study
    from distilscope.readiness import require_ready
    from distilscope.runs.cores import side_by_side
    from distilscope.runs.store import Store
    from distilscope.sources import Sources

    rate = options.flops_per_second
    if rate is not None and not 0 < rate < float("inf"):
        raise UsageError(f"--flops-per-second is {rate}, but must be a finite number above 0, such as 1e14 for a GPU")
    if rate is not None and options.calibrate:
        raise UsageError("--flops-per-second and --calibrate each say how long steps take; give one of them")
    gpu, used = gpus.named(options.gpu or "h100"), gpus.utilisation(options.utilisation)
    folder = study.run_folder(config, options.output_dir)
    sources = Sources.locate(config, fetch=options.calibrate)  # the run will know a model on the hub by its content
    require_ready(config, sources)
    laid_out, store = planning.plan(config, sources), Store(study.store_folder(folder))
    if options.calibrate:
        from distilscope.calibration import calibrate

        workers = side_by_side(None)
        if (load := os.getloadavg()[0]) > 1:
            print(
                f"distilscope: in the last minute {load:.1f} processes ran or waited for a core; what is measured beside others holds "
                "for such times at best, so calibrate on a machine at rest",
                file=sys.stderr,
            )
        print("Measuring how fast this machine is, at a few sequences of each model ...", file=sys.stderr)
        measured = calibrate(config, sources, workers=workers)
        clock = outlook.Clock("calibration", measured.step_seconds, measured=measured.as_json(laid_out, workers))
    elif options.gpu and rate is None:
        clock = outlook.Clock("gpu", lambda step: outlook.gpu_seconds(step, gpu, used))
    else:
        rate = 1e11 if rate is None else rate
        clock = outlook.Clock("rate", lambda step: step.cost / rate, flops_per_second=rate)
    document = outlook.describe(laid_out, store, clock=clock, gpu=gpu, utilisation=used)
    for warning in document["warnings"]:
        print(f"distilscope: {warning}", file=sys.stderr)
    if options.json:
        _print_json(document)
        return 0
    from distilscope.report.plan import plan_table

    _console().print(plan_table(document))
    return 0


def measure(options: argparse.Namespace) -> int:
    from distilscope.selectivity import from_knobs

    knobs = ("temperature", "top_k", "top_p", "min_p")
    selected = {
        side: from_knobs({knob: getattr(options, prefix + knob) for knob in knobs})
        for side, prefix in (("candidate", ""), ("reference", "reference_"))
    }
    given = [f"--{name}" for name in ("prompt", "prompts", "draws") if getattr(options, name) is not None]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} each say what the draws follow; give one of them")
    if options.draws and options.chat_template:
        raise UsageError(
            "--draws brings its prompts as they were drawn after, so --chat-template has nothing to be put around; leave it out"
        )
    numbers = {name: getattr(options, name) for name in ("num_samples", "max_new_tokens", "seed") if getattr(options, name) is not None}
    if options.draws and numbers:
        name = next(iter(numbers)).replace("_", "-")
        raise UsageError(f"--{name} is given beside --draws, but draws that were kept have their own; leave one of them out")
    from distilscope.lm.prompts import chat_template, prompt_text, read_prompts
    from distilscope.lm.reference import model_folder
    from distilscope.measurement import measure as measure_models

    template = chat_template(model_folder(options.reference)) if options.chat_template else None
    if options.prompts:
        prompts = read_prompts(Path(options.prompts), template=template)
    else:
        prompts = (prompt_text("The" if options.prompt is None else options.prompt, template, "--prompt"),)
    found = measure_models(
        reference=options.reference,
        candidate=options.candidate,
        prompts=prompts,
        **numbers,
        reference_selectivity=selected["reference"],
        candidate_selectivity=selected["candidate"],
        dtype=options.dtype,
        unit=options.unit,
        keep_draws=options.keep_draws,
        draws=options.draws,
    )
    for warning in found.warnings:
        print(f"distilscope: {warning}", file=sys.stderr)
    if options.json:
        _print_json(found.as_json())
        return 0
    from distilscope.report.measurement import measurement_table, surprising_texts

    document = found.as_json()
    _console().print(measurement_table(document))
    print(surprising_texts(document))
    return 0


def mog(options: argparse.Namespace) -> int:
    from distilscope.recipes.mog_paper import mog_paper
    from distilscope.simulation import simulate

    given: dict[str, Any] = {"betas": tuple(options.beta) if options.beta else None}
    given |= {name: getattr(options, name) for name in ("seeds", "num_train", "teacher_components", "student_components", "dimension")}
    given |= {"exact": options.exact, "as_published": options.as_published}
    config = replace(mog_paper(), **{name: value for name, value in given.items() if value is not None})
    folder = Path(options.output_dir or "runs/mog")
    page = _explorer(config, folder) if options.open or (config.dimension == 2 and not options.json) else None
    results = simulate(config)
    if page and options.open:
        _show(page)
    if options.json:
        _print_json(results)
        return 0
    from distilscope.report import mog as report
    from distilscope.report.figures.files import write_mixture_figures
    from distilscope.study import as_json
    from distilscope.whole_file import write_whole

    console = _console()
    console.print(report.table(results))
    if options.as_published:
        console.print(report.as_published_table(results))
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "results.json", as_json(results))
    print(f"Results: {folder / 'results.json'}")
    if page:
        print("Figures: " + "   ".join(map(str, write_mixture_figures(results, folder))) + f"   Explorer: {page}")
    return 0


def _explorer(config: MogPaper, folder: Path) -> Path:
    from distilscope.exploration import explore
    from distilscope.report.explorer import explorer
    from distilscope.whole_file import write_whole

    page = explorer(explore(config))
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "explorer.html", page)
    return folder / "explorer.html"


def recommend(options: argparse.Namespace) -> int:
    from distilscope.against_data import require_model
    from distilscope.finished import read_results
    from distilscope.recommendation import recommend as choose_setting
    from distilscope.report.recommendation import advice, snippets

    results = read_results(Path(options.run))
    require_model(results)
    found = choose_setting(results, max_recall_loss=options.max_recall_loss, precision_weight=options.precision_weight).as_json()
    try:
        unit, horizon = results["unit"], results["ground_truth"]["horizon"]
    except KeyError as error:
        raise UsageError(f"the results in {options.run} lack {error}, which every finished run writes; run the study again") from None
    ready = snippets(found["setting"], horizon=horizon)
    if options.json:
        _print_json({"schema_version": 1, "unit": unit, **found, "snippets": ready})
        return 0
    print(advice(found, unit=unit))
    for library, code in (ready or {}).items():
        print(f"\n# --- {library} ---\n{code}", end="")
    return 0


def report(options: argparse.Namespace) -> int:
    from distilscope.report.page import PARTS
    from distilscope.reporting import write_report

    written = write_report(Path(options.run))
    for part, why in written.missing.items():
        print(f"distilscope: the report is without {PARTS[part]}: {why}", file=sys.stderr)
    if options.open:
        _show(written.path)
    if options.json:
        _print_json({"schema_version": 1, "report": str(written.path), "missing": dict(written.missing)})
    else:
        print(f"Report: {written.path}")
    return 0


def _show(path: Path) -> None:
    """In the reader's browser; where there is none, the file's name is enough."""
    import webbrowser

    if not webbrowser.open(path.resolve().as_uri()):
        print(f"distilscope: there is no browser to open {path} in; open it yourself", file=sys.stderr)


def map_texts(options: argparse.Namespace) -> int:
    from distilscope.finished import MAP, read_results
    from distilscope.semantic_map.embedder import DEFAULT, SentenceEmbedder
    from distilscope.semantic_map.mapping import draw_map

    folder = Path(options.run)
    results = read_results(folder)
    embedder = SentenceEmbedder(options.embedder or DEFAULT)
    print("distilscope: embedding texts and laying them out; thousands take a few minutes without a GPU", file=sys.stderr)
    found = draw_map(folder, embedder, per_model=options.per_model, seed=options.seed)
    if found["cut_texts"]:
        longest = found["embedder"]["longest"]
        print(f"distilscope: {found['cut_texts']} texts are longer than the {longest} tokens that the embedder reads", file=sys.stderr)
    figures = [str(folder / f"figure5.{kind}") for kind in ("png", "pdf")]
    if options.json:
        document = {name: value for name, value in found.items() if name != "points"}
        _print_json(document | {"map": str(folder / MAP), "figures": figures})
        return 0
    from distilscope.report.second_opinion import second_opinion_table

    _console().print(second_opinion_table(found, results))
    print(found["note"])
    print(f"Map: {folder / MAP}   Figure: {figures[0]}   To look at: distilscope report {folder}")
    return 0


def figures(options: argparse.Namespace) -> int:
    from distilscope.finished import read_map, read_results
    from distilscope.report.figures.files import write_for_paper

    folder = Path(options.run)
    place = Path(options.output_dir) if options.output_dir else folder / "figures"
    paths = write_for_paper(read_results(folder, mixtures=True), place, map=read_map(folder), formats=options.format)
    if options.json:
        _print_json({"schema_version": 1, "figures": [str(path) for path in paths]})
    else:
        print("\n".join(map(str, paths)))
    return 0


def export(options: argparse.Namespace) -> int:
    from distilscope.export.ways_out import export as export_run

    output_dir = Path(options.output_dir) if options.output_dir else None
    found = export_run(Path(options.run), output_dir=output_dir, setting=options.setting, seed=options.seed)
    if options.json:
        _print_json(found.as_json())
        return 0
    if found.data:
        print(f"Teacher's data: {found.data}")
    else:
        print("Teacher's data: none, for the direct student learnt p*'s own draws")
    for name, path in found.students.items():
        print(f"{name.capitalize()} student: {path}")
    return 0


def audit(options: argparse.Namespace) -> int:
    from distilscope.audit import study as audit_study
    from distilscope.runs.progress import watcher

    if options.write and Path(options.write).is_dir():
        raise UsageError(f"--write is {options.write}, but that is a folder; give a file such as docs/audit.md")
    results = audit_study.run(options.recipe, seeds=options.seeds, output_dir=options.output_dir, watch=watcher())
    from distilscope.report.audit import page, tables
    from distilscope.whole_file import write_whole

    if options.write:
        Path(options.write).parent.mkdir(parents=True, exist_ok=True)
        write_whole(Path(options.write), page(results, written_to=options.write))
    if options.json:
        _print_json(results)
        return 0
    _console().print(tables(results))
    if options.write:
        print(f"Written to {options.write}")
    return 0


def verify(options: argparse.Namespace) -> int:
    from distilscope.study import examine, store_folder

    found = examine(Path(options.run))
    if options.json:
        problems = [str(problem) for problem in found.problems]
        _print_json({"schema_version": 1, "artifacts": found.artifacts, "unfinished": found.unfinished, "problems": problems})
    else:
        for problem in found.problems:
            print(problem)
        many = len(found.problems)
        print(f"{found.artifacts} artifacts in {store_folder(Path(options.run)).absolute()}, {many} problem{'s' * (many != 1)}")
        if found.unfinished:
            print(f"{found.unfinished} of them are not made yet: give the same `distilscope run` command again to finish it")
        if found.problems:
            print("To have exactly that made again, give the same `distilscope run` command with --repair")
    return 1 if found.problems else 0


def gc(options: argparse.Namespace) -> int:
    from distilscope.clearing import looked_through, stores

    documents = []
    for root, runs in stores([Path(run) for run in options.runs]).items():
        with looked_through(root, runs) as found:
            if not options.json:
                for one in found.rubbish:
                    print(f"{one.size / 1e6:9.2f} MB  {one.path}: {one.why}")
                print(f"{len(found.rubbish)} to remove of {found.store.root}, {found.size / 1e6:.2f} MB", flush=True)
                for run in found.runs:
                    print(f"kept: {run.folder}" + ("" if run.folder.exists() else f" (cannot be seen from here; noted in {run.file})"))
            go_on = bool(found.rubbish) and not options.dry_run and (options.yes or _agreed())
            if go_on:
                found.remove()
            documents.append(found.as_json(removed=go_on))
            if not options.json:
                print("removed" if go_on else "nothing was removed")
    if options.json:
        _print_json({"schema_version": 1, "stores": documents, "bytes": sum(document["bytes"] for document in documents)})
    return 0


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise UsageError("nothing was removed, for there is no terminal to ask on; give --yes, or --dry-run to only see what would go")
    print("Remove them? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _print_json(document: Mapping[str, Any]) -> None:
    json.dump(document, sys.stdout, indent=2, ensure_ascii=False, allow_nan=False)
    print()


def _console() -> Any:
    from rich.console import Console

    # a table in a file or a pipe is as wide as it needs to be
    return Console(width=None if sys.stdout.isatty() else 140, highlight=False, emoji=False)


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "mog": mog,
    "run": run,
    "plan": plan,
    "measure": measure,
    "recommend": recommend,
    "report": report,
    "map": map_texts,
    "figures": figures,
    "export": export,
    "audit": audit,
    "verify": verify,
    "gc": gc,
}
