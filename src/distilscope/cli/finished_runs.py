"""What reads, looks after and removes finished runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from distilscope.cli.terminal import console, print_json, show, to_stderr
from distilscope.errors import UsageError


def recommend(options: argparse.Namespace) -> int:
    from distilscope.evaluation.documents import document_of
    from distilscope.evaluation.recall_only import require_model
    from distilscope.evaluation.recommendation import recommend as choose_setting
    from distilscope.evaluation.results_file import read_results
    from distilscope.report.advice import advice, snippets

    results = read_results(Path(options.run), note=to_stderr)
    require_model(results)
    found = choose_setting(
        results.students, max_recall_loss=options.max_recall_loss, precision_weight=options.precision_weight
    )
    ready = snippets(found.setting, horizon=results.ground_truth.horizon)
    if options.json:
        print_json({"schema_version": 1, "unit": results.unit, **document_of(found), "snippets": ready})
        return 0
    print(advice(found, unit=results.unit))
    for library, code in (ready or {}).items():
        print(f"\n# --- {library} ---\n{code}", end="")
    return 0


def report(options: argparse.Namespace) -> int:
    from distilscope.outputs.write_report import write_report
    from distilscope.report.page import PARTS

    written = write_report(Path(options.run), note=to_stderr)
    for part, why in written.missing.items():
        to_stderr(f"the report is without {PARTS[part]}: {why}")
    if options.open:
        show(written.path)
    if options.json:
        print_json({"schema_version": 1, "report": str(written.path), "missing": dict(written.missing)})
    else:
        print(f"Report: {written.path}")
    return 0


def map_texts(options: argparse.Namespace) -> int:
    from distilscope.evaluation.documents import document_of
    from distilscope.evaluation.results_file import MAP, read_results
    from distilscope.outputs.embedding_map.draw_map import draw_map
    from distilscope.outputs.embedding_map.embedder import DEFAULT, SentenceEmbedder

    folder = Path(options.run)
    results = read_results(folder, note=to_stderr)
    embedder = SentenceEmbedder(options.embedder or DEFAULT)
    to_stderr("embedding texts and laying them out; thousands take a few minutes without a GPU")
    found = draw_map(folder, embedder, per_model=options.per_model, seed=options.seed)
    if found.cut_texts:
        to_stderr(
            f"{found.cut_texts} texts are longer than the {found.embedder.longest} tokens that the embedder reads"
        )
    figures = [str(folder / f"figure5.{kind}") for kind in ("png", "pdf")]
    if options.json:
        document = document_of(found)
        del document["points"]
        print_json(document | {"map": str(folder / MAP), "figures": figures})
        return 0
    from distilscope.report.nearest_neighbour_table import second_opinion_table

    console().print(second_opinion_table(found, results))
    print(found.note)
    print(f"Map: {folder / MAP}   Figure: {figures[0]}   To look at: distilscope report {folder}")
    return 0


def figures(options: argparse.Namespace) -> int:
    from distilscope.evaluation.results_file import read_map, read_results
    from distilscope.report.figures.files import write_for_paper

    folder = Path(options.run)
    place = Path(options.output_dir) if options.output_dir else folder / "figures"
    paths = write_for_paper(
        read_results(folder, mixtures=True, note=to_stderr),
        place,
        map=read_map(folder, note=to_stderr),
        formats=options.format,
    )
    if options.json:
        print_json({"schema_version": 1, "figures": [str(path) for path in paths]})
    else:
        print("\n".join(map(str, paths)))
    return 0


def export(options: argparse.Namespace) -> int:
    from distilscope.outputs.export.export import export as export_run

    output_dir = Path(options.output_dir) if options.output_dir else None
    found = export_run(
        Path(options.run), output_dir=output_dir, setting=options.setting, seed=options.seed, note=to_stderr
    )
    if options.json:
        print_json(found.as_json())
        return 0
    if found.data:
        print(f"Teacher's data: {found.data}")
    else:
        print("Teacher's data: none, for the direct student learnt p*'s own draws")
    for name, path in found.students.items():
        print(f"{name.capitalize()} student: {path}")
    return 0


def verify(options: argparse.Namespace) -> int:
    from distilscope.studies.run import examine, store_folder

    found = examine(Path(options.run))
    if options.json:
        problems = [str(problem) for problem in found.problems]
        print_json(
            {"schema_version": 1, "artifacts": found.artifacts, "unfinished": found.unfinished, "problems": problems}
        )
    else:
        for problem in found.problems:
            print(problem)
        many = len(found.problems)
        print(
            f"{found.artifacts} artifacts in {store_folder(Path(options.run)).absolute()}, {many} "
            f"problem{'s' * (many != 1)}"
        )
        if found.unfinished:
            print(
                f"{found.unfinished} of them are not made yet: give the same `distilscope run` command again to "
                "finish it"
            )
        if found.problems:
            print("To have exactly that made again, give the same `distilscope run` command with --repair")
    return 1 if found.problems else 0


def gc(options: argparse.Namespace) -> int:
    from distilscope.studies.garbage_collection import looked_through, stores

    documents = []
    for root, runs in stores([Path(run) for run in options.runs]).items():
        with looked_through(root, runs) as found:
            if not options.json:
                for one in found.rubbish:
                    print(f"{one.size / 1e6:9.2f} MB  {one.path}: {one.why}")
                print(f"{len(found.rubbish)} to remove of {found.store.root}, {found.size / 1e6:.2f} MB", flush=True)
                for run in found.runs:
                    print(
                        f"kept: {run.folder}"
                        + ("" if run.folder.exists() else f" (cannot be seen from here; noted in {run.file})")
                    )
            go_on = bool(found.rubbish) and not options.dry_run and (options.yes or _agreed())
            if go_on:
                found.remove()
            documents.append(found.as_json(removed=go_on))
            if not options.json:
                print("removed" if go_on else "nothing was removed")
    if options.json:
        print_json(
            {"schema_version": 1, "stores": documents, "bytes": sum(document["bytes"] for document in documents)}
        )
    return 0


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise UsageError(
            "nothing was removed, for there is no terminal to ask on; give --yes, or --dry-run to only see what would "
            "go"
        )
    print("Remove them? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
