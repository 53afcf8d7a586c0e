"""The frozen shapes, against slow obvious versions."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repeng.distributions.schema import Benchmark, Distribution, Example, Message, Shift, Split
from repeng.errors import BadData, UnknownName

RESPONSES = st.lists(st.text(max_size=3), min_size=2, max_size=4, unique=True)
EXAMPLES = st.lists(st.tuples(st.sampled_from("pqr"), RESPONSES, st.integers(0, 3)), min_size=1, max_size=8)


@given(EXAMPLES)
def test_rows_of_a_split_are_those_of_a_plain_loop(drawn: list[tuple[str, list[str], int]]) -> None:
    examples = tuple(Example(prompt, tuple(texts), best % len(texts)) for prompt, texts, best in drawn)
    split = Split("d", "train", examples)
    rows = [
        (number, answer == example.best, example.prompt)
        for number, example in enumerate(split.examples)
        for answer in range(len(example.responses))
    ]
    assert split.n_responses == len(rows)
    assert split.response_example.tolist() == [number for number, _, _ in rows]
    assert split.labels.tolist() == [float(best) for _, best, _ in rows]
    assert split.offsets.tolist() == [[row[0] for row in rows].index(n) for n in range(len(split.examples))]
    expected = [
        (number, best, worse)
        for number in range(len(split.examples))
        for best, (owner, is_best, _) in enumerate(rows)
        for worse, (other, also_best, _) in enumerate(rows)
        if owner == other == number and is_best and not also_best
    ]
    assert [(pair.example, pair.best, pair.worse) for pair in split.pairs] == expected
    prompts = [example.prompt for example in split.examples]
    assert split.groups.tolist() == [list(dict.fromkeys(prompts)).index(prompt) for prompt in prompts]
    assert [pair.group for pair in split.pairs] == [split.groups[pair.example] for pair in split.pairs]


def test_the_data_hash_changes_with_texts_labels_and_order_and_with_nothing_else() -> None:
    one, two = Example("p", ("a", "b"), 0), Example("q", ("a", "b"), 1)
    base = Split("d", "train", (one, two))
    others = [
        (two, one),
        (one,),
        (replace(one, best=1), two),
        (replace(one, prompt="P"), two),
        (replace(one, responses=("b", "a")), two),
        (replace(one, prompt=(Message("user", "p"),)), two),
    ]
    hashes = {replace(base, examples=examples).data_hash for examples in others}
    assert len(hashes) == len(others) and base.data_hash not in hashes
    same = Split("other", "test", (replace(one, metadata={"x": 1}), two))
    assert same.data_hash == base.data_hash and len(base.data_hash) == 12


@pytest.mark.parametrize(
    ("responses", "best", "reason"),
    [
        ((), 0, "needs 2"),
        (("a",), 0, "needs 2"),
        (("a", "b", "a"), 0, "'a' is listed twice"),
        (("a", "b"), 2, "number 2"),
    ],
)
def test_an_example_that_cannot_be_compared_is_refused(responses, best, reason) -> None:
    with pytest.raises(BadData, match=reason):
        Example("p", responses, best)


def test_a_benchmark_names_every_distribution_and_source_once_and_keeps_repeated_shifts() -> None:
    shifts = (Shift("a", "b"), Shift("a", "c", "d", "probing", "x"), Shift("a", "b"))
    benchmark = Benchmark("mine", shifts)
    assert benchmark.distributions == ("a", "b", "c", "d") and benchmark.sources == ("a",)
    assert len(benchmark.shifts) == 3 and shifts[0].target_reference == "b"


def test_a_split_that_is_not_there_is_answered_with_those_that_are() -> None:
    split = Split("d", "train", (Example("p", ("a", "b"), 0),))
    distribution = Distribution("d", {"train": split})
    assert distribution.train is split and split.first(None) is split
    with pytest.raises(UnknownName, match="unknown split of d 'test'; choose from train"):
        _ = distribution.test
