"""Planted duplicates of each kind are found, and only these; nothing is read of which response is best."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from test_near_texts import changed, words

from repeng.benchmarks.loaded import load_benchmark
from repeng.distributions.cautions import Caution, overlap_cautions, overlap_examples
from repeng.distributions.load import load_distributions
from repeng.distributions.overlap import Match, find_overlaps, said
from repeng.distributions.schema import Example, Message, Split
from repeng.study.cautions import benchmark_cautions

OURS = "### Instruction:\n{}\n\n### Response:\n"
THEIRS = "Below is a request. Please follow it to the letter.\n\n{}"


def text(number: int, count: int = 14) -> str:
    return " ".join(words(count, seed=number))


def split_of(name: str, split: str, prompts: list[str], template: str, responses: dict[int, str]) -> Split:
    """Examples with responses of their own, but for the first one of those given."""
    own = [(responses.get(n, f"{name} {split} good {n}"), f"{name} {split} bad {n}") for n in range(len(prompts))]
    return Split(
        name,
        split,
        tuple(Example(template.format(p), r, n % 2) for n, (p, r) in enumerate(zip(prompts, own, strict=True))),
    )


@pytest.fixture
def pair() -> tuple[Split, Split]:
    """A train split under one template, and a test split under another with five of its prompts."""
    long = words(60, seed=50)
    known = [text(number) for number in range(40)]
    known += [" ".join(long), f"{text(60)} {text(61)}", text(62, 20)]
    train = split_of("a", "train", known, THEIRS, {3: "It is so.", 42: text(63, 20)})
    asked = [text(number) for number in range(100, 140)]
    asked[0] = text(3).upper()  # near: another template, another case
    asked[1] = " ".join(changed(long, (40,)))  # near: a word of a long text
    asked[2] = text(61)  # inside a longer prompt
    asked[3] = f"{text(62, 20)} {text(63, 20)}"  # inside a prompt with its response
    test = split_of("b", "test", asked, OURS, {0: "it is SO"})
    exact = replace(test.examples[5], prompt=train.examples[7].prompt)
    return train, replace(test, examples=(*test.examples[:5], exact, *test.examples[6:]))


def test_each_kind_of_duplicate_is_found_where_it_stands_and_no_other(pair: tuple[Split, Split]) -> None:
    train, test = pair
    (found,) = find_overlaps([(train, test), (train, test)])
    assert (found.train, found.test) == (train, test)
    whole, part = 1.0, 55 / 61
    assert found.matches == (
        Match("near", 0, 3, whole, True),
        Match("near", 1, 40, part, False),
        Match("inside", 2, 41, whole, False),
        Match("inside", 3, 42, whole, False),
        Match("exact", 5, 7, whole, False),
    )
    assert [match.test for match in found.of_kind("inside")] == [2, 3]
    assert found.examples.nonzero()[0].tolist() == [0, 1, 2, 3, 5]
    assert said(test, 0) == text(3)


def test_a_split_is_not_like_what_it_shares_a_template_with() -> None:
    train = split_of("a", "train", [text(number, 6) for number in range(60)], OURS, {})
    test = split_of("a", "test", [text(number, 6) for number in range(100, 160)], OURS, {})
    questions = [f"What is the capital of {word}?" for word in words(120, seed=9, vocabulary=10**6)]
    asked, known = (split_of("c", part, own, OURS, {}) for part, own in (("t", questions[:60]), ("u", questions[60:])))
    assert find_overlaps([(train, test), (asked, known), (train, known)]) == []
    # The same question is the same also where it is too short to be compared by its runs.
    shouted = split_of("d", "test", [questions[0].upper(), *questions[61:]], OURS, {})
    (found,) = find_overlaps([(asked, shouted)])
    assert [(match.kind, match.test, match.train) for match in found.matches] == [("near", 0, 0)]


def test_prompts_without_a_word_are_not_alike_and_a_chat_is_its_messages() -> None:
    def one(prompt: str | tuple[Message, ...], part: str) -> Split:
        return Split("a", part, (Example(prompt, (f"{part} yes", f"{part} no"), 0),))

    assert find_overlaps([(one("?", "train"), one("!", "test"))]) == []
    chat = (Message("system", "Be kind."), Message("user", text(1)))
    (found,) = find_overlaps([(one(f"be kind {text(1)}", "train"), one(chat, "test"))])
    assert found.matches == (Match("near", 0, 0, 1.0, False),)


def test_nothing_is_read_of_which_response_is_best(pair: tuple[Split, Split]) -> None:
    train, test = pair
    other = [replace(one, examples=tuple(replace(e, best=1 - e.best) for e in one.examples)) for one in pair]
    (found,), (turned,) = find_overlaps([(train, test)]), find_overlaps([(other[0], other[1])])
    assert found.matches == turned.matches


def test_cautions_count_each_kind_by_itself_the_worst_first_with_two_examples_each(pair: tuple[Split, Split]) -> None:
    train, test = pair
    less = replace(test, distribution="a", examples=(test.examples[5], *test.examples[10:]))
    overlaps = find_overlaps([(train, test), (train, less)])
    assert overlap_cautions(overlaps) == [
        Caution("shared_prompts", "a", "1 of 31 in its own train split"),
        Caution("shared_prompts", "b", "1 of 40 in a's train split"),
        Caution("near_prompts", "b", "2 of 40 in a's train split, 1 with a response"),
        Caution("prompts_inside", "b", "2 of 40 in a's train split"),
    ]
    lines = overlap_examples(overlaps)
    assert [line.split(" alike")[0] for line in lines] == [
        "exact, 1.00",
        "exact, 1.00",
        "near, 1.00",
        "near, 0.90",
        "inside, 1.00",
        "inside, 1.00",
    ]
    assert lines[2] == f"near, 1.00 alike: b/test 0 {text(3)!r} and a/train 3 {text(3)!r}"
    assert max(map(len, lines)) < 300


def test_the_embedded_questions_are_not_taken_for_duplicates_of_each_other() -> None:
    benchmark = load_benchmark(None, None)
    kinds = {caution.kind for caution in benchmark_cautions(benchmark)}
    assert not kinds & {"shared_prompts", "near_prompts", "prompts_inside"}


def test_what_of_genies_stands_in_the_train_splits_is_found(genies_root: Path) -> None:
    names = ("quote_attribution", "sycophancy_mimicry", "us_history", "ranking_logic", "raven_matrices", "code_hard")
    listed = load_distributions(genies_root / "distributions", names).values()
    found = find_overlaps((one.train, other.test) for one, other in product(listed, listed))
    counts = {
        (one.train.distribution, one.test.distribution): tuple(
            len(one.of_kind(kind)) for kind in ("exact", "near", "inside")
        )
        for one in found
    }
    assert counts["sycophancy_mimicry", "quote_attribution"] == (0, 76, 62)
    assert counts["quote_attribution", "quote_attribution"] == (44, 22, 0)
    assert counts["us_history", "us_history"] == (0, 41, 2)
    # Puzzles made of the same symbols and sentences, in another arrangement each, and texts of other subjects.
    unlike = ("ranking_logic", "raven_matrices")
    assert not [pair for pair in counts if set(pair) & set(unlike)]
    assert ("code_hard", "quote_attribution") not in counts and ("us_history", "code_hard") not in counts
