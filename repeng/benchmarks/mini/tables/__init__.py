"""The tables of facts: one tab-separated file each, readable by people too."""

from __future__ import annotations

import csv
from pathlib import Path

TABLES = Path(__file__).parent


def read_table(name: str) -> list[dict[str, str]]:
    """The rows of NAME.tsv."""
    with (TABLES / f"{name}.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
