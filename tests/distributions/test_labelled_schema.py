"""Labelled texts, several right responses and groups, against slow obvious versions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from repeng.distributions.schema import PAIRED_GROUP, Example, Message, ResponseLabels, Split
from repeng.distributions.splitting import split_by_prompt
from repeng.errors import BadData

TRUE = Example("", ("Paris is in France.",), (0,))
FALSE = Example("", ("Paris is in Spain.",), ())


def texts(labels: list[int], groups: list[str | None] | None = None) -> Split:
    named = groups or [None] * len(labels)
    rows = zip(labels, named, strict=True)
    found = [Example("", (f"text {n}",), (0,) if label else (), group=group) for n, (label, group) in enumerate(rows)]
    return Split("d", "train", tuple(found))


def test_a_statement_is_an_example_of_one_response_and_no_rivals() -> None:
    split = Split("d", "train", (TRUE, FALSE))
    assert split.as_texts and split.labels.tolist() == [1.0, 0.0] and not split.pairs
    assert split.groups.tolist() == [0, 1] and split.rivals.tolist() == [0, 1]


def test_one_right_response_of_several_is_known_by_its_number_however_it_was_given() -> None:
    assert Example("p", ("a", "b"), (1,)) == Example("p", ("a", "b"), 1)
    pair = Split("d", "train", (Example("p", ("a", "b"), 1),))
    assert pair.data_hash == replace(pair, examples=(Example("p", ("a", "b"), (1,)),)).data_hash


@pytest.mark.parametrize(
    ("responses", "best", "reason"),
    [
        ((), (), "no response"),
        (("a",), 0, "1 response"),
        (("a",), (1,), "number 1 is not one of 1"),
        (("a", "b", "c"), (0, 3), "number 3 is not one of 3"),
        (("a", "a"), (0,), "listed twice"),
    ],
)
def test_what_is_no_example_is_refused(responses: tuple[str, ...], best: int | tuple[int, ...], reason: str) -> None:
    with pytest.raises(BadData, match=reason):
        Example("p", responses, best)


@given(
    st.lists(
        st.tuples(
            st.integers(1, 4).flatmap(lambda n: st.lists(st.booleans(), min_size=n, max_size=n)), st.integers(0, 3)
        ),
        min_size=1,
        max_size=8,
    )
)
def test_every_right_response_is_a_pair_with_every_wrong_one_among_its_rivals(
    drawn: list[tuple[list[bool], int]],
) -> None:
    examples = tuple(
        Example(f"p{n}", tuple(map(str, range(len(right)))), tuple(i for i, one in enumerate(right) if one), group=g)
        for n, (right, number) in enumerate(drawn)
        for g in [f"g{number}" if number else None]
    )
    split = Split("d", "train", examples)
    rows = [(n, label) for n, example in enumerate(examples) for label in example.labels]

    def together(one: int, other: int) -> bool:
        a, b = examples[one], examples[other]
        return one == other or (a.group is not None and a.group == b.group)

    expected = {
        (best, worse)
        for best, (one, right) in enumerate(rows)
        for worse, (other, also) in enumerate(rows)
        if right and not also and together(one, other)
    }
    found = [(pair.best, pair.worse) for pair in split.pairs]
    assert set(found) == expected and len(found) == len(expected)
    assert [tuple(pair) for pair in ResponseLabels.of(split).pairs.tolist()] == found
    assert all(rows[pair.best][0] == pair.example for pair in split.pairs)
    assert split.as_texts == any(len({*example.labels}) < 2 for example in examples)


def test_a_group_that_is_too_large_is_no_set_of_rivals_but_is_still_never_parted() -> None:
    small, large = ["s"] * PAIRED_GROUP, ["l"] * (PAIRED_GROUP + 1)
    split = texts([1, 0] * PAIRED_GROUP + [1], [*small, *large])
    assert len(split.pairs) == (PAIRED_GROUP // 2) ** 2
    assert {pair.group for pair in split.pairs} == {0}
    assert len(set(split.units.tolist())) == 2 and len(set(split.rivals.tolist())) == PAIRED_GROUP + 2


def test_prompts_group_examples_unless_a_group_is_named_and_texts_do_where_there_is_no_prompt() -> None:
    examples = (
        Example("p", ("a",), (0,)),
        Example("p", ("b",), ()),
        Example("", ("a",), (0,)),
        Example("", ("a",), ()),
        Example("p", ("c",), (), group="g"),
        Example("q", ("d",), (), group="g"),
        Example((Message("user", "p"),), ("d",), (), region="all"),
        Example((Message("user", "p"),), ("e",), (), region="all"),
    )
    split = Split("d", "train", examples)
    assert split.groups.tolist() == [0, 0, 1, 1, 2, 2, 3, 4]
    assert len(set(split.prompt_hashes)) == len(split.prompt_hashes) == 5


def test_a_named_group_is_shared_within_a_distribution_and_a_prompt_across_all() -> None:
    grouped, prompted = Example("", ("a",), (), group="1"), Example("p", ("a",), ())
    one, other = (Split(name, "test", (grouped, prompted)).prompt_hashes for name in ("cities", "authors"))
    assert one[0] != other[0] and one[1] == other[1]


def test_the_data_hash_covers_group_and_region_and_which_are_right() -> None:
    base = Example((Message("user", "p"),), ("a", "b", "c"), (0, 1))
    others = [base, replace(base, group="g"), replace(base, region="all"), replace(base, best=(0, 2))]
    assert len({Split("d", "train", (example,)).data_hash for example in others}) == 4


def test_a_named_group_is_never_parted() -> None:
    examples = tuple(Example("", (f"text {n}",), (0,) if n % 2 else (), group=f"author {n % 20}") for n in range(400))
    train, test = split_by_prompt(examples)
    assert len(train) + len(test) == 400 and len(test) > 20
    assert not {example.group for example in train} & {example.group for example in test}


def test_statements_without_a_prompt_are_divided_by_their_texts() -> None:
    train, test = split_by_prompt(texts([0, 1] * 250).examples)
    assert 60 < len(test) < 140 and len(train) + len(test) == 500


def test_one_named_group_cannot_be_divided() -> None:
    with pytest.raises(BadData, match="of the same group"):
        split_by_prompt(texts([0, 1], ["g", "g"]).examples)


def test_labels_are_one_array_of_all_responses() -> None:
    split = Split("d", "train", (Example("p", ("a", "b", "c"), (0, 2)), TRUE, FALSE))
    np.testing.assert_array_equal(split.labels, [1, 0, 1, 1, 0])
