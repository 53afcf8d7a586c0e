"""Texts one after the other: each token, and at each text's end what is said of it as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from repeng.activations.token_rules import token_rule
from repeng.errors import BadInput
from repeng.models.tokens import TokenizedText
from repeng.watching.reading import read_text, tokens_of
from repeng.watching.token_score import TextSummary, TokenScore, summary_of
from repeng.watching.watched_model import Watched
from repeng.watching.writing import Writing, watched_prompt, write

Why = Literal["end", "alarm", "max_new_tokens", "window", "skipped"]
"""Why a text ended: it is over (of one that is written, by an end-of-sequence token), a token rang, it has as many
tokens as it may have, the model takes no more, or it was too long and left out."""


@dataclass(frozen=True)
class TextToken:
    """A token of text number `text`."""

    text: int
    token: TokenScore


@dataclass(frozen=True)
class TextEnd:
    """The end of text number `text`: why it ended, and its summary, None of one that was left out."""

    text: int
    why: Why
    summary: TextSummary | None


Event = TextToken | TextEnd


def read_all(
    watched: Watched, texts: Sequence[str], prompt: str = "", *, too_long: str = "refuse", stop_at_alarm: bool = False
) -> Iterator[Event]:
    """Score texts, each after the same prompt. Texts without a character but blanks are passed over.

    Raises:
        BadInput: a text is too long; the message says which.
        NonFinite: an activation is infinite or not a number.
    """
    with watched.hooks() as hooks:
        for number, text in enumerate(texts):
            if len(texts) > 1 and not text.strip():
                continue
            try:
                tokenized = tokens_of(watched, prompt, text, too_long=too_long)
            except BadInput as error:
                raise BadInput(f"line {number + 1}: {error}" if len(texts) > 1 else str(error)) from error
            if tokenized is None:
                yield TextEnd(number, "skipped", None)
                continue
            read = read_text(watched, hooks, tokenized)
            shown: list[TokenScore] = []
            for token in read.tokens:
                shown.append(token)
                yield TextToken(number, token)
                if stop_at_alarm and token.alarm:
                    break
            why: Why = "end" if len(shown) == len(read.tokens) else "alarm"
            # What was read past the alarm is not shown; what is said of the whole text still holds.
            yield TextEnd(number, why, summary_of(read.tokens, read.own, watched.alarm))


def write_one(watched: Watched, prompt: str, how: Writing) -> Iterator[Event]:
    """Score what the model writes on from a prompt.

    Raises:
        BadInput: there is nothing to write on from, it is too long, or the probe reads what comes after a response.
        NonFinite: an activation is infinite or not a number.
    """
    ids = watched_prompt(watched, prompt)
    tokens: list[TokenScore] = []
    with watched.hooks() as hooks:
        for token in write(watched, hooks, ids, how):
            tokens.append(token)
            yield TextToken(0, token)
    n_written, limit = len(tokens) - len(ids), watched.lm.max_length
    why: Why = "end"
    if how.stop_at_alarm and tokens[-1].alarm:
        why = "alarm"
    elif n_written == how.max_new_tokens:
        why = "max_new_tokens"
    elif limit is not None and len(tokens) >= limit:
        why = "window"
    whole = TokenizedText([token.token_id for token in tokens], len(ids), len(tokens))
    spans = token_rule(watched.fitted.token).spans(whole)
    yield TextEnd(0, why, summary_of(tokens, spans[-1][1] - 1 if spans else None, watched.alarm))
