"""Rows of a study in the order that a reader wants them: by label, category and shift; one column a method."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from repeng.results import ResultRow

LABEL_ORDER = {"extreme": 0, "probing": 1}
TEXT_BASELINES = ("length", "tfidf")
"""Methods that read the responses' words alone."""
PROMPTED = ("zero-shot", "zero-shot-mean", "zero-shot-genies", "few-shot", "truthfulness")
"""Methods that ask the model in words."""
BASELINES = (*PROMPTED, "random", *TEXT_BASELINES)
"""Methods that see no activation and tune nothing: what a fitted method must beat."""


CAPABILITY = "target-tuned:"
"""Begins the method of a row that says which method won a reference, and so its target-tuned capability."""


@dataclass(frozen=True, order=True)
class Column:
    """One method of one model: a column of every table, a mark in every picture."""

    model: str
    method: str


@dataclass(frozen=True)
class ShiftKey:
    """What makes two rows the same shift. A benchmark may list a pair twice under different categories."""

    source: str
    target: str
    label: str
    category: str

    @property
    def title(self) -> str:
        """`source → target`."""
        return f"{self.source} → {self.target}"


@dataclass(frozen=True)
class Section:
    """The shifts of one category of one label, each with its rows by column."""

    label: str
    category: str
    shifts: tuple[tuple[ShiftKey, dict[Column, ResultRow]], ...]

    @property
    def title(self) -> str:
        """`extreme · difficulty`, or as much of it as is known."""
        return " · ".join(part for part in (self.label, self.category) if part) or "shifts"

    def rows(self) -> list[ResultRow]:
        """Every row of the section."""
        return [row for _, cells in self.shifts for row in cells.values()]


def shift_rows(rows: Iterable[ResultRow]) -> list[ResultRow]:
    """The rows of shifts, without those of target-tuned capability, which are no method to compare."""
    return [row for row in rows if not row.method.startswith(CAPABILITY)]


def columns_of(rows: Iterable[ResultRow]) -> tuple[Column, ...]:
    """Every (model, method), models and methods by first appearance."""
    rows = list(rows)
    models = list(dict.fromkeys(row.model for row in rows))
    methods = list(dict.fromkeys(row.method for row in rows))
    present = {Column(row.model, row.method) for row in rows}
    return tuple(column for model in models for method in methods if (column := Column(model, method)) in present)


def column_title(column: Column, columns: Sequence[Column], *, between: str = " ") -> str:
    """The method, and the model's last name where the study has more than one."""
    many = len({other.model for other in columns}) > 1
    return f"{column.method}{between}{column.model.rpartition('/')[2]}" if many else column.method


def shift_key(row: ResultRow) -> ShiftKey:
    """The shift that a row is about."""
    return ShiftKey(row.source, row.target, row.label or "", row.category or "")


def sections_of(rows: Iterable[ResultRow]) -> tuple[Section, ...]:
    """Rows by label (extreme, probing, others), category and shift, each by first appearance."""
    grouped: dict[tuple[str, str], dict[ShiftKey, dict[Column, ResultRow]]] = {}
    for row in rows:
        key = shift_key(row)
        shifts = grouped.setdefault((key.label, key.category), {})
        shifts.setdefault(key, {})[Column(row.model, row.method)] = row
    order = sorted(grouped, key=lambda group: (LABEL_ORDER.get(group[0], 2), group[0]))
    return tuple(Section(label, category, tuple(grouped[label, category].items())) for label, category in order)


def labels_of(rows: Iterable[ResultRow]) -> tuple[str, ...]:
    """Labels that occur, in reading order."""
    found = {row.label or "" for row in rows}
    return tuple(sorted(found, key=lambda label: (LABEL_ORDER.get(label, 2), label)))


def mean_of(rows: Iterable[ResultRow], figure: Callable[[ResultRow], float | None]) -> tuple[float | None, int]:
    """The mean of a figure over the rows that have it, and how many have it; None where none has."""
    values = [value for row in rows if (value := figure(row)) is not None]
    return (sum(values) / len(values) if values else None), len(values)
