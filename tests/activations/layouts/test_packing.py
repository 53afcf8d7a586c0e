from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repeng.activations.layouts.packing import REPEATED, STRETCH, Row, pack, tree_mask

# Few token ids and a preamble make prefixes meet at every depth.
token = st.integers(0, 2)
some_texts = st.builds(
    lambda preamble, texts: [preamble + text for text in texts],
    st.lists(token, max_size=6),
    st.lists(st.lists(token, max_size=12), max_size=14),
)
budgets = st.integers(1, 60)


def slow_mask(row: Row) -> np.ndarray:
    """Attention as the texts themselves say it: a token sees what stands before it in a text that both are in."""
    mask = np.zeros((row.n_tokens, row.n_tokens), dtype=bool)
    for slot in range(len(row.texts)):
        path = row.path(slot)
        for place, position in enumerate(path):
            mask[position, path[: place + 1]] = True
    return mask


@settings(deadline=None)
@given(some_texts, budgets)
def test_unpacking_gives_every_text_back_once(texts: list[list[int]], budget: int) -> None:
    rows = pack(texts, budget)
    seen = [number for row in rows for number in row.texts]
    assert sorted(seen) == list(range(len(texts)))
    for row in rows:
        for slot, number in enumerate(row.texts):
            path = row.path(slot)
            assert row.ids[path].tolist() == texts[number]
            assert row.positions[path].tolist() == list(range(len(texts[number])))


@settings(deadline=None)
@given(some_texts, budgets)
def test_each_token_attends_to_exactly_its_own_ancestors(texts: list[list[int]], budget: int) -> None:
    for row in pack(texts, budget):
        assert np.array_equal(tree_mask(row), slow_mask(row))


@settings(deadline=None)
@given(some_texts, budgets, st.integers(1, 8))
def test_a_window_keeps_only_the_ancestors_that_are_near(texts: list[list[int]], budget: int, window: int) -> None:
    for row in pack(texts, budget):
        near = row.positions[:, None] - row.positions[None, :] < window
        assert np.array_equal(tree_mask(row, window=window), slow_mask(row) & near)


@settings(deadline=None)
@given(some_texts, budgets)
def test_no_row_holds_a_token_that_no_text_needs_or_the_same_prefix_twice(texts: list[list[int]], budget: int) -> None:
    for row in pack(texts, budget):
        prefixes = {tuple(texts[number][: stop + 1]) for number in row.texts for stop in range(len(texts[number]))}
        assert row.n_tokens == len(prefixes)


@settings(deadline=None)
@given(some_texts, budgets)
def test_a_row_outgrows_the_budget_only_where_a_text_does_or_a_cut_would_repeat_much(
    texts: list[list[int]], budget: int
) -> None:
    for row in pack(texts, budget):
        longest = max((len(texts[number]) for number in row.texts), default=0)
        assert row.n_tokens <= max(STRETCH * budget, longest)


@settings(deadline=None)
@given(some_texts, budgets, st.randoms())
def test_rows_do_not_depend_on_the_order_of_the_texts(texts: list[list[int]], budget: int, random: object) -> None:
    shuffled = list(texts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    here, there = pack(texts, budget), pack(shuffled, budget)
    assert [row.ids.tolist() for row in here] == [row.ids.tolist() for row in there]


def test_a_prompt_with_its_responses_is_computed_once() -> None:
    prompt = [1, 2, 3, 4]
    (row,) = pack([[*prompt, 5, 6], [*prompt, 7]], 100)
    assert row.ids.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert row.positions.tolist() == [0, 1, 2, 3, 4, 5, 4]
    assert row.ends.tolist() == [7, 7, 7, 7, 6, 6, 7]


def test_rows_of_many_short_texts_are_nearly_full() -> None:
    generator = np.random.default_rng(0)
    texts = [generator.integers(0, 1000, size=size).tolist() for size in generator.integers(20, 200, size=400)]
    rows = pack(texts, 1024)
    assert sum(row.n_tokens for row in rows) / (1024 * len(rows)) > 0.97


def test_a_long_prompt_is_not_repeated_and_a_short_one_may_be() -> None:
    generator = np.random.default_rng(0)

    def tokens(size: int) -> list[int]:
        return generator.integers(0, 1000, size=size).tolist()

    long_prompt, preamble = tokens(900), tokens(10)
    (row,) = pack([long_prompt + tokens(200) for _ in range(3)], 1024)
    assert row.n_tokens <= 900 + 3 * 200
    rows = pack([preamble + tokens(100) for _ in range(100)], 1024)
    assert max(row.n_tokens for row in rows) <= 1024
    assert sum(row.n_tokens for row in rows) <= (1 + REPEATED) * 100 * 100


def test_ten_thousand_texts_are_packed_in_seconds() -> None:
    generator = np.random.default_rng(0)
    prompts = [generator.integers(0, 30000, size=size).tolist() for size in generator.integers(20, 300, size=5000)]
    texts = [prompt + generator.integers(0, 30000, size=30).tolist() for prompt in prompts for _ in range(2)]
    rows = pack(texts, 1024)
    assert sum(len(row.texts) for row in rows) == 10000


def test_an_impossible_budget_is_refused() -> None:
    with pytest.raises(ValueError, match="budget of 0 tokens"):
        pack([[1]], 0)
