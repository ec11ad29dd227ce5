"""The tiny recipe made smaller still, run as a user would: a few seconds, with trainings long enough to be struck in
the middle."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

COMMAND = [sys.executable, "-c", "from distilscope.cli.main import main; main()"]

SMALL = {
    "--seeds": 1,
    "--num-train": 96,
    "--num-eval": 16,
    "--ground-truth.num-validation": 16,
    "--num-teacher-eval": 8,
    "--horizon": 8,
    "--tile": 32,
    "--slots": 16,
    "--teacher.training.epochs": 30,
    "--teacher.training.batch-sequences": 16,
    "--student.training.epochs": 4,
    "--student.training.batch-sequences": 16,
    "--student.training.checkpoint-every": 1,
    "--temperatures": (0.7, 1.0),
}
"""The students keep a checkpoint of every step, the teacher none of its own accord."""


FEW = {
    "--num-train": 24,
    "--num-eval": 8,
    "--horizon": 8,
    "--seeds": 2,
    "--ground-truth.num-validation": 8,
    "--num-teacher-eval": 8,
    "--temperatures": (0.8, 1.0),
}
"""Sizes at which a study of pretrained models takes seconds."""

PLANTED = "planted"
SECRETS = {
    "HF_TOKEN": f"hf_{PLANTED}",
    "HUGGING_FACE_HUB_TOKEN": f"old_{PLANTED}",
    "AWS_SECRET_ACCESS_KEY": f"aws {PLANTED}",
    "OPENAI_API_KEY": f"sk-{PLANTED}",
    "PGPASSWORD": f"pg-{PLANTED}",
    "https_proxy": f"http://me:{PLANTED}@127.0.0.1:1",
}
"""What every study here finds in its environment, and no file of it may hold."""


def words(recipe, settings):
    """`run RECIPE --name value ...`"""
    return ["run", recipe, *as_words(settings)]


def as_words(settings):
    return [
        str(word)
        for name, value in settings.items()
        for word in (name, *(value if isinstance(value, tuple) else (value,)))
    ]


def distilscope(*words, check=True, **environment):
    """A command that is waited for."""
    env = os.environ | SECRETS | {name: str(value) for name, value in environment.items()}
    done = subprocess.run([*COMMAND, *map(str, words)], capture_output=True, text=True, check=False, env=env)
    if check:
        assert done.returncode == 0, done.stderr
    return done


def begin(*words, **environment):
    """A command that goes on beside the test."""
    env = os.environ | SECRETS | {name: str(value) for name, value in environment.items()}
    return subprocess.Popen(
        [*COMMAND, *map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env
    )


def hashes(store: Path):
    """Every artifact's bytes, by path."""
    files = sorted(
        path for path in store.rglob("*") if path.is_file() and not path.relative_to(store).parts[0].startswith(".")
    )
    return {str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
