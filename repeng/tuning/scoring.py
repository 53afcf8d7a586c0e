"""Scoring splits with a tuned model, ours or published."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from repeng.distributions.schema import Split
from repeng.errors import BadInput
from repeng.maths import sigmoid
from repeng.models.pretrained import load_tokenizer, quiet_transformers
from repeng.models.source import find_model
from repeng.tuning.data import encode_split
from repeng.tuning.loading import compute_dtype, load_classifier, torch_device
from repeng.tuning.reward_model import RewardModel
from repeng.tuning.tuned_model import TunedModel

ADAPTER_WEIGHTS = "adapter_model.safetensors"


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
    except Exception as error:  # whatever peft makes of a file that is none of its own
        raise BadInput(f"{adapter}: no adapter that peft can read: {error}") from error
    task = getattr(config.task_type, "value", config.task_type)
    if task != "SEQ_CLS":
        raise BadInput(f"{adapter}: its task type is {task}; a reward model's is SEQ_CLS")
    try:
        base = find_model(model or config.base_model_name_or_path or "").place
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

    _require_safetensors(tuned.path)
    settings = tuned.record.get("settings", {})
    base = load_classifier(
        tuned.model, seed=0, device=where, dtype=compute, quantization=settings.get("quantization", "none")
    )
    with quiet_transformers():
        try:
            adapted = PeftModel.from_pretrained(base, tuned.path, is_trainable=False)
        except Exception as error:  # peft, safetensors and torch: many families of errors
            raise BadInput(f"{tuned.path}: this adapter does not fit {tuned.model}: {error}") from error
    return RewardModel(
        adapted.to(where), load_tokenizer(tuned.model), dtype=compute, max_length=settings.get("max_length")
    )


def _require_safetensors(adapter: str) -> None:
    """peft takes pickled weights where it finds no others."""
    from transformers.utils.hub import cached_file

    try:
        cached_file(adapter, ADAPTER_WEIGHTS)
    except OSError as error:
        raise BadInput(
            f"{adapter}: no {ADAPTER_WEIGHTS} to be had; repeng reads no pickled weights; docs/tuning.md says how to "
            "convert those of an adapter that you trust"
        ) from error


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
        scores[kept] = reward.scores(encoded.texts(kept.tolist()), batch_tokens=batch_tokens).numpy()
    gaps = np.array([scores[pair.best] - scores[pair.worse] for pair in split.pairs])
    return sigmoid(gaps), scores
