"""What is allowed in data and yet to be known: each is found where it is, and only there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from repeng.distributions.cautions import (
    Caution,
    all_cautions,
    common_prompts,
    constant_responses,
    few_prompts,
    overlap_cautions,
    own_sources,
    refuse,
    same_data,
    same_responses,
    sentences,
)
from repeng.distributions.load import load_distributions
from repeng.distributions.overlap import find_overlaps
from repeng.distributions.schema import Distribution, Example, Message, Prompt, Shift, Split
from repeng.distributions.unions import with_unions
from repeng.errors import BadInput


def split_of(name: str, split: str, prompts: list[Prompt]) -> Split:
    """An example a prompt, whose responses are of its own."""
    own = f"{name} {split}"
    examples = (Example(prompt, (f"{own} good {n}", f"{own} bad {n}"), n % 2) for n, prompt in enumerate(prompts))
    return Split(name, split, tuple(examples))


def asked(count: int, of: str = "q") -> list[Prompt]:
    return [f"{of} {number}" for number in range(count)]


def test_shared_prompts_are_counted_by_test_example_and_the_worst_come_first() -> None:
    train = split_of("a", "train", [*asked(4), (Message("user", "q 9"),)])
    few = split_of("b", "test", [*asked(10), "new", "q 0"])
    many = split_of("a", "test", ["q 1", "q 1", (Message("user", "q 9"),), "Q 1"])
    other = split_of("c", "test", ["q  1", "q 9"])
    assert overlap_cautions(find_overlaps([(train, few), (train, many), (train, many), (train, other)])) == [
        Caution("shared_prompts", "a", "3 of 4 in its own train split"),
        Caution("shared_prompts", "b", "5 of 12 in a's train split"),
        Caution("near_prompts", "c", "2 of 2 in a's train split"),
        Caution("near_prompts", "a", "1 of 4 in its own train split"),
        Caution("near_prompts", "b", "1 of 12 in a's train split"),
    ]


def test_a_target_equal_to_its_source_is_found_by_name_and_by_content() -> None:
    alone = {name: Distribution(name, {"train": split_of(name, "train", asked(2))}) for name in "abc"}
    made = with_unions(alone, ["b+c"])
    shifts = [Shift("a", "b"), Shift("a", "a"), Shift("a", "a"), Shift("b", "b"), Shift("b+c", "a"), Shift("b+c", "c")]
    assert own_sources(shifts, made) == [
        Caution("own_source", "a"),
        Caution("own_source", "b"),
        Caution("own_source", "c of b+c"),
    ]
    one = split_of("a", "test", asked(3))
    copy, other = Split("b", "test", one.examples), split_of("b", "test", asked(3))
    assert same_data([one, one, copy, other]) == [Caution("same_data", "a/test and b/test")]


def test_few_prompts_are_told_from_few_examples_and_from_one_prompt() -> None:
    enough, few = split_of("enough", "test", asked(30)), split_of("few", "test", asked(29))
    repeated = split_of("repeated", "test", asked(12) * 5)
    one, alone = split_of("one", "test", ["same"] * 40), split_of("alone", "test", ["same"])
    assert few_prompts([enough, few, repeated, one, alone]) == [
        Caution("few_prompts", "few", "29"),
        Caution("few_prompts", "repeated", "12 in 60 examples"),
        Caution("one_prompt", "alone", "1 example"),
    ]
    assert common_prompts([enough, one, alone]) == [Caution("common_prompt", "one/test", "40 examples")]
    grouped = Split("g", "test", tuple(replace(example, group="all") for example in one.examples))
    assert few_prompts([grouped]) == [Caution("one_prompt", "g", "40 examples")]
    assert common_prompts([grouped, split_of("e", "test", ["", "q"])]) == [Caution("empty_prompts", "e/test", "1 of 2")]


def test_where_all_have_one_prompt_it_is_their_responses_that_a_train_split_may_share() -> None:
    train = Split("a", "train", tuple(Example("the task", (f"right {n}", f"wrong {n}"), 0) for n in range(9)))
    test = Split("a", "test", tuple(Example("the task", (f"wrong {n}", f"right {n}"), 1) for n in (3, 90, 91)))
    (overlap,) = find_overlaps([(train, test)])
    assert [(match.kind, match.test, match.train) for match in overlap.matches if match.kind == "exact"] == [
        ("exact", 0, 3)
    ]


def choices(*best: int, responses: tuple[str, ...] = ("yes", "no")) -> Split:
    """Examples with the same responses."""
    return Split("c", "train", tuple(Example(f"p {n}", responses, number) for n, number in enumerate(best)))


def test_a_text_that_is_always_best_or_never_is_named_and_responses_that_are_alike() -> None:
    always, mixed = choices(0, 0, 0), choices(0, 1, 0)
    refusals = Split("r", "test", tuple(Example(f"p {n}", (f"answer {n}", "I refuse"), 0) for n in range(3)))
    assert constant_responses([always, mixed, refusals, choices(0)]) == [
        Caution("constant_response", "c/train", "'no' never"),
        Caution("constant_response", "r/test", "'I refuse' never"),
    ]
    assert same_responses([always, mixed, refusals, choices(0)]) == [
        Caution("same_responses", "c/train", "'no' / 'yes'"),
    ]
    good = Split("g", "train", tuple(Example(f"p {n}", ("I can " * 20, f"no {n}"), 0) for n in range(2)))
    (found,) = constant_responses([good])
    assert found.text.endswith("...' always") and len(found.text) < 60
    assert not constant_responses([split_of("a", "train", asked(5))]) + same_responses([split_of("a", "x", asked(5))])


def test_many_of_a_kind_are_one_sentence_with_three_names_and_a_count() -> None:
    tests = [split_of(f"d{number}", "test", asked(10, f"{number}")) for number in range(23)]
    (line,) = sentences(few_prompts(tests))
    assert line.startswith("targets of fewer than 30 test prompts: d0 (10), d1 (10), d2 (10) and 20 more; ")
    (other,) = sentences([Caution("a_later_kind", "here")])
    assert other == "a later kind: here"
    failed = [Caution("failed", "mms on 3", "no room"), Caution("failed", "lat on 1", "no luck")]
    assert sentences(failed) == ["failed: mms on 3: no room", "failed: lat on 1: no luck"]


def test_good_data_is_no_matter_for_caution_and_strict_refuses_what_is() -> None:
    good = [
        Distribution(name, {split: split_of(name, split, asked(40, f"{name} {split}")) for split in ("train", "test")})
        for name in ("a", "b")
    ]
    assert all_cautions(good) == []
    refuse([], BadInput)
    leak = Distribution("c", {"train": good[0].train, "test": split_of("c", "test", asked(40, "a train"))})
    found = all_cautions([*good, leak])
    assert [caution.where for caution in found if caution.kind == "shared_prompts"] == ["c"]
    with pytest.raises(BadInput, match="--strict takes cautions.*\n  test prompts .* c \\(40 of 40 in a's"):
        refuse(found, BadInput)


def test_the_prompts_that_genies_shares_are_found(genies_root: Path) -> None:
    names = ("change_my_view", "quote_attribution", "alpaca_short", "alpaca_high_quality", "us_history")
    found = all_cautions(load_distributions(genies_root / "distributions", names).values())
    assert [(one.where, one.text) for one in found if one.kind == "shared_prompts"] == [
        ("change_my_view", "110 of 250 in its own train split, 96 with a response"),
        ("quote_attribution", "44 of 250 in its own train split, 44 with a response"),
        ("alpaca_short", "11 of 250 in alpaca_high_quality's train split, 11 with a response"),
        ("alpaca_high_quality", "5 of 750 in alpaca_short's train split, 5 with a response"),
    ]
    assert {one.kind for one in found} == {"shared_prompts", "near_prompts", "prompts_inside"}
