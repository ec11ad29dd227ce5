"""What needs no study: two models measured, mixtures of Gaussians."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distilscope.cli.terminal import console, print_json, show
from distilscope.errors import UsageError

if TYPE_CHECKING:
    from distilscope.mixtures.config import MogPaper


OTHER_NAMES = {"num_samples": "num_eval", "max_new_tokens": "horizon"}
"""The names by which `run` knows the same things."""


def measure(options: argparse.Namespace) -> int:
    from distilscope.selectivity import from_parameters

    sizes = {name: _under_one_name(options, name, other) for name, other in OTHER_NAMES.items()}
    sampling = ("temperature", "top_k", "top_p", "min_p")
    selected = {
        side: from_parameters({parameter: getattr(options, prefix + parameter) for parameter in sampling})
        for side, prefix in (("candidate", ""), ("reference", "reference_"))
    }
    if options.draws and options.chat_template:
        raise UsageError(
            "--draws brings its prompts as they were drawn after, so --chat-template has nothing to be put around; "
            "leave it out"
        )
    from distilscope.lm.data.prompts import chat_template, prompt_text, read_prompts
    from distilscope.lm.loading import model_folder
    from distilscope.studies.measure.measure import measure as measure_models

    template = chat_template(model_folder(options.reference)) if options.chat_template else None
    prompt = "The" if options.prompt is None and template and not options.prompts else options.prompt
    found = measure_models(
        reference=options.reference,
        candidate=options.candidate,
        prompt=None if prompt is None else prompt_text(prompt, template, "--prompt"),
        prompts=read_prompts(Path(options.prompts), template=template) if options.prompts else None,
        **sizes,
        seed=options.seed,
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
        print_json(found.as_json())
        return 0
    from distilscope.report.measurement_table import measurement_table, surprising_texts

    record = found.record()
    console().print(measurement_table(record))
    print(surprising_texts(record))
    return 0


def _under_one_name(options: argparse.Namespace, name: str, other: str) -> int | None:
    """The value of an option that has two names. UsageError where it is given under both."""
    value, under_other = getattr(options, name), getattr(options, other)
    if value is not None and under_other is not None:
        said, documented = (each.replace("_", "-") for each in (other, name))
        raise UsageError(f"{said} sets {documented}, which is set already under another name; give it once")
    return under_other if value is None else value


def mog(options: argparse.Namespace) -> int:
    from distilscope.evaluation.documents import document_of
    from distilscope.mixtures.config import mog_paper
    from distilscope.mixtures.simulation import simulate

    given: dict[str, Any] = {"betas": tuple(options.beta) if options.beta else None}
    given |= {
        name: getattr(options, name)
        for name in ("seeds", "num_train", "teacher_components", "student_components", "dimension")
    }
    given |= {"exact": options.exact, "as_published": options.as_published}
    config = replace(mog_paper(), **{name: value for name, value in given.items() if value is not None})
    folder = Path(options.output_dir or "runs/mog")
    page = _explorer(config, folder) if options.open or (config.dimension == 2 and not options.json) else None
    results = simulate(config)
    if page and options.open:
        show(page)
    if options.json:
        print_json(document_of(results))
        return 0
    from distilscope.report import mixture_tables as report
    from distilscope.report.figures.files import write_mixture_figures
    from distilscope.system.json_files import write_json

    terminal = console()
    terminal.print(report.table(results))
    if options.as_published:
        terminal.print(report.as_published_table(results))
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "results.json", document_of(results))
    print(f"Results: {folder / 'results.json'}")
    if page:
        print("Figures: " + "   ".join(map(str, write_mixture_figures(results, folder))) + f"   Explorer: {page}")
    return 0


def _explorer(config: MogPaper, folder: Path) -> Path:
    from distilscope.mixtures.explorer import explorer_document
    from distilscope.report.explorer import explorer
    from distilscope.system.atomic_file import write_atomic

    page = explorer(explorer_document(config))
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "explorer.html", page)
    return folder / "explorer.html"
