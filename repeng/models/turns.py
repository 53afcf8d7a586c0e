"""The tokens of each turn of a text, from its characters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from repeng.distributions.schema import Example
from repeng.distributions.stimuli import Stimulus
from repeng.distributions.turns import WAY_OUT, TurnCharacters
from repeng.errors import BadInput

ALONE = Example("", ("A response.",), (0,))
"""Shows what a stimulus writes after a response."""
Span = tuple[int, int]
"""Token positions of one text, from the first to one past the last."""


@dataclass(frozen=True)
class Turn:
    """One turn of a tokenized text: its role, and its tokens from `start` to one before `end`; at least one."""

    role: str
    start: int
    end: int


def turns_of_text(
    text: str, ids: Sequence[int], turns: Sequence[TurnCharacters], stimulus: Stimulus, tokenizer: Any
) -> tuple[Turn, ...]:
    """The tokens of each turn: those any of whose characters are the turn's. A turn without a token is left out.

    Args:
        text: the whole text.
        ids: its tokens, as they are read by the model.
        turns: by their characters.
        stimulus: that it was tokenized under.
        tokenizer: for the characters of each token.

    Raises:
        BadInput: the tokenizer gives no characters, or the tokens found do not stand for all of a turn.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise BadInput(
            f"the tokenizer {type(tokenizer).__name__} does not say which characters a token stands for; {WAY_OUT}"
        )
    encoded = tokenizer(
        text, add_special_tokens=stimulus.bos, return_offsets_mapping=True, return_special_tokens_mask=True
    )
    if list(encoded["input_ids"]) != list(ids):
        raise BadInput(
            f"the stimulus {stimulus.name!r} tokenizes prompt and response apart, so the tokens of a turn are not "
            f"known; take a stimulus that joins them, or {WAY_OUT.removeprefix('take ')}"
        )
    pairs = zip(encoded["offset_mapping"], encoded["special_tokens_mask"], strict=True)
    real = [(at, *place) for at, (place, special) in enumerate(pairs) if place[1] > place[0] and not special]
    found = []
    for turn in turns:
        inside = [token for token in real if token[2] > turn.start and token[1] < turn.stop]
        content, covered, place = text[turn.start : turn.stop], "", turn.start
        for _, first, past in inside:
            # Several tokens of one character have the same place.
            covered += text[max(first, place) : min(past, turn.stop)]
            place = max(place, past)
        if "".join(covered.split()) != "".join(content.split()):
            raise BadInput(
                f"the tokens of the {turn.role}'s turn stand for {covered[:40]!r} and not for all of {content[:40]!r}: "
                f"the tokenizer drops characters; {WAY_OUT}"
            )
        if inside:
            found.append(Turn(turn.role, inside[0][0], inside[-1][0] + 1))
    return tuple(found)


def closing_ids(text: str, ids: Sequence[int], close: str, stimulus: Stimulus, tokenizer: Any) -> list[int]:
    """The tokens that close the response's turn, after a text's own.

    Those by which the text with its close is longer; where their tokens would merge, those of the close alone.

    Raises:
        BadInput: the stimulus writes something else after the response.
    """
    # What follows the response is the same in both forms; the plain one needs no template.
    alone = replace(stimulus, form="plain", shots=()).parts(ALONE)[0]
    if alone.suffix or alone.response != ALONE.responses[0] or stimulus.eos:
        raise BadInput(
            f"the stimulus {stimulus.name!r} goes on after the response, so its turn is not closed; take turn_end with "
            "plain or chat, or last"
        )
    whole = list(tokenizer(text + close, add_special_tokens=stimulus.bos)["input_ids"])
    if whole[: len(ids)] == list(ids) and len(whole) > len(ids):
        return whole[len(ids) :]
    return list(tokenizer(close, add_special_tokens=False)["input_ids"])


def spans_of_roles(turns: Sequence[Turn], roles: Sequence[str]) -> tuple[Span, ...]:
    """The tokens of some roles' turns, ascending and each once: neighbours may share a token."""
    merged: list[Span] = []
    for turn in sorted(turns, key=lambda turn: (turn.start, turn.end)):
        if turn.role not in roles:
            continue
        if merged and turn.start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], turn.end))
        else:
            merged.append((turn.start, turn.end))
    return tuple(merged)
