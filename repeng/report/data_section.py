"""What a report says of its data, its model and how to make it again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from repeng.report.frames import in_order
from repeng.report.page import Cell, Grid, Line
from repeng.study.command import command_of
from repeng.study.provenance import Provenance, SplitRecord
from repeng.study.settings import Study

NOT_RECORDED = "not recorded"
LIBRARIES = ("python", "torch", "transformers")


@dataclass(frozen=True)
class DataSection:
    """The section on data.

    Attributes:
        facts: names and values.
        splits: a line a distribution; None where they are not recorded.
        command: `repeng run` with its options; empty where it cannot be said.
        toml: the settings; empty where they are not recorded.
    """

    facts: tuple[tuple[str, str], ...]
    splits: Grid | None
    command: str
    toml: str


def data_section(
    frame: pd.DataFrame, study: Study | None, provenance: Provenance | None, toml: str = ""
) -> DataSection:
    """The section of a study.

    Args:
        frame: its rows, as `shift_frame` gives them.
        study: its settings; None where they are not recorded.
        provenance: of its model and data; None where that is not recorded.
        toml: its settings as its folder holds them.
    """
    facts = [*_model(frame, provenance), *_data(provenance), *_settings(study), ("made by", _made_by(provenance))]
    splits = _splits(provenance) if provenance is not None and provenance.splits else None
    return DataSection(tuple(facts), splits, command_of(study) if study is not None else "", toml)


def _model(frame: pd.DataFrame, provenance: Provenance | None) -> list[tuple[str, str]]:
    if provenance is None:
        named = ", ".join(in_order(frame["model"]))
        return [("model", named), ("its files, capture and dtype", NOT_RECORDED)]
    one = provenance.model
    size = f"{one.n_layers} layers of width {one.d_model}"
    longest = f", texts of at most {one.max_length} tokens" if one.max_length else ""
    return [
        ("model", f"{one.model} ({size}{longest})"),
        ("weights", one.weights),
        ("tokenizer", one.tokenizer),
        ("computed in", f"{one.dtype}, activations kept in {provenance.storage_dtype}"),
        ("capture", provenance.capture),
    ]


def _data(provenance: Provenance | None) -> list[tuple[str, str]]:
    if provenance is None:
        return [("splits, their data hashes and where they were read", NOT_RECORDED)]
    names = in_order(one.distribution for one in provenance.splits)
    counts = f"{len(names)} distribution{'s' * (len(names) > 1)}"
    examples = [
        f"{_span(one.examples for one in own)} {name} examples"
        for name in in_order(one.split for one in provenance.splits)[:2]
        if (own := provenance.of_splits(name))
    ]
    place = _only_place(provenance)
    read = [("read from", place)] if place is not None else []
    return [("shifts", provenance.benchmark), ("data", f"{counts}, each with {' and '.join(examples)}"), *read]


def _settings(study: Study | None) -> list[tuple[str, str]]:
    if study is None:
        return [("settings", NOT_RECORDED)]
    return [
        ("seed", str(study.seed)),
        ("layers", study.layers),
        ("fits", f"{study.fits} of each probe and text baseline"),
        ("nulls", f"{study.nulls} shuffled fits and as many random directions" if study.nulls else "none"),
    ]


def _made_by(provenance: Provenance | None) -> str:
    if provenance is None:
        return NOT_RECORDED
    libraries = ", ".join(f"{name} {provenance.versions[name]}" for name in LIBRARIES if name in provenance.versions)
    return f"repeng {provenance.repeng_version}" + (f"; {libraries}" if libraries else "")


def _splits(provenance: Provenance) -> Grid:
    """A line a distribution: of both splits examples, prompts and data hash; where it was read, if places differ."""
    places = _only_place(provenance) is None
    texts = any(one.as_texts for one in provenance.splits)
    items = "pairs or texts" if texts and not all(one.as_texts for one in provenance.splits) else "texts"
    heads = ["train", "prompts", "train hash", "test", "prompts", items if texts else "pairs", "test hash"]
    words = ["train hash", "test hash"] + (["read from"] if places else [])
    lines = []
    for name in in_order(one.distribution for one in provenance.splits):
        own = {one.split: one for one in provenance.splits if one.distribution == name}
        train, test = own.get("train"), own.get("test")
        cells = [
            *(_count(train, "examples"), _count(train, "prompts"), train.data_hash if train else "–"),
            *(_count(test, "examples"), _count(test, "prompts"), _scored(test), test.data_hash if test else "–"),
        ]
        place = next(iter(own.values())).place or NOT_RECORDED
        lines.append(Line(name, tuple(map(Cell, [*cells, *([place] if places else [])]))))
    return Grid(("distribution", *heads, *(["read from"] if places else [])), tuple(lines), tuple(words))


def _count(split: SplitRecord | None, what: str) -> str:
    return "–" if split is None else str(getattr(split, what))


def _scored(split: SplitRecord | None) -> str:
    return "–" if split is None else str(split.responses if split.as_texts else split.pairs)


def _only_place(provenance: Provenance) -> str | None:
    """Where every split was read; None where they were read in several places."""
    places = in_order(one.place for one in provenance.splits)
    return (places[0] or "made in memory") if len(places) == 1 else None


def _span(counts: Iterable[int]) -> str:
    known = sorted(counts)
    return f"{known[0]}" if known[0] == known[-1] else f"{known[0]} to {known[-1]}"
