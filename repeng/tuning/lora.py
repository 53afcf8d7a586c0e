"""LoRA (Hu et al. 2021) on a reward model, through peft; the head is trained and saved with the adapter."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from repeng.errors import BadInput
from repeng.tuning.reward_model import forked_rng, quiet_transformers
from repeng.tuning.settings import TuneSettings


def add_lora(model: nn.Module, settings: TuneSettings, *, seed: int, device: torch.device) -> nn.Module:
    """A peft model around a sequence classifier whose LoRA weights start from the seed.

    Raises:
        BadInput: peft knows no modules to adapt in this architecture.
    """
    from peft import LoraConfig, TaskType

    config = LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        bias="none",
        target_modules=settings.target_modules or None,
    )
    return attach(model, config, seed=seed, device=device)


def attach(model: nn.Module, config: Any, *, seed: int, device: torch.device) -> nn.Module:
    """A peft model whose new weights are drawn from the seed and kept in float32.

    Raises:
        BadInput: the adapter does not fit the model.
    """
    from peft import get_peft_model

    with forked_rng(seed, device), quiet_transformers():
        try:
            adapted = get_peft_model(model, config)
        except ValueError as error:
            raise BadInput(f"{config.peft_type.value} cannot be put on {type(model).__name__}: {error}") from error
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return adapted
