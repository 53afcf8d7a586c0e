"""What determines a model's numbers, found out without loading its weights.

A model from the hub is known by its repository and commit. A model in a folder is known by the content of its files:
weights are hashed whole (sha256 over the sha256 of each 64 MiB block, blocks side by side on a few threads: about as
fast as the disk), because a sample would miss an edit of a few rows. Within one process a file of unchanged path,
size and modification time is hashed once.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from repeng.errors import BadInput

BLOCK = 64 << 20
MINI = Path(__file__).parent / "mini"
"""The embedded model: what the name `mini` stands for."""

VOLATILE = ("_name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache", "architectures")
"""Keys of config.json that change no number. The dtype that is computed in is recorded on its own."""
TOKENIZER_FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
    "vocab*",
    "merges.txt",
    "spiece.model",
    "sentencepiece*.model",
)
POSITION_KEYS = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length")


@dataclass(frozen=True)
class Identity:
    """A model as far as its numbers are concerned, and its size.

    Attributes:
        model: what the user called it.
        slug: the name as part of a file name.
        weights: `HUB_ID@COMMIT`, or `sha256:...` over a folder's weights.
        config: hash of config.json without what changes no number.
        tokenizer: hash of the tokenizer's files, or the hub's commit again.
        dtype: that the model computes in: `float32`, `bfloat16` or `float16`.
        n_layers: number of blocks.
        d_model: width of the residual stream.
        max_length: the longest text in tokens that the model takes; None where it names no limit.
    """

    model: str
    slug: str
    weights: str
    config: str
    tokenizer: str
    dtype: str
    n_layers: int
    d_model: int
    max_length: int | None


def slug(name: str) -> str:
    """A model's name as part of a file name: `org/model` becomes `org--model`, a folder gives its own name."""
    text = Path(name).resolve().name if Path(name).is_dir() else name
    return text.strip("/").replace("/", "--").replace(" ", "_")


def short_hash(value: Any) -> str:
    """Twelve hex digits over plain values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def resolve_device(device: str) -> str:
    """The device that `auto` stands for: the first of cuda, mps, cpu that is here; any other as it is."""
    if device != "auto":
        return device
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def resolve_dtype(dtype: str, device: str, stored: str | None) -> str:
    """The dtype that `auto` stands for.

    That is float32 on a CPU, and elsewhere the one that the weights are stored in, but bfloat16 where that is
    float16: float16 overflows on massive activations, bfloat16 does not.

    Raises:
        BadInput: not a dtype to compute in.
    """
    known = ("float32", "bfloat16", "float16")
    if dtype == "auto":
        if resolve_device(device).startswith("cpu"):
            return "float32"
        return {"float16": "bfloat16"}.get(stored or "float32", stored or "float32")
    if dtype not in known:
        raise BadInput(f"unknown dtype {dtype!r}; choose from auto, {', '.join(known)}")
    return dtype


@dataclass(frozen=True)
class Source:
    """Where a model's files are, and its configuration.

    Attributes:
        name: what the user called it.
        path: a folder, or a hub id for the library to fetch.
        commit: the hub's commit; None for a folder.
        config: config.json as it stands there.
    """

    name: str
    path: str
    commit: str | None
    config: Mapping[str, Any]


def find_model(name: str) -> Source:
    """Find a model by hub id, folder, or `mini`. Of a hub model only the configuration is fetched.

    Raises:
        BadInput: there is no such folder and no such model, or the folder has no config.json.
    """
    folder = MINI if name == "mini" else Path(name)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise BadInput(f"{folder}: this folder holds no config.json; give the folder of a model")
        return Source(name, str(folder), None, json.loads((folder / "config.json").read_text(encoding="utf-8")))
    from transformers.utils.hub import cached_file, extract_commit_hash

    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise BadInput(f"{name}: there is no such folder")
    try:
        path = cached_file(name, "config.json")
    except OSError as error:
        raise BadInput(f"{name!r} is no folder here, and not to be had from the hub: {first_line(error)}") from error
    return Source(name, name, extract_commit_hash(path, None), json.loads(Path(path).read_text(encoding="utf-8")))


def identify(name: str, *, dtype: str = "auto", device: str = "auto") -> Identity:
    """What determines a model's numbers, without loading its weights.

    Args:
        name: hub id, folder, or `mini`.
        dtype: to compute in; see `resolve_dtype`.
        device: only says what a dtype of `auto` means.

    Raises:
        BadInput: no such model, or a folder without safetensors.
    """
    source = find_model(name)
    config = {**source.config, **source.config.get("text_config", {})}
    if source.commit:
        weights = tokenizer = f"{source.path}@{source.commit}"
    else:
        folder = Path(source.path)
        if not any(folder.glob("*.safetensors")):
            raise BadInput(
                f"{folder}: no *.safetensors here; repeng reads no pickled weights, save them as safetensors"
            )
        # A model with its own code brings Python files.
        weights = _hash_of_files(folder, ("*.safetensors", "*.py"))
        tokenizer = _hash_of_files(folder, TOKENIZER_FILES)
    return Identity(
        model=name,
        slug=slug(name),
        weights=weights,
        config=short_hash({key: value for key, value in source.config.items() if key not in VOLATILE}),
        tokenizer=tokenizer,
        dtype=resolve_dtype(dtype, device, config.get("dtype") or config.get("torch_dtype")),
        n_layers=_first(config, ("num_hidden_layers", "n_layer", "n_layers", "num_layers"), name),
        d_model=_first(config, ("hidden_size", "n_embd", "d_model", "dim"), name),
        max_length=max_length(config, Path(source.path)),
    )


def max_length(config: Mapping[str, Any], folder: Path) -> int | None:
    """The longest text in tokens: the least of what the configuration and the tokenizer name, or None.

    Of a hub model only the configuration is asked; positions that a model merely was trained with (BLOOM's) count too.
    """
    limits = [config[key] for key in POSITION_KEYS if config.get(key)]
    settings = folder / "tokenizer_config.json"
    if settings.is_file():
        limits.append(json.loads(settings.read_text(encoding="utf-8")).get("model_max_length") or 0)
    # Tokenizers without a limit say 1e30.
    limits = [int(limit) for limit in limits if 0 < limit < 1e9]
    return min(limits) if limits else None


def _hash_of_files(folder: Path, patterns: Sequence[str]) -> str:
    """A hash of the names and contents of a folder's files that fit any pattern."""
    files = sorted({file for pattern in patterns for file in folder.glob(pattern) if file.is_file()})
    return "sha256:" + short_hash([[file.name, file_hash(file)] for file in files])


def file_hash(path: Path) -> str:
    """A hash of a file's whole content. One unchanged in path, size and time is read once a process.

    Raises:
        OSError: it cannot be read.
    """
    status = path.stat()
    return _file_hash(str(path.resolve()), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4096)
def _file_hash(path: str, size: int, modified: int) -> str:  # noqa: ARG001  (the time is part of the key)
    def block_hash(start: int) -> bytes:
        with open(path, "rb") as stream:
            stream.seek(start)
            return hashlib.sha256(stream.read(BLOCK)).digest()

    starts = range(0, size, BLOCK)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        return hashlib.sha256(b"".join(pool.map(block_hash, starts))).hexdigest()


def first_line(error: Exception) -> str:
    """The first line of an error's message."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _first(config: Mapping[str, Any], keys: Sequence[str], name: str) -> int:
    for key in keys:
        if config.get(key):
            return int(config[key])
    raise BadInput(f"{name}: its config.json names none of {', '.join(keys)}; this architecture is not known")
