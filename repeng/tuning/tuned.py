"""Tuning a reward model on a source and scoring splits with it. Nothing is tuned twice: a run is keyed by what
determines it, and a finished folder is used again."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from jaxtyping import Float

from repeng.activations.model import find_model, identify
from repeng.distributions.schema import Split
from repeng.errors import BadInput
from repeng.tuning.data import encode_split, example_rows, hold_out
from repeng.tuning.lora import add_lora
from repeng.tuning.prompt_tuning import add_prompt
from repeng.tuning.reward_model import (
    RewardModel,
    compute_dtype,
    load_classifier,
    load_tokenizer,
    quiet_transformers,
    torch_device,
)
from repeng.tuning.settings import TuneSettings, preset_settings
from repeng.tuning.train import TuneProgress, train

log = logging.getLogger(__name__)

FORMAT = 1
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
    """Tune a reward model on a source's pairs, or find the one that was tuned before.

    A run that was stopped goes on from its last checkpoint and ends with the same weights.

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
        progress: told of every step.

    Raises:
        BadInput: model, method or settings cannot be used, or no example fits the model's context.
        NonFinite: training diverged.
    """
    chosen = settings or preset_settings(method, preset)
    if chosen.method != method:
        raise BadInput(
            f"settings are for method {chosen.method!r} and the method is {method!r}; give one of them twice"
        )
    identity = identify(model)
    model = _place(model)
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
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{name}.lock")):
        if (folder / MARKER).is_file():
            log.info("%s on %s is tuned already: %s", method, source.distribution, folder)
            return _read(folder, model, reused=True)
        resumed_from = _tune_into(
            folder, model, source, chosen, determined | {"key": key}, seed, where, compute, progress
        )
    return _read(folder, model, resumed_from=resumed_from)


def _tune_into(
    folder: Path,
    model: str,
    source: Split,
    settings: TuneSettings,
    determined: Mapping[str, Any],
    seed: int,
    device: torch.device,
    dtype: torch.dtype,
    progress: Callable[[TuneProgress], None] | None,
) -> int | None:
    reward = new_reward_model(model, settings, seed=seed, device=device, dtype=dtype)
    encoded = encode_split(source, reward.tokenizer, reward.max_length)
    training, held_out = hold_out(source, settings.held_out, seed)
    rows, held_rows = example_rows(encoded, training), example_rows(encoded, held_out)
    if not rows or (held_out and not held_rows):
        raise BadInput(
            f"{source.distribution}: no example to {'hold out' if rows else 'train on'} fits {reward.max_length} tokens"
        )
    state, resumed_from = train(
        reward, encoded, rows, held_rows, settings, seed=seed, checkpoints=folder / CHECKPOINTS, progress=progress
    )
    _save(reward, folder)
    kept_step = state.best_step if settings.patience and state.best_step is not None else state.step
    evaluated = {record["step"]: record.get("held_out_accuracy") for record in state.history}
    record = {
        **determined,
        "model": model,
        "source": source.distribution,
        "split": source.name,
        "settings": asdict(settings),
        "held_out_accuracy": evaluated[kept_step],
        "steps": kept_step,
        "steps_run": state.step,
        "examples": len(rows),
        "held_out_examples": len(held_rows),
        "history": state.history,
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "transformers", "peft")},
    }
    temporary = folder / f".{MARKER}.{os.getpid()}"
    temporary.write_text(json.dumps(record, indent=1))
    os.replace(temporary, folder / MARKER)
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    return resumed_from


def new_reward_model(
    model: str, settings: TuneSettings, *, seed: int, device: torch.device, dtype: torch.dtype
) -> RewardModel:
    """A reward model as it stands before the first step: base, random head, and what the method adds.

    Full tuning keeps its weights in float32 and computes in `dtype`.
    """
    weights = torch.float32 if settings.method == "full" else dtype
    base = load_classifier(model, seed=seed, device=device, dtype=weights, quantization=settings.quantization)
    if settings.method == "lora":
        base = add_lora(base, settings, seed=seed + 1, device=device)
    elif settings.method == "prompt-tuning":
        base = add_prompt(base, settings, seed=seed + 1, device=device)
    if settings.gradient_checkpointing:
        inner: Any = base
        inner.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return RewardModel(base, load_tokenizer(model), dtype=dtype, max_length=settings.max_length)


def published(adapter: str | Path, *, model: str | None = None, dtype: str = "auto") -> TunedModel:
    """A reward adapter of the same kind that was tuned elsewhere, to be scored without training.

    Args:
        adapter: folder or hub id of an adapter that peft loads, of task type SEQ_CLS with two labels.
        model: hub id or folder of its base; None: the one that the adapter names.
        dtype: `auto`, `float32` or `bfloat16`.

    Raises:
        BadInput: it is no such adapter.
    """
    from peft import PeftConfig

    try:
        config = PeftConfig.from_pretrained(str(adapter))
    except (OSError, ValueError) as error:
        raise BadInput(f"{adapter}: no adapter that peft can read: {error}") from error
    task = getattr(config.task_type, "value", config.task_type)
    if task != "SEQ_CLS":
        raise BadInput(f"{adapter}: its task type is {task}; a reward model's is SEQ_CLS")
    try:
        base = _place(model or config.base_model_name_or_path or "")
    except BadInput as error:
        raise BadInput(f"{adapter}: its base model: {error}; say which one it is with model=...") from error
    files = sorted(Path(adapter).glob("adapter_*")) if Path(adapter).is_dir() else []
    digest = hashlib.sha256(f"{adapter} {base}".encode())
    for file in files:
        digest.update(file.read_bytes())
    compute = str(compute_dtype(dtype, torch_device("auto"))).removeprefix("torch.")
    return TunedModel(
        str(Path(adapter).resolve() if Path(adapter).is_dir() else adapter),
        digest.hexdigest()[:16],
        base,
        "published",
        dtype=compute,
    )


def load_tuned(tuned: TunedModel, *, device: str = "auto") -> RewardModel:
    """A tuned model ready to score.

    Raises:
        BadInput: its files or its base model cannot be loaded.
    """
    where = torch_device(device)
    compute = compute_dtype(tuned.dtype, where)
    if tuned.method == "full":
        return RewardModel(
            load_classifier(tuned.path, seed=0, device=where, dtype=torch.float32),
            load_tokenizer(tuned.model),
            dtype=compute,
        )
    from peft import PeftModel

    settings = tuned.record.get("settings", {})
    base = load_classifier(
        tuned.model, seed=0, device=where, dtype=compute, quantization=settings.get("quantization", "none")
    )
    with quiet_transformers():
        try:
            adapted = PeftModel.from_pretrained(base, tuned.path, is_trainable=False)
        except (OSError, ValueError, RuntimeError) as error:
            raise BadInput(f"{tuned.path}: this adapter does not fit {tuned.model}: {error}") from error
    return RewardModel(
        adapted.to(where), load_tokenizer(tuned.model), dtype=compute, max_length=settings.get("max_length")
    )


def score(
    tuned: TunedModel, splits: Sequence[Split], *, device: str = "auto", batch_tokens: int = 8192
) -> dict[str, tuple[Float[np.ndarray, " pair"], Float[np.ndarray, " response"]]]:
    """p(best) of each pair and a score for each response of some splits, by distribution name.

    p(best) is the softmax of the pair's scores. A response longer than the model takes has a blank (NaN) score, and
    so have its pairs a blank probability.

    Args:
        tuned: from `tune` or `published`.
        splits: of distinct distributions; pairs and responses stand in file order, as in `Split`.
        device: `auto`, `cpu`, `cuda` ...
        batch_tokens: tokens on the device at once.

    Raises:
        BadInput: two splits are of one distribution, or the model cannot be loaded.
    """
    names = [split.distribution for split in splits]
    if len(set(names)) < len(names):
        raise BadInput(
            f"splits of one distribution are scored in one call: {', '.join(sorted(names))}; score them apart"
        )
    reward = load_tuned(tuned, device=device)
    return {split.distribution: score_split(reward, split, batch_tokens=batch_tokens) for split in splits}


def score_split(
    reward: RewardModel, split: Split, *, batch_tokens: int = 8192
) -> tuple[Float[np.ndarray, " pair"], Float[np.ndarray, " response"]]:
    """p(best) of each pair and a score for each response of one split; see `score`."""
    encoded = encode_split(split, reward.tokenizer, reward.max_length)
    scores = np.full(split.n_responses, np.nan)
    kept = np.flatnonzero(encoded.kept)
    if len(kept):
        scores[kept] = reward.scores([encoded.ids[row] or [] for row in kept], batch_tokens=batch_tokens).numpy()
    gaps = np.array([scores[pair.best] - scores[pair.worse] for pair in split.pairs])
    return 1.0 / (1.0 + np.exp(-np.clip(gaps, -700, 700))), scores


def _place(name: str) -> str:
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
