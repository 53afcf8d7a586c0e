"""Which base model a tuned one stands on: a folder's content, or a hub repository's commit."""

from __future__ import annotations

import hashlib
from pathlib import Path

from repeng.errors import BadInput

PATTERNS = ("config.json", "*.safetensors", "tokenizer*", "special_tokens_map.json", "vocab*", "merges.txt")


def base_identity(model: str) -> str:
    """What tells base models apart whatever they are called, without loading weights.

    Args:
        model: hub id or folder.

    Returns:
        A hash over the files of a folder, or `hub id@commit`.

    Raises:
        BadInput: there is no such folder and no such model on the hub.
    """
    folder = Path(model)
    if folder.is_dir():
        files = sorted({file for pattern in PATTERNS for file in folder.glob(pattern) if file.is_file()})
        if not any(file.name == "config.json" for file in files):
            raise BadInput(f"{model}: this folder holds no config.json; give the folder of a model")
        digest = hashlib.sha256()
        for file in files:
            digest.update(file.name.encode())
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        return digest.hexdigest()
    from transformers.utils.hub import cached_file, extract_commit_hash

    try:
        config = cached_file(model, "config.json")
    except OSError as error:
        raise BadInput(f"{model}: no folder and no model on the hub: {error}") from error
    return f"{model}@{extract_commit_hash(config, None)}"
