"""Many texts as few tokens: texts that share a prefix form a tree, and trees are packed into rows.

A row is one sequence for the model. Its tokens stand in depth-first order, so the descendants of a token follow it
without a gap: token `i` is an ancestor of token `j` (or `j` itself) exactly where `i <= j < ends[i]`. That one vector
is the whole attention mask. A token's position is its depth in the tree, which is its place in each of its texts.

Nothing here knows a model: token ids and a budget go in, arrays come out, and equal input gives equal rows.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

Tokens = Int[np.ndarray, "_"]
"""Something for each token of one text."""
STRETCH = 2
"""A row may hold this many budgets where cutting its tree would repeat a long prompt."""
REPEATED = 0.05
"""The share of a tree's tokens that cutting it may repeat."""


@dataclass(frozen=True)
class Row:
    """Texts laid out as one sequence.

    Attributes:
        ids: token ids.
        positions: position of each token in its texts, from 0.
        ends: one past the last descendant of each token.
        texts: the texts that this row holds, by their number among those packed.
        spans: for each of them the (start, stop) stretches of the row that it runs through, in reading order.
    """

    ids: Int[np.ndarray, " pos"]
    positions: Int[np.ndarray, " pos"]
    ends: Int[np.ndarray, " pos"]
    texts: tuple[int, ...]
    spans: tuple[tuple[tuple[int, int], ...], ...]

    @property
    def n_tokens(self) -> int:
        """Length of the row."""
        return len(self.ids)

    def path(self, slot: int) -> Int[np.ndarray, " token"]:
        """Where in the row each token of text `texts[slot]` sits."""
        stretches = [np.arange(start, stop) for start, stop in self.spans[slot]]
        return np.concatenate(stretches) if stretches else np.zeros(0, dtype=np.int64)


def pack(texts: Sequence[Sequence[int]], budget: int) -> tuple[Row, ...]:
    """Lay texts out in rows of about `budget` tokens, each shared prefix once a row.

    A row is longer than the budget only where one text is, or where cutting its tree would repeat more than
    `REPEATED` of it; then up to `STRETCH` budgets. The rows depend on the arguments alone.

    Args:
        texts: token ids of each text. Equal texts share all their tokens; an empty text has a place in no row's ids,
            but is still listed.
        budget: tokens a row.

    Raises:
        ValueError: the budget is not positive.
    """
    if budget < 1:
        raise ValueError(f"a budget of {budget} tokens holds nothing; give 1 or more")
    arrays = [np.asarray(text, dtype=np.int64) for text in texts]
    # Big-endian bytes sort as the numbers do, at the speed of memcmp.
    keys = [array.astype(">u4").tobytes() for array in arrays]
    order = sorted(range(len(arrays)), key=lambda number: (keys[number], number))
    ordered = [arrays[number] for number in order]
    # For each text, how many first tokens it shares with the one before it; 0 for the first.
    shared = np.zeros(len(ordered), dtype=np.int64)
    shared[1:] = [_shared_prefix(one, other) for one, other in pairwise(ordered)]
    rows = _fill(_subtrees(ordered, shared, budget), budget, int(shared[1:].min()) if len(shared) > 1 else 0)
    return tuple(_lay_out(members, order, ordered) for members in rows)


def sees(ends: Any, positions: Any, asking: Any, asked: Any, window: Any = None) -> Any:
    """Whether each asking token of a row attends to each asked one: to its ancestors and itself.

    Args:
        ends: of the row.
        positions: of the row.
        asking: places of tokens in the row, of any shape.
        asked: likewise; both are broadcast. All are arrays of numpy, or all tensors.
        window: only ancestors less than this many positions away, as a sliding window of that size sees.
    """
    seen = (asked <= asking) & (asking < ends[asked])
    return seen if window is None else seen & (positions[asking] - positions[asked] < window)


def tree_mask(row: Row, window: int | None = None) -> Bool[np.ndarray, "query key"]:
    """Which tokens each token of a row attends to; `window` as of `sees`."""
    place = np.arange(row.n_tokens)
    mask: Bool[np.ndarray, "query key"] = sees(row.ends, row.positions, place[:, None], place[None, :], window)
    return mask


@dataclass(frozen=True)
class _Subtree:
    """Texts `start` to `stop` of the sorted list, which share `path` tokens with the tree that they were cut from."""

    start: int
    stop: int
    path: int
    total: int
    cut: int
    """Which cut they come from: subtrees of equal `cut` share all of `path`."""


def _shared_prefix(one: Tokens, other: Tokens) -> int:
    shortest = min(len(one), len(other))
    differ = one[:shortest] != other[:shortest]
    first = int(differ.argmax()) if shortest else 0
    return first if shortest and differ[first] else shortest


def _subtrees(ordered: Sequence[Tokens], shared: Int[np.ndarray, " text"], budget: int) -> list[_Subtree]:
    """Cut the one tree of all texts into subtrees that stay whole, in order of the texts."""
    lengths = np.array([len(text) for text in ordered], dtype=np.int64)
    added = np.concatenate([[0], np.cumsum(lengths - shared)])

    def tokens(start: int, stop: int) -> int:
        return int(lengths[start] + added[stop] - added[start + 1])

    found: list[_Subtree] = []
    waiting = [(0, len(ordered), 0, 0)] if ordered else []
    cuts = 0
    while waiting:
        start, stop, path, cut = waiting.pop()
        total = tokens(start, stop)
        inner = int(shared[start + 1 : stop].min()) if stop - start > 1 else 0
        if stop - start == 1 or total <= budget or (total <= STRETCH * budget and _costly(total, inner, budget)):
            found.append(_Subtree(start, stop, path, total, cut))
            continue
        cuts += 1
        edges = [start, *(start + 1 + np.flatnonzero(shared[start + 1 : stop] == inner)).tolist(), stop]
        # The stack gives the last one first, so that subtrees come out in the texts' order.
        waiting += [(a, b, inner, cuts) for a, b in zip(edges, edges[1:], strict=False)][::-1]
    return found


def _costly(total: int, path: int, budget: int) -> bool:
    """Whether laying out a tree of `total` tokens in several rows repeats its common `path` too often."""
    room = max(budget - path, 1)
    return path * (-(-(total - path) // room) - 1) > REPEATED * total


def _fill(subtrees: Sequence[_Subtree], budget: int, common: int) -> list[list[tuple[int, int]]]:
    """Best-fit decreasing: the longest subtree first, each into the fullest row that still holds it.

    Args:
        subtrees: what to place.
        budget: tokens a row.
        common: tokens that all texts share, so that every row holds them already.
    """
    rows: list[list[tuple[int, int]]] = []
    left: list[int] = []
    by_room: list[tuple[int, int]] = []
    by_cut: dict[int, list[int]] = {}
    for subtree in sorted(subtrees, key=lambda subtree: (-subtree.total, subtree.start)):
        own = subtree.total - subtree.path
        row = next((row for row in by_cut.get(subtree.cut, ()) if left[row] >= own), None)
        if row is None:
            own = subtree.total - common
            place = bisect_left(by_room, (own, -1))
            row = by_room[place][1] if place < len(by_room) else None
        if row is None:
            row = len(rows)
            rows.append([])
            # A long path leaves little of a budget for what follows it.
            left.append((budget if 2 * subtree.path <= budget else STRETCH * budget) - subtree.total)
        else:
            by_room.remove((left[row], row))
            left[row] -= own
        rows[row].append((subtree.start, subtree.stop))
        insort(by_room, (left[row], row))
        holders = by_cut.setdefault(subtree.cut, [])
        if row not in holders:
            holders.append(row)
    return rows


def _lay_out(members: Sequence[tuple[int, int]], order: Sequence[int], ordered: Sequence[Tokens]) -> Row:
    """Write the texts of one row one after the other, each without the prefix that it shares with the one before."""
    chosen = [number for start, stop in sorted(members) for number in range(start, stop)]
    ids: list[Tokens] = []
    positions: list[Tokens] = []
    spans: list[tuple[tuple[int, int], ...]] = []
    closed: list[tuple[int, int, int]] = []
    # The path of the text before: (start in the row, stop in the row).
    open_spans: list[tuple[int, int]] = []
    cursor, before = 0, np.zeros(0, dtype=np.int64)
    for number in chosen:
        text = ordered[number]
        shared = _shared_prefix(before, text)
        depth, kept = 0, []
        for start, stop in open_spans:
            keep = min(stop, start + max(shared - depth, 0))
            if keep > start:
                kept.append((start, keep))
            if keep < stop:
                closed.append((keep, stop, cursor))
            depth += stop - start
        new = len(text) - shared
        if new:
            ids.append(text[shared:])
            positions.append(np.arange(shared, len(text)))
            kept.append((cursor, cursor + new))
            cursor += new
        spans.append(tuple(kept))
        open_spans, before = kept, text
    ends = np.full(cursor, cursor, dtype=np.int64)
    for start, stop, end in closed:
        ends[start:stop] = end
    empty = [np.zeros(0, dtype=np.int64)]
    return Row(
        np.concatenate(ids or empty),
        np.concatenate(positions or empty),
        ends,
        tuple(order[number] for number in chosen),
        tuple(spans),
    )
