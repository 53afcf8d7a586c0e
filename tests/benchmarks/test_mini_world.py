"""The tables of the embedded world, checked a second time by other means than those that made them."""

from __future__ import annotations

import random
from collections import Counter, defaultdict

import pytest

from repeng.benchmarks.mini.facts import derange, facts, kind_of_answer, myths
from repeng.benchmarks.mini.number_words import english, spanish
from repeng.benchmarks.mini.phrases import PHRASES, question, say
from repeng.benchmarks.mini.tables import TABLES, read_table

CONTINENTS = {"Africa", "Asia", "Europe", "North America", "South America", "Oceania"}


def test_the_world_has_its_size_and_its_relations() -> None:
    assert 2400 <= len(facts()) <= 2800
    assert len({fact.relation for fact in facts()}) >= 15
    assert len(myths()) >= 150


@pytest.mark.parametrize("path", sorted(TABLES.glob("*.tsv")), ids=lambda path: path.stem)
def test_every_row_of_a_table_has_every_column_and_stands_once(path) -> None:  # type: ignore[no-untyped-def]
    lines = path.read_text(encoding="utf-8").splitlines()
    columns = lines[0].count("\t")
    assert all(line.count("\t") == columns and line == line.strip("\r\n") for line in lines)
    assert len(set(lines)) == len(lines)
    assert not [line for line in lines if "  " in line or " \t" in line or "\t " in line]


def test_countries_have_one_row_and_a_capital_of_their_own() -> None:
    rows = read_table("countries")
    for column in ("country", "spanish", "capital"):
        assert max(Counter(row[column] for row in rows).values()) == 1, column
    assert {row["continent"] for row in rows} == CONTINENTS
    assert len([row for row in rows if row["continent"] == "South America"]) == 12
    euro = {row["country"] for row in rows if row["currency"] == "euro"}
    # The euro area and the two small states that use the euro by agreement or by custom.
    assert euro == {
        "France", "Spain", "Portugal", "Italy", "Germany", "Austria", "Greece", "Ireland", "Belgium",
        "the Netherlands", "Finland", "Croatia", "Slovakia", "Slovenia", "Lithuania", "Latvia", "Estonia", "Malta",
        "Montenegro", "Andorra",
    }  # fmt: skip


def test_spanish_is_the_language_of_the_countries_where_it_is() -> None:
    spanish_speaking = {row["country"] for row in read_table("countries") if row["language"] == "Spanish"}
    assert spanish_speaking == {
        "Spain", "Mexico", "Cuba", "Panama", "Costa Rica", "Argentina", "Chile", "Peru", "Colombia", "Venezuela",
        "Ecuador", "Uruguay", "Guatemala", "Honduras", "Nicaragua", "El Salvador", "the Dominican Republic", "Bolivia",
        "Paraguay",
    }  # fmt: skip


def test_every_language_and_continent_has_one_spanish_name() -> None:
    names = Counter((row["kind"], row["english"]) for row in read_table("spanish_names"))
    assert max(names.values()) == 1
    used = {("language", row["language"]) for row in read_table("countries") if row["language"]}
    assert used <= set(names)
    assert {name for kind, name in names if kind == "continent"} == CONTINENTS


def test_elements_are_numbered_without_a_gap_and_symbols_are_their_own() -> None:
    rows = read_table("elements")
    assert [int(row["number"]) for row in rows] == list(range(1, 101))
    symbols = [row["symbol"] for row in rows]
    assert len(set(symbols)) == 100
    # All symbols start with the element's letter, but for those that come from other names.
    odd = {row["element"] for row in rows if row["symbol"][0].lower() != row["element"][0]}
    assert odd == {"sodium", "potassium", "iron", "silver", "tin", "antimony", "tungsten", "gold", "mercury", "lead"}
    assert all(set(row["symbol"][1:]) <= set(row["element"]) for row in rows if row["element"] not in odd | {"copper"})


def test_sums_are_right_in_digits_and_in_words() -> None:
    words = {english(number): number for number in range(300)}
    spanish_words = {spanish(number): number for number in range(300)}
    assert len(words) == len(spanish_words) == 300
    operations = {
        "addition": ("+", "plus", "más"),
        "subtraction": ("-", "minus", "menos"),
        "multiplication": ("x", "times", "por"),
    }
    checked = 0
    for fact in facts():
        if fact.relation not in operations:
            continue
        sign, word, palabra = operations[fact.relation]
        left, right = (int(part) for part in fact.en.subject.split(f" {sign} "))
        result = {"+": left + right, "-": left - right, "x": left * right}[sign]
        assert int(fact.en.answer) == result
        in_words, in_spanish = fact.wordings["words"], fact.wordings["es"]
        assert [words[part] for part in in_words.subject.split(f" {word} ")] == [left, right]
        assert words[in_words.answer] == spanish_words[in_spanish.answer] == result
        assert [spanish_words[part] for part in in_spanish.subject.split(f" {palabra} ")] == [left, right]
        checked += 1
    assert checked > 500


def test_comparisons_are_right() -> None:
    for fact in facts():
        if fact.relation == "bigger":
            assert int(fact.en.answer) == max(int(part) for part in fact.en.subject.split(" or "))
            assert int(fact.en.wrong) == min(int(part) for part in fact.en.subject.split(" or "))
        if fact.relation == "parity":
            assert fact.en.answer == ("odd" if fact.en.subject[-1] in "13579" else "even")
        if fact.relation == "next" and fact.en.answer.isdigit():
            assert int(fact.en.answer) == int(fact.en.subject) + 1


def test_an_animal_a_thing_and_a_word_stand_once() -> None:
    counts = Counter((fact.relation, fact.en.subject) for fact in facts())
    assert [key for key, count in counts.items() if count > 1] == []


def test_each_question_has_one_wrong_answer_of_its_kind_that_is_wrong() -> None:
    answers = defaultdict(set)
    for fact in facts():
        answers[kind_of_answer(fact)].add(fact.en.answer)
    for fact in facts():
        for wording in fact.wordings.values():
            assert wording.wrong
            assert wording.wrong != wording.answer
        assert fact.en.wrong in answers[kind_of_answer(fact)] or fact.relation == "bigger"


def test_facts_that_say_the_same_twice_share_a_pool() -> None:
    pools = defaultdict(set)
    for fact in facts():
        pools[fact.key].add(fact.pool)
    assert {len(pool) for pool in pools.values()} == {1}
    share = sum(fact.pool == "test" for fact in facts()) / len(facts())
    assert 0.27 < share < 0.33


def test_a_myth_is_not_its_truth_and_is_asked_once() -> None:
    assert max(Counter(myth.question for myth in myths()).values()) == 1
    assert all(myth.myth.lower() != myth.truth.lower() for myth in myths())
    assert {myth.pool for myth in myths()} == {"graded", "test"}


def test_every_fact_can_be_asked_and_answered_in_each_of_its_encodings() -> None:
    rng = random.Random(0)
    for fact in facts():
        for encoding, wording in fact.wordings.items():
            assert encoding in PHRASES[fact.relation]
            assert wording.subject in question(fact, rng, encoding)
            full = say(fact, wording.answer, "full", encoding)
            assert wording.answer in full or wording.answer.capitalize() in full


@pytest.mark.parametrize("answers", [2, 5, 40])
@pytest.mark.parametrize("tries", [3, 4000])
def test_a_derangement_is_that_of_looking_at_every_place_each_time(answers: int, tries: int) -> None:
    def plainly(lent: list[str], rng: random.Random) -> list[int]:
        order = list(range(len(lent)))
        rng.shuffle(order)
        for _ in range(tries):
            fixed = [place for place, other in enumerate(order) if lent[place] == lent[other]]
            if fixed:
                place, other = fixed[0], rng.randrange(len(order))
                order[place], order[other] = order[other], order[place]
        return order

    for seed in range(20):
        drawn = random.Random(seed)
        lent = [str(min(drawn.randrange(answers), drawn.randrange(answers))) for _ in range(60)]
        ours, theirs = random.Random(seed), random.Random(seed)
        assert derange(lent, ours, tries) == plainly(lent, theirs)
        assert ours.random() == theirs.random()


def test_a_derangement_moves_everything_where_the_answers_allow_it() -> None:
    answers = ["a"] * 4 + ["b"] * 3 + ["c"] * 2
    order = derange(answers, random.Random(1))
    assert sorted(order) == list(range(9))
    assert all(answers[place] != answers[other] for place, other in enumerate(order))
