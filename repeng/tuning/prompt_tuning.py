"""Prompt-tuning (Lester et al. 2021) of a reward model, through peft; the head is trained and saved with the prompt."""

from __future__ import annotations

import torch
from torch import nn

from repeng.tuning.lora import attach
from repeng.tuning.settings import TuneSettings


def add_prompt(model: nn.Module, settings: TuneSettings, *, seed: int, device: torch.device) -> nn.Module:
    """A peft model that puts virtual tokens before every text.

    They start as random normal vectors, or as the embeddings of random tokens, drawn from the seed.
    """
    from peft import PromptTuningConfig, PromptTuningInit, TaskType

    start = PromptTuningInit.RANDOM if settings.prompt_init == "random" else PromptTuningInit.SAMPLE_VOCAB
    config = PromptTuningConfig(
        task_type=TaskType.SEQ_CLS, num_virtual_tokens=settings.virtual_tokens, prompt_tuning_init=start
    )
    return attach(model, config, seed=seed, device=device)
