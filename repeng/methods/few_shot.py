"""Prompted baselines: worked examples of the source before each prompt, and a verdict in the model's own words."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from repeng.distributions.chat import RenderChat
from repeng.distributions.schema import Example, Prompt, Split
from repeng.distributions.stimuli import STIMULI, Stimulus
from repeng.errors import BadInput

log = logging.getLogger(__name__)

SHOTS = 4
SEPARATOR = "\n\n"

CountTokens = Callable[[str], int]
"""Number of tokens of a text, special tokens included."""


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
    """A stimulus whose preamble is some source examples, each a prompt with its best response.

    One preamble serves all prompts of all targets, so that its tokens are computed once where prompts share them.
    (As released, each target example draws its own; `with_own_shots` does that.) Examples are taken in an order that
    the seed gives; one that would overfill the room is passed over for the next.

    Args:
        source: train split that the examples come from.
        shots: examples wanted.
        seed: of the order.
        count_tokens: the model's.
        room: tokens that the preamble may fill: what the model takes less the longest text that must still fit.
        base: stimulus that the preamble is put before.
        render_chat: for prompts that are chats.

    Raises:
        BadInput: not one example fits.
    """
    taken: list[str] = []
    for number in np.random.default_rng([seed, shots]).permutation(len(source.examples)):
        if len(taken) == shots:
            break
        shot = _shot(source.examples[int(number)], render_chat)
        if count_tokens("".join([*taken, shot, SEPARATOR])) <= room:
            taken.append(shot)
    if not taken:
        raise BadInput(
            f"few-shot: no example of {source.distribution} fits in {room} tokens, which is what the model's context "
            "leaves beside the target's texts; take a model with a longer context"
        )
    if len(taken) < shots:
        log.warning("few-shot: only %d of %d examples of %s fit", len(taken), shots, source.distribution)
    stimulus = replace(base, preamble="".join(taken) + SEPARATOR + base.preamble)
    return replace(stimulus, name=f"few_shot_{len(taken)}-{stimulus.fingerprint}")


def room_for_shots(
    target: Split, max_length: int, count_tokens: CountTokens, render_chat: RenderChat | None = None
) -> int:
    """Tokens that a preamble may fill so that every target text that fits the model alone still does.

    Args:
        target: its responses are counted with their prompts.
        max_length: tokens that the model takes.
        count_tokens: the model's.
        render_chat: for prompts that are chats.
    """
    lengths = [
        count_tokens(_text(example.prompt, render_chat) + response)
        for example in target.examples
        for response in example.responses
    ]
    return max_length - max((length for length in lengths if length <= max_length), default=0)


def with_own_shots(target: Split, source: Split, *, shots: int = SHOTS, seed: int = 0) -> Split:
    """The target with random source examples written before each of its prompts, drawn anew for every example.

    This is few-shot as released (Clymer et al. 2023); score it under the stimulus `zero_shot_genies`.

    Args:
        target: its prompts must be texts.
        source: train split, of at least `shots` examples.
        shots: examples before each prompt.
        seed: of the draws.

    Raises:
        BadInput: the source is too small, or a prompt is a chat.
    """
    if len(source.examples) < shots:
        raise BadInput(f"{source.distribution} has {len(source.examples)} examples; {shots} shots need as many")
    draw = np.random.default_rng([seed, shots])
    examples = []
    for example in target.examples:
        drawn = draw.choice(len(source.examples), size=shots, replace=False)
        before = "".join(_shot(source.examples[int(number)], None) for number in drawn)
        examples.append(replace(example, prompt=before + SEPARATOR + _text(example.prompt, None)))
    return replace(target, examples=tuple(examples))


def verdict_scores(
    yes: Float[np.ndarray, " response"], no: Float[np.ndarray, " response"]
) -> Float[np.ndarray, " response"]:
    """The model's log-odds that a response is good: log p(Yes) - log p(No) after the question.

    Args:
        yes: log-probability of the verdict Yes for each response (stimulus `truthfulness_yes`).
        no: of the verdict No (stimulus `truthfulness_no`).
    """
    return yes - no


def _shot(example: Example, render_chat: RenderChat | None) -> str:
    return SEPARATOR + _text(example.prompt, render_chat) + example.responses[example.best]


def _text(prompt: Prompt, render_chat: RenderChat | None) -> str:
    if isinstance(prompt, str):
        return prompt
    if render_chat is None:
        raise BadInput("the prompt is a chat; it needs a tokenizer that has a chat template to become text")
    return render_chat(prompt)
