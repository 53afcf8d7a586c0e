"""The names and files of a store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from filelock import FileLock, Timeout

from repeng.atomic import make_folder
from repeng.distributions.schema import Split

INDEX = "index.json"
PLAN = "plan.json"
WRITTEN = "written.jsonl"
CAPTURE = "capture.json"
SPLIT = "split.json"
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
    """What a store keeps activations of a split under: one stimulus, site and token.

    Log-probabilities have the site `logprob` and no token.
    """

    stimulus: str
    site: str
    token: str = ""

    def __str__(self) -> str:
        """The folder's name: `plain.resid_post.last`, `plain.logprob`."""
        return ".".join(piece for piece in (self.stimulus, self.site, self.token) if piece)


def split_key(split: Split | SplitKey) -> SplitKey:
    """The key of a loaded split; a key is returned as it is."""
    return SplitKey(split.distribution, split.name, split.data_hash) if isinstance(split, Split) else split


def split_folder(capture: Path, split: Split | SplitKey) -> Path:
    """Where a split's activations are, under a capture's folder."""
    key = split_key(split)
    return capture / file_name(key.distribution) / f"{file_name(key.split)}.{key.data_hash}"


def file_name(name: str) -> str:
    """A name as a file's: what a file system may not take is written as %XX, so that no two names meet.

    `urllib.parse.unquote` is its inverse.
    """
    safe = quote(name, safe=" +-=@,()[]{}!~'&$")
    return f"%2E{safe[1:]}" if safe.startswith(".") else safe


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


def checksum(content: bytes) -> str:
    """The sha256 of a file's content."""
    return hashlib.sha256(content).hexdigest()


@contextmanager
def locked(folder: Path, *, wait: bool) -> Iterator[bool]:
    """Hold a split's folder against other processes; yields False where another holds it and `wait` is False.

    Another thread than the one that took the lock may let go of it.
    """
    make_folder(folder)
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
