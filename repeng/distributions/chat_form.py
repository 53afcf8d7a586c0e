"""The chat form of a prompt that is text: without the headings of its format, as the user's turn."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile

from repeng.distributions.schema import Message, Prompt, Split
from repeng.errors import BadInput

OPENING = re.compile(r"^### Instruction:[ \t]*\n", re.MULTILINE)
INPUT = re.compile(r"^### (?:Input:|Post Content)[ \t]*\n", re.MULTILINE)
CLOSING = re.compile(r"^#{2,3} ?(?i:(?:Your )?(?:response|comment)):[ \t]*\n?\Z|### Response:[ \t]*\n\Z", re.MULTILINE)
"""A GENIES heading under which the response is to be written: the last line of a prompt. Of `pursue_goals` it stands
with no line break before it, as `### Response:` and a line break alone. Some prompts of GENIES end without one."""


@dataclass(frozen=True)
class ChatFormCounts:
    """What the chat form makes of the prompts of some examples.

    Attributes:
        unwrapped: texts whose headings are taken off.
        whole: texts that have no such headings and stay whole as the user's turn.
        alone: texts that stand alone, without a prompt: the assistant's turn, with nothing before it but what
            the template writes of itself.
        chats: prompts that are chats already.
    """

    unwrapped: int
    whole: int
    alone: int
    chats: int

    @classmethod
    def of(cls, splits: Iterable[Split]) -> ChatFormCounts:
        """Of every example of some splits."""
        found = dict.fromkeys(("unwrapped", "whole", "alone", "chats"), 0)
        for split in splits:
            for example in split.examples:
                found[_kind(example.prompt)] += 1
        return cls(**found)

    @property
    def sentence(self) -> str:
        """What there is of each, in words."""
        texts = self.unwrapped + self.whole
        said = [f"headings are taken off {self.unwrapped:,} of {texts:,} prompts"] if texts else []
        said += [f"{self.whole:,} have none and stay whole as the user's turn"] if self.whole else []
        said += [f"{self.alone:,} texts without a prompt are the assistant's turn"] if self.alone else []
        said += [f"{self.chats:,} prompts are chats already"] if self.chats else []
        return f"chat form: {'; '.join(said)}"


def unwrap(prompt: str) -> str | None:
    """A prompt without the headings of its format; None where it has none.

    The format is that of GENIES: a sentence or more, `### Instruction:`, an instruction, often `### Input:` and what it
    is about, and mostly `### Response:` at the end. The headings alone are taken off, and the line breaks around
    them; what they part is joined by empty lines. The sentence stays: it may say what is asked for ("answer in
    Spanish"). So does any other heading, which is the text's own.
    """
    opening = OPENING.search(prompt)
    if opening is None:
        return None
    before, rest = prompt[: opening.start()], CLOSING.sub("", prompt[opening.end() :])
    pieces = (piece.strip("\n") for piece in (before, *INPUT.split(rest, maxsplit=1)))
    return "\n\n".join(piece for piece in pieces if piece.strip()) or None


def chat_prompt(prompt: Prompt) -> tuple[Message, ...]:
    """A prompt as a chat: a chat as it is, a text as the user's turn, no prompt as a chat that the assistant begins."""
    if not isinstance(prompt, str):
        return prompt
    return (Message("user", unwrap(prompt) or prompt),) if prompt else ()


def continued(chat: tuple[Message, ...], further: tuple[Message, ...]) -> tuple[Message, ...]:
    """A chat, and behind it another, as one conversation.

    System messages that the other begins with are said once: they are left out where they are those that hold already.
    Others stay where they are, in the middle of the conversation, which is the template's to take or to refuse.

    Raises:
        BadInput: nothing of the other stands between the assistant's last turn and the one that follows.
    """
    own = tuple(takewhile(lambda message: message.role == "system", further))
    holding = tuple(message for message in chat if message.role == "system")[-len(own) :]
    rest = further[len(own) :]
    if not rest or rest[0].role == "assistant":
        raise BadInput(
            "a prompt in which no user speaks before the assistant, such as an empty one, cannot stand among worked "
            "examples in a chat: its response would go on with the last example's; leave few-shot in chat form out"
        )
    return (*chat, *(rest if own == holding else further))


def _kind(prompt: Prompt) -> str:
    if not isinstance(prompt, str):
        return "chats"
    if not prompt:
        return "alone"
    return "whole" if unwrap(prompt) is None else "unwrapped"
