"""The plain layout: each text a row of its own, texts of like length together, padded.

It is what the prefix-tree layout falls back to where a model cannot take its masks, and what that is tested against.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from repeng.activations.layouts.batch import Batch, Batches, TextRequest
from repeng.models.load import LanguageModel


def padded_batches(lm: LanguageModel, texts: Sequence[TextRequest], batch_tokens: int) -> Batches:
    """Cut texts into batches padded on the right, the longest first.

    No mask is needed: a causal model reads nothing behind a token, and the positions of what comes before are right.

    Args:
        lm: for the id that padding is filled with.
        texts: what to lay out.
        batch_tokens: cells in a batch; one text alone may take more.
    """
    order = sorted(range(len(texts)), key=lambda number: (-len(texts[number].ids), number))
    start = 0
    while start < len(order):
        longest = len(texts[order[start]].ids)
        stop = start + max(1, batch_tokens // max(longest, 1))
        chosen = order[start:stop]
        ids = np.full((len(chosen), longest), lm.pad_id, dtype=np.int64)
        for row, number in zip(ids, chosen, strict=True):
            row[: len(texts[number].ids)] = texts[number].ids
        yield Batch(
            input_ids=torch.from_numpy(ids),
            position_ids=torch.arange(longest).repeat(len(chosen), 1),
            attention_mask=None,
            texts=tuple(chosen),
            rows=tuple(range(len(chosen))),
            columns=tuple(np.arange(len(texts[number].ids)) for number in chosen),
        )
        start = stop
