"""What two prompts say is compared without their templates; MinHash finds what comparing all with all finds."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from repeng.distributions.near_texts import (
    ALIKE,
    FEWEST_INSIDE,
    FEWEST_WORDS,
    INSIDE,
    SHORT,
    Inside,
    Words,
    contents,
    near_contents,
    nearness,
    runs_of,
    similarity,
    words_of,
)


def words(count: int, *, seed: int, vocabulary: int = 2000) -> Words:
    draw = random.Random(seed)
    return tuple(f"w{draw.randrange(vocabulary)}" for _ in range(count))


def slow_similarity(one: Words, other: Words) -> float:
    ours = {one[place : place + 3] for place in range(len(one) - 2)}
    theirs = {other[place : place + 3] for place in range(len(other) - 2)}
    return len(ours & theirs) / len(ours | theirs) if ours | theirs else 0.0


def changed(text: Words, places: Sequence[int]) -> Words:
    return tuple(f"x{place}" if place in places else word for place, word in enumerate(text))


def test_words_are_told_apart_by_what_they_say_alone() -> None:
    assert words_of("  The ANSWER,\n(is) “forty-two”!") == ("the", "answer", "is", "forty", "-", "two")
    assert words_of("50 + 32") != words_of("50 - 32")
    assert words_of("🔴 > 🔵") == ("🔴", ">", "🔵")
    assert words_of("Straße ﬁn") == words_of("STRASSE fin")
    assert words_of("?!") == ()


def test_similarity_is_that_of_the_sets_of_runs() -> None:
    text = words(60, seed=1)
    for places in ((), (10,), (10, 30), range(60)):
        assert similarity(text, changed(text, places)) == slow_similarity(text, changed(text, places))
    assert similarity((), ()) == 0.0


def test_the_template_at_both_ends_is_taken_off_and_the_middle_is_kept_whole() -> None:
    head, foot = words_of("Below is an instruction. Complete it.\n### Instruction:"), words_of("### Response:")
    asked = [words(9, seed=seed) for seed in range(40)]
    found = contents([(*head, *one, *foot) for one in asked])
    assert found == asked
    # A phrase of the template within a prompt stays, and a prompt that is template throughout says nothing.
    within = (*asked[0][:4], *head, *asked[0][4:])
    assert contents([*((*head, *one, *foot) for one in asked), (*head, *within, *foot), (*head, *foot)])[-2:] == [
        within,
        (),
    ]
    # Of so few prompts nothing is known to be template.
    few = [(*head, *one, *foot) for one in asked[:4]]
    assert contents(few) == few


@pytest.mark.parametrize(
    ("one", "other", "near"),
    [
        ("name a vegetable that is often used in salads", "a vegetable that is often used in salads", True),
        (
            "who of america won the prize for physics in that year",
            "who of america won the prize for peace in that year",
            False,
        ),
        ("say what language do people speak in peru", "say what language do people speak in chile", False),
        (" ".join(words(60, seed=3)), " ".join(changed(words(60, seed=3), (30,))), True),
        (" ".join(words(60, seed=3)), " ".join(changed(words(60, seed=3), (10, 20, 30, 40, 50))), False),
        (" ".join(words(12, seed=3)), " ".join(words(12, seed=4)), False),
    ],
)
def test_a_word_exchanged_in_a_short_text_is_another_question_and_one_left_out_is_not(
    one: str, other: str, near: bool
) -> None:
    left, right = tuple(one.split()), tuple(other.split())
    assert bool(nearness(left, right)) == bool(nearness(right, left)) == near
    if near:
        assert nearness(left, right) == slow_similarity(left, right) >= ALIKE


def planted(seed: int) -> tuple[list[Words], list[Words]]:
    """Contents of 5 to 90 words and others: copies with words exchanged or cut off, and texts of their own."""
    draw = random.Random(seed)
    known = [words(draw.randrange(3, 90), seed=1000 * seed + number) for number in range(150)]
    asked = []
    for number, text in enumerate(known):
        if number % 3 == 0:
            asked.append(changed(text, draw.sample(range(len(text)), min(len(text), draw.randrange(4)))))
        elif number % 3 == 1:
            asked.append(text[draw.randrange(3) : len(text) - draw.randrange(3)])
        else:
            asked.append(words(draw.randrange(3, 90), seed=10**6 + 1000 * seed + number))
    return asked, known


@pytest.mark.parametrize("seed", range(4))
def test_minhash_finds_every_pair_that_comparing_all_with_all_finds(seed: int) -> None:
    asked, known = planted(seed)
    slow = {
        (one, other): slow_similarity(one, other)
        for one in asked
        for other in known
        if min(len(one), len(other)) >= FEWEST_WORDS and (one == other or nearness(one, other))
    }
    fast = {(one, other): alike for one, found in near_contents(asked, known).items() for alike, other in found}
    assert fast == slow and len(slow) > 50
    assert near_contents([], known) == near_contents(asked, []) == {}


def test_what_stands_in_a_text_is_found_also_across_prompt_and_response() -> None:
    short, long, other = words(12, seed=1), words(60, seed=2), words(12, seed=3)
    tiny = words(FEWEST_INSIDE - 1, seed=4)
    texts = [
        (("so", *short, "then"), ("yes", "no\1")),
        (("a", "b", *long[:30]), ("no", " ".join((*long[30:], "c")))),
        (("the", "end", "of", "it", "is", *changed(other, (11,))), ("yes", "no")),
        (("x", *tiny, "y"), ("\0", "\1 z")),
    ]
    found = Inside([short, long, other, tiny]).standing_in(texts)
    assert found == {short: (1.0, 0), long: (1.0, 1)}
    # Of a long text a little may be missing, of a short one nothing.
    almost, less = changed(long, (58,)), changed(long, (30,))
    assert len(runs_of(almost) & runs_of(long)) / len(runs_of(long)) >= INSIDE and len(long) >= SHORT
    cut = Inside([almost, less, changed(long, (10, 30, 50)), changed(short, (11,))]).standing_in(texts)
    assert set(cut) == {almost, less}
    assert cut[less] == (len(runs_of(less) & runs_of(long)) / len(runs_of(less)), 1)
    assert Inside([]).standing_in(texts) == {}


def test_what_stands_inside_is_what_looking_everywhere_finds() -> None:
    draw = random.Random(0)
    texts = [(words(80, seed=n), ("no", " ".join(words(40, seed=n + 500)))) for n in range(60)]
    asked = []
    for number in range(300):
        beginning, ends = texts[number % 60]
        whole = (*beginning, *ends[1].split())
        start, length = draw.randrange(80), draw.randrange(8, 40)
        piece = whole[start : start + length]
        asked.append(changed(piece, draw.sample(range(len(piece)), draw.randrange(3))))
    slow = {}
    for content in asked:
        for number, (beginning, ends) in enumerate(texts):
            runs = set().union(*(runs_of((*beginning, *end.split())) for end in ends))
            share = len(runs_of(content) & runs) / len(runs_of(content))
            if share >= (1.0 if len(content) < SHORT else INSIDE) and len(content) >= FEWEST_INSIDE:
                slow.setdefault(content, (share, number))
    assert Inside(asked).standing_in(texts) == slow and 80 < len(slow) < 250
