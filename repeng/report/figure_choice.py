"""What a figure shows of a study: which methods, sources, targets and shifts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from repeng.errors import BadInput, UnknownName
from repeng.report.frames import in_order
from repeng.results import ResultRow

Names = str | Collection[str] | None
"""One name, several, or None for all there are."""


@dataclass(frozen=True)
class Choice:
    """What a figure shows; None is all there is.

    Attributes:
        methods: in the order that they are shown in.
        source: distributions that were fitted on.
        target: distributions that were tested on.
        shifts: labels and categories of shifts; of a sweep also `in-distribution`.
    """

    methods: Names = None
    source: Names = None
    target: Names = None
    shifts: Names = None

    def rows(self, rows: Sequence[ResultRow]) -> list[ResultRow]:
        """The rows that were chosen, each shift's methods in the order asked for.

        Raises:
            UnknownName: no row has such a method, source, target, label or category.
            BadInput: no row has them all.
        """
        known = {
            "method": {row.method for row in rows},
            "source": {row.source for row in rows},
            "target": {row.target for row in rows},
            "label or category": {name for row in rows for name in (row.label, row.category) if name},
        }
        asked = dict(zip(known, (self.methods, self.source, self.target, self.shifts), strict=True))
        wanted = {kind: known_names(kind, names, known[kind]) for kind, names in asked.items()}
        found = [
            row
            for row in rows
            if _in(row.method, wanted["method"])
            and _in(row.source, wanted["source"])
            and _in(row.target, wanted["target"])
            and (wanted["label or category"] is None or {row.label, row.category} & set(wanted["label or category"]))
        ]
        if not found:
            raise BadInput("nothing is left to draw: no result has all that was asked for; ask for less at once")
        order = wanted["method"] or in_order(row.method for row in found)
        return sorted(found, key=lambda row: order.index(row.method))


def known_names(kind: str, names: Names, known: Iterable[str]) -> list[str] | None:
    """The names as a list, None for all.

    Raises:
        UnknownName: one is not among those that are known.
    """
    if names is None:
        return None
    wanted, known = [names] if isinstance(names, str) else list(names), set(known)
    for name in wanted:
        if name not in known:
            raise UnknownName(kind, name, known)
    return wanted


def _in(name: str, wanted: list[str] | None) -> bool:
    return wanted is None or name in wanted
