"""Prompts that are chats: reading messages, and turning them into text with a tokenizer's chat template."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from repeng.distributions.schema import Message, Prompt
from repeng.errors import BadData, BadInput
from repeng.limits import TEXT_CHARACTERS

RenderChat = Callable[[tuple[Message, ...]], str]
"""Turns a chat into the text that a model is given, ending where the response begins."""
BEGUN = "<<begun>>"
"""Stands for what the assistant says first, where it is asked what a template writes before that."""


def messages_from(value: list[Any], what: str) -> tuple[Message, ...]:
    """A list of `{"role": ..., "content": ...}` as messages. `what` names it in errors.

    Raises:
        BadData: it is empty, or a message lacks a role or a text.
    """
    if not value:
        raise BadData(f"{what} is an empty list")
    messages = []
    for number, message in enumerate(value):
        place = f"message {number} of {what}"
        if not isinstance(message, dict):
            raise BadData(f"{place} is {kind(message)}; a message is an object with a role and a content")
        for key in ("role", "content"):
            if not isinstance(message.get(key), str):
                raise BadData(f"{place} has as its {key} {kind(message.get(key))}, not text")
            check_text(message[key], place)
        if message.get("tool_calls"):
            raise BadData(f"{place} calls a tool; only messages of text can be read")
        messages.append(Message(message["role"], message["content"]))
    return tuple(messages)


def check_text(text: str, what: str) -> str:
    """The text itself.

    Raises:
        BadData: it is too long, or holds half of a surrogate pair, which no tokenizer takes.
    """
    if len(text) > TEXT_CHARACTERS:
        raise BadData(
            f"{what} has {len(text):,} characters, more than any model takes; the limit is {TEXT_CHARACTERS:,}"
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadData(
            f"{what} holds half a character (\\u{ord(text[error.start]):04x} at position {error.start}); "
            "the text was cut or wrongly encoded"
        ) from error
    return text


def kind(value: object) -> str:
    """What a value read from a file is, in words for a message."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case dict():
            return "an object"
        case list() | tuple():
            return "a list"
        case _:
            return f"a {type(value).__name__}"


def prompt_text(prompt: Prompt) -> str:
    """The prompt as text to be read or counted by people, not models: a chat has one `role: content` per paragraph."""
    if isinstance(prompt, str):
        return prompt
    return "\n\n".join(f"{message.role}: {message.content}" for message in prompt)


def plain_chat(messages: tuple[Message, ...], *, opens: bool) -> str:
    """A chat as text that any model can read: each turn under a heading, `### User:` and a line end before it.

    Args:
        messages: the turns.
        opens: whether the heading of the assistant's turn follows, where the response begins.
    """
    turns = [f"### {message.role.capitalize()}:\n{message.content}" for message in messages]
    return "\n\n".join([*turns, *(["### Assistant:\n"] if opens else [])])


def require_chat_template(tokenizer: Any) -> None:
    """Refuse a tokenizer that cannot write chats.

    Raises:
        BadInput: it has no chat template.
    """
    if getattr(tokenizer, "chat_template", None):
        return
    name = getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__
    raise BadInput(
        f"chats are written with the tokenizer's chat template, and that of {name!r} has none; take a chat model, or "
        "plain text: leave the chat form out (--stimuli plain), and read prompts that are chats as text (--chat plain)"
    )


def chat_renderer(tokenizer: Any) -> RenderChat:
    """A function that turns a chat into text with this tokenizer's chat template.

    The text ends with the template's opening of the assistant's turn; where the last message is the assistant's, it
    ends with that message, to be continued. A beginning-of-sequence token that the template writes and that the
    tokenizer also adds is removed, so that it is not there twice.

    Args:
        tokenizer: a Hugging Face tokenizer.

    Raises:
        BadInput: when called, if the tokenizer has no chat template or the template refuses the messages.
    """

    def render(messages: tuple[Message, ...]) -> str:
        require_chat_template(tokenizer)
        if not messages:  # transformers renders no empty chat, but the opening of one that the assistant begins
            return render((Message("assistant", BEGUN),)).removesuffix(BEGUN)
        continued = messages[-1].role == "assistant"
        try:
            text = tokenizer.apply_chat_template(
                [asdict(message) for message in messages],
                tokenize=False,
                add_generation_prompt=not continued,
                continue_final_message=continued,
            )
        except Exception as error:  # templates raise what they like: jinja2's errors, ValueError, TypeError
            roles = ", ".join(message.role for message in messages)
            raise BadInput(f"the chat template does not take messages of the roles {roles}: {error}") from error
        return text.removeprefix(_added_start(tokenizer))

    return render


def _added_start(tokenizer: Any) -> str:
    """The token that the tokenizer puts before every text; empty if there is none."""
    start = getattr(tokenizer, "bos_token", None)
    if not start:
        return ""
    ids = tokenizer("a")["input_ids"]
    return start if ids and ids[0] == tokenizer.bos_token_id else ""
