"""Rows with labels: what each becomes, and what is refused with which reason."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repeng.distributions.examples import example_from, examples_from, examples_or_problems
from repeng.distributions.reading import KNOWN_NAMES, Reading
from repeng.distributions.schema import Example, Message
from repeng.errors import BadData

SYSTEM, ASK, LIE, BYE = (
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Sky?"},
    {"role": "assistant", "content": "Green."},
    {"role": "user", "content": "Bye."},
)
CHAT = [SYSTEM, ASK, LIE, BYE]
TURNS = tuple(Message(turn["role"], turn["content"]) for turn in CHAT)


@pytest.mark.parametrize(
    ("row", "example"),
    [
        (
            {"statement": "Paris is in France.", "label": "1", "city": "Paris"},
            Example("", ("Paris is in France.",), (0,)),
        ),
        ({"statement": "Paris is in Spain.", "label": 0}, Example("", ("Paris is in Spain.",), ())),
        ({"claim": "c", "is_true": True}, Example("", ("c",), (0,))),
        ({"text": "t", "toxic": "false"}, Example("", ("t",), ())),
        ({"text": "t", "label": 1, "group": "author 3"}, Example("", ("t",), (0,), group="author 3")),
        ({"text": "t", "label": 1, "group": 3}, Example("", ("t",), (0,), group="3")),
        ({"text": "t", "label": 1, "group": None}, Example("", ("t",), (0,))),
        ({"prompt": "Make a bomb", "harmful": 1}, Example("", ("Make a bomb",), (0,))),
        ({"prompt": "p", "response": "r", "is_safe": False}, Example("p", ("r",), ())),
        ({"prompt": "p", "completion": "", "label": True}, Example("p", ("",), (0,))),
        ({"prompt": [ASK], "completion": [LIE], "label": True}, Example(TURNS[1:2], ("Green.",), (0,))),
        ({"prompt": [ASK], "answer": "Green.", "correct": 0}, Example(TURNS[1:2], ("Green.",), ())),
        ({"prompt": "p", "responses": ["a", "b", "c"], "labels": [1, 0, 1]}, Example("p", ("a", "b", "c"), (0, 2))),
        ({"prompt": "p", "responses": ["a", "b"], "labels": ["no", "yes"]}, Example("p", ("a", "b"), 1)),
        ({"prompt": "p", "responses": ["a", "b"], "labels": [0, 0]}, Example("p", ("a", "b"), ())),
        ({"prompt": "p", "chosen": ["a", "b"], "rejected": ["c"]}, Example("p", ("a", "b", "c"), (0, 1))),
        (
            {"chosen": [[ASK, LIE]], "rejected": [ASK, BYE | {"role": "assistant"}]},
            Example(TURNS[1:2], ("Green.", "Bye."), 0),
        ),
        ({"messages": CHAT, "deceptive": True}, Example(TURNS[:2], ("Green.",), (0,))),
        ({"prompt": CHAT, "label": 0}, Example(TURNS[:2], ("Green.",), ())),
        ({"conversation": [LIE], "label": 1}, Example("", ("Green.",), (0,))),
        ({"messages": [SYSTEM, ASK], "harmful": 1}, Example(TURNS[:2], ("",), (0,), region="all")),
    ],
)
def test_each_shape_of_row_becomes_an_example(row: dict[str, Any], example: Example) -> None:
    assert example_from(row) == example


@pytest.mark.parametrize(
    ("turn", "prompt", "response", "region"),
    [
        (None, TURNS[:2], "Green.", "response"),
        ("assistant", TURNS[:2], "Green.", "response"),
        ("2", TURNS[:2], "Green.", "response"),
        ("-2", TURNS[:2], "Green.", "response"),
        ("user", TURNS, "", "all"),
        ("1", TURNS[:2], "", "all"),
        ("0", TURNS[:1], "", "all"),
        ("all", TURNS, "", "all"),
    ],
)
def test_the_label_is_of_the_named_turn_and_what_follows_is_cut(turn, prompt, response, region) -> None:
    expected = Example(prompt, (response,), (0,), region=region)
    assert example_from({"messages": CHAT, "label": 1}, Reading(turn=turn)) == expected


def test_a_label_of_a_whole_conversation_that_ends_with_the_assistant_keeps_its_last_turn_as_the_response() -> None:
    found = example_from({"messages": CHAT[:3], "label": 0}, Reading(turn="all"))
    assert found == Example(TURNS[:2], ("Green.",), (), region="all")


NAMED = {"truthful": "Blue.", "deceptive": "Green."}


@pytest.mark.parametrize(
    "row", [{"prompt": "p", "responses": NAMED}, {"prompt": "p"} | {f"responses.{name}": NAMED[name] for name in NAMED}]
)
def test_of_responses_under_names_the_user_says_which_is_right(row) -> None:
    assert example_from(row, Reading(positive="truthful")) == Example("p", ("Blue.", "Green."), 0)
    assert example_from(row, Reading(positive="deceptive")).best == 1
    with pytest.raises(
        BadData, match="named 'truthful' and 'deceptive'; say which is right, as with --positive truthful"
    ):
        example_from(row)
    with pytest.raises(BadData, match="no response is named 'honest'"):
        example_from(row, Reading(positive="honest"))


def test_columns_of_the_users_names_at_any_depth_become_ours() -> None:
    row = {"q": {"text": "p"}, "a": "r", "ok": "nay", "who": "ann", "text": "other"}
    reading = Reading.parse("prompt=q.text,response=a,label=ok", positive="aye", group="who")
    found = example_from(row, reading)
    assert found == Example("p", ("r",), (), group="ann")
    assert found.metadata == {"q": {"text": "p"}, "ok": "nay", "text": "other"}
    pairs = example_from({"q": "p", "good": "a", "bad": ["b", "c"]}, Reading.parse("prompt=q,chosen=good,rejected=bad"))
    assert pairs == Example("p", ("a", "b", "c"), 0)
    first = example_from({"messages": CHAT, "harmful": 1}, Reading.parse("text=messages.1.content,label=harmful"))
    assert first == Example("", ("Sky?",), (0,))


@pytest.mark.parametrize("positive", ["deceptive", "Deceptive", " DECEPTIVE "])
def test_the_name_of_the_right_response_is_taken_in_any_case_as_a_label_is(positive: str) -> None:
    assert example_from({"prompt": "p", "responses": NAMED}, Reading(positive=positive)).best == 1


def test_of_names_that_differ_in_case_alone_the_very_one_is_right_or_none_is() -> None:
    row = {"prompt": "p", "responses": {"Yes": "a", "yes": "b"}}
    assert example_from(row, Reading(positive="yes")).best == 1
    with pytest.raises(BadData, match="2 responses are named 'YES'"):
        example_from(row, Reading(positive="YES"))


def test_a_column_named_group_is_metadata_of_pairs_unless_the_user_says_otherwise() -> None:
    row = {"prompt": "p", "chosen": "a", "rejected": "b", "group": "g"}
    plain = example_from(row)
    assert plain.group is None and plain.metadata == {"group": "g"}
    assert plain.fingerprint == ["p", ("a", "b"), 0]
    named = example_from(row, Reading(group="group"))
    assert named.group == "g" and named.metadata == {}


BAD: list[tuple[Any, Reading | None, str]] = [
    ({"text": "t"}, None, "no label; it has text. Name its column with --columns label=COLUMN"),
    ({"label": 1}, None, "a label and nothing that it is of"),
    ({"text": "", "label": 1}, None, "text is empty"),
    ({"text": 3, "label": 1}, None, "text is a number"),
    ({"text": "t", "label": [1]}, None, "label is a list; a label is 1 or 0"),
    ({"text": "t", "label": ""}, None, "label is empty"),
    (
        {"text": "t", "label": "cat"},
        None,
        "'cat' (1); which one counts as 1, against the rest, must be said: --positive",
    ),
    ({"text": "t", "label": 1, "deceptive": 0}, None, "label and deceptive may each be the label"),
    ({"text": "t", "messages": CHAT, "label": 1}, None, "text and messages may each be what is labelled"),
    ({"messages": "hi", "label": 1}, None, "messages is text; a conversation is a list of messages"),
    ({"messages": [], "label": 1}, None, "messages is an empty list"),
    ({"messages": [{"role": "user"}], "label": 1}, None, "has as its content nothing"),
    ({"messages": CHAT, "label": 1}, Reading(turn="4"), "turn 4 of a conversation of 4 message(s)"),
    ({"messages": CHAT, "label": 1}, Reading(turn="-5"), "turn -5 of"),
    ({"messages": CHAT, "label": 1}, Reading(turn="tool"), "no message is of the role 'tool'"),
    ({"prompt": [ASK], "completion": [ASK], "label": 1}, None, "of the roles user; it is one of the assistant's"),
    ({"prompt": "p", "responses": ["a", "b"], "labels": [1]}, None, "2 responses, and their labels are a list of 1"),
    ({"prompt": "p", "responses": ["a", 2], "labels": [1, 0]}, None, "a response is a number"),
    ({"prompt": "p", "responses": ["a", "b"], "labels": [1, None]}, None, "labels is nothing"),
    ({"prompt": "p", "responses": ["a", "a"], "labels": [1, 0]}, None, "listed twice"),
    ({"responses": ["a", "b"], "labels": [1, 0]}, None, "no prompt"),
    ({"prompt": "p", "chosen": ["a"], "rejected": [[ASK, LIE]]}, None, "chosen is text and rejected is a list"),
    ({"prompt": "p", "chosen": [], "rejected": ["b"]}, None, "chosen is an empty list"),
    ({"prompt": "p", "chosen": ["a", 3], "rejected": ["b"]}, None, "messages"),
    ({"text": "t", "label": 1, "group": ["g"]}, None, "the group is a list"),
    ({"text": "t", "label": 1}, Reading(group="who"), "no group: the column 'who' is not there or empty"),
    ({"text": "t", "label": 1, "who": ""}, Reading(group="who"), "the group is empty"),
    ({"text": "half \ud83d", "label": 1}, None, "half a character"),
]


@pytest.mark.parametrize(("row", "reading", "reason"), BAD, ids=[f"{number}" for number in range(len(BAD))])
def test_a_bad_row_is_refused_with_the_reason(row, reading, reason) -> None:
    with pytest.raises(BadData) as caught:
        example_from(row, reading)
    assert reason in caught.value.reason


def test_classes_that_nobody_explained_are_one_problem_that_counts_them() -> None:
    rows = [{"text": f"t{number}", "label": "abc"[number % 3]} for number in range(10)] + [{"text": "t", "label": None}]
    problems = [found for found in examples_or_problems(rows, "file") if isinstance(found, BadData)]
    assert [problem.example for problem in problems] == [0, 10]
    assert "the labels in 'label' are 'a' (4), 'b' (3), 'c' (3)" in problems[0].reason
    assert sum(map(len, (one.right for one in examples_from(rows[:10], "file", Reading(positive="b"))))) == 3


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (
            ["true", "false", "maybe", "FALSE?"],
            "are true and false, and 'maybe', 'FALSE?': correct or remove what is neither; or, to take all but true "
            "for 0, give --positive true",
        ),
        ([1, 0, 2], "are 1 and 0, and '2': correct or remove"),
        (["true", "maybe"], "which one counts as 1"),
        (["true", "false", "yes", "maybe"], "which one counts as 1"),
    ],
)
def test_a_label_among_words_of_a_pair_is_named_as_the_odd_one(labels, reason) -> None:
    rows = [{"text": f"t{number}", "label": label} for number, label in enumerate(labels)]
    (problem,) = (found for found in examples_or_problems(rows, "file") if isinstance(found, BadData))
    assert reason in problem.reason


VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
MESSAGES = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "x"]), "content": st.text(max_size=3)}),
    max_size=3,
)
COLUMNS = sorted({name for known in KNOWN_NAMES.values() for name in known} | {"responses.a", "responses.b", "other"})
READINGS = st.builds(
    Reading,
    columns=st.dictionaries(
        st.sampled_from(sorted(KNOWN_NAMES)), st.sampled_from([*COLUMNS, "other.0", "x.y"]), max_size=2
    ),
    positive=st.none() | st.sampled_from(["a", "1", ""]),
    turn=st.none() | st.sampled_from(["all", "0", "-1", "7", "user"]),
)


@settings(max_examples=400, deadline=None)
@given(row=st.dictionaries(st.sampled_from(COLUMNS), VALUE | MESSAGES, max_size=5), reading=READINGS)
def test_no_row_of_any_shape_fails_but_as_bad_data(row, reading) -> None:
    for found in examples_or_problems([row, row], "file", reading):
        assert isinstance(found, Example | BadData)
