"""Attention over a row of trees by PyTorch's FlexAttention: one kernel for the whole row, blind to what no token sees.

On a GPU a row is long and a kernel's start is costly, so one kernel over a block mask may beat the several of
`tree_attention`. Whether it does is found out on the GPU itself (`timing`). The compact mask and the values are the
same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.nn.functional import pad
from torch.utils.weak import WeakTensorKeyDictionary

from repeng.activations.layouts.tree_attention import attending_by, over_trees

NAME = "repeng_flex"
"""What transformers knows this attention by."""
SHORTEST, STEP = 512, 4
"""Rows are filled up to this, or this times a power of the step: a kernel is compiled for each length."""
TILE = 128
"""Queries, or keys, of one square that a kernel computes or passes over."""
COMPILED_AT_MOST = 64
"""Kernels of different shapes in one process, where PyTorch would stop at 8."""

_block_masks: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
"""The block masks of each compact mask, by window: made at the first layer, dropped with the mask."""


@contextmanager
def using_flex_attention(model: nn.Module) -> Iterator[None]:
    """Let a transformers model take compact masks, and attend under them by FlexAttention.

    Raises:
        NotImplementedError: the model's attention does not go through transformers' `AttentionInterface`.
    """
    with torch._dynamo.config.patch(recompile_limit=COMPILED_AT_MOST), attending_by(model, NAME, attend_by_flex):
        yield


@over_trees
def attend_by_flex(
    query: Float[Tensor, "1 head pos d_head"],
    key: Float[Tensor, "1 key_head pos d_head"],
    value: Float[Tensor, "1 key_head pos d_value"],
    mask: Int[Tensor, "1 1 2 pos"],
    *,
    scaling: float | None,
    sliding_window: int | None,
    softcap: float | None,
) -> Float[Tensor, "1 pos head d_value"]:
    """Attention in one kernel."""
    n_tokens = query.shape[2]
    block_mask = _block_mask(mask, sliding_window)
    missing = block_mask.seq_lengths[0] - n_tokens
    query, key, value = (pad(tensor, (0, 0, 0, missing)) for tensor in (query, key, value))
    out = _kernel(query.device)(
        query,
        key,
        value,
        score_mod=None if softcap is None else _softcapped(softcap),
        block_mask=block_mask,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return out[:, :, :n_tokens].transpose(1, 2)


_plain: Callable[..., Any] = flex_attention
# Whole or not at all: in part it would make the scores of every pair.
_compiled: Callable[..., Any] = torch.compile(flex_attention, dynamic=False, fullgraph=True)


def _kernel(device: torch.device) -> Callable[..., Any]:
    """Compiled on a GPU; elsewhere plain, which is slow and there to be checked."""
    return _compiled if device.type == "cuda" else _plain


def _softcapped(softcap: float) -> Callable[..., Tensor]:
    return lambda score, _batch, _head, _asking, _asked: torch.tanh(score / softcap) * softcap


def _block_mask(mask: Int[Tensor, "1 1 2 pos"], window: int | None) -> BlockMask:
    made: dict[int | None, BlockMask] = _block_masks.setdefault(mask, {})
    if window not in made:
        # Nobody sees a token that is filled in: its end is 0.
        filled = pad(mask[0, 0].int(), (0, _filled_up(mask.shape[-1]) - mask.shape[-1]))
        made[window] = block_mask_of(filled[0], filled[1], window)
    return made[window]


def _filled_up(n_tokens: int) -> int:
    size = SHORTEST
    while size < n_tokens:
        size *= STEP
    return size


def block_mask_of(ends: Int[Tensor, " pos"], positions: Int[Tensor, " pos"], window: int | None) -> BlockMask:
    """The block mask of a row, from what the tiles of keys reach: no square of all pairs is made.

    Args:
        ends: of the row; a whole number of tiles.
        positions: of the row.
        window: how far back a token sees; None for as far as there is.
    """
    low, high = ends.view(-1, TILE).amin(1), ends.view(-1, TILE).amax(1)
    tile = torch.arange(len(low), device=ends.device)
    first = TILE * tile[:, None]
    some = (tile <= tile[:, None]) & (high > first)
    every = (tile < tile[:, None]) & (low >= first + TILE)
    if window is not None:
        shallow, deep = positions.view(-1, TILE).amin(1), positions.view(-1, TILE).amax(1)
        some &= shallow[:, None] - deep < window
        every &= deep[:, None] - shallow < window
        reach = torch.full((), window, dtype=positions.dtype, device=positions.device)
    return BlockMask.from_kv_blocks(
        *_listed(some & ~every),
        *_listed(every),
        BLOCK_SIZE=TILE,
        # The rule of `packing.sees`, written out: torch's compiler does not enter a function that tests wrap in checks.
        mask_mod=(
            (lambda _batch, _head, asking, asked: (asked <= asking) & (asking < ends[asked]))
            if window is None
            else lambda _batch, _head, asking, asked: (
                (asked <= asking) & (asking < ends[asked]) & (positions[asking] - positions[asked] < reach)
            )
        ),
        seq_lengths=(len(ends), len(ends)),
    )


def _listed(tiles: Bool[Tensor, "query_tile key_tile"]) -> tuple[Tensor, Tensor]:
    """How many tiles of keys each tile of queries has, and their numbers, those first."""
    order = torch.argsort(tiles.int(), dim=1, descending=True, stable=True)
    return tiles.sum(1).int()[None, None], order.int()[None, None]
