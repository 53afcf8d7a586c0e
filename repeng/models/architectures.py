"""Where the modules of a transformer are, by the names that architectures give them.

One table for all: a block is looked into for the first name that it has. An architecture that fits none is refused by
name rather than guessed at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Any

from torch import nn

from repeng.errors import BadInput

BASES = (
    # base model, its blocks, its final norm: the first of which all are there
    ("model.language_model", "layers", "norm"),
    ("model.decoder", "layers", "final_layer_norm"),
    ("model", "layers", "norm"),
    ("model", "layers", "final_layernorm"),
    ("transformer", "h", "ln_f"),
    ("gpt_neox", "layers", "final_layer_norm"),
    ("backbone", "layers", "norm_f"),
)
ATTENTIONS = ("self_attn", "attention", "self_attention", "attn.attention", "attn")
OUT_PROJECTIONS = ("o_proj", "out_proj", "dense", "c_proj")
# What an MLP adds to the residual stream leaves it through its own norm where the block has one after it (Gemma 2 and
# 3, OLMo 2, GLM 4). BLOOM's MLP returns the residual stream too, so its last projection stands for it; OPT has no MLP
# module.
MLP_OUTPUTS = (
    "post_feedforward_layernorm",
    "post_mlp_layernorm",
    "mlp.dense_4h_to_h",
    "mlp",
    "block_sparse_moe",
    "feed_forward",
    "fc2",
)
REFUSED = {
    "gemma3n_text": "its residual stream has several lanes",
    "gemma3n": "its residual stream has several lanes",
}
KNOWN = (
    "bloom, cohere, falcon, gemma, gemma2, gemma3, gpt2, gpt_neox, gpt_oss, gptj, granite, llama, mamba, mistral, "
    "mixtral, olmo2, opt, phi, phi3, qwen2, qwen3, stablelm, starcoder2 and what is built like one of them"
)


@dataclass(frozen=True)
class Anatomy:
    """The modules of a causal language model that are hooked or called.

    Attributes:
        model: the whole.
        config: of its text model.
        base: gives the last hidden state, after the final norm.
        blocks: in order.
        final_norm: between the last block and the unembedding; None where a model has none.
        unembed: gives logits.
    """

    model: nn.Module
    config: Any
    base: nn.Module
    blocks: tuple[nn.Module, ...]
    final_norm: nn.Module | None
    unembed: nn.Module

    @cached_property
    def d_head(self) -> int:
        """Width of one head's output, in the first block that has attention.

        Raises:
            BadInput: no block has attention.
        """
        for block in self.blocks:
            projection = attention_out(block)
            if projection is not None:
                return input_width(projection) // int(self.config.num_attention_heads)
        raise BadInput(f"a model of type {self.config.model_type!r} has no attention heads")


def find(module: nn.Module, names: Sequence[str]) -> nn.Module | None:
    """The first of some dotted names that a module has."""
    for name in names:
        try:
            found = attrgetter(name)(module)
        except AttributeError:
            continue
        if isinstance(found, nn.Module):
            return found
    return None


def dissect(model: Any) -> Anatomy:
    """Find the modules of a causal language model.

    Raises:
        BadInput: the architecture fits no entry of the table.
    """
    config: Any = model.config.get_text_config()
    model_type = config.model_type
    unembed = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if model_type in REFUSED:
        raise BadInput(f"models of type {model_type!r} are not supported: {REFUSED[model_type]}")
    for name, blocks_name, norm_name in BASES:
        base = find(model, [name])
        blocks = find(base, [blocks_name]) if base is not None else None
        if base is None or blocks is None or unembed is None:
            continue
        norm = find(base, [norm_name])
        # OPT-350m has no final norm and projects its last hidden state instead.
        if norm is None and name != "model.decoder":
            continue
        return Anatomy(model, config, base, tuple(blocks.children()), norm, unembed)
    raise BadInput(f"models of type {model_type!r} ({type(model).__name__}) are not known; known are {KNOWN}")


def attention_out(block: nn.Module) -> nn.Module | None:
    """The projection that mixes a block's heads into the residual stream; None for a block without attention."""
    attention = find(block, ATTENTIONS)
    return None if attention is None else find(attention, OUT_PROJECTIONS)


def mlp_out(block: nn.Module) -> nn.Module | None:
    """The module whose output a block's MLP adds to the residual stream; None for a block without one."""
    return find(block, MLP_OUTPUTS)


def input_width(projection: nn.Module) -> int:
    """How many features a projection takes: those of all heads side by side."""
    width = getattr(projection, "in_features", None)
    if width is None:
        # GPT-2's Conv1D keeps its weight as [in, out].
        weights: Any = projection.weight
        width = weights.shape[0]
    return int(width)
