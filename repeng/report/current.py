"""Whether what was made of a results folder is what would be made of it now, told by hashes of its files."""

from __future__ import annotations

import hashlib

from repeng.atomic import write_atomically
from repeng.places import Place
from repeng.results import CAUSAL_TABLES
from repeng.study.cautions import FILE as CAUTIONS
from repeng.study.overlap import FILE as OVERLAP
from repeng.study.provenance import FILE as PROVENANCE
from repeng.version import __version__

CHECKED = ".checked"
"""Next to a table that holds what its predictions give: the hash of both."""
WITH_TEXTS = " texts"
"""What the hash in a page ends with that was made where the pairs' texts were at hand."""


def is_current(page: Place, results: Place, *, with_texts: bool = False) -> bool:
    """Whether a page and its folders are there and were made of the files that the results folder holds.

    Args:
        page: the HTML file.
        results: the folder.
        with_texts: whether it must have been made with the pairs' texts.
    """
    folders = (page.with_name(f"{page.stem}-{kind}") for kind in ("pictures", "paper"))
    if not page.is_file() or not all(folder.is_dir() for folder in folders):
        return False
    end = WITH_TEXTS if with_texts else ""
    return f'content="{made_of(results)}{end}' in page.read_text(encoding="utf-8")


def made_of(results: Place, *, table_hash: str | None = None) -> str:
    """A hash over everything in a results folder that a page is made of, and repeng's version.

    Args:
        results: the folder.
        table_hash: `hash_of` its table, where it has been taken; so in the functions below.
    """
    digest = hashlib.sha256((table_hash or hash_of(results / "results.csv")).encode())
    for name in ("layers.csv", *CAUSAL_TABLES, "study.toml", CAUTIONS, PROVENANCE):
        path = results / name
        digest.update(hashlib.sha256(path.read_bytes() if path.is_file() else b"").digest())
    return digest.hexdigest()[:16]


def is_settled(table: Place, *, table_hash: str | None = None) -> bool:
    """Whether a table and the predictions next to it are those that `mark_settled` has marked."""
    mark = table.with_name(CHECKED)
    return mark.is_file() and mark.read_text(encoding="utf-8") == (table_hash or hash_of(table))


def mark_settled(table: Place, *, table_hash: str | None = None) -> None:
    """Say of a table that it holds what the predictions next to it give: their hash is kept, and this version's."""
    write_atomically(table.with_name(CHECKED), table_hash or hash_of(table))


def hash_of(table: Place) -> str:
    """Over a table, the predictions next to it, what is left out of them, and repeng's version."""
    digest = hashlib.sha256(__version__.encode())
    files = [table, table.with_name(OVERLAP), *sorted((table.parent / "predictions").glob("*/*/*.json"))]
    for file in files:
        content = file.read_bytes() if file.is_file() else b""
        digest.update("/".join(file.parts[-3:]).encode() + hashlib.sha256(content).digest())
    return digest.hexdigest()
