"""Cautions of labelled texts, and what of named groups and whole conversations stands in a train split."""

from __future__ import annotations

import pytest

from repeng.distributions.cautions import Caution, all_cautions, overlap_examples
from repeng.distributions.overlap import Match, find_overlaps
from repeng.distributions.schema import Distribution, Example, Message, Split


def text(said: str, label: int, group: str | None = None) -> Example:
    return Example("", (said,), (0,) if label else (), group=group)


def cautions(train: list[Example], test: list[Example], *kinds: str) -> list[Caution]:
    splits = {name: Split("d", name, tuple(own)) for name, own in (("train", train), ("test", test))}
    return [one for one in all_cautions([Distribution("d", splits)]) if one.kind in kinds]


def test_a_split_of_labelled_texts_of_one_label_is_named() -> None:
    both, one, pair = [text("a", 1), text("b", 0)], [text("c", 0), text("e", 0)], [Example("p", ("x", "y"), 0)]
    assert cautions(both, one, "one_label") == [Caution("one_label", "d/test", "all 2 are 0")]
    assert cautions([text("a", 1)], both, "one_label") == [Caution("one_label", "d/train", "all 1 are 1")]
    assert cautions(both, both, "one_label") == cautions(pair, pair, "one_label") == []


def test_texts_of_both_labels_are_counted_within_a_split_and_between_train_and_test() -> None:
    train = [text("a", 1), text("a", 0), text("b", 1), text("c", 1)]
    test = [text("b", 0), text("c", 1), text("d", 0)]
    assert cautions(train, test, "contradictions") == [
        Caution("contradictions", "d/train", "1 of 3 distinct texts"),
        Caution("contradictions", "d, between train and test", "1 of 3 distinct texts"),
    ]
    answers = [Example("p", ("yes",), (0,)), Example("q", ("yes",), ())]
    pairs = [Example("p", ("x", "y"), 0), Example("p", ("x", "y"), 1)]
    assert cautions(answers, answers, "contradictions") == cautions(pairs, pairs, "contradictions") == []


def test_pairs_and_single_texts_in_one_split_are_counted() -> None:
    pair = Example("p", ("x", "y"), 0)
    assert cautions([pair, text("a", 1), text("b", 0)], [pair], "mixed_forms") == [
        Caution("mixed_forms", "d/train", "1 with several responses, 2 of one text")
    ]


def test_a_group_in_train_and_test_of_one_distribution_is_named_and_overlaps() -> None:
    train = Split("d", "train", (text("one", 1, "g"), text("two", 0, "h"), text("three", 0)))
    test = Split("d", "test", (text("four", 1, "h"), text("one", 1, "g"), text("five", 0, "i"), text("six", 0)))
    (found,) = find_overlaps([(train, test)])
    assert found.matches == (Match("group", 0, 1, 0.0, False), Match("exact", 1, 0, 1.0, False))
    assert cautions(list(train.examples), list(test.examples), "shared_groups") == [
        Caution("shared_groups", "d", "2 of 4, of 2 groups")
    ]
    elsewhere = Split("e", "test", test.examples)
    (found,) = find_overlaps([(train, elsewhere)])
    assert [match.kind for match in found.matches] == ["exact"]


@pytest.mark.parametrize("region", ["all", "response"])
def test_a_conversation_that_is_labelled_as_a_whole_is_compared_as_a_whole(region: str) -> None:
    begins = (Message("user", "Are you there?"),)
    train = Split("d", "train", (Example(begins, ("Yes, as always.",), (0,), region=region),))  # type: ignore[arg-type]
    said = ("Nobody is here but the wind.", "Yes, as always.", "yes as always")
    test = Split("d", "test", tuple(Example(begins, (one,), (), region=region) for one in said))  # type: ignore[arg-type]
    (found,) = find_overlaps([(train, test)])
    kinds = [(match.kind, match.test, match.response) for match in found.matches]
    whole = [("exact", 1, False), ("near", 2, False)]
    assert kinds == (whole if region == "all" else [("exact", 0, False), ("exact", 1, True), ("exact", 2, True)])


def test_of_an_exact_match_both_are_shown_as_the_same_text() -> None:
    def many(name: str, template: str, count: int) -> Split:
        own = [f"{template} {number} times {number}" for number in range(count)]
        return Split("d", name, tuple(Example(prompt, ("yes", "no"), 0) for prompt in ("what is 3 - 2", *own)))

    (line,) = overlap_examples(find_overlaps([(many("train", "what is 3 -", 30), many("test", "say 7 and", 30))]))
    assert line.startswith("exact, 1.00 alike: ")
    assert line.count("'what is 3 - 2'") == 2
