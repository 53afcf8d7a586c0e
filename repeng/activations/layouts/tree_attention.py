"""Attention over a row of trees, paying for what the trees hold and not for the whole square.

A model gets the mask of a row in compact form: a [1, 1, 2, pos] tensor of integers, `ends` and `positions` (see
`packing`). Models hand a 4-D mask to their attention unread, so the compact form reaches `attend_to_ancestors`
through any model whose attention goes through transformers' `AttentionInterface`. There a row is cut into blocks: a
stretch of queries and the few stretches of keys that they can see. Small trees are one block each; of a large one,
its prompt is a block with plain causal attention, and its responses are blocks over the prompt's keys and their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.weak import WeakTensorKeyDictionary
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from repeng.activations.layouts.packing import Row

NAME = "repeng_trees"
"""What transformers knows this attention by."""

BLOCK_COST = {"cpu": 6_000.0}
"""What calling a kernel costs, in query-key pairs, measured with 12 heads of 64; by type of device."""
BLOCK_COST_ELSEWHERE = 200_000.0
CAUSAL_COST = 0.75
"""A plain causal block against one of the same size with a mask, measured at 1,000 to 2,000 tokens."""

Stretch = tuple[int, int]


@dataclass(frozen=True)
class Block:
    """Queries `start` to `stop` of a row, and the stretches of keys that some of them see.

    `causal` says that these are the queries' own and that each sees all before it.
    """

    start: int
    stop: int
    keys: tuple[Stretch, ...]
    causal: bool


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
            seen = (asked <= asking) & (asking < self.ends[asked])
            if window is not None:
                seen &= self.positions[asking] - self.positions[asked] < window
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
    with attending_by(model, NAME, attend_to_ancestors):
        yield


@contextmanager
def attending_by(model: nn.Module, name: str, attend: Callable[..., Any]) -> Iterator[None]:
    """Let a transformers model attend by a function of our own, that transformers knows by a name.

    Raises:
        NotImplementedError: the model's attention does not go through transformers' `AttentionInterface`.
    """
    AttentionInterface.register(name, attend)
    AttentionMaskInterface.register(name, sdpa_mask)
    settable = getattr(model, "_can_set_attn_implementation", None)
    if settable is None or not settable():
        raise NotImplementedError(f"{type(model).__name__} does not use transformers' AttentionInterface")
    config: Any = model.config
    before = config._attn_implementation
    model.set_attn_implementation(name)  # type: ignore[operator]
    try:
        yield
    finally:
        model.set_attn_implementation(before)  # type: ignore[operator]


def over_trees(attend: Callable[..., Tensor]) -> Callable[..., tuple[Tensor, None]]:
    """A function for transformers' `AttentionInterface`: `attend` under a compact mask, plain SDPA under any other.

    It raises NotImplementedError where the layer asks for something that compact masks do not have, as attention sinks.

    Args:
        attend: given query, key, value and compact mask, and by name `scaling`, `sliding_window` and `softcap`, returns
            [row, pos, head, d_value].
    """

    def attention(
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
        options = {"scaling": scaling, "sliding_window": sliding_window, "softcap": softcap}
        if not is_compact(attention_mask):
            return sdpa_attention_forward(
                module, query, key, value, attention_mask, dropout=dropout, **options, **kwargs
            )
        unknown = [name for name in ("s_aux", "position_bias", "cache") if kwargs.get(name) is not None]
        if unknown:
            raise NotImplementedError(f"attention over trees has no {unknown[0]}")
        return attend(query, key, value, attention_mask, **options), None

    return attention


@over_trees
def attend_to_ancestors(
    query: Float[Tensor, "1 head pos d_head"],
    key: Float[Tensor, "1 key_head pos d_head"],
    value: Float[Tensor, "1 key_head pos d_value"],
    mask: Int[Tensor, "1 1 2 pos"],
    *,
    scaling: float | None,
    sliding_window: int | None,
    softcap: float | None,
) -> Float[Tensor, "1 pos head d_value"]:
    """Attention by blocks."""
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


@dataclass
class _Node:
    """A stretch of the row without branches, with the tree above and under it."""

    start: int
    stop: int
    end: int
    path: tuple[Stretch, ...]
    depth: int
    children: list[_Node] = field(default_factory=list)
    cost: float = 0.0
    pieces: list[Block] = field(default_factory=list)


def cut_blocks(
    ends: Int[np.ndarray, " pos"], positions: Int[np.ndarray, " pos"], block_cost: float
) -> tuple[Block, ...]:
    """Cut a row into blocks that cost little: each query in one block, each with every key that it may see.

    Args:
        ends: of the row.
        positions: of the row.
        block_cost: cost of one more block, in query-key pairs.
    """
    if not len(ends):
        return ()
    nodes, roots = _nodes(ends, positions)
    # Depth-first order: children stand after their parent, so that backwards they are cut before it.
    for node in reversed(nodes):
        size, own = node.end - node.start, node.stop - node.start
        whole = block_cost + size * (node.depth + size)
        chain = block_cost + own * (node.depth + own) * (CAUSAL_COST if not node.depth else 1.0)
        below, pieces = _join_siblings(node.children, block_cost)
        if not node.children or chain + below < whole:
            node.cost = chain + below
            node.pieces = [_block(node.start, node.stop, node.path, causal=not node.depth), *pieces]
        else:
            node.cost, node.pieces = whole, [_block(node.start, node.end, node.path, causal=False)]
    return tuple(_join_siblings(roots, block_cost)[1])


def _block(start: int, stop: int, path: tuple[Stretch, ...], *, causal: bool) -> Block:
    return Block(start, stop, _extended(path, start, stop), causal)


def _extended(path: tuple[Stretch, ...], start: int, stop: int) -> tuple[Stretch, ...]:
    if path and path[-1][1] == start:
        return (*path[:-1], (path[-1][0], stop))
    return (*path, (start, stop))


def _nodes(ends: Int[np.ndarray, " pos"], positions: Int[np.ndarray, " pos"]) -> tuple[list[_Node], list[_Node]]:
    """Every stretch without branches in depth-first order, and those of them that begin a tree."""
    breaks = np.flatnonzero((np.diff(positions) != 1) | (np.diff(ends) != 0)) + 1
    nodes: list[_Node] = []
    roots: list[_Node] = []
    above: list[_Node] = []
    edges = [0, *breaks.tolist(), len(ends)]
    for start, stop in zip(edges, edges[1:], strict=False):
        while above and above[-1].end <= start:
            above.pop()
        parent = above[-1] if above else None
        path = _extended(parent.path, parent.start, parent.stop) if parent else ()
        node = _Node(start, stop, int(ends[start]), path, int(positions[start]))
        (parent.children if parent else roots).append(node)
        nodes.append(node)
        above.append(node)
    return nodes, roots


def _join_siblings(siblings: Sequence[_Node], block_cost: float) -> tuple[float, list[Block]]:
    """Neighbours under one parent as one block, wherever seeing past each other costs less than another block."""
    groups: list[tuple[int, int, float, list[Block]]] = []
    for node in siblings:
        joined = (node.start, node.end, node.cost, node.pieces)
        if groups:
            start, _, cost, _ = groups[-1]
            size = node.end - start
            together = block_cost + size * (node.depth + size)
            if together < cost + node.cost:
                groups.pop()
                joined = (start, node.end, together, [_block(start, node.end, node.path, causal=False)])
        groups.append(joined)
    return sum((group[2] for group in groups), 0.0), [block for group in groups for block in group[3]]
