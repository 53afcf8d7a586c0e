"""Texts as inputs of forward passes: padded, or packed in rows where what several begin with is computed once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from repeng.activations.layouts.packing import pack, tree_mask

Pass = dict[str, Tensor]
"""Inputs of one forward pass. `input_ids` of shape [row, pos]; `attention_mask`, [row, pos] where rows are padded, or
[query, key] of booleans for a packed row, which has `position_ids` [1, pos] too; and of each text in it: its number
(`texts`), and the row and column of its last token (`rows`, `columns`)."""


def padded(ids: Sequence[list[int]], texts: Sequence[int] | None = None) -> Pass:
    """Some texts, a row each, all of them by default.

    Args:
        ids: token ids of each text.
        texts: the numbers of those wanted.
    """
    numbers = list(range(len(ids))) if texts is None else list(texts)
    lengths = torch.tensor([len(ids[number]) for number in numbers])
    longest = int(lengths.max())
    return {
        "input_ids": torch.tensor([ids[number] + [0] * (longest - len(ids[number])) for number in numbers]),
        "attention_mask": (torch.arange(longest) < lengths[:, None]).long(),
        "texts": torch.tensor(numbers),
        "rows": torch.arange(len(numbers)),
        "columns": lengths - 1,
    }


def packed(ids: Sequence[list[int]], budget: int) -> Iterator[Pass]:
    """All texts in rows of about `budget` tokens, a pass each; none may be empty."""
    for row in pack(ids, budget):
        columns = torch.tensor([int(row.path(slot)[-1]) for slot in range(len(row.texts))])
        yield {
            "input_ids": torch.from_numpy(row.ids)[None],
            "attention_mask": torch.from_numpy(tree_mask(row)),
            "position_ids": torch.from_numpy(row.positions)[None],
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
