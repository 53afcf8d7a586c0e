"""Reward models before their first step, and what a method adds to the base model through peft."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from repeng.errors import BadInput
from repeng.models.pretrained import load_tokenizer, quiet_transformers
from repeng.tuning.loading import forked_rng, load_classifier
from repeng.tuning.reward_model import RewardModel
from repeng.tuning.settings import TuneSettings


def new_reward_model(
    model: str, settings: TuneSettings, *, seed: int, device: torch.device, dtype: torch.dtype
) -> RewardModel:
    """A reward model as it stands before the first step: base, random head, and what the method adds.

    Full tuning keeps its weights in float32 and computes in `dtype`.
    """
    weights = torch.float32 if settings.method == "full" else dtype
    base: Any = load_classifier(model, seed=seed, device=device, dtype=weights, quantization=settings.quantization)
    if settings.method != "full":
        base = add_adapter(base, settings, seed=seed + 1)
    if settings.gradient_checkpointing:
        with quiet_transformers():
            base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return RewardModel(base, load_tokenizer(model), dtype=dtype, max_length=settings.max_length)


def add_adapter(model: nn.Module, settings: TuneSettings, *, seed: int) -> nn.Module:
    """A peft model around a sequence classifier, whose new weights are drawn from the seed and kept in float32.

    LoRA (Hu et al. 2021) adapts modules; prompt-tuning (Lester et al. 2021) puts virtual tokens before every text,
    which start as random normal vectors or as the embeddings of random tokens. The head is trained and saved with it.

    Raises:
        BadInput: the adapter does not fit the model, or peft knows no modules to adapt in this architecture.
    """
    from peft import get_peft_model

    config = _config(settings)
    with forked_rng(seed), quiet_transformers():
        try:
            adapted: nn.Module = get_peft_model(model, config)
        except ValueError as error:
            raise BadInput(f"{config.peft_type.value} cannot be put on {type(model).__name__}: {error}") from error
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return adapted


def _config(settings: TuneSettings) -> Any:
    from peft import LoraConfig, PromptTuningConfig, PromptTuningInit, TaskType

    if settings.method == "lora":
        return LoraConfig(
            task_type=TaskType.SEQ_CLS,
            r=settings.rank,
            lora_alpha=settings.alpha,
            lora_dropout=settings.dropout,
            bias="none",
            target_modules=settings.target_modules or None,
        )
    start = PromptTuningInit.RANDOM if settings.prompt_init == "random" else PromptTuningInit.SAMPLE_VOCAB
    return PromptTuningConfig(
        task_type=TaskType.SEQ_CLS, num_virtual_tokens=settings.virtual_tokens, prompt_tuning_init=start
    )
