"""The command line: words to options, errors to exit codes. No torch is loaded for --help."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from distilscope.cli import finished_runs, measurements, studies
from distilscope.cli.examples import EXAMPLES, examples
from distilscope.errors import DistilscopeError, UsageError, full_disk, one_line, unknown_name
from distilscope.report.figures.style import FORMATS
from distilscope.studies.recipes import STUDIES
from distilscope.system.redaction import redacted

COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "mog": measurements.mog,
    "run": studies.run,
    "plan": studies.plan,
    "measure": measurements.measure,
    "recommend": finished_runs.recommend,
    "report": finished_runs.report,
    "map": finished_runs.map_texts,
    "figures": finished_runs.figures,
    "export": finished_runs.export,
    "audit": studies.audit,
    "verify": finished_runs.verify,
    "gc": finished_runs.gc,
}

EXIT_CODES = """exit codes: 0 done; 1 a check, a verification or the machine failed; 2 bad usage or input;
            130 after Ctrl-C; 143 after SIGTERM
"""

EXPORT = """writes into DIR:
  data/train.parquet   the teacher's draws at that setting: text, token ids, lengths, log-probabilities
  distilled/           the student that learnt them, with a model card
  direct/              the student that learnt p*'s own draws
"""

AUDIT = (
    "on the default recipe the audit takes longer than the study itself; what is done is kept, and more seeds go "
    "on from there\n"
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see `{self.prog} --help`")


class _StudyHelp(argparse.Action):
    """Prints the help of a command that takes settings: its own options, then every setting, then examples."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, *_: object) -> NoReturn:
        from distilscope.cli.settings_help import settings_help

        parser.epilog = f"{settings_help(namespace.recipe)}\n{parser.epilog}"
        parser.print_help()
        parser.exit()


def main(arguments: Sequence[str] | None = None) -> None:
    """The `distilscope` command."""
    _quiet_libraries()
    try:
        from distilscope.system.signals import exit_on_sigterm

        with exit_on_sigterm():
            code = _main(sys.argv[1:] if arguments is None else list(arguments))
        sys.stdout.flush()
    except DistilscopeError as error:
        print(f"distilscope: {redacted(str(error))}", file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        print("distilscope: interrupted; what was finished is kept", file=sys.stderr)
        code = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except Exception as error:
        if os.environ.get("DISTILSCOPE_TRACEBACK"):
            raise
        print(f"distilscope: {redacted(_unforeseen(error))}", file=sys.stderr)
        code = 1
    sys.exit(code)


def _unforeseen(error: Exception) -> str:
    """One sentence about an error that is not one of ours."""
    if (named := full_disk(error)) is not None:
        return (
            f"the disk is full{named and f' ({named})'}; free some space there and run again: what was finished is kept"
        )
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        return f"the machine refused: {error.strerror or error}{where}; mend that and run again"
    return (
        f"a fault in distilscope itself: {type(error).__name__}: {one_line(error)}; "
        "set DISTILSCOPE_TRACEBACK=1 to see where, and please report it"
    )


def _quiet_libraries() -> None:
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def _main(arguments: list[str]) -> int:
    parser, subs = _parser()
    named = next((word for word in arguments if not word.startswith("-")), None)
    if named is not None and named not in COMMANDS and arguments[0] == named:
        raise unknown_name("command", named, COMMANDS)
    options, rest = parser.parse_known_args(arguments)
    if options.command is None:
        parser.print_help()
        return 0
    if options.command in ("run", "plan"):
        options.settings = _dotted(rest)
        options.own = [
            word.removeprefix("--") for action in subs[options.command]._actions for word in action.option_strings
        ]
        if arguments[arguments.index(options.command) + 1] != options.recipe:
            raise UsageError(
                f"{options.recipe!r} stands after options, but the recipe comes first: distilscope {options.command} "
                "RECIPE --name value"
            )
    elif rest:
        if rest[0].startswith("-"):
            known = (word for action in subs[options.command]._actions for word in action.option_strings)
            raise unknown_name("option", rest[0].split("=")[0], known)
        raise UsageError(f"unexpected argument {rest[0]!r}; see `distilscope {options.command} --help`")
    return COMMANDS[options.command](options)


def _parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser and those of its commands."""
    parser = _Parser(
        prog="distilscope",
        description="What a teacher's selectivity does to a student's precision and recall, measured.",
        epilog=f"{examples(*EXAMPLES, each=1)}\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"distilscope {_version()}")
    subs: dict[str, argparse.ArgumentParser] = {}
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)

    def command(name: str, what: str, epilog: str = "", *, add_help: bool = True) -> argparse.ArgumentParser:
        sub = subparsers.add_parser(
            name,
            help=what,
            description=what,
            epilog="\n".join(filter(None, (epilog, examples(name)))),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            add_help=add_help,
        )
        sub.add_argument("--json", action="store_true", help="one JSON document on standard output, nothing else there")
        subs[name] = sub
        return sub

    _run_options(command("run", "run a study: draw, train, distil, measure", add_help=False))
    sub = command(
        "plan", "say what a study would run and why, in tokens, FLOPs, disk, network and time", add_help=False
    )
    _study_options(sub)
    sub.add_argument(
        "--gpu", metavar="NAME", help="count with this GPU: b200, h200, h100 (the default), a100, l40s, l4 or a10"
    )
    sub.add_argument(
        "--utilisation",
        type=_number,
        metavar="SHARE",
        help="of a GPU's peak, for every kind of step (default: what each is taken to reach)",
    )
    sub.add_argument(
        "--flops-per-second",
        type=float,
        metavar="RATE",
        help="time at this rate (default: 1e11 for two CPU cores; with --gpu, one such GPU)",
    )
    sub.add_argument(
        "--calibrate",
        action="store_true",
        help="time by what this machine takes for the study in miniature, measured now",
    )

    _measure_options(command("measure", "precision and recall of one causal language model against another"))

    sub = command("mog", "the paper's mixtures of Gaussians (section 3.2)")
    sub.add_argument(
        "--beta", nargs="+", type=_number, metavar="β", help="selectivities of the teacher; inf is the argmax limit"
    )
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
        "--as-published",
        action="store_true",
        help="follow the released notebook, its mistake included, beside the definition",
    )
    sub.add_argument(
        "--output-dir", metavar="DIR", help="where figures 1 and 2 and the explorer go (default: runs/mog)"
    )
    sub.add_argument(
        "--open",
        action="store_true",
        help="show the explorer, figures 1 and 2 with sliders, in a browser (2 dimensions)",
    )

    sub = command("recommend", "which setting to distil at, what it costs, and how to draw the teacher's data there")
    sub.add_argument("run", metavar="RUN", help="a finished run's folder")
    objective = sub.add_mutually_exclusive_group()
    objective.add_argument(
        "--max-recall-loss", type=_number, metavar="NATS", help="most precision within this budget of recall"
    )
    objective.add_argument(
        "--precision-weight",
        type=_number,
        metavar="λ",
        help="most R + λP: nats of recall that a nat of precision is worth (default: 1)",
    )

    sub = command("report", "write a run's report: one HTML file to look at, RUN/report.html, that needs no network")
    sub.add_argument("run", metavar="RUN", help="a finished run's folder")
    sub.add_argument("--open", action="store_true", help="show it in a browser")

    _ways_out(command)

    sub = command("audit", "each trap of the paper's released code switched on alone, beside the definition", AUDIT)
    sub.add_argument("--recipe", default="smollm2_cpu", metavar="RECIPE", help="smollm2_cpu (the default) or tiny")
    sub.add_argument("--seeds", type=int, default=5, metavar="N", help="at least 2 (default: 5)")
    sub.add_argument("--output-dir", metavar="DIR", help="default: runs/audit")
    sub.add_argument("--write", metavar="FILE", help="also write the audit as a page, such as docs/audit.md")

    sub = command("verify", "re-hash every artifact of a run")
    sub.add_argument("run", metavar="RUN", help="a run's folder")

    sub = command(
        "gc", "remove what no run needs: half-written folders, and artifacts of settings or runs that are gone"
    )
    sub.add_argument(
        "runs",
        nargs="*",
        metavar="RUN",
        help="whose store (default: DISTILSCOPE_STORE, else those of the runs in runs/)",
    )
    sub.add_argument("--yes", action="store_true", help="do not ask first")
    sub.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    return parser, subs


def _study_options(sub: argparse.ArgumentParser) -> None:
    """What `run` and `plan` share."""
    sub.add_argument("recipe", metavar="RECIPE|FILE.yaml", help=f"{', '.join(STUDIES)}, or a file of settings")
    sub.add_argument(
        "-h", "--help", action=_StudyHelp, nargs=0, help="show this and every setting, with the values of RECIPE"
    )
    sub.add_argument("--output-dir", metavar="DIR", help="default: runs/RECIPE")


def _run_options(sub: argparse.ArgumentParser) -> None:
    _study_options(sub)
    sub.add_argument(
        "--engine", choices=["local", "ray"], default="local", help="where steps run; ray: as tasks of a Ray cluster"
    )
    sub.add_argument(
        "--ray-address",
        metavar="ADDRESS",
        help="HOST:PORT of a running Ray cluster, or auto (default: one is started on this machine)",
    )
    sub.add_argument(
        "--budget",
        type=_number,
        metavar="MINUTES",
        help="choose num-train, num-validation, num-eval and seeds so that the run takes so long",
    )
    sub.add_argument(
        "--workers",
        type=int,
        help="processes side by side (default, and at most: the cores there are); changes no byte",
    )
    sub.add_argument(
        "--repair", action="store_true", help="hash every artifact again first, and make again exactly what is damaged"
    )


def _ways_out(command: Callable[..., argparse.ArgumentParser]) -> None:
    """What takes a finished run elsewhere."""
    sub = command(
        "map", "where the texts of p*, teachers and students lie, and precision and recall by nearest neighbours"
    )
    sub.add_argument("run", metavar="RUN", help="a finished run's folder")
    sub.add_argument(
        "--embedder",
        metavar="REF",
        help="of sentences: package:NAME, a model folder or hf:ORG/NAME (default: all-MiniLM-L6-v2)",
    )
    sub.add_argument(
        "--per-model",
        type=int,
        default=1000,
        metavar="N",
        help="texts of each kind of model, all seeds together (default: 1000)",
    )
    sub.add_argument("--seed", type=int, default=0, metavar="S", help="of the map (default: 0)")

    sub = command("figures", "the paper's figures of a run or of mixtures, for a journal's columns, with captions")
    sub.add_argument("run", metavar="RUN", help="a finished run's folder, or that of `distilscope mog`")
    sub.add_argument("--output-dir", metavar="DIR", help="default: RUN/figures")
    sub.add_argument(
        "--format", nargs="+", choices=FORMATS, default=FORMATS, metavar="FORMAT", help="pdf, svg, png (default: all)"
    )

    sub = command(
        "export", "the teacher's data and the students of a run, as datasets, TRL and transformers read them", EXPORT
    )
    sub.add_argument("run", metavar="RUN", help="a finished run's folder")
    sub.add_argument("--output-dir", metavar="DIR", help="default: RUN/export")
    sub.add_argument(
        "--setting",
        metavar="SETTING",
        help="the teacher's, such as temperature=0.8 or top_k=50 (default: the recommended one)",
    )
    sub.add_argument("--seed", type=int, default=0, metavar="N", help="whose teacher and students (default: 0)")


def _measure_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--reference", required=True, metavar="REF", help="hf:ORG/NAME, a model folder, a .gguf file or package:NAME"
    )
    sub.add_argument("--candidate", required=True, metavar="REF")
    sub.add_argument("--prompt", metavar="TEXT", help="what every draw follows (default: The)")
    sub.add_argument(
        "--prompts", metavar="FILE", help="JSON lines or Parquet with a column `prompt`: text or chat messages"
    )
    sub.add_argument(
        "--chat-template", action="store_true", help="put the reference's chat template around each prompt"
    )
    sub.add_argument(
        "--keep-draws", metavar="DIR|FILE.parquet", help="write the draws with their log-probabilities under both sides"
    )
    sub.add_argument(
        "--draws", metavar="DIR|FILE.parquet", help="measure these draws instead of new ones; they pass the same gates"
    )
    sub.add_argument(
        "--unit", choices=["nat", "byte"], default="nat", help="byte: bits per byte, across different tokenizers too"
    )
    sub.add_argument(
        "--num-samples",
        type=int,
        metavar="N",
        help="draws of each side in all, after the prompts in turn (default: 256); also --num-eval",
    )
    sub.add_argument(
        "--max-new-tokens", type=int, metavar="T", help="most tokens of a draw (default: 64); also --horizon"
    )
    for other in measurements.OTHER_NAMES.values():
        sub.add_argument(f"--{other.replace('_', '-')}", type=int, help=argparse.SUPPRESS)
    for side, prefix in (("candidate", ""), ("reference", "reference-")):
        sub.add_argument(f"--{prefix}temperature", type=_number, metavar="τ", help=f"of the {side}")
        sub.add_argument(f"--{prefix}top-k", type=int, metavar="K")
        sub.add_argument(f"--{prefix}top-p", type=_number, metavar="P")
        sub.add_argument(f"--{prefix}min-p", type=_number, metavar="P")
    sub.add_argument("--seed", type=int, metavar="S", help="default: 0")
    sub.add_argument("--dtype", choices=["auto", "float32", "bfloat16", "float16"], default="auto")


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
    return settings
