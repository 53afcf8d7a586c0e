"""From rows of a data file to examples: GENIES' format and the formats of preference data, checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from repeng.distributions.chat import check_text, kind, messages_from
from repeng.distributions.rows import RepeatedKeys
from repeng.distributions.schema import Example, Message, Prompt
from repeng.errors import BadData


def example_from(row: object) -> Example:
    """The example that a row holds: `prompt` and `responses` as GENIES has them, or `prompt`, `chosen`, `rejected`.

    Raises:
        BadData: the row is not such an example. The error names no file: the caller adds it.
    """
    if isinstance(row, BadData):
        raise row
    if not isinstance(row, dict):
        raise BadData(f"an example is an object with a prompt and its responses, not {kind(row)}")
    if isinstance(row, RepeatedKeys):
        raise BadData(f"the key {row.repeated!r} is given twice; keep one of them")
    if isinstance(row.get("responses"), dict) or not {"chosen", "rejected"} & row.keys():
        return _scored(row)
    return _preference(row)


def examples_from(rows: Sequence[Any], place: str) -> tuple[Example, ...]:
    """The examples of one file or split.

    Raises:
        BadData: the first bad row, with `place` and its number; or there is none at all.
    """
    examples = []
    for found in examples_or_problems(rows, place):
        if isinstance(found, BadData):
            raise found
        examples.append(found)
    return tuple(examples)


def examples_or_problems(rows: Sequence[Any], place: str) -> Iterator[Example | BadData]:
    """Of each row the example, or what is wrong with it; where there is no row at all, that."""
    if not rows:
        yield BadData("an empty list: there are no examples", path=place)
    for number, row in enumerate(rows):
        try:
            yield example_from(row)
        except BadData as error:
            yield BadData(error.reason, path=place, example=number)


def _scored(row: dict[str, Any]) -> Example:
    prompt = _prompt(row)
    if row.get("responses") is None:
        raise BadData(f"no responses, and no chosen and rejected; it has {_names(row)}")
    responses = row["responses"]
    if not isinstance(responses, dict):
        raise BadData(f"responses is {kind(responses)}; it maps each response's text to its score, 1 or 0")
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
    return Example(prompt, tuple(responses), best, _rest(row, "prompt", "responses"))


def _preference(row: dict[str, Any]) -> Example:
    for key, meaning in (("chosen", "no best response"), ("rejected", "no worse response")):
        if row.get(key) is None:
            raise BadData(f"{meaning}: {key!r} is missing or empty; the example has {_names(row)}")
    chosen, rejected = row["chosen"], _alternatives(row["rejected"])
    metadata = _rest(row, "prompt", "chosen", "rejected")
    if isinstance(chosen, str):
        for text in (chosen, *rejected):
            if not isinstance(text, str):
                raise BadData(f"chosen is text and rejected is {kind(text)}; both are text or both are messages")
            check_text(text, "a response")
        return Example(_prompt(row), (chosen, *rejected), 0, metadata)
    if not isinstance(chosen, list):
        raise BadData(f"chosen is {kind(chosen)}; it is text or a list of messages")
    for chat in rejected:
        if not isinstance(chat, list):
            raise BadData(f"chosen is a list of messages and rejected is {kind(chat)}; both are text or both messages")
    chats = [messages_from(chosen, "chosen"), *(messages_from(chat, "rejected") for chat in rejected)]
    prompt, responses = _part(chats, _prompt(row) if row.get("prompt") is not None else None)
    return Example(prompt, responses, 0, metadata)


def _alternatives(rejected: object) -> list[Any]:
    """One rejected response, or a list of several, as a list."""
    if isinstance(rejected, list) and not rejected:
        raise BadData("rejected is an empty list")
    if isinstance(rejected, list) and all(isinstance(one, str) for one in rejected):
        return rejected
    if isinstance(rejected, list) and all(isinstance(one, list) for one in rejected):
        return rejected
    return [rejected]


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


def _prompt(row: dict[str, Any]) -> Prompt:
    prompt = row.get("prompt")
    if prompt is None:
        raise BadData(f"no prompt; the example has {_names(row)}")
    if isinstance(prompt, str):
        if not prompt:
            raise BadData("no prompt: it is empty")
        return check_text(prompt, "the prompt")
    if isinstance(prompt, list):
        return messages_from(prompt, "the prompt")
    raise BadData(f"the prompt is {kind(prompt)}; it is text or a list of messages")


def _names(row: dict[str, Any]) -> str:
    return ", ".join(sorted(str(key) for key, value in row.items() if value is not None)) or "nothing"


def _rest(row: dict[str, Any], *taken: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in taken}
