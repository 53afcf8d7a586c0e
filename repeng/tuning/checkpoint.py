"""Checkpoints of a tuning run: weights and optimizer as safetensors, the rest as JSON, each written whole or not."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

log = logging.getLogger(__name__)


@dataclass
class RunState:
    """Where a run stands.

    Attributes:
        step: steps done.
        stopped: True once early stopping ended it.
        best_step: the step after which the held-out pairs were judged best; None before the first evaluation.
        best_accuracy: held-out pair accuracy then.
        best_loss: held-out loss then, which decides between equal accuracies.
        stale: evaluations since the last one that counted as an improvement.
        mark_accuracy: held-out accuracy of that one, which the next must beat.
        mark_loss: its held-out loss, which at equal accuracy the next must clearly beat.
        history: a record a step: step, loss, and on evaluated steps held_out_accuracy and held_out_loss.
    """

    step: int = 0
    stopped: bool = False
    best_step: int | None = None
    best_accuracy: float | None = None
    best_loss: float | None = None
    stale: int = 0
    mark_accuracy: float = -math.inf
    mark_loss: float = math.inf
    history: list[dict[str, Any]] = field(default_factory=list)


def save_checkpoint(
    folder: Path,
    state: RunState,
    weights: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    best: dict[str, Tensor] | None,
) -> None:
    """Write `folder/step-000010` under a temporary name, rename it, and remove older ones.

    Args:
        folder: of all checkpoints of this run.
        state: its step names the checkpoint.
        weights: what is trained.
        optimizer: its state is kept by parameter number.
        best: the weights to return to at the end; None where there are none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{state.step:06d}"
    temporary = folder / f".{final.name}.{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    save_file(
        {name: value.detach().cpu().contiguous() for name, value in weights.items()}, temporary / "weights.safetensors"
    )
    moments = {
        f"{number}.{name}": value.detach().cpu().contiguous()
        for number, slots in optimizer.state_dict()["state"].items()
        for name, value in slots.items()
    }
    save_file(moments, temporary / "optimizer.safetensors")
    if best is not None:
        save_file(best, temporary / "best.safetensors")
    (temporary / "state.json").write_text(json.dumps(asdict(state)))
    if final.exists():
        shutil.rmtree(final)
    os.replace(temporary, final)
    for other in folder.iterdir():
        if other != final:
            shutil.rmtree(other)


def load_checkpoint(
    folder: Path, weights: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> tuple[RunState, dict[str, Tensor] | None]:
    """Put weights and optimizer back as the newest checkpoint has them.

    Returns:
        Its state and the best weights so far; a fresh state where there is no checkpoint.
    """
    found = sorted(folder.glob("step-*")) if folder.is_dir() else []
    if not found:
        return RunState(), None
    newest = found[-1]
    state = RunState(**json.loads((newest / "state.json").read_text()))
    put_weights(weights, load_file(newest / "weights.safetensors"))
    slots: dict[int, dict[str, Tensor]] = {}
    for key, value in load_file(newest / "optimizer.safetensors").items():
        number, _, name = key.partition(".")
        slots.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
    best = load_file(newest / "best.safetensors") if (newest / "best.safetensors").is_file() else None
    return state, best


@torch.no_grad()
def put_weights(weights: dict[str, nn.Parameter], values: dict[str, Tensor]) -> None:
    """Copy values into the parameters of the same names."""
    for name, parameter in weights.items():
        parameter.copy_(values[name])
