"""Where each message of a chat stands in the text that a chat template makes of it, and how a turn is closed.

A chat is rendered twice: as it is, and with a marker in place of each content. What stands between the markers is the
template's own, and between it, in the chat as it is, must stand the contents and nothing else. So the characters found
are right or the template is refused: one that drops, repeats or rewrites a content (as some strip the thinking from
earlier turns) has no place that could be named. Where a template says itself what the assistant generates
(`{% generation %}`), an assistant's turn is what it says, and must hold the content.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

from repeng.distributions.chat import chat_renderer
from repeng.distributions.schema import Example, Message
from repeng.distributions.stimuli import Stimulus, StimulusText
from repeng.errors import BadInput

ASSISTANT = "assistant"
"""The role of a response, and of a plain text's."""
GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
"""How a template begins what the assistant generates."""
WAY_OUT = "take last, response_mean, prompt_last, first_response or all, which need no turns"


@dataclass(frozen=True)
class TurnCharacters:
    """One turn of a text: its role, and its characters from `start` to one before `stop`."""

    role: str
    start: int
    stop: int

    def moved(self, by: int) -> TurnCharacters:
        """The turn in a text that has so many more characters before it."""
        return TurnCharacters(self.role, self.start + by, self.stop + by)


def prompt_turns(messages: tuple[Message, ...], tokenizer: Any) -> tuple[TurnCharacters, ...]:
    """The characters of each message in `chat_renderer(tokenizer)(messages)`, in order.

    A message's content without the blanks that the template strips; an assistant's as the template's generation
    markers have it, where it has them (they may hold what closes the turn).

    Raises:
        BadInput: the template does not write every content once and as it is, or its markers are not the assistant's.
    """
    text = chat_renderer(tokenizer)(messages)
    turns = _contents(messages, text, tokenizer)
    if any(turn.role == ASSISTANT for turn in turns) and GENERATION.search(tokenizer.get_chat_template()):
        return _marked(turns, _generated(messages, text, tokenizer))
    return turns


def text_turns(example: Example, stimulus: Stimulus, tokenizer: Any) -> list[tuple[TurnCharacters, ...]]:
    """The turns of the text of each response of an example under a stimulus.

    The response is the assistant's; the prompt, where it is no chat and not put as one, nobody's.

    Raises:
        BadInput: as of `prompt_turns`; or the stimulus writes the chat before the response in another way.
    """
    render = chat_renderer(tokenizer)
    # The response itself, where a stimulus has a verdict scored in its place.
    texts = replace(stimulus, verdict="").parts(example, render)
    before: tuple[TurnCharacters, ...] = ()
    prompt = stimulus.prompt_of(example)
    if prompt and not isinstance(prompt, str):
        before = tuple(turn.moved(len(stimulus.preamble)) for turn in prompt_turns(prompt, tokenizer))
        chat = stimulus.preamble + render(prompt)
        if before and not all(text.prefix.startswith(chat[: before[-1].stop]) for text in texts):
            raise BadInput(f"under the stimulus {stimulus.name!r} a chat is written in another way; {WAY_OUT}")
    starts = [len(text.prefix) for text in texts]
    return [
        (*before, TurnCharacters(ASSISTANT, start, start + len(text.response)))
        for start, text in zip(starts, texts, strict=True)
    ]


def example_texts(example: Example, stimulus: Stimulus, tokenizer: Any) -> list[StimulusText]:
    """The text of each response of an example, in the pieces that a label speaks of.

    Where the label is of the whole conversation (`region` is "all"), the response begins where the first turn does, or
    the prompt, where it is a text; it ends as ever, but where it is empty with the last turn of the chat.

    Raises:
        BadInput: the prompt is a chat that the tokenizer's template does not take.
    """
    texts = stimulus.parts(example, chat_renderer(tokenizer))
    if example.region != "all" or stimulus.verdict:
        return texts
    if isinstance(stimulus.prompt_of(example), str):
        start, stop = len(stimulus.preamble), None
    else:
        *before, _ = text_turns(example, stimulus, tokenizer)[0]
        start, stop = (before[0].start, before[-1].stop) if before else (len(texts[0].prefix), None)
    found = []
    for text in texts:
        end = len(text.prefix) + len(text.response) if text.response or stop is None else stop
        whole = text.text
        found.append(StimulusText(whole[:start], whole[start:end], whole[end:]))
    return found


def turn_close(messages: tuple[Message, ...], tokenizer: Any) -> str:
    """What the chat template writes after the response to close its turn, such as `<|im_end|>`.

    Blanks and line breaks after it are left out, unless it is nothing else: no model writes them.

    Raises:
        BadInput: the template writes nothing there, or not the response as it is.
    """
    mark = _mark(0, "".join(message.content for message in messages))
    if messages and messages[-1].role == ASSISTANT:
        whole = (*messages[:-1], replace(messages[-1], content=messages[-1].content + mark))
    else:
        whole = (*messages, Message(ASSISTANT, mark))
    before, found, after = _rendered(whole, tokenizer).rpartition(mark)
    if not found or mark in before:
        raise BadInput(f"{_template(tokenizer)} does not write a response once and as it is; {WAY_OUT}")
    if not after:
        raise BadInput(f"{_template(tokenizer)} writes nothing that closes an assistant's turn; take last for turn_end")
    return after.rstrip() or after


def _contents(messages: tuple[Message, ...], text: str, tokenizer: Any) -> tuple[TurnCharacters, ...]:
    """The characters of each content in the rendered text."""
    marks = [_mark(number, text) for number in range(len(messages))]
    marked = chat_renderer(tokenizer)(
        tuple(replace(message, content=mark) for message, mark in zip(messages, marks, strict=True))
    )
    own = []
    for mark, message in zip(marks, messages, strict=True):
        before, found, marked = marked.partition(mark)
        if not found or mark in marked:
            raise _rewritten(message, tokenizer)
        own.append(before)
    own.append(marked)
    turns: list[TurnCharacters] = []
    place = 0
    for message, (before, after) in zip(messages, pairwise(own), strict=True):
        start, content = place + len(before), message.content
        for piece in dict.fromkeys((content, content.strip(), content.rstrip(), content.lstrip())):
            place = start + len(piece)
            if text.startswith(before + piece + after, start - len(before)):
                break
        else:
            raise _rewritten(message, tokenizer)
        turns.append(TurnCharacters(message.role, start, place))
    if place + len(own[-1]) != len(text):
        raise _rewritten(messages[-1], tokenizer)
    return tuple(turns)


def _marked(turns: tuple[TurnCharacters, ...], runs: Sequence[tuple[int, int]]) -> tuple[TurnCharacters, ...]:
    """The turns, the assistant's as they were generated; each run must hold an assistant's content and no other."""
    found = []
    edges = [0, *(edge for turn in turns for edge in (turn.start, turn.stop)), max(turn.stop for turn in turns)]
    for number, turn in enumerate(turns):
        if turn.role == ASSISTANT:
            run = next(((a, b) for a, b in runs if a <= turn.start and turn.stop <= b), None)
            if run is None:
                raise BadInput(
                    f"the chat template's generation markers do not hold the content of message {number}, which is "
                    f"the assistant's; {WAY_OUT}"
                )
            after = edges[2 * number + 3] if number + 1 < len(turns) else run[1]
            turn = replace(turn, start=max(run[0], edges[2 * number]), stop=min(run[1], after))
        elif any(a < turn.stop and turn.start < b for a, b in runs):
            raise BadInput(
                f"the chat template's generation markers hold what message {number} says, which is the {turn.role}'s; "
                f"{WAY_OUT}"
            )
        found.append(turn)
    return tuple(found)


def _generated(messages: tuple[Message, ...], text: str, tokenizer: Any) -> list[tuple[int, int]]:
    """The stretches of characters of a rendered text that the template marks as the assistant's."""
    continued = messages[-1].role == ASSISTANT
    encoded = tokenizer.apply_chat_template(
        [asdict(message) for message in messages],
        add_generation_prompt=not continued,
        return_dict=True,
        return_assistant_tokens_mask=True,
        tokenizer_kwargs={"return_offsets_mapping": True},
    )
    # The renderer leaves out a token at the beginning that the tokenizer adds, and what closes a turn to be continued.
    skipped = _rendered(messages, tokenizer, add_generation_prompt=not continued).find(text)
    if skipped < 0:
        raise BadInput(f"{_template(tokenizer)} writes a last turn that is continued in another way; {WAY_OUT}")
    runs: list[tuple[int, int]] = []
    before = 0
    for is_generated, (start, stop) in zip(encoded["assistant_masks"], encoded["offset_mapping"], strict=True):
        if is_generated:
            begin = runs.pop()[0] if before else max(start - skipped, 0)
            runs.append((begin, min(stop - skipped, len(text))))
        before = is_generated
    return [(start, stop) for start, stop in runs if start < stop]


def _rendered(messages: tuple[Message, ...], tokenizer: Any, *, add_generation_prompt: bool = False) -> str:
    """A chat as text, its last turn closed."""
    try:
        rendered: str = tokenizer.apply_chat_template(
            [asdict(message) for message in messages], tokenize=False, add_generation_prompt=add_generation_prompt
        )
    except Exception as error:  # templates raise what they like: jinja2's errors, ValueError, TypeError
        raise BadInput(f"{_template(tokenizer)} does not take these messages: {error}") from error
    return rendered


def _mark(number: int, text: str) -> str:
    """A word that is not in a text, another one for each number."""
    word = "turnmark"
    while word in text:
        word += "k"
    return f"{word}{number:06d}x"


def _rewritten(message: Message, tokenizer: Any) -> BadInput:
    return BadInput(
        f"{_template(tokenizer)} does not write the {message.role}'s {message.content[:40]!r} once and as it is (some "
        f"templates strip the thinking from earlier turns), so its tokens cannot be told; {WAY_OUT}"
    )


def _template(tokenizer: Any) -> str:
    return f"the chat template of {getattr(tokenizer, 'name_or_path', '') or type(tokenizer).__name__!r}"
