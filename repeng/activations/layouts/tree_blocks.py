"""Cutting a row of trees into blocks of attention: stretches of queries, and the stretches of keys that they see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int

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
