"""Attention over a row of trees, paying for what the trees hold and not for the whole square.

A model gets the mask of a row in compact form: a [1, 1, 2, pos] tensor of integers, `ends` and `positions` (see
`packing`). Models hand a 4-D mask to their attention unread, so the compact form reaches `attend_to_ancestors`
through any model whose attention goes through transformers' `AttentionInterface`. There a row is cut into blocks: a
stretch of queries and the few stretches of keys that they can see. Small trees are one block each; of a large one,
its prompt is a block with plain causal attention, and its responses are blocks over the prompt's keys and their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.weak import WeakTensorKeyDictionary

from repeng.activations.layouts.packing import Row, sees
from repeng.activations.layouts.tree_blocks import Block, Stretch, cut_blocks

NAME = "repeng_trees"
"""What transformers knows this attention by."""

BLOCK_COST = {"cpu": 6_000.0}
"""What calling a kernel costs, in query-key pairs, measured with 12 heads of 64; by type of device."""
BLOCK_COST_ELSEWHERE = 200_000.0


@dataclass
class _Plan:
    """The blocks of one row, and their masks as layers ask for them."""

    ends: Int[Tensor, " pos"]
    positions: Int[Tensor, " pos"]
    deepest: int
    blocks: tuple[Block, ...]
    masks: dict[tuple[int, int | None, torch.dtype], Tensor] = field(default_factory=dict)

    def mask(self, number: int, window: int | None, dtype: torch.dtype) -> Float[Tensor, "query key"]:
        """0 where a query of block `number` sees a key, the dtype's minimum elsewhere."""
        wanted = (number, window, dtype)
        if wanted not in self.masks:
            block, device = self.blocks[number], self.ends.device
            asking = torch.arange(block.start, block.stop, device=device)[:, None]
            asked = torch.cat([torch.arange(start, stop, device=device) for start, stop in block.keys])
            seen = sees(self.ends, self.positions, asking, asked, window)
            mask = torch.zeros(seen.shape, dtype=dtype, device=device)
            self.masks[wanted] = mask.masked_fill_(~seen, torch.finfo(dtype).min)
        return self.masks[wanted]


_plans: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
"""The plan of each compact mask: made at the first layer, dropped with the mask."""


def compact_mask(row: Row) -> Int[Tensor, "1 1 2 pos"]:
    """The mask of a row as a model that attends through `using_tree_attention` takes it."""
    return torch.from_numpy(np.stack([row.ends, row.positions]))[None, None]


def is_compact(mask: object) -> TypeGuard[Tensor]:
    """Whether a mask is a compact one."""
    return isinstance(mask, Tensor) and mask.dtype == torch.int64 and mask.dim() == 4 and mask.shape[2] == 2


@contextmanager
def using_tree_attention(model: nn.Module) -> Iterator[None]:
    """Let a transformers model take compact masks; its other masks mean what they meant.

    Raises:
        NotImplementedError: the model's attention does not go through transformers' `AttentionInterface`.
    """
    # They take seconds to import, and whoever has a model has paid them.
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, attend_to_ancestors)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    settable = getattr(model, "_can_set_attn_implementation", None)
    if settable is None or not settable():
        raise NotImplementedError(f"{type(model).__name__} does not use transformers' AttentionInterface")
    config: Any = model.config
    before = config._attn_implementation
    model.set_attn_implementation(NAME)  # type: ignore[operator]
    try:
        yield
    finally:
        model.set_attn_implementation(before)  # type: ignore[operator]


def attend_to_ancestors(
    module: nn.Module,
    query: Float[Tensor, "row head pos d_head"],
    key: Float[Tensor, "row key_head key d_head"],
    value: Float[Tensor, "row key_head key d_value"],
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[Float[Tensor, "row pos head d_value"], None]:
    """A function for transformers' `AttentionInterface`: by blocks under a compact mask, plain SDPA under any other.

    Raises:
        NotImplementedError: the layer asks for something that compact masks do not have, as attention sinks.
    """
    if not is_compact(attention_mask):
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        options = {"scaling": scaling, "sliding_window": sliding_window, "softcap": softcap}
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout=dropout, **options, **kwargs)
    unknown = [name for name in ("s_aux", "position_bias", "cache") if kwargs.get(name) is not None]
    if unknown:
        raise NotImplementedError(f"attention over trees has no {unknown[0]}")
    return _by_blocks(query, key, value, attention_mask, scaling, sliding_window, softcap), None


def _by_blocks(
    query: Float[Tensor, "1 head pos d_head"],
    key: Float[Tensor, "1 key_head pos d_head"],
    value: Float[Tensor, "1 key_head pos d_value"],
    mask: Int[Tensor, "1 1 2 pos"],
    scaling: float | None,
    sliding_window: int | None,
    softcap: float | None,
) -> Float[Tensor, "1 pos head d_value"]:
    plan = _plan(mask)
    window = sliding_window if sliding_window is not None and sliding_window <= plan.deepest else None
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    out = query.new_empty(1, query.shape[2], query.shape[1], value.shape[-1])
    for number, block in enumerate(plan.blocks):
        some = query[:, :, block.start : block.stop]
        keys, values = _gather(key, block.keys), _gather(value, block.keys)
        causal = block.causal and window is None and softcap is None
        seen = None if causal else plan.mask(number, window, query.dtype)
        if softcap is None:
            result = scaled_dot_product_attention(some, keys, values, attn_mask=seen, is_causal=causal, scale=scaling)
        else:
            result = _softcapped(some, keys, values, seen, scaling, softcap)
        out[:, block.start : block.stop] = result.transpose(1, 2)
    return out


def _softcapped(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None, softcap: float
) -> Float[Tensor, "1 head query d_value"]:
    scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    scores = torch.tanh(scores / softcap) * softcap
    if mask is not None:
        scores = scores + mask
    return torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype) @ value


def _gather(tensor: Float[Tensor, "1 head pos d"], stretches: Sequence[Stretch]) -> Float[Tensor, "1 head key d"]:
    if len(stretches) == 1:
        return tensor[:, :, stretches[0][0] : stretches[0][1]]
    return torch.cat([tensor[:, :, start:stop] for start, stop in stretches], dim=2)


def _plan(mask: Int[Tensor, "1 1 2 pos"]) -> _Plan:
    plan = _plans.get(mask)
    if plan is None:
        ends, positions = mask[0, 0].cpu().numpy()
        cost = BLOCK_COST.get(mask.device.type, BLOCK_COST_ELSEWHERE)
        deepest = int(positions.max()) if len(positions) else 0
        # A copy: a view would hold the mask, and the mask its plan, for good.
        own = mask[0, 0].clone()
        plan = _plans[mask] = _Plan(own[0], own[1], deepest, cut_blocks(ends, positions, cost))
    return plan
