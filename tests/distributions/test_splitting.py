"""Parting by prompt: about 80 to 20, stable, never a prompt on both sides."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repeng.distributions.schema import Example, Message
from repeng.distributions.splitting import prompt_place, split_by_prompt
from repeng.errors import BadData


def examples(count: int) -> list[Example]:
    return [Example(f"prompt {number}", ("a", "b"), 0) for number in range(count)]


def test_a_fifth_is_tested_on() -> None:
    train, test = split_by_prompt(examples(5000))
    assert len(train) + len(test) == 5000
    assert 0.18 < len(test) / 5000 < 0.22


def test_rows_that_are_added_or_moved_leave_the_others_where_they_were() -> None:
    rows = examples(300)
    _, before = split_by_prompt(rows[:200])
    shuffled = random.Random(0).sample(rows, 300)
    _, after = split_by_prompt(shuffled)
    assert set(before) == set(after) & set(rows[:200])
    assert list(after) == [row for row in shuffled if row in set(after)]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=2), min_size=2, max_size=30))
def test_no_prompt_is_on_both_sides_and_no_side_is_empty(prompts: list[str]) -> None:
    rows = [Example(prompt, ("a", "b"), 0, {"row": number}) for number, prompt in enumerate(prompts)]
    if len(set(prompts)) == 1:
        with pytest.raises(BadData, match="same prompt"):
            split_by_prompt(rows)
        return
    train, test = split_by_prompt(rows)
    assert train and test
    assert not {row.prompt for row in train} & {row.prompt for row in test}
    for side in (train, test):
        numbers = [row.metadata["row"] for row in side]
        assert numbers == sorted(numbers)
    assert len(train) + len(test) == len(rows)


def test_the_place_of_a_prompt_never_changes_between_versions() -> None:
    """Data of a user's earlier study would change sides: these figures were computed once with sha256sum."""
    assert prompt_place("a") == pytest.approx(int("ac8d8342bbb2362d", 16) / 2**64)
    assert prompt_place((Message("user", "a"),)) != prompt_place("a")
