"""A text that is there already: read in one pass, scored at every token."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from repeng.activations.forward import Enough, stop_above
from repeng.activations.token_rules import token_rule
from repeng.distributions.schema import Example, Split
from repeng.errors import BadInput, NonFinite, UnknownName
from repeng.models.tokens import TOO_LONG, TokenizedText, tokenize
from repeng.watching.hooks import ScoreHooks
from repeng.watching.pieces import Pieces
from repeng.watching.token_score import Part, TokenScore
from repeng.watching.watched_model import Watched


@dataclass(frozen=True)
class ReadText:
    """A text's tokens, and which of them the probe reads.

    Attributes:
        tokens: all of them, in order.
        own: position of the token whose score is the text's.
    """

    tokens: tuple[TokenScore, ...]
    own: int | None


def tokens_of(watched: Watched, prompt: str, response: str, *, too_long: str = "refuse") -> TokenizedText | None:
    """A prompt and a response as the probe's stimulus writes them, in tokens; None where they are too long and skipped.

    Raises:
        UnknownName: `too_long` is none of skip, cut and refuse.
        BadInput: it is empty, or too long.
    """
    if too_long not in TOO_LONG:
        raise UnknownName("way with too long texts", too_long, TOO_LONG)
    if not response and not prompt:
        raise BadInput("the text is empty; give one with a word in it")
    split = Split("text", "text", (Example(prompt, (response,), ()),))
    lm = watched.lm
    text = tokenize(split, watched.stimulus, lm, too_long="cut" if too_long == "cut" else "skip")[0]
    if text is None and too_long == "refuse":
        raise BadInput(
            f"this text ({len(prompt) + len(response):,} characters) is longer than the {lm.max_length} tokens that "
            f"{lm.name} takes; drop its beginning with --too-long cut (too_long='cut'), or give it in pieces"
        )
    return text


def read_text(watched: Watched, hooks: ScoreHooks, text: TokenizedText) -> ReadText:
    """Score every token of a text in one pass of the model, no further than the probe reads.

    Args:
        watched: model and probe.
        hooks: of them, on the model.
        text: its tokens.

    Raises:
        NonFinite: an activation is infinite or not a number.
    """
    lm = watched.lm
    hooks.reset()
    counted = torch.zeros(1, len(text.ids), dtype=torch.bool)
    counted[0, text.response_start : text.response_end] = True
    hooks.counted = counted
    ids = torch.tensor([text.ids], device=lm.device)
    with torch.no_grad(), stop_above(lm, hooks.points), suppress(Enough):
        lm.base(input_ids=ids, use_cache=False)
    (scores,) = hooks.take()
    return ReadText(tuple(_tokens(watched, text, scores[0].tolist())), own_position(watched, text))


def own_position(watched: Watched, text: TokenizedText) -> int | None:
    """The position of the token whose score is the text's; None where there is none, as of an empty response."""
    spans = token_rule(watched.fitted.token).spans(text)
    return spans[-1][1] - 1 if spans else None


def _tokens(watched: Watched, text: TokenizedText, scores: list[float]) -> Iterator[TokenScore]:
    one_token = token_rule(watched.fitted.token).kind == "positions"
    own = own_position(watched, text)
    pieces = Pieces(watched.lm.tokenizer)
    words = [pieces.add(token_id) for token_id in text.ids]
    words[-1] += pieces.rest()
    for position, (token_id, word, value) in enumerate(zip(text.ids, words, scores, strict=True)):
        part: Part = "response"
        if not text.response_start <= position < text.response_end:
            part = "prompt" if position < text.response_start else "after"
        has_score = one_token or part == "response"
        score = finite(value, position) if has_score else None
        # What is read after the response is what the alarm was set for: until then nothing rings.
        rings = position == own or (part == "response" and position > 0 and not reads_after(watched))
        yield watched.token(token_id, word, score, position, part, rings=rings)


def reads_after(watched: Watched) -> bool:
    """Whether the probe reads a token of what its stimulus writes after the response."""
    stimulus = watched.stimulus
    follows: Any = stimulus.after_response or stimulus.question or stimulus.verdict or stimulus.eos
    return bool(follows) and watched.fitted.token.partition(":")[0] == "last"


def finite(score: float, position: int) -> float:
    """A score that is a number.

    Raises:
        NonFinite: it is none.
    """
    if score != score or score in (float("inf"), float("-inf")):
        raise NonFinite(
            f"the activation of token {position} is infinite or not a number; load the model in bfloat16 or float32 "
            "(--dtype), or, if the probe was fitted on activations kept in float16, capture anew in bfloat16"
        )
    return score
