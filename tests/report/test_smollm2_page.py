"""docs/smollm2.md says what the results next to it say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from repeng.results import read_results

PAGE = Path(__file__).resolve().parents[2] / "docs" / "smollm2.md"
TABLE = re.compile(r"\(smollm2/([\w-]+\.csv)\)[^|]*?\n\n(\|.*?\n)(?:\n|\Z)", re.DOTALL)
"""A link to a results.csv, and the first table after it."""


def tables() -> list[tuple[str, list[list[str]]]]:
    """Of each table its results and its rows of cells, without the line under the heads."""
    found = [(name, text.splitlines()) for name, text in TABLE.findall(PAGE.read_text())]
    return [
        (name, [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "---" not in line])
        for name, lines in found
    ]


@pytest.mark.parametrize(("name", "rows"), tables(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_accuracy_of_a_table_is_that_of_the_results_next_to_it(name: str, rows: list[list[str]]) -> None:
    heads, *shown = rows
    known = {(row.method, row.source, row.target): row for row in read_results(PAGE.parent / "smollm2" / name)}
    checked = 0
    for shift, *cells in shown:
        if " → " not in shift:
            continue
        source, target = shift.split(" → ")
        for method, cell in zip(heads[1:], cells, strict=True):
            row = known[method.strip("`"), source, target]
            assert row.accuracy is not None and cell.rstrip("?~*") == f"{row.accuracy:.2f}", (shift, method)
            checked += 1
    assert checked >= 20


def test_there_are_tables() -> None:
    assert {name for name, _ in tables()} >= {"genies.csv", "mini.csv"}
