"""Texts as inputs of forward passes: padded, or packed in rows where what several begin with is computed once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from repeng.activations.layouts.packing import pack

Pass = dict[str, Tensor]
"""One forward pass: `input_ids` of shape [row, token], and where each text's last token stands, with the texts' numbers
(`texts`, `rows`, `columns`). Padded texts have an `attention_mask` [row, pos]; a packed row has `position_ids` [1, pos]
and `ends` [pos] (see `packing.Row`). Virtual tokens count among the positions, before all others of a row."""


def padded(ids: Sequence[list[int]], texts: Sequence[int] | None = None, *, virtual: int) -> Pass:
    """Some texts, a row each.

    Args:
        ids: token ids of each text.
        texts: the numbers of those wanted; all by default.
        virtual: virtual tokens before each of them.
    """
    numbers = list(range(len(ids))) if texts is None else list(texts)
    lengths = torch.tensor([len(ids[number]) for number in numbers])
    longest = int(lengths.max())
    return {
        "input_ids": torch.tensor([ids[number] + [0] * (longest - len(ids[number])) for number in numbers]),
        "attention_mask": (torch.arange(virtual + longest) < virtual + lengths[:, None]).long(),
        "texts": torch.tensor(numbers),
        "rows": torch.arange(len(numbers)),
        "columns": virtual + lengths - 1,
    }


def packed(ids: Sequence[list[int]], budget: int, *, virtual: int) -> Iterator[Pass]:
    """All texts, none of them empty, in rows of about `budget` tokens, a pass each."""
    for row in pack(ids, budget):
        before = torch.arange(virtual)
        columns = torch.tensor([virtual + int(row.path(slot)[-1]) for slot in range(len(row.texts))])
        yield {
            "input_ids": torch.from_numpy(row.ids)[None],
            "position_ids": torch.cat([before, virtual + torch.from_numpy(row.positions)])[None],
            # Every text sees the virtual tokens.
            "ends": virtual + torch.cat([torch.full_like(before, row.n_tokens), torch.from_numpy(row.ends)]),
            "texts": torch.tensor(row.texts),
            "rows": torch.zeros_like(columns),
            "columns": columns,
        }


def length_batches(ids: Sequence[list[int]], batch_tokens: int) -> list[list[int]]:
    """Numbers of the texts in batches of like length, none over `batch_tokens` once padded (one text may be)."""
    batches: list[list[int]] = []
    for number in sorted(range(len(ids)), key=lambda place: (len(ids[place]), place)):
        if batches and len(ids[number]) * (len(batches[-1]) + 1) <= batch_tokens:
            batches[-1].append(number)
        else:
            batches.append([number])
    return batches
