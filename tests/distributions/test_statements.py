"""Distributions written as labelled texts, and read again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from repeng.distributions.load import load_distributions, write_genies
from repeng.distributions.overlap import find_overlaps
from repeng.distributions.reading import Reading
from repeng.distributions.schema import Distribution, Example, Message, Split
from repeng.distributions.statements import write_statements
from repeng.errors import BadInput

CHAT = (Message("system", "Be brief."), Message("user", "Sky?"))


def of(*examples: Example, name: str = "d") -> Distribution:
    return Distribution(name, {split: Split(name, split, examples) for split in ("train", "test")})


def again(distribution: Distribution, folder: Path, reading: Reading | None = None) -> tuple[Example, ...]:
    write_statements(distribution, folder)
    return load_distributions(folder, reading=reading)[distribution.name].train.examples


def test_every_response_is_a_text_with_its_label_and_its_prompt_as_group(tmp_path: Path) -> None:
    made = of(Example("2+2? ", ("4", "5", "22"), 0), Example("3? ", ("three",), ()), name="sums")
    assert again(made, tmp_path) == (
        Example("", ("2+2? 4",), (0,), group="2+2? "),
        Example("", ("2+2? 5",), (), group="2+2? "),
        Example("", ("2+2? 22",), (), group="2+2? "),
        Example("", ("3? three",), (), group="3? "),
    )
    lines = (tmp_path / "sums" / "test.jsonl").read_text().splitlines()
    assert json.loads(lines[0]) == {"text": "2+2? 4", "label": 1, "group": "2+2? "}


def test_the_pairs_of_an_example_are_the_pairs_of_its_statements(tmp_path: Path) -> None:
    made = of(*(Example(f"p{n} ", ("a", "b", "c"), n % 3) for n in range(6)))
    texts = Split("d", "train", again(made, tmp_path))
    assert [(pair.best, pair.worse) for pair in texts.pairs] == [(p.best, p.worse) for p in made.train.pairs]
    assert texts.as_texts and texts.labels.tolist() == made.train.labels.tolist()


def test_statements_and_conversations_come_back_as_they_were(tmp_path: Path) -> None:
    statement = Example("", ("Paris is in France.",), (0,))
    assert again(of(statement, Example("", ("No.",), ())), tmp_path)[0] == statement
    chat = Example(CHAT, ("Blue.",), (0,))
    (back,) = again(of(chat, name="chat"), tmp_path)
    assert (back.prompt, back.responses, back.best) == (CHAT, ("Blue.",), (0,))
    whole = Example(CHAT, ("",), (), region="all")
    (back,) = again(of(whole, name="whole"), tmp_path)
    assert (back.prompt, back.responses, back.region) == (CHAT, ("",), "all")
    empty = Example((*CHAT, Message("assistant", "Blue."), Message("user", "Sure?")), ("",), ())
    (back,) = again(of(empty, name="empty"), tmp_path)
    assert (back.prompt, back.responses, back.region) == (empty.prompt, ("",), "response")


@pytest.mark.parametrize(
    "example",
    [Example("", ("s",), (0,)), Example("p", ("a", "b"), ()), Example("p", ("a", "b"), 0, group="g")],
)
def test_what_genies_format_cannot_hold_is_refused_before_anything_is_written(tmp_path: Path, example: Example) -> None:
    with pytest.raises(BadInput, match="d/train, example 1, is a labelled text.*--as statements"):
        write_genies(of(Example("q", ("a", "b"), 1), example), tmp_path)
    assert not (tmp_path / "d").exists()


def test_several_right_responses_are_written_as_genies_does_and_read_again(tmp_path: Path) -> None:
    made = of(Example("p", ("a", "b", "c"), (0, 2)))
    write_genies(made, tmp_path)
    assert load_distributions(tmp_path)["d"].train.examples == made.train.examples


def test_overlap_compares_the_texts_of_statements() -> None:
    long = "The quick brown fox jumps over the lazy dog near the old river bank today"
    train = Split("d", "train", (Example("", (long,), (0,)), Example("", ("Rome is in Italy.",), ())))
    test = Split(
        "e",
        "test",
        (
            Example("", ("Rome is in Italy.",), ()),
            Example("", ("rome is in italy",), (0,)),
            Example("", ("Oslo is in Norway.",), (0,)),
            Example("", ("quick brown fox jumps over the lazy dog near the old river bank",), ()),
        ),
    )
    (found,) = find_overlaps([(train, test)])
    assert [(match.kind, match.test, match.train) for match in found.matches] == [
        ("exact", 0, 1),
        ("near", 1, 1),
        ("near", 3, 0),
    ]
    assert not any(match.response for match in found.matches)
