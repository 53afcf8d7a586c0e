"""`repeng.watch`: the tokens of a text with their scores, one after the other, as the model reads or writes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from repeng.errors import BadInput
from repeng.models.sampling import MAX_NEW_TOKENS
from repeng.models.tokens import TokenizedText
from repeng.watching.reading import read_text, tokens_of
from repeng.watching.token_score import TokenScore
from repeng.watching.watched_model import Model, ProbeAt, Watched
from repeng.watching.writing import Writing, watched_prompt, write


def watch(
    model: Model,
    probe: ProbeAt,
    text: str | None = None,
    *,
    prompt: str = "",
    max_new_tokens: int = MAX_NEW_TOKENS,
    temperature: float = 0.0,
    seed: int = 0,
    alarm: str | None = None,
    stop_at_alarm: bool = False,
    too_long: str = "refuse",
    stimulus: str | None = None,
    tokenizer: Any = None,
    any_model: bool = False,
) -> Iterator[TokenScore]:
    """What a fitted probe says at every token: of a text, or of what the model writes.

        for token in repeng.watch("mini", "probe", "Paris is the capital of France."):
            print(token.text, token.score, token.alarm)
        for token in repeng.watch(lm, fitted, prompt="Once upon a time"):      # the model writes on
            ...

    The score at a token is the one that the text would have if it ended there; at the token that the probe reads (the
    last, mostly) it is what `repeng score` gives of the text. A text is read in one pass; a text that is written costs
    a product of a vector with the probe's direction a token more than without. Hooks come off when the generator ends
    or is closed.

    Args:
        model: hub id, folder, GGUF file, `mini` or `smollm2`; what `load_model` gives; or a causal language model of
            transformers, with its `tokenizer`, of which nothing tells whether the probe was fitted on it.
        probe: what `repeng.fit` gives, or the folder that it was saved in.
        text: that is read, after the `prompt`; None has the model write on from the prompt.
        prompt: as the probe's stimulus has it: under `chat` the user's turn, under `plain` text.
        max_new_tokens: the most that are written.
        temperature: of sampling what is written; 0 always takes the likeliest token.
        seed: of sampling.
        alarm: what rings: `1%` or `5%`, the threshold that the fit set so that so many of the source's held-out texts
            of label 0 score above it, each text at the token that the probe reads; `p=0.9` or `score=2.5`;
            `below-p=0.1` or `below-score=-2`; `none`; None for `1%` where the probe has it.
        stop_at_alarm: end with the first token that rings.
        too_long: `refuse` a text of more tokens than the model takes, `cut` its beginning, or `skip` it.
        stimulus: the text of a stimulus of your own, where the probe reads one.
        tokenizer: of a model of transformers.
        any_model: take a model that is not known to be the one that the probe was fitted on.

    Yields:
        Each token, with `text`, `score`, `probability` and `alarm`.

    Raises:
        BadInput: there is nothing to read or to write on from, the text is too long, or the probe cannot be followed
            token by token (it compares two texts, say); the message says which can.
        CaptureMismatch: the probe was fitted on another model.
        NonFinite: an activation is infinite or not a number.
    """
    watched = Watched.of(model, probe, tokenizer=tokenizer, alarm=alarm, any_model=any_model, stimulus=stimulus)
    how = Writing(max_new_tokens, temperature, seed, stop_at_alarm)
    # What is wrong with the arguments is said at once, not when the first token is asked for.
    if text is None:
        return _written(watched, watched_prompt(watched, prompt), how)
    if not text and not prompt:
        raise BadInput("the text is empty; give one with a word in it, or leave it out (None) to have one written")
    tokenized = tokens_of(watched, prompt, text, too_long=too_long)
    return iter(()) if tokenized is None else _read(watched, tokenized, stop_at_alarm)


def _written(watched: Watched, ids: list[int], how: Writing) -> Iterator[TokenScore]:
    with watched.hooks() as hooks:
        yield from write(watched, hooks, ids, how)


def _read(watched: Watched, tokenized: TokenizedText, stop_at_alarm: bool) -> Iterator[TokenScore]:
    with watched.hooks() as hooks:
        read = read_text(watched, hooks, tokenized)
    for token in read.tokens:
        yield token
        if stop_at_alarm and token.alarm:
            return
