"""A model without its weights: enough to tokenize for it, and to know its sites and how wide they are."""

from __future__ import annotations

from repeng.errors import BadInput, first_line
from repeng.models.fingerprint import identify
from repeng.models.load import LanguageModel
from repeng.models.pretrained import REFUSALS, read_outline, read_tokenizer
from repeng.models.source import find_model


def load_outline(name: str, *, dtype: str = "auto", device: str = "auto", quantization: str = "auto") -> LanguageModel:
    """A model whose modules stand on torch's meta device, with its tokenizer. No weights are read; it cannot be run.

    Args:
        name: as of `load_model`.
        dtype: as of `load_model`.
        device: as of `load_model`, for the dtype that `auto` means.
        quantization: as of `load_model`, for the identity.

    Raises:
        BadInput: no such model, or one that is no causal language model.
    """
    from transformers import AutoModelForCausalLM

    identity = identify(name, dtype=dtype, device=device, quantization=quantization)
    source = find_model(name)
    try:
        tokenizer, model = read_tokenizer(source), read_outline(AutoModelForCausalLM, source)
    except REFUSALS as error:
        raise BadInput(f"cannot read {name!r} as a causal language model: {first_line(error)}") from error
    return LanguageModel(model, tokenizer, identity)
