"""Settings of a tuning run, and the two presets of each method."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from repeng.errors import BadInput, UnknownName
from repeng.limits import check_number

NUMBERS = {"int": 1, "float": 1.0, "bool": True}
METHODS = ("lora", "prompt-tuning", "full")
PRESET_NAMES = ("default", "genies")
SCHEDULES = ("constant", "linear")
PROMPT_INITS = ("random", "vocabulary")
QUANTIZATIONS = ("none", "nf4")
# How often a run is saved, and how much of a batch is on the device at once, are no part of what was learned.
UNKEYED = ("checkpoint_every", "micro_batch_size", "gradient_checkpointing")


@dataclass(frozen=True)
class TuneSettings:
    """How a reward model is tuned.

    Attributes:
        method: `lora`, `prompt-tuning` or `full`.
        learning_rate: peak learning rate of AdamW (betas 0.9 and 0.999).
        steps: optimizer steps, at most.
        batch_size: pairs in an optimizer step.
        micro_batch_size: pairs on the device at once, at most: the largest number that divides the batch is taken, and
            gradients are accumulated over a batch.
        schedule: `constant`, or `linear` (down to zero at the last step).
        warmup: share of the steps in which the learning rate rises linearly.
        weight_decay: AdamW's.
        max_grad_norm: gradients are scaled down to this norm; 0 leaves them.
        rank: LoRA's r.
        alpha: LoRA's alpha.
        dropout: LoRA's dropout.
        target_modules: modules that LoRA adapts; `all-linear`, or `` for those that peft names for the architecture.
        virtual_tokens: tokens that prompt-tuning puts before the text.
        prompt_init: their start: `random` normal vectors or embeddings of random `vocabulary` tokens.
        redraw_pairs: draw each prompt's worse response anew in every epoch; else once.
        held_out: share of prompt groups that are held out of training, for early stopping and `held_out_accuracy`.
        patience: evaluations without clear improvement (`trainer.CLEARLY`) after which a run stops; the best weights
            are kept. 0: run to the end and keep the last weights.
        evaluate_every: steps between evaluations on the held-out pairs.
        checkpoint_every: steps between checkpoints.
        gradient_checkpointing: recompute activations in the backward pass: slower, much less memory.
        quantization: `nf4` loads the base model in 4 bits through bitsandbytes (needs a CUDA GPU).
        max_length: longest text in tokens; None: what the model takes.

    Raises:
        BadInput: a value is out of range.
    """

    method: str
    learning_rate: float
    steps: int
    batch_size: int = 16
    micro_batch_size: int = 16
    schedule: str = "constant"
    warmup: float = 0.0
    weight_decay: float = 0.0
    max_grad_norm: float = 0.3
    rank: int = 64
    alpha: int = 16
    dropout: float = 0.1
    target_modules: str = ""
    virtual_tokens: int = 10
    prompt_init: str = "random"
    redraw_pairs: bool = False
    held_out: float = 0.0
    patience: int = 0
    evaluate_every: int = 10
    checkpoint_every: int = 10
    gradient_checkpointing: bool = False
    quantization: str = "none"
    max_length: int | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if (like := NUMBERS.get(str(field.type))) is not None:
                check_number(field.name, getattr(self, field.name), like)
        for name, known in (
            ("method", METHODS),
            ("schedule", SCHEDULES),
            ("prompt_init", PROMPT_INITS),
            ("quantization", QUANTIZATIONS),
        ):
            if getattr(self, name) not in known:
                raise UnknownName(name.replace("_", " "), getattr(self, name), known)
        for name in ("steps", "batch_size", "micro_batch_size", "rank", "virtual_tokens", "evaluate_every"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        self._require("checkpoint_every", self.checkpoint_every >= 1, "at least 1")
        self._require("learning_rate", self.learning_rate > 0, "above 0")
        self._require("held_out", 0 <= self.held_out < 1, "at least 0 and below 1")
        self._require("warmup", 0 <= self.warmup <= 1, "between 0 and 1")
        self._require("dropout", 0 <= self.dropout < 1, "at least 0 and below 1")
        for name in ("patience", "max_grad_norm", "weight_decay"):
            self._require(name, getattr(self, name) >= 0, "at least 0")
        self._require("patience", not self.patience or self.held_out > 0, "0 where nothing is held out")
        self._require("quantization", self.quantization == "none" or self.method != "full", "'none' for full tuning")

    def _require(self, name: str, holds: bool, rule: str) -> None:
        if not holds:
            raise BadInput(f"{name} is {getattr(self, name)!r}; it must be {rule}")

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of a 0-based step."""
        rising = self.warmup * self.steps
        if step < rising:
            return self.learning_rate * (step + 1) / (rising + 1)
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * (self.steps - step) / max(1.0, self.steps - rising)

    def key_fields(self) -> dict[str, Any]:
        """The settings that determine what is learned."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in UNKEYED}


# Clymer et al. (2023), released code: r 64, alpha 16, dropout 0.1, constant schedule, 16 pairs a step, norm 0.3, every
# training pair used. A linear warm-up that it sets has no effect on its constant schedule.
_GENIES = {
    "lora": TuneSettings("lora", learning_rate=2e-4, steps=100),
    "prompt-tuning": TuneSettings("prompt-tuning", learning_rate=5.2e-3, steps=150),
    "full": TuneSettings("full", learning_rate=2e-5, steps=100),
}
_SOUND = TuneSettings(
    "lora",
    learning_rate=1e-3,
    steps=100,
    schedule="linear",
    warmup=0.05,
    max_grad_norm=1.0,
    rank=16,
    alpha=32,
    dropout=0.05,
    target_modules="all-linear",
    prompt_init="vocabulary",
    redraw_pairs=True,
    held_out=0.2,
    patience=3,
)
_DEFAULT = {
    "lora": _SOUND,
    "prompt-tuning": replace(_SOUND, method="prompt-tuning", learning_rate=1e-2, steps=200),
    "full": replace(_SOUND, method="full", learning_rate=1e-4, steps=150, weight_decay=0.01),
}
PRESETS: Mapping[str, Mapping[str, TuneSettings]] = {"default": _DEFAULT, "genies": _GENIES}


def preset_settings(method: str, name: str = "default", **changes: Any) -> TuneSettings:
    """Settings of a method's preset, with some of them changed.

    Args:
        method: `lora`, `prompt-tuning` or `full`.
        name: `default` or `genies`.
        changes: fields of `TuneSettings` to replace.

    Raises:
        UnknownName: no such method, preset or field.
        BadInput: a value is out of range.
    """
    if name not in PRESETS:
        raise UnknownName("preset", name, PRESETS)
    if method not in PRESETS[name]:
        raise UnknownName("tuning method", method, PRESETS[name])
    known = [entry.name for entry in dataclasses.fields(TuneSettings)]
    for field_name in changes:
        if field_name not in known:
            raise UnknownName("tuning setting", field_name, known)
    return replace(PRESETS[name][method], **changes)
