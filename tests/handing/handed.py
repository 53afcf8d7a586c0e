"""What is handed on, to be compared; and how it is spoiled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from store_files import store_files

CAPTURE = "toy-000000000000"


def probe_files(folder: Path) -> dict[str, bytes]:
    return {name: content for name, content in store_files(folder).items() if name != "README.md"}


def spoiled(name: str) -> Callable[[str, bytes], bytes]:
    """One bit of one file's content is another."""
    return lambda path, content: content[:-1] + bytes([content[-1] ^ 1]) if path.endswith(name) else content
