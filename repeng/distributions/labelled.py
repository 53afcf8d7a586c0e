"""From rows with labels to examples: statements, prompts with one response, conversations, several responses each with
a label, and responses under names."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from repeng.distributions.chat import check_text, kind, messages_from
from repeng.distributions.reading import WHOLE, Fields, classes_refusal, is_label, label_of
from repeng.distributions.rows import RepeatedKeys
from repeng.distributions.schema import Example, Message, Prompt
from repeng.errors import BadData

CONTENTS = ("text", "response", "messages")
"""Of our fields those that a label may be of; where there is none of them, it is of the prompt."""
ASSISTANT = "assistant"
NAMED = "responses."


class UnknownLabel(BadData):
    """A label that is neither 1 nor 0 and of which nobody said what it counts as."""


def labelled_content(fields: Fields) -> str | None:
    """Which of our fields the label of a row is of: `text`, `response`, `messages` or `prompt`; None of a row that has
    none of them.

    Raises:
        BadData: several may be meant.
    """
    named = [name for name in CONTENTS if fields.named(name)]
    found = named or [name for name in CONTENTS if fields.column(name) is not None]
    if len(found) > 1:
        columns = [str(fields.column(name)) for name in found]
        raise BadData(
            f"{' and '.join(columns)} may each be what is labelled; say which with --columns "
            + shlex.quote(f"{found[0]}={columns[0]}")
        )
    if found:
        return found[0]
    return "prompt" if fields.column("prompt") is not None else None


def labelled_example(fields: Fields) -> Example:
    """The example of a row that holds a text, a response or a conversation, and its label.

    Raises:
        BadData: there is no label, or nothing that it is of; or either is not what it should be.
        UnknownLabel: the label is one of several classes.
    """
    content = labelled_content(fields)
    if content is None:
        raise BadData(f"a label and nothing that it is of: no text, response or messages; it has {fields.names}")
    value = fields.value(content)
    best = (0,) if _label(fields) else ()
    with_prompt = content == "response" or (content == "text" and fields.named("prompt"))
    prompt = prompt_of(fields) if with_prompt and fields.column("prompt") is not None else ""
    taken = (content, "prompt", "group") if with_prompt else (content, "group")
    details: dict[str, Any] = {"metadata": fields.rest(*taken), "group": fields.group(known=True)}
    if isinstance(value, list) and content in ("messages", "prompt"):
        return _conversation(messages_from(value, str(fields.column(content))), fields.reading.turn, best, details)
    if content == "messages":
        raise BadData(f"{fields.column(content)} is {kind(value)}; a conversation is a list of messages")
    if isinstance(value, list) and with_prompt:
        value = _answer(messages_from(value, f"the {content}"))
    if not isinstance(value, str):
        raise BadData(f"{fields.column(content)} is {kind(value)}; what is labelled is text or a list of messages")
    if not value.strip() and not prompt:
        raise BadData(f"{fields.column(content)} is {'blank' if value else 'empty'}; a labelled text says something")
    return Example(prompt, (check_text(value, f"the {content}"),), best, **details)


def listed_example(fields: Fields) -> Example:
    """The example of a row with a list of responses and a list of their labels.

    Raises:
        BadData: the lists are not of one length, or hold what is no text or no label.
        UnknownLabel: a label is one of several classes.
    """
    prompt = prompt_of(fields)
    responses, labels = fields.value("responses"), fields.value("labels")
    if not isinstance(labels, list) or len(labels) != len(responses):
        count = f"a list of {len(labels)}" if isinstance(labels, list) else kind(labels)
        raise BadData(f"{len(responses)} responses, and their labels are {count}; there is one label a response")
    for text in responses:
        if not isinstance(text, str):
            raise BadData(f"a response is {kind(text)}; each is text")
        check_text(text, "a response")
    values = [_value(label, fields, str(fields.column("labels"))) for label in labels]
    best = tuple(number for number, value in enumerate(values) if value)
    metadata = fields.rest("prompt", "responses", "group")
    return Example(prompt, tuple(responses), best, metadata, group=fields.group(known=True))


def named_responses(fields: Fields) -> dict[str, str] | None:
    """The responses of a row by name, as `{"truthful": ..., "deceptive": ...}` or columns `responses.truthful`, ...;
    None where they are not under names.

    An object that maps responses to scores is not: its values are numbers, or numbers as text.
    """
    given = None if fields.column("responses") is None else fields.value("responses")
    if given is None and not {"chosen", "rejected"} & fields.row.keys():
        given = {name.removeprefix(NAMED): value for name, value in fields.row.items() if name.startswith(NAMED)}
    if not isinstance(given, Mapping) or isinstance(given, RepeatedKeys):
        return None
    found = {name: text for name, text in given.items() if text is not None}
    if not found or not all(isinstance(text, str) for text in found.values()):
        return None
    return None if all(text.strip() in ("0", "1", "0.0", "1.0") for text in found.values()) else found


def named_example(fields: Fields, responses: Mapping[str, str]) -> Example:
    """The example of a row whose responses have names, of which the reading says which is right.

    Raises:
        BadData: nobody says which is right, or no response has that name.
    """
    prompt, positive = prompt_of(fields), fields.reading.positive
    names = " and ".join(map(repr, responses))
    if positive is None:
        example = shlex.quote(next(iter(responses)))
        raise BadData(f"the responses are named {names}; say which is right, as with --positive {example}")
    right = [positive] if positive in responses else [name for name in responses if label_of(name, positive)]
    if not right:
        raise BadData(f"no response is named {positive!r} (--positive); they are {names}")
    if len(right) > 1:
        raise BadData(f"{len(right)} responses are named {positive!r} but for upper and lower case; they are {names}")
    for text in responses.values():
        check_text(text, "a response")
    metadata = {name: value for name, value in fields.rest("prompt").items() if not name.startswith(NAMED)}
    metadata.pop(fields.column("responses") or "", None)
    best = (list(responses).index(right[0]),)
    return Example(prompt, tuple(responses.values()), best, metadata, group=fields.group(known=True))


def prompt_of(fields: Fields) -> Prompt:
    """The prompt of a row, which may be empty: then nothing stands before the responses.

    Raises:
        BadData: there is none, or it is no text and no list of messages.
    """
    prompt = fields.value("prompt")
    if prompt is None:
        raise BadData(
            f"no prompt; the example has {fields.names}. Columns of other names are named with --columns "
            "prompt=COLUMN, or text=COLUMN,label=COLUMN"
        )
    if isinstance(prompt, str):
        return check_text(prompt, "the prompt")
    if isinstance(prompt, list):
        return messages_from(prompt, "the prompt")
    raise BadData(f"the prompt is {kind(prompt)}; it is text or a list of messages")


def _label(fields: Fields) -> float:
    column = fields.column("label")
    if column is None:
        raise BadData(f"no label; it has {fields.names}. Name its column with --columns label=COLUMN")
    return _value(fields.value("label"), fields, column)


def _value(label: object, fields: Fields, column: str) -> float:
    if not is_label(label):
        shown = "empty" if label == "" else "not a number (NaN)" if isinstance(label, float) else kind(label)
        raise BadData(f"{column} is {shown}; a label is 1 or 0, true or false, a name")
    value = label_of(label, fields.reading.positive)
    if value is None:
        raise UnknownLabel(classes_refusal([label], column))
    return value


def _conversation(
    messages: tuple[Message, ...], turn: str | None, best: tuple[int, ...], details: Mapping[str, Any]
) -> Example:
    """A conversation up to the turn that is labelled: what follows it is cut.

    An assistant's turn is the response to what goes before. Any other turn, which is no response, is the end of the
    prompt; the response is then empty, and the label of all that is left.
    """
    number = len(messages) - 1 if turn == WHOLE else _number(messages, turn)
    last = messages[number]
    if last.role != ASSISTANT:
        return Example(messages[: number + 1], ("",), best, region="all", **details)
    if not number and not last.content.strip():
        raise BadData("the labelled message says nothing, and nothing goes before it")
    if not number:
        return Example("", (last.content,), best, **details)
    region: Any = "all" if turn == WHOLE else "response"
    return Example(messages[:number], (last.content,), best, region=region, **details)


def _number(messages: tuple[Message, ...], turn: str | None) -> int:
    """The number of the message that a turn names."""
    roles = [message.role for message in messages]
    if turn is None:
        return max((n for n, role in enumerate(roles) if role == ASSISTANT), default=len(roles) - 1)
    if turn in roles:
        return max(n for n, role in enumerate(roles) if role == turn)
    if not turn.lstrip("-").isdigit():
        raise BadData(f"no message is of the role {turn!r} (--turn); the roles are {', '.join(dict.fromkeys(roles))}")
    number = int(turn)
    if not -len(roles) <= number < len(roles):
        raise BadData(f"turn {number} of a conversation of {len(roles)} message(s), numbered from 0")
    return number % len(roles)


def _answer(messages: tuple[Message, ...]) -> str:
    """The text of a response that is given as a list of one message."""
    if len(messages) > 1 or messages[0].role != ASSISTANT:
        roles = ", ".join(message.role for message in messages)
        raise BadData(f"the response is a list of messages of the roles {roles}; it is one of the assistant's")
    return messages[0].content
