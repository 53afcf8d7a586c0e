"""A model without its weights: enough to tokenize for it, and to know its sites and how wide they are."""

from __future__ import annotations

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from repeng.errors import BadInput, first_line
from repeng.models.fingerprint import identify
from repeng.models.load import LanguageModel
from repeng.models.pretrained import REFUSALS, pretrained_arguments, read_tokenizer
from repeng.models.source import find_model


def load_outline(name: str, *, dtype: str = "auto", device: str = "auto") -> LanguageModel:
    """A model whose modules stand on torch's meta device, with its tokenizer. No weights are read; it cannot be run.

    Args:
        name: as of `load_model`.
        dtype: as of `load_model`.
        device: as of `load_model`, for the dtype that `auto` means.

    Raises:
        BadInput: no such model, or one that is no causal language model.
    """
    identity = identify(name, dtype=dtype, device=device)
    source = find_model(name)
    try:
        tokenizer = read_tokenizer(source)
        with pretrained_arguments(source) as (path, options):
            config = AutoConfig.from_pretrained(path, **options)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except REFUSALS as error:
        raise BadInput(f"cannot read {name!r} as a causal language model: {first_line(error)}") from error
    return LanguageModel(model.eval(), tokenizer, identity)
