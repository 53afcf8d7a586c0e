from __future__ import annotations

import gc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from repeng.activations.layouts import tree_attention as attention
from repeng.activations.layouts.packing import Row, pack, tree_mask
from repeng.activations.layouts.tree_attention import attend_to_ancestors, compact_mask
from repeng.activations.layouts.tree_blocks import cut_blocks

token = st.integers(0, 2)
rows = st.lists(st.lists(token, min_size=1, max_size=12), min_size=1, max_size=14).map(
    lambda texts: pack(texts, 500)[0]
)
costs = st.sampled_from([0.0, 3.0, 20.0, 1e9])


@settings(deadline=None)
@given(rows, costs)
def test_every_query_stands_in_one_block_with_every_key_that_it_sees(row: Row, cost: float) -> None:
    mask, seen = tree_mask(row), np.zeros((row.n_tokens, row.n_tokens), dtype=bool)
    queries: list[int] = []
    for block in cut_blocks(row.ends, row.positions, cost):
        queries += range(block.start, block.stop)
        for start, stop in block.keys:
            seen[block.start : block.stop, start:stop] = True
        if block.causal:
            own = slice(block.start, block.stop)
            assert block.keys == ((block.start, block.stop),)
            assert np.array_equal(mask[own, own], np.tri(block.stop - block.start, dtype=bool))
    assert sorted(queries) == list(range(row.n_tokens))
    assert not (mask & ~seen).any()


def test_dear_blocks_are_few_and_cheap_ones_waste_little() -> None:
    generator = np.random.default_rng(0)
    prompt = generator.integers(0, 1000, 300).tolist()
    (row,) = pack([prompt + generator.integers(0, 1000, 50).tolist() for _ in range(6)], 1000)
    (whole,) = cut_blocks(row.ends, row.positions, 1e9)
    assert whole.keys == ((0, row.n_tokens),)
    cut = cut_blocks(row.ends, row.positions, 100.0)
    assert len(cut) == 7 and cut[0].causal
    pairs = sum((block.stop - block.start) * sum(stop - start for start, stop in block.keys) for block in cut)
    assert pairs == 300 * 300 + 6 * 50 * 350


def slow_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: np.ndarray, scaling: float, softcap: float | None
) -> torch.Tensor:
    """One head and one token after the other."""
    out = torch.zeros(query.shape[2], query.shape[1], value.shape[-1])
    groups = query.shape[1] // key.shape[1]
    for head in range(query.shape[1]):
        for position in range(query.shape[2]):
            sees = torch.from_numpy(np.flatnonzero(mask[position]))
            scores = key[0, head // groups, sees] @ query[0, head, position] * scaling
            scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
            out[position, head] = scores.softmax(0) @ value[0, head // groups, sees]
    return out[None]


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_attention_over_trees_is_attention_over_ancestors(window: int | None, softcap: float | None) -> None:
    generator = torch.Generator().manual_seed(0)
    texts = [[1, 2, 3, 4, 5], [1, 2, 3, 4, 6, 7, 8], [1, 2, 3, 4, 6, 9], [1, 8], [5, 5, 5, 5, 5, 5, 5], [5, 5, 6]]
    (row,) = pack(texts, 100)
    query = torch.randn(1, 4, row.n_tokens, 8, generator=generator)
    key, value = (torch.randn(1, 2, row.n_tokens, 8, generator=generator) for _ in range(2))
    out, _ = attend_to_ancestors(
        nn.Identity(), query, key, value, compact_mask(row), scaling=0.4, sliding_window=window, softcap=softcap
    )
    expected = slow_attention(query, key, value, tree_mask(row, window=window), 0.4, softcap)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)


def test_large_trees_cut_into_many_blocks_give_the_same() -> None:
    numbers = np.random.default_rng(0)
    prompts = [numbers.integers(0, 99, size).tolist() for size in (400, 20, 30, 150)]
    texts = [[1, *prompt, *numbers.integers(0, 99, 60).tolist()] for prompt in prompts for _ in range(4)]
    (row,) = pack(texts, 3000)
    assert len(cut_blocks(row.ends, row.positions, 6000.0)) > 4
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, 2, row.n_tokens, 4, generator=generator) for _ in range(3))
    out, _ = attend_to_ancestors(nn.Identity(), query, key, value, compact_mask(row))
    dense = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=torch.from_numpy(tree_mask(row))
    ).transpose(1, 2)
    torch.testing.assert_close(out, dense, rtol=1e-5, atol=1e-6)


def test_any_other_mask_means_what_it_means_to_plain_attention() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 2, 5, 4, generator=generator) for _ in range(3))
    mask = torch.rand(2, 1, 5, 5, generator=generator) > 0.3
    mask |= torch.eye(5, dtype=torch.bool)
    out, _ = attend_to_ancestors(nn.Identity(), query, key, value, mask)
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2)
    torch.testing.assert_close(out, expected)


def test_what_trees_cannot_do_is_refused() -> None:
    (row,) = pack([[1, 2]], 10)
    query = torch.zeros(1, 1, 2, 4)
    with pytest.raises(NotImplementedError, match="s_aux"):
        attend_to_ancestors(nn.Identity(), query, query, query, compact_mask(row), s_aux=torch.zeros(1))


def test_what_is_made_for_a_row_goes_with_its_mask() -> None:
    (row,) = pack([[1, 2, 3], [1, 2, 4]], 10)
    query, before = torch.zeros(1, 1, row.n_tokens, 4), len(attention._plans)
    # As on a GPU, where the mask is a copy: its views hold it alone.
    mask = compact_mask(row).clone()
    attend_to_ancestors(nn.Identity(), query, query, query, mask)
    assert len(attention._plans) == before + 1
    del mask
    gc.collect()
    assert len(attention._plans) == before
