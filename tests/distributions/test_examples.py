"""What a row may say, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from repeng.distributions.examples import example_from, examples_from
from repeng.distributions.rows import parse_json
from repeng.distributions.schema import Message, Split
from repeng.errors import BadData

USER = {"role": "user", "content": "Sky?"}
SYSTEM = {"role": "system", "content": "Be brief."}
BLUE = {"role": "assistant", "content": "Blue."}
GREEN = {"role": "assistant", "content": "Green."}
CHAT = (Message("user", "Sky?"),)


def test_a_scored_row_keeps_the_order_of_responses_and_the_rest_as_metadata() -> None:
    example = example_from({"level": 3, "prompt": "p", "responses": {"b": 0.0, "a": 1.0, "c": 0}, "x": None})
    assert (example.prompt, example.responses, example.best) == ("p", ("b", "a", "c"), 1)
    assert example.metadata == {"level": 3, "x": None}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "p", "responses": {"": 1, "b": 0}},
        {"prompt": "p", "responses": {"b": 1, "": 0}},
        {"prompt": "p", "chosen": "", "rejected": "b"},
        {"prompt": " ", "responses": {"a": 1, "b": 0}},
        {"prompt": "?", "responses": {"1": 1, "2": 0}},
        {"prompt": "¿Qué? 🔷", "responses": {"ñ": 1, "n": 0, "N": 0, "🔶": 0}},
    ],
)
def test_empty_responses_and_one_character_texts_are_real_and_legal(row) -> None:
    assert len(example_from(row).responses) >= 2


def test_text_preferences_have_the_chosen_response_first() -> None:
    example = example_from({"prompt": "p", "chosen": "c", "rejected": "r", "score": 0.5})
    assert (example.prompt, example.responses, example.best) == ("p", ("c", "r"), 0)
    assert example.metadata == {"score": 0.5}


def test_several_rejected_responses_make_one_example() -> None:
    example = example_from({"prompt": "p", "chosen": "c", "rejected": ["r", "s", "t"]})
    assert example.responses == ("c", "r", "s", "t")
    chats = example_from({"prompt": [USER], "chosen": [BLUE], "rejected": [[GREEN], [USER, {**GREEN, "content": "?"}]]})
    assert chats.responses == ("Blue.", "Green.", "?")


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": [USER], "chosen": [BLUE], "rejected": [GREEN]},
        {"chosen": [USER, BLUE], "rejected": [USER, GREEN]},
        {"prompt": None, "chosen": [USER, BLUE], "rejected": [USER, GREEN]},
        {"prompt": [USER], "chosen": [USER, BLUE], "rejected": [USER, GREEN]},
        {"prompt": "Sky?", "chosen": [USER, BLUE], "rejected": [USER, GREEN]},
        {"prompt": [USER], "chosen": "Blue.", "rejected": "Green."},
        {"prompt": [USER], "responses": {"Blue.": 1, "Green.": 0}},
        {"prompt": [{**USER, "name": None, "tool_calls": []}], "chosen": [BLUE], "rejected": [GREEN]},
    ],
)
def test_every_shape_of_a_chat_says_the_same(row) -> None:
    example = example_from(row)
    assert (example.prompt, example.responses, example.best) == (CHAT, ("Blue.", "Green."), 0)


def test_a_longer_conversation_is_all_prompt_but_for_its_last_message() -> None:
    turns = [SYSTEM, USER, BLUE, {"role": "user", "content": "Sure?"}]
    example = example_from({"chosen": [*turns, BLUE], "rejected": [*turns, GREEN]})
    assert example.prompt == tuple(Message(turn["role"], turn["content"]) for turn in turns)


SCORES = {"a": 1, "b": 0}
BAD: list[tuple[Any, str]] = [
    ("text", "not text"),
    (["p", "a"], "not a list"),
    (None, "not nothing"),
    ({"responses": SCORES}, "no prompt; the example has responses"),
    ({"prompt": None, "responses": SCORES}, "no prompt"),
    ({"prompt": 3, "responses": SCORES}, "the prompt is a number"),
    ({"prompt": [], "responses": SCORES}, "the prompt is an empty list"),
    ({"prompt": ["hi"], "responses": SCORES}, "message 0 of the prompt is text"),
    ({"prompt": [{"role": "user"}], "responses": SCORES}, "has as its content nothing"),
    ({"prompt": [{"role": "user", "content": [{"type": "text"}]}], "responses": SCORES}, "content a list, not text"),
    ({"prompt": [{**USER, "tool_calls": [{}]}], "responses": SCORES}, "calls a tool"),
    ({"prompt": "half \ud83d", "responses": SCORES}, "half a character"),
    ({"prompt": "p"}, "no responses"),
    ({"prompt": "p", "responses": None}, "no responses"),
    ({"prompt": "p", "responses": {}}, "responses is empty"),
    ({"prompt": "p", "responses": ["a", "b"]}, "responses is a list"),
    ({"prompt": "p", "responses": {"a": 1}}, "needs 2 or more"),
    ({"prompt": "p", "responses": {"a": 0, "b": 0}}, "no best response"),
    ({"prompt": "p", "responses": {"a": 1, "b": 1.0}}, "no worse response"),
    ({"prompt": "p", "responses": {"a": 1, "b": 0.5}}, "a number (0.5); a score is 1 (best) or 0"),
    ({"prompt": "p", "responses": {"a": 1, "b": float("nan")}}, "a number (nan)"),
    ({"prompt": "p", "responses": {"a": 1, "b": None}}, "the score of the response 'b' is nothing"),
    ({"prompt": "p", "responses": {"a": 1, "b": "0"}}, "is text ('0')"),
    ({"prompt": "p", "responses": {"a": True, "b": False}}, "is true or false"),
    ({"prompt": "p", "responses": {"a": 1, "b\udc00": 0}}, "half a character"),
    ({"prompt": "p", "chosen": "a"}, "no worse response: 'rejected' is missing or empty"),
    ({"prompt": "p", "rejected": "a"}, "no best response: 'chosen' is missing"),
    ({"prompt": "p", "chosen": None, "rejected": "a"}, "no best response"),
    ({"chosen": "a", "rejected": "b"}, "no prompt"),
    ({"prompt": "p", "chosen": "a", "rejected": "a"}, "listed twice"),
    ({"prompt": "p", "chosen": "a", "rejected": []}, "rejected is an empty list"),
    ({"prompt": "p", "chosen": "a", "rejected": ["b", "b"]}, "listed twice"),
    ({"prompt": "p", "chosen": "a", "rejected": [GREEN]}, "rejected is a list"),
    ({"prompt": "p", "chosen": "a", "rejected": 2}, "rejected is a number"),
    ({"prompt": "p", "chosen": 1, "rejected": "b"}, "chosen is a number"),
    ({"prompt": "p", "chosen": [], "rejected": [GREEN]}, "chosen is an empty list"),
    ({"prompt": "p", "chosen": [BLUE], "rejected": "b"}, "rejected is text"),
    ({"chosen": [BLUE], "rejected": [GREEN]}, "no prompt"),
    ({"chosen": [USER, BLUE], "rejected": [SYSTEM, GREEN]}, "differ before their last message"),
    ({"prompt": [USER], "chosen": [BLUE, USER, BLUE], "rejected": [BLUE, USER, GREEN]}, "several messages after"),
    ({"prompt": "Sea?", "chosen": [USER, BLUE], "rejected": [USER, GREEN]}, "no message of chosen holds"),
    ({"prompt": [USER], "chosen": [{**BLUE, "role": "user"}], "rejected": [GREEN]}, "of the role 'user'"),
    ({"chosen": [USER, BLUE], "rejected": [USER, BLUE]}, "listed twice"),
]


@pytest.mark.parametrize(("row", "reason"), BAD, ids=[f"{number}" for number in range(len(BAD))])
def test_a_bad_row_is_refused_with_the_reason(row, reason) -> None:
    with pytest.raises(BadData) as caught:
        example_from(row)
    assert reason in caught.value.reason


def test_what_a_json_reader_would_drop_silently_is_refused() -> None:
    with pytest.raises(BadData, match="the response 'a' is listed twice"):
        example_from(parse_json('{"prompt": "p", "responses": {"a": 1, "b": 0, "a": 0}}'))
    with pytest.raises(BadData, match="the key 'prompt' is given twice"):
        example_from(parse_json('{"prompt": "p", "prompt": "q", "responses": {"a": 1, "b": 0}}'))


def test_the_first_bad_row_is_named_by_place_and_number() -> None:
    good = {"prompt": "p", "responses": SCORES}
    with pytest.raises(BadData) as caught:
        examples_from([good, good, {"prompt": "p"}, None], "somewhere.json")
    assert (caught.value.path, caught.value.example) == ("somewhere.json", 2)
    assert str(caught.value).startswith("somewhere.json, example 2: no responses")
    with pytest.raises(BadData, match=r"somewhere\.json: an empty list"):
        examples_from([], "somewhere.json")


def test_pairs_of_an_empty_prompt_are_examples_each_a_group_of_its_own() -> None:
    rows = [{"prompt": "", "chosen": f"yes {n}", "rejected": f"no {n}"} for n in range(3)]
    rows += [{"prompt": "", "responses": {"a": 1, "b": 0}}]
    split = Split("d", "train", tuple(map(example_from, rows)))
    assert split.groups.tolist() == [0, 1, 2, 3]
    assert not split.as_texts and not split.has_one_prompt
    assert len(split.pairs) == 4
