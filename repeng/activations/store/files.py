"""The names and files of a store's parts, and how a file is written so that it is there whole or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from filelock import FileLock, Timeout

from repeng.distributions.schema import Split
from repeng.errors import StoreError

FORMAT = 1
"""Version of the store's files."""
INDEX = "index.json"
PLAN = "plan.json"
CAPTURE = "capture.json"
LOGPROB = "logprob"
SHARD_RESPONSES = 512
"""Responses in a shard, in whole examples."""


class SplitKey(NamedTuple):
    """What a store keeps a split under."""

    distribution: str
    split: str
    data_hash: str


@dataclass(frozen=True)
class ActivationKey:
    """What a part holds: one stimulus at one site and token, or its log-probabilities (site `logprob`, no token)."""

    stimulus: str
    site: str
    token: str = ""

    def __str__(self) -> str:
        return ".".join(piece for piece in (self.stimulus, self.site, self.token) if piece)

    @classmethod
    def parse(cls, text: str) -> ActivationKey:
        """The part of a folder's name.

        Raises:
            StoreError: no part is named like this.
        """
        stimulus, _, rest = text.partition(".")
        if rest == LOGPROB:
            return cls(stimulus, LOGPROB)
        site, _, token = rest.rpartition(".")
        if not (stimulus and site and token):
            raise StoreError(f"{text!r} is no part's name; one is STIMULUS.SITE.TOKEN or STIMULUS.{LOGPROB}")
        return cls(stimulus, site, token)


def split_key(split: Split | SplitKey) -> SplitKey:
    """The key of a loaded split; a key is returned as it is."""
    return SplitKey(split.distribution, split.name, split.data_hash) if isinstance(split, Split) else split


def split_folder(capture: Path, key: SplitKey) -> Path:
    """Where a split's parts are, under a capture's folder."""
    return capture / file_name(key.distribution) / f"{file_name(key.split)}.{key.data_hash}"


def file_name(name: str) -> str:
    """A name as a file's: what a file system may not take is written as %XX, so that no two names meet."""
    safe = quote(name, safe=" +-=@,()[]{}!~'&$")
    return f"%2E{safe[1:]}" if safe.startswith(".") else safe


def original_name(name: str) -> str:
    """The inverse of `file_name`."""
    return unquote(name)


def shard_file(number: int) -> str:
    """The file of a shard."""
    return f"shard-{number:05d}.safetensors"


def blocks(split: Split) -> list[range]:
    """The examples of each shard: whole ones, up to `SHARD_RESPONSES` responses, at least one example."""
    found: list[range] = []
    start = rows = 0
    for number, example in enumerate(split.examples):
        if number > start and rows + len(example.responses) > SHARD_RESPONSES:
            found.append(range(start, number))
            start, rows = number, 0
        rows += len(example.responses)
    if start < len(split.examples):
        found.append(range(start, len(split.examples)))
    return found


def to_json(value: Any) -> bytes:
    """Plain values as a file's content; lists of objects one a line, so that people can read it."""
    pieces = []
    for key, item in value.items():
        if isinstance(item, list) and item and isinstance(item[0], dict):
            rows = ",\n  ".join(json.dumps(row, ensure_ascii=False) for row in item)
            pieces.append(f"{json.dumps(key)}: [\n  {rows}\n ]")
        else:
            pieces.append(f"{json.dumps(key)}: {json.dumps(item, ensure_ascii=False)}")
    return ("{\n " + ",\n ".join(pieces) + "\n}\n").encode()


def read_json(path: Path) -> dict[str, Any]:
    """A file of the store.

    Raises:
        StoreError: it is not there, or no JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise StoreError(f"{path}: no JSON object")
    return value


def checksum(content: bytes) -> str:
    """The sha256 of a file's content."""
    return hashlib.sha256(content).hexdigest()


def clear_temporaries(folder: Path) -> None:
    """Remove what a killed run left half written. Only for who holds the folder's lock."""
    for file in folder.glob(".*.tmp"):
        file.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path, *, wait: bool) -> Iterator[bool]:
    """Hold a split's folder against other processes; gives False where another holds it and `wait` is False.

    Another thread than the one that took the lock may let go of it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", thread_local=False)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
