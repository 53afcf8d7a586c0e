"""Tuning a reward model on a source. Nothing is tuned twice: a run is keyed by what determines it, and a finished
folder is used again."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from repeng.distributions.schema import Split
from repeng.errors import BadInput
from repeng.models.load import find_model, identify
from repeng.tuning.adapters import add_adapter
from repeng.tuning.data import EncodedSplit, Rows, encode_split, example_rows, hold_out
from repeng.tuning.loading import compute_dtype, load_classifier, load_tokenizer, quiet_transformers, torch_device
from repeng.tuning.progress import TuneProgress
from repeng.tuning.reward_model import RewardModel
from repeng.tuning.settings import TuneSettings, preset_settings

log = logging.getLogger(__name__)

FORMAT = 2
MARKER = "tuned.json"
CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class TunedModel:
    """A tuned reward model on disk.

    Attributes:
        path: its folder: an adapter as peft saves it, or whole weights after full tuning; or an adapter's hub id.
        key: hash over base model, data, method, settings, seed and dtype.
        model: hub id or folder of the base model.
        method: `lora`, `prompt-tuning`, `full`; or `published` for an adapter that was tuned elsewhere.
        source: distribution that it was tuned on; empty where unknown.
        held_out_accuracy: pair accuracy on the held-out prompts of the source; None where nothing was held out.
        steps: steps whose weights these are; None where unknown.
        dtype: `float32` or `bfloat16`: what it computed in.
        resumed_from: the step that this call went on from; None where it began at the start or trained nothing.
        reused: True where a finished folder was found and nothing was trained.
        record: everything that the folder's tuned.json says.
    """

    path: str
    key: str
    model: str
    method: str
    source: str = ""
    held_out_accuracy: float | None = None
    steps: int | None = None
    dtype: str = "float32"
    resumed_from: int | None = None
    reused: bool = False
    record: Mapping[str, Any] = field(default_factory=dict, compare=False, hash=False)


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
    root: Path,
    preset: str = "default",
    settings: TuneSettings | None = None,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "auto",
) -> TuningRun:
    """The run that `tune` would do or find again. Nothing is loaded or written.

    Args:
        model: hub id or folder of the base model, or `mini`.
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
        raise BadInput(
            f"settings are for method {chosen.method!r} and the method is {method!r}; give one of them twice"
        )
    identity = identify(model)
    where = torch_device(device)
    compute = compute_dtype(dtype, where)
    determined = {
        "format": FORMAT,
        "base": [identity.weights, identity.config, identity.tokenizer],
        "data_hash": source.data_hash,
        "method": method,
        "settings": chosen.key_fields(),
        "seed": seed,
        "dtype": str(compute).removeprefix("torch."),
    }
    key = hashlib.sha256(json.dumps(determined, sort_keys=True).encode()).hexdigest()[:16]
    name = re.sub(r"[^A-Za-z0-9._+-]+", "-", f"{method}-{identity.slug}-{source.distribution}-{key}")
    folder = Path(root).resolve() / name
    return TuningRun(place_of(model), source, chosen, seed, where, compute, folder, determined | {"key": key})


def tune(
    model: str,
    source: Split,
    *,
    method: str,
    root: Path,
    preset: str = "default",
    settings: TuneSettings | None = None,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "auto",
    progress: Callable[[TuneProgress], None] | None = None,
) -> TunedModel:
    """Tune a reward model on a source's pairs, or find the one that was tuned before: `plan_tuning` and `carry_out`.

    Raises:
        BadInput: model, method or settings cannot be used, or no example fits the model's context.
        NonFinite: training diverged.
    """
    run = plan_tuning(
        model,
        source,
        method=method,
        root=root,
        preset=preset,
        settings=settings,
        seed=seed,
        device=device,
        dtype=dtype,
    )
    return carry_out(run, progress)


def carry_out(run: TuningRun, progress: Callable[[TuneProgress], None] | None = None) -> TunedModel:
    """Do a planned run, or find its tuned model. A run that was stopped goes on and ends with the same weights.

    Args:
        run: from `plan_tuning`.
        progress: told of every step.

    Raises:
        BadInput: the model cannot be loaded so, or no example fits its context.
        NonFinite: training diverged.
    """
    run.folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(run.folder.with_name(f".{run.folder.name}.lock")):
        if run.finished:
            log.info("%s on %s is tuned already: %s", run.settings.method, run.source.distribution, run.folder)
            return _read(run.folder, run.model, reused=True)
        resumed_from = _carry_out(run, progress)
    return _read(run.folder, run.model, resumed_from=resumed_from)


def _carry_out(run: TuningRun, progress: Callable[[TuneProgress], None] | None) -> int | None:
    reward, encoded, rows, held_rows = begin(run)
    # Trainer takes seconds to import, and most studies tune nothing.
    from repeng.tuning.trainer import train

    history, steps, resumed_from = train(
        *(reward, encoded, rows, held_rows, run.settings),
        seed=run.seed,
        checkpoints=run.folder / CHECKPOINTS,
        progress=progress,
    )
    _save(reward, run.folder)
    record = {
        **run.determined,
        "model": run.model,
        "source": run.source.distribution,
        "split": run.source.name,
        "settings": asdict(run.settings),
        "held_out_accuracy": history[steps - 1].get("held_out_accuracy"),
        "steps": steps,
        "steps_run": len(history),
        "examples": len(rows),
        "held_out_examples": len(held_rows),
        "history": history,
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "transformers", "peft")},
    }
    temporary = run.folder / f".{MARKER}.{os.getpid()}"
    temporary.write_text(json.dumps(record, indent=1))
    os.replace(temporary, run.folder / MARKER)
    shutil.rmtree(run.folder / CHECKPOINTS, ignore_errors=True)
    return resumed_from


def begin(run: TuningRun) -> tuple[RewardModel, EncodedSplit, Rows, Rows]:
    """The model before its first step, the source's texts, the examples to train on and those held out."""
    reward = new_reward_model(run.model, run.settings, seed=run.seed, device=run.device, dtype=run.dtype)
    encoded = encode_split(run.source, reward.tokenizer, reward.max_length)
    training, held_out = hold_out(run.source, run.settings.held_out, run.seed)
    rows, held_rows = example_rows(encoded, training), example_rows(encoded, held_out)
    if not rows or (held_out and not held_rows):
        raise BadInput(
            f"{run.source.distribution}: no example to {'hold out' if rows else 'train on'} fits "
            f"{reward.max_length} tokens"
        )
    return reward, encoded, rows, held_rows


def new_reward_model(
    model: str, settings: TuneSettings, *, seed: int, device: torch.device, dtype: torch.dtype
) -> RewardModel:
    """A reward model as it stands before the first step: base, random head, and what the method adds.

    Full tuning keeps its weights in float32 and computes in `dtype`.
    """
    weights = torch.float32 if settings.method == "full" else dtype
    base = load_classifier(model, seed=seed, device=device, dtype=weights, quantization=settings.quantization)
    if settings.method != "full":
        base = add_adapter(base, settings, seed=seed + 1)
    if settings.gradient_checkpointing:
        inner: Any = base
        with quiet_transformers():
            inner.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return RewardModel(base, load_tokenizer(model), dtype=dtype, max_length=settings.max_length)


def place_of(name: str) -> str:
    """A folder as an absolute path, so that an adapter's base is found from anywhere; a hub id as it is."""
    path = find_model(name).path
    return str(Path(path).resolve()) if Path(path).is_dir() else path


def _save(reward: RewardModel, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model: Any = reward.model
    options = {} if not hasattr(model, "peft_config") else {"save_embedding_layers": False}
    with quiet_transformers():
        model.save_pretrained(folder, **options)


def _read(folder: Path, model: str, *, reused: bool = False, resumed_from: int | None = None) -> TunedModel:
    record = json.loads((folder / MARKER).read_text())
    names = ("key", "method", "source", "held_out_accuracy", "steps", "dtype")
    return TunedModel(
        path=str(folder),
        model=model,
        reused=reused,
        resumed_from=resumed_from,
        record=record,
        **{name: record[name] for name in names},
    )
