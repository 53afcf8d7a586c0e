"""GGUF files of tiny Llamas, written with llama.cpp's own package from the folders that `tiny_models` makes.

`write_gguf(folder, file, kind="Q8_0")` holds the folder's weights and tokenizer; `weights_of(file)` reads them back by
that package alone, under transformers' names: what any other reader must agree with.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf.quants import dequantize, quant_shape_to_byte_shape, quantize
from safetensors.torch import load_file
from tiny_models import make_model
from torch import Tensor

KINDS = {
    "F32": gguf.LlamaFileType.ALL_F32,
    "F16": gguf.LlamaFileType.MOSTLY_F16,
    "BF16": gguf.LlamaFileType.MOSTLY_BF16,
    "Q4_0": gguf.LlamaFileType.MOSTLY_Q4_0,
    "Q4_1": gguf.LlamaFileType.MOSTLY_Q4_1,
    "Q5_0": gguf.LlamaFileType.MOSTLY_Q5_0,
    "Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "Q4_K": gguf.LlamaFileType.MOSTLY_Q4_K_M,
    "Q6_K": gguf.LlamaFileType.MOSTLY_Q6_K,
    "Q1_0": gguf.LlamaFileType.MOSTLY_Q1_0,
}
"""What matrices can be stored as. Blocks of the last three are drawn at random: the package only reads them, or not."""
WIDE = ("Q4_K", "Q6_K", "Q1_0")
"""Those whose blocks take 256 values a row, or 128."""
SCALES = {"Q4_K": (0, 2), "Q6_K": (208,), "Q1_0": (0,)}
"""Where a block holds numbers in float16, which random bytes would make infinite."""
TEMPLATE = "{% for m in messages %}<s>{{ m.role }}: {{ m.content }}</s>{% endfor %}"
NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""llama.cpp's names of a Llama's tensors, and transformers'."""


def make_gguf_folder(folder: Path, *, width: int = 32, **options: Any) -> Path:
    """A tiny Llama of two layers, whose rows are as long as blocks need, with a chat template."""
    sizes = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": 2}
    make_model("llama", folder, config={**sizes, **options.pop("config", {})}, **options)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


def write_gguf(
    folder: Path,
    file: Path,
    *,
    kind: str = "F32",
    architecture: str = "llama",
    leave_out: str = "",
    metadata: Mapping[str, Any] | None = None,
    extra: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """Write the model of a folder as a GGUF file, as llama.cpp's converter would, and return the file.

    Args:
        folder: of a Llama.
        file: to write.
        kind: what its matrices are stored as; norms are float32 as everywhere.
        architecture: what the file says of itself.
        leave_out: the tensor of this name is not written.
        metadata: further values, or others than the folder's: numbers, strings and booleans.
        extra: further tensors, as float32.
    """
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_file_type(KINDS[kind])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    writer.add_vocab_size(config["vocab_size"])
    _add_tokenizer(writer, folder)
    for name, value in (metadata or {}).items():
        add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
        add[type(value)](name, value)
    generator = np.random.default_rng(0)
    for name, tensor in load_file(folder / "model.safetensors").items():
        own = _own_name(name)
        if own == leave_out:
            continue
        values = _permuted(name, tensor, config).numpy()
        stored, type_of_it = (values, "F32") if values.ndim == 1 else (_stored(values, kind, generator), kind)
        writer.add_tensor(own, stored, raw_dtype=gguf.GGMLQuantizationType[type_of_it])
    for name, array in (extra or {}).items():
        writer.add_tensor(name, array.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def weights_of(file: Path) -> dict[str, Tensor]:
    """The weights of a Llama's GGUF file in float32, unpacked by llama.cpp's package, by transformers' names."""
    reader = gguf.GGUFReader(file)
    heads = {
        name: int(reader.fields[f"llama.attention.{key}"].contents())
        for name, key in (("q", "head_count"), ("k", "head_count_kv"))
    }
    found = {}
    for tensor in reader.tensors:
        values = torch.from_numpy(np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32))
        block = re.match(r"blk\.(\d+)\.(.*)\.weight", tensor.name)
        kind = block[2] if block else tensor.name.removesuffix(".weight")
        if kind in ("attn_q", "attn_k"):
            # llama.cpp turns neighbouring rows, transformers those half a head apart.
            rows = values.reshape(heads[kind[-1]], -1, 2, values.shape[1])
            values = torch.cat([rows[:, :, 0], rows[:, :, 1]], dim=1).reshape(values.shape)
        prefix = f"model.layers.{block[1]}." if block else ""
        found[f"{prefix}{NAMES[kind]}.weight"] = values
    return found


def _add_tokenizer(writer: gguf.GGUFWriter, folder: Path) -> None:
    held = json.loads((folder / "tokenizer.json").read_text())
    ids = {**held["model"]["vocab"], **{token["content"]: token["id"] for token in held["added_tokens"]}}
    special = {token["content"] for token in held["added_tokens"] if token["special"]}
    tokens = sorted(ids, key=lambda token: int(ids[token]))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    kinds = (gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL for token in tokens)
    writer.add_token_types(list(kinds))
    writer.add_token_merges([" ".join(pair) for pair in held["model"]["merges"]])
    writer.add_bos_token_id(ids["<s>"])
    writer.add_eos_token_id(ids["</s>"])
    writer.add_pad_token_id(ids["<pad>"])
    writer.add_add_bos_token(True)
    writer.add_chat_template(TEMPLATE)


def _own_name(name: str) -> str:
    """llama.cpp's name of a tensor."""
    own = {theirs: ours for ours, theirs in NAMES.items()}
    block = re.match(r"model\.layers\.(\d+)\.(.*)\.weight", name)
    return f"blk.{block[1]}.{own[block[2]]}.weight" if block else f"{own[name.removesuffix('.weight')]}.weight"


def _permuted(name: str, tensor: Tensor, config: Mapping[str, Any]) -> Tensor:
    """Rows of queries and keys in llama.cpp's order."""
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}.get(name.split(".")[-2])
    if heads is None:
        return tensor
    halves = tensor.reshape(heads, 2, -1, tensor.shape[1])
    return torch.stack([halves[:, 0], halves[:, 1]], dim=2).reshape(tensor.shape)


def _stored(values: np.ndarray, kind: str, generator: np.random.Generator) -> np.ndarray:
    if kind == "F16":
        return values.astype(np.float16)
    if kind not in WIDE:
        return quantize(values, gguf.GGMLQuantizationType[kind])
    size, n_bytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    rows, width = quant_shape_to_byte_shape(values.shape, gguf.GGMLQuantizationType[kind])
    blocks = generator.integers(0, 256, (rows * width // n_bytes, n_bytes), dtype=np.uint8)
    for place in SCALES[kind]:
        scales = generator.uniform(0.5, 1, len(blocks)) / size / 4
        blocks[:, place : place + 2] = scales.astype(np.float16)[:, None].view(np.uint8)
    return blocks.reshape(rows, width)
