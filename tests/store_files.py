"""The files of a store, to be compared."""

from __future__ import annotations

from pathlib import Path

from repeng.activations.store.files import SPLIT


def store_files(root: Path) -> dict[str, bytes]:
    """Every file of a store but locks and what says when a split was captured."""
    return {
        str(file.relative_to(root)): file.read_bytes()
        for file in sorted(root.rglob("*"))
        if file.is_file() and file.name not in (".lock", SPLIT)
    }
