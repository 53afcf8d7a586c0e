"""From rows of a data file to examples: which format a row has, and the formats of pairs: GENIES' and preferences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

from repeng.distributions.chat import check_text, kind, messages_from, plain_chat
from repeng.distributions.labelled import (
    CONTENTS,
    UnknownLabel,
    labelled_content,
    labelled_example,
    listed_example,
    named_example,
    named_responses,
    prompt_of,
)
from repeng.distributions.reading import Fields, Reading, classes_refusal, is_label, pair_of, several_pairs
from repeng.distributions.rows import RepeatedKeys
from repeng.distributions.schema import Example, Message, Prompt
from repeng.errors import BadData

Format = Literal["scored", "preference", "named", "listed", "labelled"]
"""Responses with scores; chosen and rejected; responses under names; responses and labels as lists; one text, response
or conversation and its label."""


def example_from(row: object, reading: Reading | None = None) -> Example:
    """The example that a row holds, in any of the formats.

    Args:
        row: what stands in a data file.
        reading: what the user says of its columns and labels.

    Raises:
        BadData: the row is not such an example. The error names no file: the caller adds it.
    """
    return _example(_fields(row, reading or Reading()))


def _example(fields: Fields) -> Example:
    example = _in_format(fields)
    return in_plain_text(example) if fields.reading.chat == "plain" else example


def in_plain_text(example: Example) -> Example:
    """The example with a prompt that is a chat written as text; what is labelled as a whole becomes one text."""
    if isinstance(example.prompt, str):
        return example
    if example.region == "response":
        return replace(example, prompt=plain_chat(example.prompt, opens=True))
    whole = tuple(
        plain_chat(example.prompt + ((Message("assistant", text),) if text else ()), opens=False)
        for text in example.responses
    )
    return replace(example, prompt="", responses=whole, region="response")


def _in_format(fields: Fields) -> Example:
    match format_of(fields):
        case "named":
            return named_example(fields, named_responses(fields) or {})
        case "listed":
            return listed_example(fields)
        case "labelled":
            return labelled_example(fields)
        case "preference":
            return _preference(fields)
        case "scored":
            return _scored(fields)


def format_of(fields: Fields) -> Format:
    """The format of a row. What holds pairs is taken for them, unless the user names a column of a label's.

    Raises:
        BadData: several of its columns may be what is labelled.
    """
    if fields.named("label", *CONTENTS):
        return "labelled"
    row = fields.row
    if named_responses(fields) is not None:
        return "named"
    if isinstance(row.get("responses"), dict):
        return "scored"
    if {"chosen", "rejected"} & row.keys() or fields.named("chosen", "rejected"):
        return "preference"
    responses = fields.value("responses")
    if isinstance(responses, list) and fields.column("labels") is not None:
        return "listed"
    if responses is None and (fields.column("label") is not None or labelled_content(fields) in CONTENTS):
        return "labelled"
    return "scored"


def examples_from(rows: Sequence[Any], place: str, reading: Reading | None = None) -> tuple[Example, ...]:
    """The examples of one file or split.

    Raises:
        BadData: the first bad row, with `place` and its number; or there is none at all.
    """
    examples = []
    for found in examples_or_problems(rows, place, reading):
        if isinstance(found, BadData):
            raise found
        examples.append(found)
    return tuple(examples)


def examples_or_problems(
    rows: Sequence[Any], place: str, reading: Reading | None = None
) -> Iterator[Example | BadData]:
    """Of each row the example, or what is wrong with it; where there is no row at all, that.

    Labels of which nobody said what they count as are one problem, at the first of them, which lists them all; so are
    words of several pairs in one column, as harmful and unsafe.
    """
    reading = reading or Reading()
    if not rows:
        yield BadData("an empty list: there are no examples", path=place)
    classes_told = False
    pairs: set[tuple[str, str]] = set()
    for number, row in enumerate(rows):
        try:
            fields = _fields(row, reading)
            example = _example(fields)
            if reading.positive is None and not classes_told:
                pairs |= _pairs_of_words(fields)
            if len(pairs) > 1 and not classes_told:
                classes_told = True
                yield BadData(_classes(rows, reading, several=True), path=place, example=number)
            else:
                yield example
        except UnknownLabel as error:
            if not classes_told:
                yield BadData(_classes(rows, reading) or error.reason, path=place, example=number)
            classes_told = True
        except BadData as error:
            yield BadData(error.reason, path=place, example=number)


def _fields(row: object, reading: Reading) -> Fields:
    if isinstance(row, BadData):
        raise row
    if not isinstance(row, dict):
        raise BadData(
            f"an example is an object with a prompt and its responses, or a text and its label, not {kind(row)}"
        )
    if isinstance(row, RepeatedKeys):
        raise BadData(f"the key {row.repeated!r} is given twice; keep one of them")
    return Fields(row, reading)


def labels_of(fields: Fields) -> list[Any]:
    """The labels of a row as they stand there; none of pairs, which have scores or names."""
    form = format_of(fields)
    if form not in ("labelled", "listed"):
        return []
    value = fields.value("labels" if form == "listed" else "label")
    return [label for label in (value if isinstance(value, list) else [value]) if is_label(label)]


def _pairs_of_words(fields: Fields) -> set[tuple[str, str]]:
    return {pair for label in labels_of(fields) if (pair := pair_of(label)) is not None}


def _classes(rows: Sequence[Any], reading: Reading, *, several: bool = False) -> str:
    """What the labels of all rows are, in a refusal; empty where they are not in one column."""
    labels: list[Any] = []
    column: str | None = None
    for row in rows:
        try:
            fields = _fields(row, reading)
            column = fields.column("label") or fields.column("labels") or column
            labels += labels_of(fields)
        except BadData:
            continue
    refusal = several_pairs if several else classes_refusal
    return refusal(labels, column) if labels and column else ""


def _scored(fields: Fields) -> Example:
    prompt = prompt_of(fields)
    responses = fields.value("responses")
    if responses is None:
        raise BadData(f"no responses, no chosen and rejected, and no label; it has {fields.names}")
    if not isinstance(responses, dict):
        raise BadData(
            f"responses is {kind(responses)}; it maps each response's text to its score, 1 or 0, or is a list beside "
            "a list of labels"
        )
    if isinstance(responses, RepeatedKeys):
        raise BadData(f"the response {responses.repeated[:60]!r} is listed twice; keep one of them")
    if not responses:
        raise BadData("responses is empty; an example needs 2 or more")
    for text, score in responses.items():
        check_text(text, "a response")
        if isinstance(score, bool) or not isinstance(score, int | float) or score not in (0, 1):
            shown = f"{kind(score)} ({score!r})" if score is not None else "nothing"
            raise BadData(f"the score of the response {text[:60]!r} is {shown}; a score is 1 (best) or 0")
    if len(responses) < 2:
        raise BadData("1 response(s); an example needs 2 or more")
    best = tuple(number for number, score in enumerate(responses.values()) if score == 1)
    if not best or len(best) == len(responses):
        found = "no best response" if not best else "no worse response"
        raise BadData(f"{found}; of an example's responses one or more have the score 1, and one or more the score 0")
    metadata = fields.rest("prompt", "responses", *_group(fields))
    return Example(prompt, tuple(responses), best, metadata, group=fields.group(known=False))


def _preference(fields: Fields) -> Example:
    for key, meaning in (("chosen", "no best response"), ("rejected", "no worse response")):
        if fields.value(key) is None:
            raise BadData(f"{meaning}: {key!r} is missing or empty; the example has {fields.names}")
    chosen, rejected = (_alternatives(fields.value(key), key) for key in ("chosen", "rejected"))
    best = tuple(range(len(chosen)))
    metadata = fields.rest("prompt", "chosen", "rejected", *_group(fields))
    group = fields.group(known=False)
    if isinstance(chosen[0], str):
        for text in (*chosen, *rejected):
            if not isinstance(text, str):
                raise BadData(f"chosen is text and rejected is {kind(text)}; both are text or both are messages")
            check_text(text, "a response")
        return Example(prompt_of(fields), (*chosen, *rejected), best, metadata, group)
    if not isinstance(chosen[0], list):
        raise BadData(f"chosen is {kind(chosen[0])}; it is text, a list of messages, or a list of several of either")
    for chat in rejected:
        if not isinstance(chat, list):
            raise BadData(f"chosen is a list of messages and rejected is {kind(chat)}; both are text or both messages")
    chats = [messages_from(chat, "chosen") for chat in chosen]
    chats += [messages_from(chat, "rejected") for chat in rejected]
    prompt, responses = _part(chats, prompt_of(fields) if fields.column("prompt") is not None else None)
    return Example(prompt, responses, best, metadata, group)


def _group(fields: Fields) -> tuple[str, ...]:
    """The field of the group, where the user names its column: a column of that name in data of pairs is metadata."""
    return ("group",) if fields.named("group") else ()


def _alternatives(given: object, key: str) -> list[Any]:
    """One response, or a list of several, as a list."""
    if isinstance(given, list) and not given:
        raise BadData(f"{key} is an empty list")
    if isinstance(given, list) and all(isinstance(one, str) for one in given):
        return given
    if isinstance(given, list) and all(isinstance(one, list) for one in given):
        return given
    return [given]


def _part(chats: list[tuple[Message, ...]], prompt: Prompt | None) -> tuple[tuple[Message, ...], tuple[str, ...]]:
    """The chat before the last message, which is the prompt that all share, and each last message's text."""
    if isinstance(prompt, tuple):
        chats = [chat if chat[: len(prompt)] == prompt else (*prompt, *chat) for chat in chats]
    shared = chats[0][:-1]
    if not shared:
        raise BadData("no prompt: neither a prompt nor messages before the response")
    if any(chat[:-1] != shared for chat in chats):
        raise BadData("chosen and rejected differ before their last message; only the last one may differ")
    if isinstance(prompt, tuple) and shared != prompt:
        raise BadData("chosen and rejected have several messages after the prompt; they may have one, the response")
    if isinstance(prompt, str) and prompt not in [message.content for message in shared]:
        raise BadData("the prompt is text that no message of chosen holds; leave it out, or give it as messages")
    for chat in chats:
        if chat[-1].role != "assistant":
            raise BadData(f"the last message is of the role {chat[-1].role!r}; the response is the assistant's")
    return shared, tuple(chat[-1].content for chat in chats)
