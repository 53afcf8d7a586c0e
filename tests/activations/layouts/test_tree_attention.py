from __future__ import annotations

import gc
import shutil
from collections.abc import Callable, Sized

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from repeng.activations.layouts import flex_attention as flex
from repeng.activations.layouts import tree_attention as attention
from repeng.activations.layouts.flex_attention import attend_by_flex
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
@pytest.mark.parametrize("attend", [attend_to_ancestors, attend_by_flex])
def test_attention_over_trees_is_attention_over_ancestors(
    attend: Callable[..., tuple[torch.Tensor, None]], window: int | None, softcap: float | None
) -> None:
    generator = torch.Generator().manual_seed(0)
    texts = [[1, 2, 3, 4, 5], [1, 2, 3, 4, 6, 7, 8], [1, 2, 3, 4, 6, 9], [1, 8], [5, 5, 5, 5, 5, 5, 5], [5, 5, 6]]
    (row,) = pack(texts, 100)
    query = torch.randn(1, 4, row.n_tokens, 8, generator=generator)
    key, value = (torch.randn(1, 2, row.n_tokens, 8, generator=generator) for _ in range(2))
    out, _ = attend(
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


@pytest.mark.parametrize("attend", [attend_to_ancestors, attend_by_flex])
def test_any_other_mask_means_what_it_means_to_plain_attention(
    attend: Callable[..., tuple[torch.Tensor, None]],
) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 2, 5, 4, generator=generator) for _ in range(3))
    mask = torch.rand(2, 1, 5, 5, generator=generator) > 0.3
    mask |= torch.eye(5, dtype=torch.bool)
    out, _ = attend(nn.Identity(), query, key, value, mask)
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2)
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("attend", [attend_to_ancestors, attend_by_flex])
def test_what_trees_cannot_do_is_refused(attend: Callable[..., tuple[torch.Tensor, None]]) -> None:
    (row,) = pack([[1, 2]], 10)
    query = torch.zeros(1, 1, 2, 4)
    with pytest.raises(NotImplementedError, match="s_aux"):
        attend(nn.Identity(), query, query, query, compact_mask(row), s_aux=torch.zeros(1))


@pytest.mark.parametrize(
    ("attend", "kept"), [(attend_to_ancestors, attention._plans), (attend_by_flex, flex._block_masks)]
)
def test_what_is_made_for_a_row_goes_with_its_mask(
    attend: Callable[..., tuple[torch.Tensor, None]], kept: Sized
) -> None:
    (row,) = pack([[1, 2, 3], [1, 2, 4]], 10)
    query, before = torch.zeros(1, 1, row.n_tokens, 4), len(kept)
    # As on a GPU, where the mask is a copy: its views hold it alone.
    mask = compact_mask(row).clone()
    attend(nn.Identity(), query, query, query, mask)
    assert len(kept) == before + 1
    del mask
    gc.collect()
    assert len(kept) == before


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(token, min_size=1, max_size=90), min_size=1, max_size=12), st.sampled_from([None, 3, 40, 200]))
def test_tiles_that_are_passed_over_hold_nothing_and_full_ones_all(texts: list[list[int]], window: int | None) -> None:
    row = pack([[*text, *range(200)] if number % 3 == 0 else text for number, text in enumerate(texts)], 5000)[0]
    size = flex._filled_up(row.n_tokens)
    ends, positions = (torch.from_numpy(np.pad(one, (0, size - row.n_tokens))) for one in (row.ends, row.positions))
    mask = np.zeros((size, size), dtype=bool)
    mask[: row.n_tokens, : row.n_tokens] = tree_mask(row, window=window)
    made = flex.block_mask_of(ends, positions, window)
    tiles = mask.reshape(size // flex.TILE, flex.TILE, size // flex.TILE, flex.TILE).swapaxes(1, 2)
    for query in range(len(tiles)):
        partial = made.kv_indices[0, 0, query, : made.kv_num_blocks[0, 0, query]].tolist()
        full = made.full_kv_indices[0, 0, query, : made.full_kv_num_blocks[0, 0, query]].tolist()
        assert not set(partial) & set(full)
        assert all(tiles[query, key].all() for key in full)
        assert not any(tiles[query, key].any() for key in set(range(len(tiles))) - {*partial, *full})


def test_a_long_row_has_tiles_to_pass_over_and_full_ones() -> None:
    numbers = np.random.default_rng(0)
    texts = [[1, prompt, *numbers.integers(0, 99, 400).tolist()] for prompt in (3, 4, 5)]
    (row,) = pack(texts, 2000)
    assert flex._filled_up(row.n_tokens) == 2048
    ends, positions = (torch.from_numpy(np.pad(one, (0, 2048 - row.n_tokens))) for one in (row.ends, row.positions))
    made = flex.block_mask_of(ends, positions, None)
    assert made.full_kv_num_blocks.sum() >= 3 and made.kv_num_blocks.sum() + made.full_kv_num_blocks.sum() < 40


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
def test_the_one_kernel_is_compiled_once_for_rows_of_about_a_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flex, "_plain", flex._compiled)
    numbers, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    torch._dynamo.reset()
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for size in (20, 22, 30):
        texts = [[1, prompt, *numbers.integers(0, 99, size).tolist()] for prompt in (3, 4, 5) for _ in range(5)]
        (row,) = pack(texts, 1000)
        query = torch.randn(1, 4, row.n_tokens, 16, generator=generator)
        key, value = (torch.randn(1, 2, row.n_tokens, 16, generator=generator) for _ in range(2))
        with torch.no_grad():
            ours, _ = attend_by_flex(nn.Identity(), query, key, value, compact_mask(row))
        expected, _ = attend_to_ancestors(nn.Identity(), query, key, value, compact_mask(row))
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] - before == 1
