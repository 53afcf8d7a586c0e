"""What a method adds to a reward model, through peft: the head is trained and saved with it."""

from __future__ import annotations

from typing import Any

from torch import nn

from repeng.errors import BadInput
from repeng.tuning.loading import forked_rng, quiet_transformers
from repeng.tuning.settings import TuneSettings


def add_adapter(model: nn.Module, settings: TuneSettings, *, seed: int) -> nn.Module:
    """A peft model around a sequence classifier, whose new weights are drawn from the seed and kept in float32.

    LoRA (Hu et al. 2021) adapts modules; prompt-tuning (Lester et al. 2021) puts virtual tokens before every text,
    which start as random normal vectors or as the embeddings of random tokens.

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
