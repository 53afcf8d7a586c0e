"""What determines a model's numbers, found out without loading its weights.

A model from the hub is known by its repository and commit, one in a GGUF file by the file's content. A model in a
folder is known by the content of its files: weights are hashed whole (sha256 over the sha256 of each 64 MiB block,
blocks side by side on a few threads: about as fast as the disk), because a sample would miss an edit of a few rows.
Within one process a file of unchanged path, size and modification time is hashed once.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from repeng.errors import BadInput, UnknownName
from repeng.models.gguf import SIZES
from repeng.models.quantised import FLOAT16, quantisation_of
from repeng.models.source import Source, find_model, json_object

BLOCK = 64 << 20

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
WEIGHT_FILES = ("*.safetensors", "*.py")
"""Weights, and the Python files of a model with its own code."""
NO_NUMBERS = ("generation_config.json", "README*", "*.md", "LICENSE*", ".*")
"""What else a folder may hold that changes no number: nothing is sampled."""
OUR_FILES = ("capture.json", "study.toml", "tuned.json")
"""A folder within a model's folder that holds one of these is a capture, a study's results, or a tuned model."""
GGUF_HASH = "gguf-sha256:"
"""What the hash of a GGUF file's content begins with."""
LARGEST = 1_000_000
"""More layers, or more dimensions, than any model has."""
MOST_FILES = 10_000
"""A folder with more is not a model's, or not a model's alone."""
POSITION_KEYS = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length")


@cache
def cpu_has_bfloat16() -> bool:
    """Whether this processor multiplies matrices of bfloat16 by instructions of its own, so that it saves time."""
    import torch

    found = torch.cpu.get_capabilities()
    return any(found.get(name) for name in ("avx512_bf16", "amx_bf16", "arm_bf16", "bf16"))


@dataclass(frozen=True)
class Identity:
    """A model as far as its numbers are concerned, and its size.

    Attributes:
        model: what the user called it.
        slug: the name as part of a file name.
        weights: `HUB_ID@COMMIT`, `sha256:...` over a folder's weights, or `gguf-sha256:...` over a GGUF file. What
            quantised weights are unpacked to is `dtype`.
        config: hash of config.json without what changes no number.
        tokenizer: hash of the tokenizer's files, or the hub's commit again.
        dtype: that the model computes in: `float32`, `bfloat16` or `float16`.
        n_layers: number of blocks.
        d_model: width of the residual stream.
        max_length: the longest text in tokens that the model takes; None where it names no limit.
        other_files: hash of all that else lies in a folder and its sub-folders, such as a LoRA adapter or further chat
            templates; empty where there is nothing, and for a model of the hub, where the commit stands for it.
        quantization: method, kind and bits of quantised weights (`bitsandbytes nf4`); empty where they are not, and of
            a GGUF file.
        quantizer: what changed the weights while they were loaded: the library that quantised them, with its version,
            or `unpacked`; empty where they are computed with as they are stored.
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
    other_files: str = ""
    quantization: str = ""
    quantizer: str = ""

    @property
    def is_gguf(self) -> bool:
        """Whether the model is a GGUF file."""
        return self.weights.startswith(GGUF_HASH)

    @property
    def content(self) -> tuple[str, ...]:
        """All files that the model's numbers follow from, as hashes."""
        files = (self.weights, self.config, self.tokenizer)
        return (*files, self.other_files) if self.other_files else files

    def check_announced(self, announced: Identity) -> None:
        """Refuse a model that was loaded and is another than the one that was planned with.

        Raises:
            BadInput: the two differ.
        """
        if self != announced:
            raise BadInput(f"the model that was loaded, {self}, is not the one that was announced, {announced}")


def slug(name: str) -> str:
    """A model's name as part of a file name: `org/model` becomes `org--model`, a folder or file gives its own name."""
    text = Path(name).resolve().name if os.path.exists(name) else name
    return text.strip("/").replace("/", "--").replace(" ", "_")


def short_hash(value: Any) -> str:
    """Twelve hex digits over plain values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def resolve_device(device: str) -> str:
    """The device that `auto` stands for: the first of cuda, mps, cpu that is here; any other as it is.

    Raises:
        BadInput: PyTorch knows no such device, or it is not here.
    """
    import torch

    if device == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        wanted = torch.device(device)
        here = torch.get_device_module(wanted).device_count()
    except RuntimeError as error:
        raise BadInput(f"unknown device {device!r}; give auto, cpu, cuda, cuda:1 or mps") from error
    if wanted.type != "cpu" and (wanted.index or 0) >= here:
        raise BadInput(f"device is {device!r}, and PyTorch finds {here} {wanted.type} device(s) here; give auto or cpu")
    return device


def resolve_dtype(dtype: str, device: str, stored: str | None) -> str:
    """The dtype that `auto` stands for.

    On a CPU that is bfloat16 where the weights are stored in it and the processor has instructions for it, else
    float32. Elsewhere it is the one that the weights are stored in, but bfloat16 where that is float16: float16
    overflows on massive activations, bfloat16 does not.

    Raises:
        BadInput: not a dtype to compute in.
    """
    known = ("float32", "bfloat16", "float16")
    if dtype == "auto":
        if (resolve_device(device) if device == "auto" else device).startswith("cpu"):
            return "bfloat16" if stored == "bfloat16" and cpu_has_bfloat16() else "float32"
        return {"float16": "bfloat16"}.get(stored or "float32", stored or "float32")
    if dtype not in known:
        raise UnknownName("dtype", dtype, ("auto", *known))
    return dtype


def identify(name: str, *, dtype: str = "auto", device: str = "auto", quantization: str = "auto") -> Identity:
    """What determines a model's numbers, without loading its weights.

    Args:
        name: hub id, folder, GGUF file, or a known name; see `find_model`.
        dtype: to compute in; see `resolve_dtype`.
        device: only says what a dtype of `auto` means.
        quantization: of the weights; see `quantisation_of`.

    Raises:
        BadInput: no such model, a folder without safetensors, or one that cannot be quantised so.
    """
    source = find_model(name)
    inner = source.config.get("text_config")
    config = {**source.config, **(inner if isinstance(inner, dict) else {})}
    weights, tokenizer, other_files = _content(source)
    stored = config.get("dtype") or config.get("torch_dtype")
    quantised = quantisation_of(source, quantization)
    resolved = resolve_dtype(dtype, device, stored)
    # Where the method's kernels compute in float16, what it was quantised in is kept.
    if quantised is not None and quantised.method in FLOAT16 and dtype == "auto" and resolved == "bfloat16":
        resolved = stored or resolved
    return Identity(
        model=name,
        slug=slug(name),
        weights=weights,
        config=short_hash({key: value for key, value in source.config.items() if key not in VOLATILE}),
        tokenizer=tokenizer,
        dtype=resolved,
        n_layers=_size(source, config, ("num_hidden_layers", "n_layer", "n_layers", "num_layers")),
        d_model=_size(source, config, ("hidden_size", "n_embd", "d_model", "dim")),
        max_length=max_length(config, None if source.gguf else Path(source.path)),
        other_files=other_files,
        quantization="" if quantised is None else quantised.name,
        quantizer="" if quantised is None else quantised.quantizer,
    )


def _content(source: Source) -> tuple[str, str, str]:
    """What tells weights, tokenizer, and whatever else lies with them from any other.

    Raises:
        BadInput: a folder without safetensors.
    """
    if source.gguf is not None:
        file = f"{GGUF_HASH}{file_hash(source.gguf)[:12]}"
        return file, file, ""
    if source.commit:
        commit = f"{source.path}@{source.commit}"
        return commit, commit, ""
    folder = Path(source.path)
    if not any(folder.glob("*.safetensors")):
        raise BadInput(f"{folder}: no *.safetensors here; repeng reads no pickled weights, save them as safetensors")
    others = _other_files(folder)
    return (
        _hash_of_files(folder, _matching(folder, WEIGHT_FILES)),
        _hash_of_files(folder, _matching(folder, TOKENIZER_FILES)),
        _hash_of_files(folder, others) if others else "",
    )


def max_length(config: Mapping[str, Any], folder: Path | None) -> int | None:
    """The longest text in tokens: the least of what the configuration and the tokenizer name, or None.

    Of a hub model or a GGUF file only the configuration is asked; positions that a model merely was trained with
    (BLOOM's) count too.
    """
    limits = [config.get(key) for key in POSITION_KEYS]
    settings = folder and folder / "tokenizer_config.json"
    if settings and settings.is_file():
        limits.append(json_object(settings).get("model_max_length"))
    # Tokenizers without a limit say 1e30.
    known = [int(limit) for limit in limits if isinstance(limit, int | float) and 0 < limit < 1e9]
    return min(known) if known else None


def _matching(folder: Path, patterns: Sequence[str]) -> set[Path]:
    """A folder's own files that fit any pattern."""
    return {file for pattern in patterns for file in folder.glob(pattern) if file.is_file()}


def _other_files(folder: Path) -> set[Path]:
    """The files of a folder and its sub-folders that a model's numbers may depend on, but for weights and tokenizer.

    Raises:
        BadInput: there are too many for a model's folder.
    """
    known = _matching(folder, ("config.json", *WEIGHT_FILES, *TOKENIZER_FILES))
    found: set[Path] = set()
    for number, file in enumerate(_walk(folder, {folder.resolve()})):
        if number == MOST_FILES:
            raise BadInput(f"{folder} holds over {MOST_FILES:,} files; give a folder that holds the model alone")
        if file not in known and not (file.name == "model.safetensors.index.json" and _says_no_more(file)):
            found.add(file)
    return found


def _walk(folder: Path, seen: set[Path]) -> Iterator[Path]:
    """Every regular file below a folder that may change numbers, links followed, no folder twice."""
    for entry in sorted(folder.iterdir()):
        if any(entry.match(pattern) for pattern in NO_NUMBERS):
            continue
        if entry.is_file():
            yield entry
        elif entry.is_dir() and (real := entry.resolve()) not in seen:
            seen.add(real)
            if not any((entry / name).is_file() for name in OUR_FILES):
                yield from _walk(entry, seen)


def _says_no_more(index: Path) -> bool:
    """Whether the index of weights in several files says just what those files say of themselves."""
    from safetensors import SafetensorError, safe_open

    places = {}
    try:
        for file in index.parent.glob("*.safetensors"):
            with safe_open(file, framework="numpy") as opened:
                places.update(dict.fromkeys(opened.keys(), file.name))
    except SafetensorError:
        return False
    return bool(json_object(index).get("weight_map") == places)


def _hash_of_files(folder: Path, files: Iterable[Path]) -> str:
    """A hash of the names and contents of some files of a folder."""
    named = sorted((file.relative_to(folder).as_posix(), file) for file in files)
    return "sha256:" + short_hash([[name, file_hash(file)] for name, file in named])


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


def _size(source: Source, config: Mapping[str, Any], keys: Sequence[str]) -> int:
    """The first of some sizes that a model's configuration names.

    Raises:
        BadInput: it names none, or one that no model has.
    """
    file, names = "config.json", {key: key for key in keys}
    if source.gguf is not None:
        file, names = "header", {key: f"{config['model_type']}.{SIZES[key]}" for key in keys if key in SIZES}
    for key, named in names.items():
        if value := config.get(key):
            if isinstance(value, int) and 0 < value <= LARGEST:
                return value
            raise BadInput(
                f"{source.name}: its {file} says that {named} is {value!r}; it is a number up to {LARGEST:,}"
            )
    unknown = "fetch it again, or convert the model anew" if source.gguf else "this architecture is not known"
    raise BadInput(f"{source.name}: its {file} names none of {', '.join(names.values())}; {unknown}")
