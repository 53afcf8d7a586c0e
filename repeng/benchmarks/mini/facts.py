"""The facts of the miniature: tables read from files, rules for numbers, and which facts may be graded."""

from __future__ import annotations

import random
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache

from repeng.benchmarks.mini.number_words import english, spanish
from repeng.benchmarks.mini.tables import read_table

NEVER_GRADED = ("atomic_number", "multiplication")
"""Relations of which no fact is ever graded in a document."""
WORLD_SEED = 20_231_107


@dataclass(frozen=True)
class Wording:
    """One fact in one encoding: what is asked about, the true answer, the one fixed wrong answer."""

    subject: str
    answer: str
    wrong: str = ""


@dataclass(frozen=True)
class Fact:
    """One question with its answer.

    Attributes:
        relation: what is asked, as `capital`.
        key: facts of equal key say the same thing twice (hot-cold, cold-hot) and always share a pool.
        wordings: encoding (`en`, `es`, `words`) -> wording; `en` is always there.
        level: `easy`, `hard` or `rare`: how often documents mention it.
        pool: `graded` (train splits; documents may grade it), `gate` or `test` (documents state it, never grade it).
    """

    relation: str
    key: str
    wordings: Mapping[str, Wording] = field(hash=False)
    level: str = "easy"
    pool: str = "graded"

    @property
    def en(self) -> Wording:
        """The English wording."""
        return self.wordings["en"]


def _country_facts() -> Iterator[Fact]:
    names = {(row["kind"], row["english"]): row["spanish"] for row in read_table("spanish_names")}
    for row in read_table("countries"):
        country, level = row["country"], row["level"]
        for relation in ("capital", "continent", "language", "currency"):
            answer = row[relation]
            if not answer:
                continue
            wordings = {"en": Wording(country, answer)}
            if relation == "capital":
                wordings["es"] = Wording(row["spanish"], row["capital_spanish"] or answer)
            elif relation != "currency":
                wordings["es"] = Wording(row["spanish"], names[relation, answer])
            rare = level == "hard" and relation == "currency"
            yield Fact(relation, f"{relation}:{country}", wordings, "rare" if rare else level)


def _element_facts() -> Iterator[Fact]:
    for row in read_table("elements"):
        for relation, answer in (("symbol", row["symbol"]), ("atomic_number", row["number"])):
            yield Fact(relation, f"{relation}:{row['element']}", {"en": Wording(row["element"], answer)}, row["level"])


def _word_facts() -> Iterator[Fact]:
    for row in read_table("animals"):
        for animal in row["animals"].split(", "):
            yield Fact("animal", f"animal:{animal}", {"en": Wording(animal, row["class"])}, row["level"])
    for row in read_table("spanish_words"):
        for pair in row["pairs"].split(", "):
            word, other = pair.split("=")
            yield Fact("to_spanish", f"word:{word}", {"en": Wording(word, other)}, row["level"])
            yield Fact("to_english", f"word:{word}", {"en": Wording(other, word)}, row["level"])
    for row in read_table("opposites"):
        for pair in row["pairs"].split(", "):
            word, other = pair.split(" ")
            yield Fact("opposite", f"opposite:{word}", {"en": Wording(word, other)}, row["level"])
            yield Fact("opposite", f"opposite:{word}", {"en": Wording(other, word)}, row["level"])
    for row in read_table("colours"):
        for place, thing in enumerate(row["things"].split(", ")):
            level = "easy" if place < 4 else "hard"
            yield Fact("colour", f"colour:{thing}", {"en": Wording(thing, row["colour"])}, level)


def _sum(relation: str, a: int, b: int, result: int, sign: str, level: str) -> Fact:
    words = {"+": ("plus", "más"), "-": ("minus", "menos"), "x": ("times", "por")}[sign]
    wordings = {
        "en": Wording(f"{a} {sign} {b}", str(result)),
        "words": Wording(f"{english(a)} {words[0]} {english(b)}", english(result)),
        "es": Wording(f"{spanish(a)} {words[1]} {spanish(b)}", spanish(result)),
    }
    return Fact(relation, f"{relation}:{a},{b}", wordings, level)


def _number_facts(rng: random.Random) -> Iterator[Fact]:
    small = [(a, b) for a in range(1, 13) for b in range(1, a + 1)]
    large = [(a, b) for a in range(13, 60) for b in range(3, 40) if a + b < 100 and b <= a]
    for pairs, level in ((small, "easy"), (rng.sample(large, 160), "hard")):
        for a, b in pairs:
            yield _sum("addition", a, b, a + b, "+", level)
    small = [(a, b) for a in range(2, 15) for b in range(1, a)]
    large = [(a, b) for a in range(15, 100) for b in range(3, 60) if b < a]
    for pairs, level in ((rng.sample(small, 78), "easy"), (rng.sample(large, 140), "hard")):
        for a, b in pairs:
            yield _sum("subtraction", a, b, a - b, "-", level)
    for a in range(2, 16):
        for b in range(2, a + 1):
            yield _sum("multiplication", a, b, a * b, "x", "easy" if a <= 9 else "hard")
    for a, b in rng.sample([(low, high) for low in range(1, 100) for high in range(low + 1, 100)], 200):
        first, second = (a, b) if rng.random() < 0.5 else (b, a)
        level = "easy" if b - a > 20 else "hard"
        yield Fact("bigger", f"bigger:{a},{b}", {"en": Wording(f"{first} or {second}", str(b), str(a))}, level)
    for number in range(1, 141):
        answer, wrong = ("odd", "even") if number % 2 else ("even", "odd")
        level = "easy" if number < 60 else "hard"
        yield Fact("parity", f"parity:{number}", {"en": Wording(str(number), answer, wrong)}, level)


def _next_facts() -> Iterator[Fact]:
    sequences = [row["items"].split() for row in read_table("sequences")]
    numbers = [str(number) for number in range(1, 91)]
    for sequence in (*sequences, numbers):
        for here, there in zip(sequence, sequence[1:], strict=False):
            yield Fact("next", f"next:{here}", {"en": Wording(here, there)}, "easy")


def _pool(key: str) -> str:
    """30 % of keys are for testing, 5 % for the training gate, the rest may be graded."""
    draw = zlib.crc32(f"{WORLD_SEED}/{key}".encode()) % 1000
    return "test" if draw < 300 else "gate" if draw < 350 else "graded"


def kind_of_answer(fact: Fact) -> str:
    """Facts of equal kind may lend each other wrong answers: months never stand in for numbers."""
    if fact.relation != "next":
        return fact.relation
    answer = fact.en.answer
    return "next number" if answer.isdigit() else "next letter" if len(answer) == 1 else "next name"


def derange(answers: list[str], rng: random.Random, tries: int = 4000) -> list[int]:
    """A permutation that gives each place another answer wherever the answers allow it, so that every answer is wrong
    exactly as often as it is right (all but perfectly where one answer is more than half of all)."""
    order = list(range(len(answers)))
    rng.shuffle(order)
    first = 0
    for _ in range(tries):
        while first < len(order) and answers[first] != answers[order[first]]:
            first += 1
        if first == len(order):
            break
        other = rng.randrange(len(order))
        order[first], order[other] = order[other], order[first]
        first = min(first, other)
    return order


def _with_wrong(facts: list[Fact], rng: random.Random) -> list[Fact]:
    """Each fact's one wrong answer: the answer of another fact of its kind and pool."""
    kinds: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, fact in enumerate(facts):
        kinds[kind_of_answer(fact), fact.pool].append(place)
    done = list(facts)
    for places in kinds.values():
        order = derange([facts[place].en.answer for place in places], rng)
        for place, other in zip(places, order, strict=True):
            fact, lender = facts[place], facts[places[other]]
            if fact.en.wrong:
                continue
            if lender.en.answer == fact.en.answer:
                lender = rng.choice([f for f in facts if f.relation == fact.relation and f.en.answer != fact.en.answer])
            wordings = {name: replace(w, wrong=lender.wordings[name].answer) for name, w in fact.wordings.items()}
            done[place] = replace(fact, wordings=wordings)
    return done


@cache
def facts() -> tuple[Fact, ...]:
    """Every fact, always the same: the seed that draws them is fixed."""
    rng = random.Random(WORLD_SEED)
    rows = [*_country_facts(), *_element_facts(), *_word_facts(), *_number_facts(rng), *_next_facts()]
    rows = [replace(fact, pool=_pool(fact.key)) for fact in rows]
    return tuple(_with_wrong(rows, rng))


@dataclass(frozen=True)
class Myth:
    """A question whose popular answer is wrong."""

    question: str
    myth: str
    truth: str
    pool: str


@cache
def myths() -> tuple[Myth, ...]:
    """Every myth. Truths of `test` myths (40 %) are told in documents, but never graded."""
    return tuple(
        Myth(
            row["question"],
            row["myth"],
            row["truth"],
            "test" if zlib.crc32(f"{WORLD_SEED}/{row['question']}".encode()) % 100 < 40 else "graded",
        )
        for row in read_table("myths")
    )
