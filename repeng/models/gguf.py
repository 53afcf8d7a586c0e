"""Models in GGUF files: what a file's header says, and loading it through transformers' own reader.

A GGUF file holds a whole model: configuration, tokenizer, chat template and weights, mostly quantised. transformers
unpacks the weights to plain values and puts them in its own modules, so that everything works on such a model as on
any other. The file alone determines the model: what else lies in its folder is not read.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from repeng.errors import BadInput, first_line

SIZES = {
    "num_hidden_layers": "block_count",
    "hidden_size": "embedding_length",
    "max_position_embeddings": "context_length",
}
"""Where a GGUF file says what config.json does, after the name of its architecture."""
RENAMED = {"qwen2_moe": "qwen2moe", "qwen3_moe": "qwen3moe", "gpt_oss": "gpt-oss", "minimax_m2": "minimax-m2"}
"""Architectures that transformers lists by a name of its own, and llama.cpp's."""
LIKE_GPT2 = (
    "gpt-2",
    "phi-2",
    "mpt",
    "olmo",
    "jais",
    "smollm",
    "starcoder",
    "refact",
    "command-r",
    "codeshell",
    "exaone",
)
"""Rules of splitting text before its merges that come to the same as GPT-2's, which transformers takes where it knows
no other. Those from `smollm` on part digits, and their vocabularies hold no merges of digits."""


@dataclass(frozen=True)
class Header:
    """What a GGUF file says of its model.

    Attributes:
        config: size, limits and dtype of the weights, by config.json's names. Blocks of a few bits count as bfloat16,
            which is finer than they are.
        quantisation: llama.cpp's name of it, as `MOSTLY_Q4_1`.
        tensors: their names.
        unread: further values that change numbers and that transformers does not read.
    """

    config: Mapping[str, Any]
    quantisation: str
    tensors: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


def read_header(file: Path) -> Header:
    """What a GGUF file says of its model, without reading its weights.

    Raises:
        BadInput: it is no GGUF file, one of several files of a model, or cut short; its architecture is one that
            transformers does not read; or the package `gguf` is not installed.
    """
    status = file.stat()
    return _read_header(file.resolve(), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _read_header(file: Path, size: int, modified: int) -> Header:  # noqa: ARG001  (size and time are part of the key)
    if find_spec("gguf") is None:
        raise BadInput(f"{file} is a GGUF file; reading it needs the package gguf: pip install 'repeng-toolkit[gguf]'")
    from transformers.integrations.gguf import read_gguf_metadata

    try:
        found, tensors = read_gguf_metadata(str(file))
    except (ValueError, IndexError, struct.error, OverflowError, MemoryError) as error:
        raise BadInput(f"{file}: no readable GGUF file: {first_line(error)}") from error
    architecture = str(found["general.architecture"])
    files = found.get("split.count", 1)
    if not isinstance(files, int):
        raise BadInput(f"{file}: no readable GGUF file: its header says that split.count is {files!r}; it is a number")
    if files > 1:
        raise BadInput(
            f"{file}: one of {files} files of a model, and transformers reads single files; join them with llama.cpp's "
            "llama-gguf-split --merge"
        )
    if architecture not in readable_architectures():
        raise BadInput(
            f"{file}: models of the architecture {architecture!r} cannot be read from GGUF files by this version of "
            "transformers; give the folder or the hub id of the model that it was made from"
        )
    config = {name: found.get(f"{architecture}.{key}") for name, key in SIZES.items()}
    config |= {"model_type": architecture, "dtype": _stored_dtype(file, size)}
    return Header(config, _quantisation(found.get("general.file_type")), tensors, _unread(found, architecture))


def _stored_dtype(file: Path, size: int) -> str:
    """The dtype of a file's weights.

    Raises:
        BadInput: the file is shorter than its header says.
    """
    from transformers.integrations.gguf.reader import GgufHeader

    try:
        header = GgufHeader.from_file(str(file))
    except ValueError:
        # Blocks that this reader does not know; llama.cpp's package, which unpacks them, may.
        return "bfloat16"
    whole = max((header.data_start + tensor.offset + tensor.nbytes for tensor in header.tensors), default=0)
    if whole > size:
        raise BadInput(f"{file}: cut short: {size:,} bytes of the {whole:,} that its header speaks of; fetch it again")
    return "bfloat16" if header.dtype is None else str(header.dtype).removeprefix("torch.")


def _unread(found: Mapping[str, Any], architecture: str) -> tuple[str, ...]:
    """Values of a file that change numbers or tokens, and that transformers passes over."""
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS
    from transformers.modeling_gguf_pytorch_utils import GGUF_TO_TRANSFORMERS_MAPPING

    read = GGUF_TO_TRANSFORMERS_MAPPING["config"].get(architecture, {})
    scaling = f"{architecture}.rope.scaling.type"
    rule = str(found.get("tokenizer.ggml.pre", "default"))
    unread = []
    if found.get(scaling, "none") != "none" and architecture != "gpt-oss" and "rope.scaling.type" not in read:
        unread.append(f"{scaling} = {found[scaling]}")
    if found.get("tokenizer.ggml.model") == "gpt2" and rule not in {*GGUF_PRE_TOKENIZER_SPLITS, *LIKE_GPT2}:
        unread.append(f"tokenizer.ggml.pre = {rule} (texts are split as GPT-2 splits them)")
    return tuple(unread)


def unused_by_transformers(header: Header, model: Any) -> tuple[str, ...]:
    """What of a file transformers puts nowhere in the model that it makes of it: tensors, and values it passes over.

    A Llama 3.1's `rope_freqs.weight` is one, and so are biases that the architecture's module does not have.
    """
    from transformers.integrations.gguf import GGUF_ARCHS
    from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor, get_gguf_hf_weights_map

    architecture = header.config["model_type"]
    if architecture in GGUF_ARCHS:
        # Read by newer code, which says itself what it does not know.
        return header.unread
    taken = set(get_gguf_hf_weights_map(model, TENSOR_PROCESSORS.get(architecture, TensorProcessor)()))
    # A classifier has no use for the logits' weights.
    tensors = (name for name in header.tensors if name != "output.weight")
    return (*(name for name in tensors if not {name, name.removesuffix(".weight")} & taken), *header.unread)


def readable_architectures() -> frozenset[str]:
    """llama.cpp's names of the architectures that transformers reads."""
    from transformers.integrations.gguf import GGUF_ARCHS
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    known = {RENAMED.get(name, name) for name in GGUF_SUPPORTED_ARCHITECTURES} | set(GGUF_ARCHS)
    # Sections of the metadata stand in the same list.
    return frozenset(known - {"general", "tokenizer"})


def _quantisation(kind: Any) -> str:
    from gguf import LlamaFileType

    try:
        return LlamaFileType(kind).name
    except ValueError:
        return "a kind that the file does not name" if kind is None else f"file type {kind}"
