"""Tiny random models of many architectures, written as hub-like folders, with a tokenizer trained on the spot.

`make_model("llama", directory)` returns the folder: config.json, model.safetensors, tokenizer.json,
tokenizer_config.json. Weights are drawn wide enough for attention and norms to matter, so that a wrong mask or
position shows in the fourth digit, not in the tenth.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

SENTENCES = (
    "### Instruction:\nWrite a short poem about the sea, and say why the waves never rest.\n\n### Response:\n",
    "Question: Which of these is the largest planet? A. Mars B. Jupiter C. Venus\nAnswer: B. Jupiter, of course.",
    "The following are commands to an assistant. The assistant answers briefly, honestly and with care.",
    "def add(first, second):\n    return first + second  # the sum of both numbers 0 1 2 3 4 5 6 7 8 9\n",
    "¿Cuál es la capital de España? La capital de España es Madrid; el niño comió mañana.",
    "Consider the extent to which the responder follows the instruction. Yes, No; I don't know it's what they've.",
)
"""What the tokenizer is trained on."""

SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
GPT = {"n_embd": 32, "n_layer": 3, "n_head": 4}
POSITIONS = 2048

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "bloom": {"hidden_size": 32, "n_layer": 3, "n_head": 4},
    "cohere": {**SIZES, "num_key_value_heads": 2, "logit_scale": 0.25},
    "falcon": {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "alibi": False},
    "gemma": {**SIZES, "num_key_value_heads": 2, "head_dim": 12},
    "gemma2": {
        **SIZES,
        "num_key_value_heads": 2,
        "head_dim": 12,
        "sliding_window": 16,
        "query_pre_attn_scalar": 12,
        "final_logit_softcapping": 3.0,
    },
    "gemma3_text": {
        **SIZES,
        "num_key_value_heads": 2,
        "head_dim": 12,
        "sliding_window": 16,
        "query_pre_attn_scalar": 12,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
    "gpt2": {**GPT, "n_positions": POSITIONS},
    "gpt_neox": {**SIZES, "rotary_pct": 0.5},
    "gpt_oss": {
        **SIZES,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "num_local_experts": 3,
        "num_experts_per_tok": 2,
        "sliding_window": 16,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    },
    "gptj": {**GPT, "rotary_dim": 4, "n_positions": POSITIONS},
    "granite": {
        **SIZES,
        "num_key_value_heads": 2,
        "logits_scaling": 3.0,
        "residual_multiplier": 0.7,
        "embedding_multiplier": 2.0,
    },
    "llama": {**SIZES, "num_key_value_heads": 2},
    "mamba": {"hidden_size": 32, "num_hidden_layers": 3, "state_size": 4},
    "mistral": {**SIZES, "num_key_value_heads": 2, "sliding_window": None},
    "mixtral": {**SIZES, "num_key_value_heads": 2, "num_local_experts": 3, "num_experts_per_tok": 2},
    "olmo2": {**SIZES, "num_key_value_heads": 2},
    "opt": {
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "ffn_dim": 48,
        "word_embed_proj_dim": 32,
    },
    "phi": {**SIZES, "partial_rotary_factor": 0.5},
    "phi3": {**SIZES, "num_key_value_heads": 2},
    "qwen2": {**SIZES, "num_key_value_heads": 2},
    "qwen3": {**SIZES, "num_key_value_heads": 2, "head_dim": 12},
    "stablelm": {**SIZES, "num_key_value_heads": 2, "partial_rotary_factor": 0.5},
    "starcoder2": {**SIZES, "num_key_value_heads": 2, "sliding_window": None},
}
"""Configuration of each architecture, by transformers' `model_type`: 3 layers, 4 heads, width 32."""


def train_tokenizer(*, bos: bool = True, eos: bool = True, pad: bool = True, vocabulary: int = 400) -> Tokenizer:
    """A byte-level BPE tokenizer; with `bos`, every text that takes special tokens begins with `<s>`."""
    special = [name for name, wanted in (("<pad>", pad), ("<s>", bos), ("</s>", eos)) if wanted]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES * 4, trainer)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
        )
    return tokenizer


def wide_weights(model: torch.nn.Module, seed: int) -> None:
    """Draw every parameter anew: matrices at 1 / sqrt(inputs), norms and biases away from 1 and 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() >= 2:
                wide = parameter.shape[1] if "embed" not in name and "wte" not in name and "wpe" not in name else 4
                parameter.copy_(noise * 1.2 / wide**0.5)
            elif "A_log" not in name and name.rpartition(".")[2] != "D":
                parameter.add_(noise * 0.2)


def make_model(
    architecture: str,
    directory: Path,
    *,
    seed: int = 0,
    bos: bool = True,
    eos: bool = True,
    pad: bool = True,
    padding_side: str = "right",
    dtype: torch.dtype = torch.float32,
    positions: int = POSITIONS,
    config: Mapping[str, Any] | None = None,
) -> Path:
    """Write a tiny random model and its tokenizer to `directory` (made where absent), and return it.

    Args:
        architecture: a key of ARCHITECTURES.
        directory: becomes the model's folder.
        seed: of the weights; the tokenizer is always the same.
        bos, eos, pad: whether the tokenizer has these tokens.
        padding_side: what the tokenizer says of itself.
        dtype: of the stored weights.
        positions: the longest text that the model says it takes.
        config: values to set over the table's own.
    """
    tokenizer = train_tokenizer(bos=bos, eos=eos, pad=pad)
    names = {name: tokenizer.token_to_id(text) for name, text in (("pad", "<pad>"), ("bos", "<s>"), ("eos", "</s>"))}
    settings = {
        "max_position_embeddings": positions,
        **ARCHITECTURES[architecture],
        "vocab_size": tokenizer.get_vocab_size() + 3,
        **{f"{name}_token_id": number for name, number in names.items()},
        **(config or {}),
    }
    if architecture in ("gpt2", "gptj") and not (config or {}).get("n_positions"):
        settings["n_positions"] = positions
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **settings))
    wide_weights(model, seed)
    model.to(dtype).save_pretrained(directory)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>" if bos else None,
        eos_token="</s>" if eos else None,
        pad_token="<pad>" if pad else None,
        padding_side=padding_side,
        model_max_length=positions,
    ).save_pretrained(directory)
    return directory
