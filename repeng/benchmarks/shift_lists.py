"""Benchmarks by name: the GENIES shift lists, their categories and labels, the embedded one, and shift files."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from pathlib import Path

from repeng.distributions.schema import Benchmark, Shift
from repeng.distributions.shifts import LABELS, load_shifts
from repeng.errors import UnknownName

LISTS = ("genies", "genies-all")
CATEGORIES = (
    "context",
    "difficulty",
    "encoding",
    "pretraining_similarity",
    "quality",
    "skill",
    "spurious_cues",
    "unwanted_personas",
)
BENCHMARKS = ("mini", *LISTS, *LABELS, *CATEGORIES)
"""Every name that `get_benchmark` knows."""


def get_benchmark(name_or_path: str | Path) -> Benchmark:
    """A benchmark by its name, or the shifts of a file.

    `genies` holds the 15 headline shifts of GENIES and `genies-all` its 69 (13 of them twice, as published). A label
    (`extreme`, `probing`) or a category (`difficulty`, ...) is that part of `genies-all`. Each list keeps its own
    labels: alpaca_short -> alpaca_long is extreme in `genies` and probing in `genies-all`.

    Raises:
        UnknownName: it is neither a known name nor a file.
        BadData: the file is not a list of shifts.
    """
    name = str(name_or_path)
    if name == "mini":
        from repeng.benchmarks.mini import mini_benchmark

        return mini_benchmark()
    if name in LISTS:
        return Benchmark(name, _packaged(name))
    if name in (*LABELS, *CATEGORIES):
        return Benchmark(name, tuple(s for s in _packaged("genies-all") if name in (s.label, s.category)))
    path = Path(name).expanduser()
    if not path.is_file():
        raise UnknownName("benchmark or shift file", name, BENCHMARKS)
    return Benchmark(path.stem, load_shifts(path))


@cache
def _packaged(name: str) -> tuple[Shift, ...]:
    """A shift list that comes with the package: blocks of one label and category, in the published order."""
    blocks = json.loads(files("repeng.benchmarks").joinpath("shifts", f"{name}.json").read_text(encoding="utf-8"))
    return tuple(
        Shift(source, target, "".join(reference), block["label"], block["category"])
        for block in blocks
        for source, target, *reference in block["shifts"]
    )
