"""The state of a training: its step, curve, optimiser and best weights so far, written to a checkpoint and resumed from
one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distilscope.errors import DistilscopeError
from distilscope.lm.network import Trainable
from distilscope.lm.training.checkpoint_file import read_checkpoint, write_checkpoint
from distilscope.lm.training.process_group import Group


class TrainerState:
    """A training's step, curve and best weights so far. Each process of a group keeps the same; the first writes."""

    def __init__(
        self,
        scratch: Path,
        network: Trainable,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        *,
        group: Group,
        resume_from: Path | None,
    ) -> None:
        """From the checkpoint in `scratch`, else from that in `resume_from`; else that of a training before its first
        step."""
        self.scratch = scratch
        self.step = self.tokens = self.chosen_step = 0
        self.losses: list[float] = []
        self.history: list[dict[str, int | float]] = []
        self.best: dict[str, Tensor] = {}
        self.exact = True
        """Whether every step so far was computed in one number of processes."""
        self._group = group
        for folder in (scratch, resume_from):
            if folder is not None and self._resume(folder, network, optimizer, scaler):
                break

    def count(self, loss: float, tokens: int) -> None:
        self.step += 1
        self.tokens += tokens
        self.losses.append(loss)

    def evaluated(self, network: Trainable, held_out: float) -> None:
        if not math.isfinite(held_out):
            raise DistilscopeError(
                f"the held-out loss is {held_out} at step {self.step}; lower training.learning_rate and run again"
            )
        self.history.append(
            {"step": self.step, "training_loss": float(np.mean(self.losses)), "held_out_loss": held_out}
        )
        self.losses = []
        if held_out <= min(entry["held_out_loss"] for entry in self.history):
            self.chosen_step = self.step
            self.best = {name: weight.detach().clone() for name, weight in network.state_dict().items()}

    def save(self, network: Trainable, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> None:
        if not self._group.writes:
            return
        tensors = {f"weight/{name}": value.detach().contiguous() for name, value in network.state_dict().items()}
        tensors |= {f"best/{name}": value.contiguous() for name, value in self.best.items()}
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"adam/{index}/{name}": value.contiguous() for name, value in state.items()}
        record: dict[str, Any] = {
            "step": self.step,
            "tokens": self.tokens,
            "chosen_step": self.chosen_step,
            "losses": self.losses,
            "history": self.history,
            "scaler": scaler.state_dict(),
            "processes": self._group.size,
            "exact": self.exact,
        }
        write_checkpoint(self.scratch, record, tensors)

    def _resume(
        self, scratch: Path, network: Trainable, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler
    ) -> bool:
        found = read_checkpoint(scratch)
        if found is None:
            return False
        record, tensors = found
        self.step, self.tokens, self.chosen_step = record["step"], record["tokens"], record["chosen_step"]
        self.losses, self.history = record["losses"], record["history"]
        self.exact = record["exact"] and record["processes"] == self._group.size
        scaler.load_state_dict(record["scaler"])
        network.load_state_dict(dict(_under("weight/", tensors)))
        self.best = dict(_under("best/", tensors))
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in _under("adam/", tensors):
            index, _, of = name.partition("/")
            state.setdefault(int(index), {})[of] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        return True


def _under(prefix: str, tensors: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    return ((name.removeprefix(prefix), value) for name, value in tensors.items() if name.startswith(prefix))
