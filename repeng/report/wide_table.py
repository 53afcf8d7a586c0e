"""A table for a terminal that folds no head and no figure: columns that do not fit stand in blocks under each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Literal

from rich.console import Console, ConsoleOptions, RenderResult
from rich.constrain import Constrain
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

LEAST_NAMES = 24
"""Where not all columns fit, words are folded at two fifths of the width, rows' names at a third but not under this."""


@dataclass(frozen=True)
class WideTable:
    """Heads and rows of cells; every block of columns repeats those that name the rows.

    Attributes:
        heads: of the columns; a head may have lines.
        rows: a cell a column; a row of one cell is a title, which no column's width follows.
        left: numbers of the columns of words, which stand to the left; the first always does.
        names: how many columns name a row together; only the first is repeated where they take half of the width.
        title: over the table.
        caption: under the last block.
        gap: spaces between columns.
    """

    heads: tuple[str, ...]
    rows: tuple[tuple[Text, ...], ...]
    left: frozenset[int] = frozenset()
    title: str = ""
    caption: str = ""
    names: int = 1
    gap: int = 2

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """From the widest column to all of them next to each other."""
        widths = self._widths()
        titles = max((row[0].cell_len for row in self.rows if len(row) == 1), default=0)
        whole = max(sum(widths) + self.gap * (len(widths) - 1), titles, len(self.title))
        return Measurement(min(max(widths), options.max_width), min(whole, options.max_width))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Each block of columns, in as few and as even blocks as fit."""
        if self.title:
            yield Text(self.title, style="bold")
        widths = self._widths()
        if sum(widths) + self.gap * (len(widths) - 1) > options.max_width:
            most = {place: options.max_width * 2 // 5 for place in self.left}
            most[0] = max(LEAST_NAMES, options.max_width // 3)
            widths = [min(width, most.get(place, width)) for place, width in enumerate(widths)]
        names = self.names if 2 * sum(widths[: self.names]) <= options.max_width else 1
        room = max(1, options.max_width - sum(widths[:names]) - self.gap * names)
        widths = [*widths[:names], *(min(width, room) for width in widths[names:])]
        blocks = _blocks([width + self.gap for width in widths[names:]], room + self.gap)
        widest = 60
        for number, block in enumerate(blocks):
            if number:
                yield Text()
            places = [*range(names), *(names + place for place in block)]
            yield from self._block(places, [widths[place] for place in places])
            widest = max(widest, sum(widths[place] + self.gap for place in places))
        if self.caption:
            yield Constrain(Text(self.caption, style="table.caption"), widest)

    def _widths(self) -> list[int]:
        """What each column needs so that no line of it is folded."""
        rows = [row for row in self.rows if len(row) > 1]
        columns = [[Text(head), *(row[place] for row in rows)] for place, head in enumerate(self.heads)]
        return [max((line.cell_len for text in column for line in text.split()), default=0) for column in columns]

    def _block(self, places: Sequence[int], widths: Sequence[int]) -> RenderResult:
        """These columns, with every title in a line of its own."""
        table = self._empty(places, widths, head=True)
        for is_title, rows in groupby(self.rows, key=lambda row: len(row) == 1 < len(self.heads)):
            if is_title:
                yield table
                yield from (row[0] for row in rows)
                table = self._empty(places, widths, head=False)
            else:
                for row in rows:
                    table.add_row(*(row[place] for place in places))
        yield table

    def _empty(self, places: Sequence[int], widths: Sequence[int], *, head: bool) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, self.gap, 0, 0), header_style="bold", show_header=head)
        for place, width in zip(places, widths, strict=True):
            justify: Literal["left", "right"] = "left" if place == 0 or place in self.left else "right"
            table.add_column(Text(self.heads[place]), justify=justify, width=width, overflow="fold")
        return table


def _blocks(widths: Sequence[int], room: int) -> list[list[int]]:
    """Places of the widths, in order, in the fewest blocks that fit a room each; of even counts where that fits."""
    filled: list[list[int]] = [[]]
    for place, width in enumerate(widths):
        if filled[-1] and sum(widths[other] for other in filled[-1]) + width > room:
            filled.append([])
        filled[-1].append(place)
    size, larger = divmod(len(widths), len(filled))
    ends = [number * size + min(number, larger) for number in range(len(filled) + 1)]
    even = [list(range(start, end)) for start, end in pairwise(ends)]
    return even if all(sum(widths[place] for place in block) <= room for block in even) else filled
