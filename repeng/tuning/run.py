"""A tuning run: what it follows from, where its tuned model lies, and what it tells of its steps."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from repeng.distributions.schema import Split
from repeng.errors import BadInput
from repeng.models.fingerprint import identify
from repeng.models.source import find_model
from repeng.places import Place, on_disk
from repeng.tuning.loading import compute_dtype, torch_device
from repeng.tuning.settings import TuneSettings, preset_settings

FORMAT = 2
MARKER = "tuned.json"


@dataclass(frozen=True)
class TuneProgress:
    """One step of a run, as it is told while it goes on.

    Attributes:
        step: steps done.
        steps: steps at most.
        loss: mean pair loss of this step's batch.
        held_out_accuracy: pair accuracy on the held-out prompts of the source, on the steps that measure it.
        resumed_from: the step whose checkpoint this run went on from; None for one that began at the start.
    """

    step: int
    steps: int
    loss: float
    held_out_accuracy: float | None
    resumed_from: int | None


@dataclass(frozen=True)
class TuningRun:
    """A run and what it follows from, whether it was begun or not.

    Attributes:
        model: hub id or folder of the base model.
        source: the split to tune on.
        settings: of the run.
        seed: of every random choice.
        device: where it computes.
        dtype: what it computes in.
        folder: where the tuned model goes, or is.
        determined: everything that determines the weights, with its hash as `key`.
    """

    model: str
    source: Split
    settings: TuneSettings
    seed: int
    device: torch.device
    dtype: torch.dtype
    folder: Path
    determined: Mapping[str, Any]

    @property
    def finished(self) -> bool:
        """Whether the tuned model is there."""
        return (self.folder / MARKER).is_file()


def plan_tuning(
    model: str,
    source: Split,
    *,
    method: str,
    root: Place,
    preset: str = "default",
    settings: TuneSettings | None = None,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "auto",
) -> TuningRun:
    """The run that `tune` would do or find again. Nothing is loaded or written.

    Args:
        model: the base model: hub id, folder, GGUF file, `mini` or `smollm2`.
        source: the split to tune on.
        method: `lora`, `prompt-tuning` or `full`.
        root: folder that holds tuned models, one folder each.
        preset: `default` or `genies`; unused where `settings` are given.
        settings: own settings, whose method must be `method`.
        seed: of the head, the adapter, the held-out prompts, order, choice of pairs and dropout.
        device: `auto`, `cpu`, `cuda` ...
        dtype: `auto` (bfloat16 on a GPU, else float32), `float32` or `bfloat16`.

    Raises:
        BadInput: model, method or settings cannot be used.
    """
    chosen = settings or preset_settings(method, preset)
    if chosen.method != method:
        raise BadInput(f"settings are for method {chosen.method!r} and the method is {method!r}; give only one of them")
    identity = identify(model)
    where = torch_device(device)
    compute = compute_dtype(dtype, where)
    determined = {
        "format": FORMAT,
        "base": list(identity.content),
        "data_hash": source.data_hash,
        "method": method,
        "settings": chosen.key_fields(),
        "seed": seed,
        "dtype": str(compute).removeprefix("torch."),
    }
    key = hashlib.sha256(json.dumps(determined, sort_keys=True).encode()).hexdigest()[:16]
    name = re.sub(r"[^A-Za-z0-9._+-]+", "-", f"{method}-{identity.slug}-{source.distribution}-{key}")
    folder = on_disk(root, "tuned models").resolve() / name
    return TuningRun(find_model(model).place, source, chosen, seed, where, compute, folder, determined | {"key": key})
