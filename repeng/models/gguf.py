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
UNQUANTISED = {0: "float32", 1: "float16", 32: "bfloat16"}
"""File types whose weights are no blocks of a few bits. Such blocks count as bfloat16, which is finer than they are."""
RENAMED = {"qwen2_moe": "qwen2moe", "qwen3_moe": "qwen3moe", "gpt_oss": "gpt-oss", "minimax_m2": "minimax-m2"}
"""Architectures that transformers lists by a name of its own, and llama.cpp's."""


@dataclass(frozen=True)
class Header:
    """What a GGUF file says of its model.

    Attributes:
        config: size, limits and dtype of the weights, by config.json's names.
        quantisation: llama.cpp's name of it, as `MOSTLY_Q4_1`.
    """

    config: Mapping[str, Any]
    quantisation: str


def read_header(file: Path) -> Header:
    """What a GGUF file says of its model, without reading its weights.

    Raises:
        BadInput: it is no GGUF file or a part of one, its architecture is one that transformers does not read, or the
            package `gguf` is not installed.
    """
    status = file.stat()
    return _read_header(file.resolve(), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _read_header(file: Path, size: int, modified: int) -> Header:  # noqa: ARG001  (size and time are part of the key)
    if find_spec("gguf") is None:
        raise BadInput(f"{file} is a GGUF file; reading it needs the package gguf: pip install 'repeng-toolkit[gguf]'")
    from transformers.integrations.gguf import read_gguf_metadata

    try:
        found, _ = read_gguf_metadata(str(file))
    except (ValueError, IndexError, struct.error, OverflowError, MemoryError) as error:
        raise BadInput(f"{file}: no readable GGUF file: {first_line(error)}") from error
    architecture = str(found["general.architecture"])
    if (parts := found.get("split.count", 1)) > 1:
        raise BadInput(
            f"{file}: one of {parts} files of a model, and transformers reads single files; join them with llama.cpp's "
            "llama-gguf-split --merge"
        )
    if architecture not in readable_architectures():
        raise BadInput(
            f"{file}: models of the architecture {architecture!r} cannot be read from GGUF files by this version of "
            "transformers; give the folder or the hub id of the model that it was made from"
        )
    kind = found.get("general.file_type")
    config = {name: found.get(f"{architecture}.{key}") for name, key in SIZES.items()}
    config |= {"model_type": architecture, "dtype": UNQUANTISED.get(kind, "bfloat16")}
    return Header(config, _quantisation(kind))


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
