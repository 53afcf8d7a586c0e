"""The slow obvious way: one text, alone, without padding, through the stock model and its own logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from repeng.distributions.schema import Split
from repeng.models.load import LanguageModel

BLOCKS = {"llama": "model.layers", "gpt_neox": "gpt_neox.layers", "gpt2": "transformer.h"}
OUT_PROJECTION = {"llama": "self_attn.o_proj", "gpt_neox": "attention.dense", "gpt2": "attn.c_proj"}
FINAL_NORM = {"llama": "model.norm", "gpt_neox": "gpt_neox.final_layer_norm", "gpt2": "transformer.ln_f"}


@dataclass
class Reference:
    """One text: of each (site, layer) a tensor [pos, ...]; the response's tokens; its total log-probability."""

    vectors: dict[tuple[str, int], Tensor]
    start: int
    end: int
    logprob: float

    @property
    def length(self) -> int:
        return len(next(iter(self.vectors.values())))


def alone(lm: LanguageModel, architecture: str, prompt: str, response: str, suffix: str = "") -> Reference:
    """Run prompt + response + suffix alone. The response's tokens are found by asking the tokenizer for characters."""
    encoded = lm.tokenizer(prompt + response + suffix)
    ids = torch.tensor([encoded["input_ids"]])
    if response:
        start = encoded.char_to_token(len(prompt))
        end = len(encoded["input_ids"])
        if suffix:
            # A character may be several tokens, so the end is where the next character begins.
            end = encoded.char_to_token(len(prompt + response))
            end += end == encoded.char_to_token(len(prompt + response) - 1)
    else:
        start = end = len(lm.tokenizer(prompt)["input_ids"])
    model: Any = lm.model
    blocks = model.get_submodule(BLOCKS[architecture])
    kept: dict[tuple[str, int], Tensor] = {}

    def keep_output(key: tuple[str, int]) -> Any:
        return lambda _, __, out: kept.__setitem__(key, (out[0] if isinstance(out, tuple) else out)[0].clone())

    def keep_input(key: tuple[str, int]) -> Any:
        return lambda _, args: kept.__setitem__(
            key, args[0][0].unflatten(-1, (lm.config.num_attention_heads, -1)).clone()
        )

    handles = []
    for layer, block in enumerate(blocks):
        projection: nn.Module = block.get_submodule(OUT_PROJECTION[architecture])
        handles.append(block.register_forward_hook(keep_output(("resid_post", layer))))
        handles.append(block.mlp.register_forward_hook(keep_output(("mlp_out", layer))))
        handles.append(projection.register_forward_pre_hook(keep_input(("hook_z", layer))))
    norm = model.get_submodule(FINAL_NORM[architecture])
    handles.append(norm.register_forward_hook(keep_output(("ln_final", len(blocks) - 1))))
    try:
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0]
    finally:
        for handle in handles:
            handle.remove()
    scores = logits.float().log_softmax(-1)
    total = sum(float(scores[place - 1, ids[0, place]]) for place in range(max(start, 1), end))
    return Reference(kept, start, end, total)


def texts_of(split: Split) -> list[tuple[str, str]]:
    """(prompt, response) of each response in file order."""
    return [(example.prompt, response) for example in split.examples for response in example.responses]
