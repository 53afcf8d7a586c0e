"""Few-shot: worked examples of the source before each prompt, then as zero-shot."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any, ClassVar

import numpy as np

from repeng.distributions.chat import RenderChat, chat_renderer
from repeng.distributions.chat_form import chat_prompt, continued
from repeng.distributions.schema import Message, Prompt, Split
from repeng.distributions.stimuli import STIMULI, Form, Stimulus, in_form
from repeng.errors import BadInput
from repeng.limits import check_number
from repeng.methods.base import Kind, Note, RequiredActivations, Source, no_note
from repeng.methods.prompted import InForms, LogProbabilities, NamedMethod
from repeng.models.token_width import FewestTokens

log = logging.getLogger(__name__)

SHOTS = 4
SEPARATOR = "\n\n"
CONTEXT = 2048
"""Tokens that a model takes where it names no limit."""

CountTokens = Callable[[str], int]
"""Number of tokens of a text, special tokens included."""
Shot = tuple[Prompt, str]
"""A worked example: a prompt, and its right response."""


@dataclass(frozen=True)
class FewShot(InForms):
    """Some source examples, each with its best response, before every prompt.

    One preamble serves all prompts of all targets, so that its tokens are computed once where prompts share them. (As
    released, each target example draws its own.) It leaves room for the longest text of the source; a target's text
    that does not fit behind it is treated as every text that is longer than the model takes.

    Attributes:
        model: hub id, folder, GGUF file, `mini` or `smollm2`: whose tokenizer counts.
        max_length: tokens that the model takes; None where it names no limit.
        shots: examples wanted.
        seed: of their choice.
        form: how the texts are written; in chat form the examples are turns of the same chat.
    """

    name: str
    model: str
    max_length: int | None = None
    shots: int = SHOTS
    seed: int = 0
    kind: Kind = "prompted"
    title: str = "the model's own preference after worked examples of the source"
    form: Form = "plain"

    PARAMETERS: ClassVar[tuple[str, ...]] = ("shots",)

    @classmethod
    def named(cls, asked: NamedMethod) -> FewShot:
        """With the study's model and seed."""
        shared = asked.settings
        return cls(asked.full, shared.model, shared.max_length, seed=shared.seed, form=asked.form, **asked.parameters)

    def __post_init__(self) -> None:
        check_number("few-shot: shots", self.shots, SHOTS)
        if self.shots < 1:
            raise BadInput(f"few-shot: shots is {self.shots!r}; give 1 or more")

    @property
    def parameters(self) -> Mapping[str, Any]:
        """How many examples, and the seed of their choice."""
        return {"shots": self.shots, "seed": self.seed}

    def requires(self, source: Split) -> tuple[RequiredActivations, ...]:
        """Log-probabilities after this source's examples."""
        return (RequiredActivations(self.stimulus(source)),)

    def fit(self, source: Source, note: Note = no_note) -> LogProbabilities:  # noqa: ARG002
        """Nothing is fitted."""
        return LogProbabilities(self.stimulus(source.split).name)

    def stimulus(self, source: Split) -> Stimulus:
        """The plain text after this source's examples."""
        return _stimulus(self, source)


@lru_cache(maxsize=256)
def _stimulus(method: FewShot, source: Split) -> Stimulus:
    """Tokenizing a source's texts takes a while, and every task of a study asks for it."""
    context = method.max_length or CONTEXT
    count, render = _tokens_of(method.model, context)
    base = STIMULI[in_form("plain", method.form)]
    room = room_for_shots(source, context, count, render, base=base)
    return few_shot_stimulus(
        source, shots=method.shots, seed=method.seed, count_tokens=count, room=room, base=base, render_chat=render
    )


@cache
def _tokens_of(model: str, context: int) -> tuple[CountTokens, RenderChat]:
    """How a model counts tokens, as far as they matter, and writes a chat."""
    from repeng.models.pretrained import load_tokenizer

    tokenizer = load_tokenizer(model)
    fewest = FewestTokens(tokenizer)

    def count(text: str) -> int:
        return context + 1 if fewest.exceed(text, context) else len(tokenizer(text)["input_ids"])

    return count, chat_renderer(tokenizer)


def few_shot_stimulus(
    source: Split,
    *,
    shots: int = SHOTS,
    seed: int = 0,
    count_tokens: CountTokens,
    room: int,
    base: Stimulus = STIMULI["plain"],
    render_chat: RenderChat | None = None,
) -> Stimulus:
    """A stimulus that begins with some source examples, each a prompt with its first right response.

    They are its preamble, and in chat form earlier turns of the chat. They are taken in an order that the seed gives;
    one that would overfill the room is passed over for the next.

    Args:
        source: train split that the examples come from.
        shots: examples wanted.
        seed: of the order.
        count_tokens: the model's.
        room: tokens that the preamble may fill.
        base: stimulus that they are put before.
        render_chat: for prompts that are chats, and stimuli in chat form.

    Raises:
        BadInput: not one example fits; or, in chat form, no user speaks in the prompt of one.
    """
    taken: list[Shot] = []
    for number in np.random.default_rng([seed, shots]).permutation(len(source.examples)):
        if len(taken) == shots:
            break
        example = source.examples[int(number)]
        more = [*taken, (example.prompt, example.responses[example.right[0]])]
        if count_tokens(_shots_text(more, base, render_chat)) <= room:
            taken = more
    if not taken:
        raise BadInput(
            f"few-shot: no example of {source.distribution} fits in {room} tokens, which is what the model's context "
            "leaves besides the source's longest text; take a model with a longer context"
        )
    if len(taken) < shots:
        log.warning("few-shot: only %d of %d examples of %s fit", len(taken), shots, source.distribution)
    if base.form == "chat":
        stimulus = replace(base, shots=_turns(taken))
    else:
        stimulus = replace(base, preamble=_shots_text(taken, base, render_chat) + base.preamble)
    return replace(stimulus, name=f"few_shot_{len(taken)}-{stimulus.fingerprint}")


def room_for_shots(
    source: Split,
    max_length: int,
    count_tokens: CountTokens,
    render_chat: RenderChat | None = None,
    *,
    base: Stimulus = STIMULI["plain"],
) -> int:
    """Tokens that a preamble may fill so that every text of the source that fits the model alone still does.

    Args:
        source: its responses are counted with their prompts.
        max_length: tokens that the model takes.
        count_tokens: the model's.
        render_chat: for prompts that are chats, and stimuli in chat form.
        base: stimulus that the preamble is put before.
    """
    lengths = [
        count_tokens(_text(base.prompt_of(example), render_chat) + response)
        for example in source.examples
        for response in example.responses
    ]
    return max_length - max((length for length in lengths if length <= max_length), default=0)


def _turns(shots: Sequence[Shot]) -> tuple[Message, ...]:
    """Worked examples as turns of a chat; an assistant's turn that a prompt ends with goes on with the response.

    Raises:
        BadInput: in some prompt no user speaks before the assistant.
    """
    turns: tuple[Message, ...] = ()
    for prompt, response in shots:
        *before, last = continued(turns, chat_prompt(prompt))
        begun = last.role == "assistant"
        answer = Message("assistant", last.content + response if begun else response)
        turns = (*before, answer) if begun else (*before, last, answer)
    return turns


def _shots_text(shots: Sequence[Shot], base: Stimulus, render_chat: RenderChat | None) -> str:
    """Worked examples as the text that stands before a prompt."""
    if base.form == "chat":
        return _text(_turns(shots), render_chat)
    return "".join(SEPARATOR + _text(prompt, render_chat) + response for prompt, response in shots) + SEPARATOR


def _text(prompt: Prompt, render_chat: RenderChat | None) -> str:
    if isinstance(prompt, str):
        return prompt
    if render_chat is None:
        raise BadInput("the prompt is a chat; it needs a tokenizer that has a chat template to become text")
    return render_chat(prompt)
