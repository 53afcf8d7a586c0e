"""The plain layout: each text a row of its own, texts of like length together, padded.

It is what the prefix-tree layout falls back to where a model cannot take its masks, and what that is tested against.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from repeng.activations.layouts.batch import Batch, TextRequest
from repeng.models.load import LanguageModel


def padded_batches(
    lm: LanguageModel, texts: Sequence[TextRequest], batch_tokens: int, *, padding_side: str = "right"
) -> Iterator[Batch]:
    """Cut texts into padded batches, the longest first.

    With padding on the right no mask is needed: a causal model reads nothing behind a token, and the positions of what
    comes before are right. With padding on the left there is a mask and positions restart after it.

    Args:
        lm: for the id that padding is filled with.
        texts: what to lay out.
        batch_tokens: cells in a batch; one text alone may take more.
        padding_side: "right" or "left".
    """
    order = sorted(range(len(texts)), key=lambda number: (-len(texts[number].ids), number))
    start = 0
    while start < len(order):
        longest = len(texts[order[start]].ids)
        stop = start + max(1, batch_tokens // max(longest, 1))
        yield _batch(texts, order[start:stop], longest, lm.pad_id, left=padding_side == "left")
        start = stop


def _batch(texts: Sequence[TextRequest], chosen: Sequence[int], longest: int, pad_id: int, *, left: bool) -> Batch:
    ids = np.full((len(chosen), longest), pad_id, dtype=np.int64)
    positions = np.tile(np.arange(longest), (len(chosen), 1))
    mask = np.zeros((len(chosen), longest), dtype=np.int64)
    columns = []
    for row, number in enumerate(chosen):
        length = len(texts[number].ids)
        first = longest - length if left else 0
        ids[row, first : first + length] = texts[number].ids
        mask[row, first : first + length] = 1
        if left:
            positions[row] = np.maximum(np.arange(longest) - first, 0)
        columns.append(np.arange(first, first + length))
    return Batch(
        input_ids=torch.from_numpy(ids),
        position_ids=torch.from_numpy(positions),
        attention_mask=torch.from_numpy(mask) if left else None,
        texts=tuple(chosen),
        rows=tuple(range(len(chosen))),
        columns=tuple(columns),
    )
