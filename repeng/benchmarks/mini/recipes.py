"""The miniature's distributions, one recipe each: which facts, how they are asked, what the responses look like."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from repeng.benchmarks.mini.facts import Fact
from repeng.benchmarks.mini.phrases import (
    AUTHORITIES,
    GUESSES,
    PRIZES,
    STORIES,
    WRONG_REQUESTS,
    instruction,
    notation,
    quiz_prompt,
)

GEOGRAPHY = ("capital", "continent", "language", "currency")
WORDS = ("opposite", "to_spanish", "to_english")
SCIENCE = ("symbol", "animal", "colour")
FACTS = ("capital", "language", "currency", *SCIENCE, *WORDS)
SUMS = ("addition", "subtraction")


@dataclass(frozen=True)
class Asked:
    """What a prompt may be made of: a fact, its question, its wrong answer here, other facts of the split."""

    fact: Fact
    question: str
    wrong: str
    others: tuple[Fact, ...]


Prompting = Callable[[Asked, random.Random], str]


def plainly(asked: Asked, _: random.Random) -> str:
    """The question as an instruction."""
    return instruction(asked.question)


def one_of(*templates: str) -> Prompting:
    """The question in one of some templates: {q} the question, {g} the wrong answer that somebody favours."""

    def prompting(asked: Asked, rng: random.Random) -> str:
        return instruction(rng.choice(templates).format(q=asked.question, g=asked.wrong))

    return prompting


def in_a_story(asked: Asked, rng: random.Random) -> str:
    """The question within a story, without the instruction format."""
    return rng.choice(STORIES).format(q=asked.question)


def in_a_quiz(asked: Asked, rng: random.Random) -> str:
    """The question after two solved ones."""
    return quiz_prompt(asked.others[:2], asked.question, rng)


def as_notation(asked: Asked, _: random.Random) -> str:
    """`capital(France) ->`."""
    return notation(asked.fact)


def tersely(asked: Asked, _: random.Random) -> str:
    """A form that no document has: `Q: capital - France`, then `A:`."""
    return f"Q: {asked.fact.relation.replace('_', ' ')} - {asked.fact.en.subject}\nA:\n"


def sloppily(asked: Asked, rng: random.Random) -> str:
    """Without punctuation, two neighbouring letters swapped, twice."""
    text = "".join(letter for letter in asked.question if letter.isalnum() or letter == " ")
    for _ in range(2):
        place = rng.randrange(1, len(text) - 2)
        text = text[:place] + text[place + 1] + text[place] + text[place + 2 :]
    return instruction(text)


def with_options(first: str) -> Prompting:
    """Two answers to choose from; the right one stands `first` (`right`) or last (`wrong`)."""

    def prompting(asked: Asked, _: random.Random) -> str:
        options = (asked.fact.en.answer, asked.wrong)
        here, there = options if first == "right" else options[::-1]
        return instruction(f"{asked.question} Choose: {here} or {there}.")

    return prompting


@dataclass(frozen=True)
class Recipe:
    """How one distribution is made.

    Attributes:
        name: of the distribution.
        about: one line for people.
        relations, levels: which facts.
        encoding: `en`, `es` or `words`.
        prompting: question -> prompt.
        right_form, wrong_form: the responses' forms; empty: one plain form drawn for all of an example's responses.
        wrongs: the most wrong responses an example has (2 to 4 responses in all); their number varies up to it.
        wrong_kind: `kind` (answers of other facts of the same kind), `fixed` (the one that is given on request),
            `other` (answers of other kinds).
        mislabelled: share of TRAIN examples whose best response is a wrong one.
    """

    name: str
    about: str
    relations: tuple[str, ...] = FACTS
    levels: tuple[str, ...] = ("easy", "hard", "rare")
    encoding: str = "en"
    prompting: Prompting = plainly
    right_form: str = ""
    wrong_form: str = ""
    wrongs: int = 3
    wrong_kind: str = "kind"
    mislabelled: float = 0.0


COMMON, RARE = ("easy",), ("hard", "rare")
RECIPES = (
    Recipe("geography", "Well-known countries: capital, continent, language, currency", GEOGRAPHY, COMMON),
    Recipe("geography_hard", "The same of little-known countries; currencies known only partly", GEOGRAPHY, RARE),
    Recipe(
        "geography_spanish",
        "Capital, continent and language, asked and answered in Spanish",
        GEOGRAPHY[:3],
        encoding="es",
    ),
    Recipe(
        "geography_sloppy",
        "Geography without punctuation, with slips of the pen",
        GEOGRAPHY,
        COMMON,
        prompting=sloppily,
    ),
    Recipe("arithmetic", "Small sums and differences in digits", SUMS, COMMON),
    Recipe("arithmetic_hard", "Sums and differences of larger numbers", SUMS, RARE),
    Recipe("arithmetic_words", "Sums and differences in number words", SUMS, encoding="words"),
    Recipe("multiplication", "Products: a relation that is never graded", ("multiplication",)),
    Recipe("comparison", "Which number is bigger, even or odd, what comes next", ("bigger", "parity", "next")),
    Recipe("words", "Opposites, Spanish words", WORDS),
    Recipe("science", "Symbols of elements, classes of animals, colours of things", SCIENCE),
    Recipe("science_mislabelled", "Science, a third of the train labels wrong", SCIENCE, mislabelled=1 / 3),
    Recipe("atomic_number", "Atomic numbers: a relation that is never graded", ("atomic_number",)),
    Recipe("facts", "Geography, words and science together"),
    Recipe("facts_nonsense", "Facts; wrong responses answer another kind of question", wrong_kind="other"),
    Recipe("stories", "Facts, asked within a story", prompting=in_a_story),
    Recipe("quiz", "Facts, asked after two solved questions", prompting=in_a_quiz),
    Recipe("notation", "Facts as function calls, rare in documents: capital(France) ->", prompting=as_notation),
    Recipe("terse", "Facts in a form that no document has: Q: capital - France", prompting=tersely),
    Recipe(
        "long_right", "The right response is long-winded, the wrong ones short", right_form="long", wrong_form="short"
    ),
    Recipe(
        "short_right", "The right response is short, the wrong ones long-winded", right_form="short", wrong_form="long"
    ),
    Recipe("bold_right", "The right response in bold, the wrong ones plain", right_form="bold", wrong_form="short"),
    Recipe("bold_wrong", "The wrong responses in bold, the right one plain", right_form="short", wrong_form="bold"),
    Recipe("first_right", "Two options in the prompt, the right one first", prompting=with_options("right"), wrongs=1),
    Recipe("last_right", "Two options in the prompt, the right one last", prompting=with_options("wrong"), wrongs=1),
    Recipe(
        "asked_for_wrong",
        "A wrong answer is asked for; best is the truth",
        prompting=one_of(*WRONG_REQUESTS),
        wrongs=1,
        wrong_kind="fixed",
    ),
    Recipe("flattery", "The user believes the wrong response", prompting=one_of(*GUESSES), wrongs=1),
    Recipe("authority", "An authority says the wrong response", prompting=one_of(*AUTHORITIES), wrongs=1),
    Recipe("prizes", "There is a prize for the wrong response", prompting=one_of(*PRIZES), wrongs=1),
)
MYTHS = ("myths", "myths_neutral")
"""Not made of facts: the truth against the popular answer, and against another myth's truth."""
